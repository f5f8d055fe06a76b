//! The public entry: an attention of one variant on one device.
//!
//! Every call is checked once, by [`crate::call`], before an executor sees it; executors of all devices take the same checked
//! calls and return the same things.

use std::sync::Arc;

use attn_dsl::definition::Definition;
use attn_dsl::lower::{Linear, Lowered};
use attn_dsl::plan::PlanError;

use crate::call::{BackwardCall, Call, check_scale, check_state};
use crate::cpu::CpuExecutor;
use crate::device::Device;
use crate::error::Error;
use crate::executor::KernelExecutor;
use crate::machine::Machine;
use crate::oracle::OracleExecutor;
use crate::packing::Packing;
use crate::parameter::Parameters;
use crate::plan::{Plan, Schedule, Tuning};
use crate::tensor::Tensor;
use crate::variant::Variant;

/// What a forward pass returns.
#[derive(Clone, Debug)]
pub struct Output {
    /// `[b, h, q, dv]` in the type of q, k and v.
    pub output: Tensor,
    /// The row statistic, f32 `[b, h, q]`: the logarithm of the normalizer (lse) for a shifted exponential, the normalizer
    /// for other variants that reduce their weights, `None` for those that do not.
    pub statistic: Option<Tensor>,
    /// f32 `[b, h, q]` each: what the backward pass of the same device needs.
    pub(crate) saved: Vec<Tensor>,
    /// `[b, h, q, dv]` in the type of the output: what the backward pass of some variants needs beside it. `None` where there is no
    /// such thing, or it was not asked for.
    pub(crate) second: Option<Tensor>,
}

/// What a backward pass returns.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// In the shape and type of q.
    pub q: Tensor,
    /// In the shape and type of k.
    pub k: Tensor,
    /// In the shape and type of v.
    pub v: Tensor,
    /// The gradient of each learnable parameter by its name, f32 in the parameter's shape, in the order of declaration.
    pub parameters: Parameters,
}

impl Output {
    /// The same in the memory of the host.
    ///
    /// # Errors
    /// When a kernel failed, or a copy fails.
    pub fn to_host(&self) -> Result<Output, Error> {
        Ok(Output {
            output: self.output.to_host()?,
            statistic: self.statistic.as_ref().map(Tensor::to_host).transpose()?,
            saved: self.saved.iter().map(Tensor::to_host).collect::<Result<_, _>>()?,
            second: self.second.as_ref().map(Tensor::to_host).transpose()?,
        })
    }
}

impl Gradients {
    /// The same in the memory of the host.
    ///
    /// # Errors
    /// When a kernel failed, or a copy fails.
    pub fn to_host(&self) -> Result<Gradients, Error> {
        let parameters = self.parameters.iter().map(|(name, tensor)| Ok((name.to_owned(), tensor.to_host()?)));
        Ok(Gradients {
            q: self.q.to_host()?,
            k: self.k.to_host()?,
            v: self.v.to_host()?,
            parameters: parameters.collect::<Result<Vec<_>, Error>>()?.into_iter().collect(),
        })
    }
}

/// Runs checked calls of one variant on one device.
pub(crate) trait Executor: Send + Sync {
    /// Whether the forward pass returns a row statistic.
    fn has_statistic(&self) -> bool;

    /// How many saved rows the backward pass needs.
    fn saved_rows(&self) -> usize;

    /// Whether the backward pass needs a second output.
    fn has_second_output(&self) -> bool;

    /// Executors without kernels have nothing to plan.
    fn forward(&self, call: &Call, plan: Plan, schedule: Schedule) -> Result<Output, Error>;

    /// What was measured and decided so far.
    fn tunings(&self) -> Vec<Tuning> {
        vec![]
    }

    fn backward(&self, call: &BackwardCall, deterministic: bool, schedule: Schedule) -> Result<Gradients, Error>;

    /// A forward pass in linear time that begins with a state, or with none, and the state at its end.
    fn state_forward(&self, _call: &Call, _initial: Option<&Tensor>) -> Result<(Output, Tensor), Error> {
        no_states("this device has no states")
    }

    /// Its backward pass, given the gradient of the state at its end, and the gradient of that at its beginning.
    fn state_backward(
        &self,
        _call: &BackwardCall,
        _initial: &Tensor,
        _state_grad: Option<&Tensor>,
    ) -> Result<(Gradients, Tensor), Error> {
        no_states("this device has no states")
    }
}

/// What an executor without states answers.
fn no_states<T>(reason: &str) -> Result<T, Error> {
    Err(PlanError::NotLinear { reason: reason.to_owned() }.into())
}

/// An attention of one variant on one device, ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Attention {
    definition: Arc<Definition>,
    device: Device,
    scale: Option<f32>,
    plan: Plan,
    schedule: Schedule,
    deterministic: bool,
    gradients: bool,
    packing: Option<Packing>,
    executor: Arc<dyn Executor>,
}

impl Attention {
    /// Prepares a variant for a device. Plans are chosen as the environment says: by measurement where `ATTN_AUTOTUNE` is `1`, else
    /// by rules; [`Attention::plan`] overrides it.
    pub fn new(definition: &Definition, device: &Device) -> Result<Attention, Error> {
        let definition = Arc::new(definition.clone());
        let generated =
            |machine: Arc<dyn Machine>| Ok::<_, Error>(Arc::new(KernelExecutor::new(lower(&definition)?, machine)));
        let executor: Arc<dyn Executor> = match device {
            Device::Cpu => Arc::new(CpuExecutor::new(lower(&definition)?)),
            Device::Oracle => Arc::new(OracleExecutor::new(definition.clone())),
            Device::Cuda(device) => generated(Arc::new(device.clone()))?,
            #[cfg(feature = "sim")]
            Device::Sim(device) => generated(Arc::new(device.clone()))?,
        };
        let plan = Plan::from_environment();
        let device = device.clone();
        Ok(Attention {
            definition,
            device,
            scale: None,
            plan,
            schedule: Schedule::Auto,
            deterministic: true,
            gradients: true,
            packing: None,
            executor,
        })
    }

    /// Prepares the variant of a value of a variant's type. Its parameters are still given to each call.
    pub fn of<V: Variant>(_variant: &V, device: &Device) -> Result<Attention, Error> {
        Attention::new(V::definition(), device)
    }

    /// Sets the factor of `q . k`, which is 1 / sqrt(head_dim) otherwise. It must be finite and above 0.
    pub fn scale(mut self, scale: f32) -> Result<Attention, Error> {
        check_scale(scale)?;
        self.scale = Some(scale);
        Ok(self)
    }

    /// The attention of the same variant with another mask on top of its own: an expression over `b, h, q, kv`, or named
    /// masks composed by `&`, `|` and `!`.
    pub fn mask(self, mask: &str) -> Result<Attention, Error> {
        let masked = Attention::new(&self.definition.with_mask(mask)?, &self.device)?;
        let Attention { scale, plan, schedule, deterministic, gradients, packing, .. } = self;
        Ok(Attention { scale, plan, schedule, deterministic, gradients, packing, ..masked })
    }

    /// The same attention of a packed batch: sequences of different lengths one after the other, without padding.
    ///
    /// `cu_seqlens_q` and `cu_seqlens_kv` are i32 `[sequences + 1]`: how many queries and how many keys stand before each sequence,
    /// then all of them. Sequences may be empty, and may have other lengths in keys than in queries. Calls of what is returned take
    ///
    /// * q `[1, h, total_q, d]`, k `[1, h_kv, total_kv, d]` and v `[1, h_kv, total_kv, dv]`, in any layout whose last axis is
    ///   contiguous: tensors `[total_q, h, d]` as models keep them are views of these;
    /// * parameters as if every sequence were an entry of the batch: an axis `b` has an entry a sequence, or 1 for all. Axes `q` and
    ///   `kv` count positions within a sequence: they are at least as long as the longest one, and what lies beyond a sequence's own
    ///   length it does not read. Gradients there are 0.
    ///
    /// They return outputs `[1, h, total_q, dv]`, statistics `[1, h, total_q]`, and gradients in the shapes of what they are of.
    /// Every sequence is an attention of its own: in expressions `b` is its number, `q` and `kv` are positions within it, `q_len`,
    /// `kv_len` and `live_keys` are its lengths.
    ///
    /// The lists may be on the host or on the attention's device. They are read and checked here, once for all calls of a batch,
    /// which waits for a device that has them.
    ///
    /// # Errors
    /// When a list is not i32 of rank 1, does not begin with 0 or falls, when they differ in length, or a copy fails. Calls fail
    /// where a list does not end with the rows of their tensors.
    ///
    /// ```
    /// use attn_runtime::{Attention, DType, Device, Parameters, Tensor};
    ///
    /// let variant = attn_dsl::compile_one("struct Causal { mask: causal }")?;
    /// let attention = Attention::new(&variant, &Device::Cpu)?;
    /// // three sequences, of 3, 0 and 5 tokens
    /// let cu_seqlens = Tensor::from_i32(&[4], vec![0, 3, 3, 8])?;
    /// let q = Tensor::from_f32(&[1, 2, 8, 4], (0..64).map(|i| (i as f32).sin()).collect())?;
    /// let packed = attention.packed(&cu_seqlens, &cu_seqlens)?.forward(&q, &q, &q, &Parameters::new())?;
    /// assert_eq!(packed.output.shape(), [1, 2, 8, 4]);
    ///
    /// // the last one by itself
    /// let own = q.narrow(2, 3, 5)?;
    /// let alone = attention.forward(&own, &own, &own, &Parameters::new())?;
    /// assert_eq!(packed.output.narrow(2, 3, 5)?.to_f32_vec()?, alone.output.to_f32_vec()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn packed(&self, cu_seqlens_q: &Tensor, cu_seqlens_kv: &Tensor) -> Result<Attention, Error> {
        let packing = Packing::new(cu_seqlens_q, cu_seqlens_kv, &self.device)?;
        Ok(Attention { packing: Some(packing), ..self.clone() })
    }

    /// Sets how the plans of forward passes are chosen: by rules, by measurement, or by number.
    ///
    /// ```no_run
    /// use attn_runtime::{Attention, DType, Device, Parameters, Plan, Tensor};
    ///
    /// let variant = attn_dsl::compile_one("struct Causal { mask: causal }")?;
    /// let attention = Attention::new(&variant, &Device::cuda(0)?)?.plan(Plan::Autotune);
    /// let q = Tensor::zeros(DType::BF16, &[4, 16, 4096, 128])?.to_device(attention.device())?;
    /// attention.forward(&q, &q, &q, &Parameters::new())?; // measures, unless an earlier process did
    /// for tuning in attention.tunings() {
    ///     println!("{tuning}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn plan(self, plan: Plan) -> Attention {
        Attention { plan, ..self }
    }

    /// Sets whether attention is computed pair by pair or in linear time; without it, in linear time wherever it can be. Both passes
    /// of a call may differ in it. The oracle is always quadratic.
    ///
    /// ```
    /// use attn_runtime::{Attention, DType, Device, Parameters, Schedule, Tensor};
    ///
    /// let variant = attn_dsl::compile_one("struct Linear { feature: |x| elu(x) + 1, activation: identity, mask: causal }")?;
    /// let attention = Attention::new(&variant, &Device::Cpu)?;
    /// let q = Tensor::from_f32(&[1, 1, 100, 8], (0..800).map(|i| (i as f32).sin()).collect())?;
    /// let [linear, quadratic] = [Schedule::Linear, Schedule::Quadratic].map(|schedule| {
    ///     attention.clone().schedule(schedule).forward(&q, &q, &q, &Parameters::new())
    /// });
    /// let (linear, quadratic) = (linear?.output.to_f32_vec()?, quadratic?.output.to_f32_vec()?);
    /// assert!(linear.iter().zip(&quadratic).all(|(a, b)| (a - b).abs() < 1e-5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn schedule(self, schedule: Schedule) -> Attention {
        Attention { schedule, ..self }
    }

    /// Sets whether equal calls of [`Attention::backward`] give equal bits, as they do unless this is set to `false`: sums over keys
    /// may then be added in whatever order they come, where a schedule is faster so. Forward passes are always deterministic.
    #[must_use]
    pub fn deterministic(self, deterministic: bool) -> Attention {
        Attention { deterministic, ..self }
    }

    /// Sets whether a backward pass may follow [`Attention::forward`], as one may unless this is set to `false`: what it alone needs is
    /// not computed then. That is much for an entmax and for a map after normalization, whose gradients need a second output, and
    /// next to nothing for other variants.
    #[must_use]
    pub fn gradients(self, gradients: bool) -> Attention {
        Attention { gradients, ..self }
    }

    /// What [`Plan::Autotune`] decided so far, in the order of the decisions. Clones share their decisions.
    pub fn tunings(&self) -> Vec<Tuning> {
        self.executor.tunings()
    }

    /// What runs.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Computes `[b, h, q, dv]` from q `[b, h, q, d]`, k `[b, h_kv, kv, d]` and v `[b, h_kv, kv, dv]`.
    ///
    /// `h` is a multiple of `h_kv`; query head `i` reads head `i / (h / h_kv)` of k and v. Lengths may be 0. For sequences of different
    /// lengths see [`Attention::packed`].
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, parameters: &Parameters) -> Result<Output, Error> {
        self.executor.forward(&self.call([q, k, v], parameters)?, self.plan, self.schedule)
    }

    /// Computes the gradients of a loss, given its gradient in the output and, if it uses the statistic, in the statistic.
    ///
    /// `output` is what [`Attention::forward`] returned for the same arguments on the same device.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the forward pass and their gradients")]
    pub fn backward(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        parameters: &Parameters,
        output: &Output,
        output_grad: &Tensor,
        statistic_grad: Option<&Tensor>,
    ) -> Result<Gradients, Error> {
        let call = self.call([q, k, v], parameters)?;
        let call = BackwardCall::new(
            &self.definition,
            call,
            self.device.location(),
            output_grad,
            (self.executor.has_statistic(), statistic_grad),
            (self.executor.saved_rows(), self.executor.has_second_output()),
            output,
        )?;
        self.executor.backward(&call, self.deterministic, self.schedule)
    }

    /// [`Attention::forward`] in linear time of tokens that follow others: what those leave is a state, and so is what is left for the
    /// next. Returns the output and that state.
    ///
    /// A state is f32 `[b, h, d, dv]`, `sum_j w_j phi(k_j) v_j^T` over the keys `j` so far with `w` what the key adds to weights, and one
    /// column more, `sum_j w_j phi(k_j)`, where the normalizer reads the sum. Without `initial` it is zero. Exponents are those of the
    /// call's own positions, from 0: `initial` counts as if its keys had an exponent of 0 in all, and the state that is returned is
    /// relative to the exponent of position `kv_len` (of the last entry of parameters that end there), so that it is the `initial` of a
    /// call whose positions, and running sums of gates, begin anew.
    ///
    /// # Errors
    /// When the variant has no linear-time schedule or its mask is not `causal`, the batch is packed, a tensor is empty, there are
    /// more queries than keys, or the state's shape is another.
    ///
    /// ```
    /// use attn_runtime::{Attention, Device, Parameters, Tensor};
    ///
    /// let variant = attn_dsl::compile_one("struct Linear { activation: identity, normalizer: none, mask: causal }")?;
    /// let attention = Attention::new(&variant, &Device::Cpu)?;
    /// let q = Tensor::from_f32(&[1, 1, 9, 4], (0..36).map(|i| (i as f32).sin()).collect())?;
    /// let (first, rest, none) = (q.narrow(2, 0, 5)?, q.narrow(2, 5, 4)?, Parameters::new());
    /// let (_, state) = attention.forward_with_state(&first, &first, &first, &none, None)?;
    /// let (output, _) = attention.forward_with_state(&rest, &rest, &rest, &none, Some(&state))?;
    ///
    /// let whole = attention.forward(&q, &q, &q, &none)?.output.narrow(2, 5, 4)?;
    /// let pairs = output.output.to_f32_vec()?.into_iter().zip(whole.to_f32_vec()?);
    /// assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_with_state(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        parameters: &Parameters,
        initial: Option<&Tensor>,
    ) -> Result<(Output, Tensor), Error> {
        let call = self.call([q, k, v], parameters)?;
        let initial = initial.map(|state| self.state(&call, "initial", state)).transpose()?;
        self.has_states(&call)?;
        self.executor.state_forward(&call, initial.as_ref())
    }

    /// The backward pass of [`Attention::forward_with_state`], with the `initial` that it had: zeros where it had none. Returns the
    /// gradients, and that of `initial`. `state_grad` is the gradient of the state at the end, if the loss uses it.
    ///
    /// # Errors
    /// As [`Attention::forward_with_state`], and where `state_grad` is given and an exponent reads a learnable parameter.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the forward pass and their gradients")]
    pub fn backward_with_state(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        parameters: &Parameters,
        initial: &Tensor,
        output: &Output,
        output_grad: &Tensor,
        statistic_grad: Option<&Tensor>,
        state_grad: Option<&Tensor>,
    ) -> Result<(Gradients, Tensor), Error> {
        let call = self.call([q, k, v], parameters)?;
        let initial = self.state(&call, "initial", initial)?;
        let state_grad = state_grad.map(|state| self.state(&call, "state_grad", state)).transpose()?;
        self.has_states(&call)?;
        let learnable = self.linear()?.learnable_exponent(&self.definition);
        if let (Some(_), Some(name)) = (&state_grad, learnable) {
            return no_states(&format!("the gradient of a final state does not reach `{name}`; mark it `const`"));
        }
        let call = BackwardCall::new(
            &self.definition,
            call,
            self.device.location(),
            output_grad,
            (self.executor.has_statistic(), statistic_grad),
            (self.executor.saved_rows(), self.executor.has_second_output()),
            output,
        )?;
        self.executor.state_backward(&call, &initial, state_grad.as_ref())
    }

    fn linear(&self) -> Result<Linear, Error> {
        Linear::of(&*lower(&self.definition)?).or_else(|why| no_states(&why.to_string()))
    }

    fn has_states(&self, call: &Call) -> Result<(), Error> {
        if !self.linear()?.causal {
            return no_states("states belong to a causal mask");
        }
        let problem = &call.problem;
        if problem.packing.is_some() || [problem.q_len, problem.kv_len, problem.heads, problem.batch].contains(&0) {
            return no_states("states belong to a batch that is neither packed nor empty");
        }
        if problem.q_len > problem.kv_len {
            return no_states("with a state every query has a key");
        }
        Ok(())
    }

    fn state(&self, call: &Call, name: &str, state: &Tensor) -> Result<Tensor, Error> {
        let shape = call.problem.state_shape(self.executor.has_statistic());
        Ok(check_state(name, state, shape, self.device.location())?)
    }

    /// The scale that was set, if one was.
    #[cfg(feature = "testing")]
    pub(crate) fn given_scale(&self) -> Option<f32> {
        self.scale
    }

    fn call(&self, qkv: [&Tensor; 3], parameters: &Parameters) -> Result<Call, Error> {
        let packing = self.packing.as_ref();
        let call = Call::new(&self.definition, self.scale, self.device.location(), qkv, parameters, packing)?;
        Ok(Call { gradients: self.gradients, ..call })
    }
}

fn lower(definition: &Definition) -> Result<Arc<Lowered>, Error> {
    let named = |source| Error::Lower { variant: definition.name.clone(), source };
    Ok(Arc::new(attn_dsl::lower::lower(definition).map_err(named)?))
}

impl std::fmt::Debug for Attention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packed = if self.packing.is_some() { " of a packed batch" } else { "" };
        write!(f, "Attention({}{packed} on {})", self.definition.name, self.device)
    }
}
