//! A simulated GPU with a made-up clock: what the autotuner does with a machine, without one.
//!
//! Every kernel takes the time that a table gives its file's name; launches really run. Decisions are kept in memory that several
//! executors share, as a disk is shared by processes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use attn_dsl::plan::Target;

use super::{Clock, Decision, DeviceMemory, KernelLaunch, KernelSource, LoadedKernel, Machine, TensorDescription};
use crate::attention::{Executor, Output};
use crate::call::Call;
use crate::device::Device;
use crate::error::Error;
use crate::executor::KernelExecutor;
use crate::parameter::Parameters;
use crate::plan::{Plan, Schedule, Tuning};
use crate::sim::{SimDevice, SimOptions};
use crate::tensor::{DType, Location};
use crate::testing::Random;

/// Milliseconds of a launch by the kernel's file name; none fails.
type Times = fn(&str) -> Option<f64>;

/// Questions and what was decided.
type Answers = Vec<(Vec<String>, Decision)>;

struct Clocked {
    device: SimDevice,
    times: Times,
    /// A part of the names of files that do not compile.
    broken: &'static str,
    running: AtomicBool,
    timed: AtomicUsize,
    launched: Arc<Mutex<Vec<String>>>,
    decisions: Arc<Mutex<Answers>>,
}

struct Logged {
    kernel: Arc<dyn LoadedKernel>,
    file_name: String,
    launched: Arc<Mutex<Vec<String>>>,
}

impl LoadedKernel for Logged {
    unsafe fn launch(&self, launch: KernelLaunch, argument: Vec<u8>, call: &dyn fmt::Display) -> Result<(), Error> {
        self.launched.lock().unwrap().push(self.file_name.clone());
        // SAFETY: the caller vouches for the argument.
        unsafe { self.kernel.launch(launch, argument, call) }
    }
}

impl Machine for Clocked {
    fn target(&self) -> Result<Target, Error> {
        self.device.target()
    }

    fn multiprocessors(&self) -> u32 {
        self.device.multiprocessors()
    }

    fn location(&self) -> Location {
        self.device.location()
    }

    fn allocate(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        self.device.allocate(name, bytes)
    }

    fn zeroed(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        self.device.zeroed(name, bytes)
    }

    fn upload(&self, name: &str, bytes: &[u8]) -> Result<Box<dyn DeviceMemory>, Error> {
        self.device.upload(name, bytes)
    }

    fn tensor_map(&self, description: &TensorDescription<'_>) -> Result<[u8; 128], Error> {
        self.device.tensor_map(description)
    }

    fn clock(&self) -> Option<&dyn Clock> {
        Some(self)
    }

    fn compile(&self, source: &KernelSource<'_>) -> Result<Arc<dyn LoadedKernel>, Error> {
        let file_name = source.file_name.to_owned();
        if !self.broken.is_empty() && file_name.contains(self.broken) {
            return Err(Error::Internal(format!("{file_name} does not compile")));
        }
        let kernel = self.device.compile(source)?;
        Ok(Arc::new(Logged { kernel, file_name, launched: self.launched.clone() }))
    }
}

impl Clock for Clocked {
    fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<f64, Error> {
        assert!(self.is_running(), "nothing can be timed now");
        self.timed.fetch_add(1, Ordering::Relaxed);
        let before = self.launched.lock().unwrap().len();
        work()?;
        let launched = self.launched.lock().unwrap();
        let times = launched[before..].iter().map(|name| (self.times)(name));
        times.sum::<Option<f64>>().ok_or_else(|| Error::Internal("a launch failed".to_owned()))
    }

    fn decision(&self, question: &[&str]) -> Option<Decision> {
        let decisions = self.decisions.lock().unwrap();
        decisions.iter().find(|(known, _)| known == question).map(|(_, decision)| decision.clone())
    }

    fn keep_decision(&self, question: &[&str], decision: &Decision) {
        let question = question.iter().map(|&part| part.to_owned()).collect();
        self.decisions.lock().unwrap().push((question, decision.clone()));
    }
}

impl Clocked {
    fn new(times: Times, broken: &'static str) -> Clocked {
        Clocked {
            device: SimDevice::new(SimOptions::new(0)),
            times,
            broken,
            running: AtomicBool::new(true),
            timed: AtomicUsize::new(0),
            launched: Arc::default(),
            decisions: Arc::default(),
        }
    }
}

/// Calls of causal softmax on such a machine.
struct Calls {
    machine: Arc<Clocked>,
    executor: KernelExecutor,
}

impl Calls {
    fn new(machine: Clocked) -> Calls {
        let machine = Arc::new(machine);
        let definition = attn_dsl::compile_one("struct Causal { mask: causal }").unwrap();
        let lowered = Arc::new(attn_dsl::lower::lower(&definition).unwrap());
        Calls { executor: KernelExecutor::new(lowered, machine.clone()), machine }
    }

    fn run(&self, length: usize, plan: Plan) -> Result<Output, Error> {
        let device = Device::Sim(self.machine.device.clone());
        let tensor = |seed| {
            let tensor = Random::new(seed).normal_tensor(DType::BF16, &[1, 1, length, 64]).unwrap();
            tensor.to_device(&device).unwrap()
        };
        let (q, k, v) = (tensor(1), tensor(2), tensor(3));
        let definition = attn_dsl::compile_one("struct Causal { mask: causal }").unwrap();
        let call = Call::new(&definition, None, device.location(), [&q, &k, &v], &Parameters::new(), None).unwrap();
        self.executor.forward(&call, plan, Schedule::Quadratic)
    }

    /// The bytes of the output.
    fn output(&self, length: usize, plan: Plan) -> Vec<u8> {
        self.run(length, plan).unwrap().output.to_host().unwrap().to_bytes().unwrap()
    }

    fn tunings(&self) -> Vec<Tuning> {
        Executor::tunings(&self.executor)
    }

    /// The file of the last launch.
    fn last(&self) -> String {
        self.machine.launched.lock().unwrap().last().unwrap().clone()
    }

    fn timed(&self) -> usize {
        self.machine.timed.swap(0, Ordering::Relaxed)
    }
}

/// The second plan, of 128 queries x 128 keys, is the fastest.
fn second(file_name: &str) -> Option<f64> {
    Some(if file_name.contains("_forward_128x128_") { 1.0 } else { 2.0 })
}

#[test]
fn the_fastest_plan_runs_from_the_first_call_on() {
    let calls = Calls::new(Clocked::new(second, ""));
    let first = calls.output(70, Plan::Autotune);
    assert!(calls.last().contains("_forward_128x128_"), "{}", calls.last());
    assert_eq!(first, calls.output(70, Plan::Choice(1)));
    assert_eq!(calls.timed(), 3 * 6, "a warm-up and five rounds of three plans");
    let [tuning] = &calls.tunings()[..] else { panic!("{:?}", calls.tunings()) };
    assert_eq!(
        tuning.to_string(),
        "128x128 for Causal bf16 d64/64 q128 kv128 bh1, of 192x128 2.0000 ms, 128x128 1.0000 ms, 192x112 2.0000 ms; measured"
    );
    // another call of the kind, one of another kind
    calls.output(100, Plan::Autotune);
    assert_eq!(calls.timed(), 0);
    calls.output(40, Plan::Autotune);
    assert_eq!((calls.timed(), calls.tunings().len()), (3 * 6, 2));
    // the rules' plan is still there for those who ask
    calls.output(70, Plan::Rules);
    assert!(calls.last().contains("_forward_bf16"), "{}", calls.last());
}

#[test]
fn a_decision_outlives_its_process() {
    let first = Calls::new(Clocked::new(second, ""));
    first.output(70, Plan::Autotune);
    let decisions = first.machine.decisions.clone();
    let next = |broken| Calls::new(Clocked { decisions: decisions.clone(), ..Clocked::new(|_| Some(1.0), broken) });
    let second = next("");
    assert_eq!(second.output(70, Plan::Autotune), first.output(70, Plan::Choice(1)));
    assert!(second.last().contains("_forward_128x128_") && second.timed() == 0, "{}", second.last());
    assert!(matches!(&second.tunings()[..], [Tuning { chosen: 1, measured: false, .. }]), "{:?}", second.tunings());
    // a plan that compiles no more is measured around
    let third = next("_forward_128x128_");
    third.output(70, Plan::Autotune);
    assert!(matches!(&third.tunings()[..], [Tuning { chosen: 0, measured: true, .. }]), "{:?}", third.tunings());
}

#[test]
fn what_fails_is_out() {
    let failing: Times = |name| (!name.contains("_forward_128x128_")).then_some(1.0);
    for (times, broken) in [(failing, ""), (second as Times, "_forward_128x128_")] {
        let calls = Calls::new(Clocked::new(times, broken));
        calls.output(70, Plan::Autotune);
        assert!(calls.last().contains("_forward_bf16"), "{}", calls.last());
        let tunings = calls.tunings();
        assert_eq!(
            tunings[0].plans.iter().map(|plan| plan.milliseconds.is_some()).collect::<Vec<_>>(),
            [true, false, true]
        );
    }
    // where nothing can be timed, the rules' plan runs and nothing is decided
    let calls = Calls::new(Clocked::new(|_| None, ""));
    assert_eq!(calls.output(70, Plan::Autotune), calls.output(70, Plan::Rules));
    assert!(calls.tunings().is_empty() && calls.machine.decisions.lock().unwrap().is_empty());
    // where nothing compiles, the call fails as it would by rules
    let calls = Calls::new(Clocked::new(second, ".cu"));
    assert!(calls.run(70, Plan::Autotune).is_err());
}

#[test]
fn nothing_is_timed_while_a_graph_is_recorded() {
    let calls = Calls::new(Clocked::new(second, ""));
    calls.machine.running.store(false, Ordering::Relaxed);
    calls.output(70, Plan::Autotune);
    assert!(calls.last().contains("_forward_bf16"), "{}", calls.last());
    assert!(calls.tunings().is_empty());
    // afterwards it is, and what was decided serves the next recording
    calls.machine.running.store(true, Ordering::Relaxed);
    calls.output(70, Plan::Autotune);
    calls.machine.running.store(false, Ordering::Relaxed);
    calls.output(70, Plan::Autotune);
    assert!(calls.last().contains("_forward_128x128_"), "{}", calls.last());
}

#[test]
fn empty_calls_decide_nothing() {
    let calls = Calls::new(Clocked::new(second, ""));
    calls.output(0, Plan::Autotune);
    assert!(calls.tunings().is_empty() && calls.timed() == 0);
}
