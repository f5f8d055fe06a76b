//! Values for a kernel's arguments, and the bytes of its one parameter.
//!
//! Invariant: the bytes follow the layout that [`attn_dsl::cuda::Argument`] documents, member by member.

use std::collections::HashMap;

use attn_dsl::cuda::{Argument, Length, RowArray, TensorRole};
use attn_dsl::definition::Definition;
use attn_dsl::ir::ParameterId;
use attn_dsl::lower::Side;

use super::unbound;
use crate::error::Error;
use crate::machine::{Machine, TensorDescription, TensorElement, TensorSwizzle};
use crate::tensor::{DType, Tensor, row_major_strides};

/// Columns of the boxes of tensor maps: the widest swizzle of 16-bit elements.
const BOX_COLUMNS: u32 = 64;

/// The values of a call, by role.
#[derive(Default)]
pub(super) struct Bindings<'a> {
    tensors: HashMap<TensorRole, Tensor>,
    rows: HashMap<RowArray, u64>,
    lengths: HashMap<Length, i32>,
    pub(super) partials: HashMap<ParameterId, u64>,
    pub(super) row_partials: HashMap<ParameterId, u64>,
    /// The addresses of the sums of dq and of the turns to add to them.
    pub(super) query_grad_sums: Option<u64>,
    pub(super) query_grad_turns: Option<u64>,
    /// The addresses of states and of their exponents.
    pub(super) states: Option<[u64; 2]>,
    /// The addresses of the state to begin with and of that at the end; 0 where there is none.
    pub(super) state_ends: [u64; 2],
    /// The addresses of the sums of queries and of keys.
    pub(super) product_sums: Option<[u64; 2]>,
    /// The addresses of tensor maps of sequences, by their tensors and the rows of their boxes.
    pub(super) sequence_maps: HashMap<Vec<(TensorRole, u32)>, u64>,
    /// By parameter and axis: the address of the extremes of blocks, and their shape.
    pub(super) extremes: HashMap<(ParameterId, u32), (u64, Vec<usize>)>,
    /// Address, then the strides of b, h, q and kv.
    pub(super) dense: HashMap<ParameterId, [u64; 5]>,
    pub(super) parameters: &'a [Tensor],
    pub(super) scale: f32,
    /// The address of the counter of tiles that blocks have taken, where a kernel has one.
    pub(super) works_taken: Option<u64>,
    /// The addresses of the lists of queries and of keys before each sequence, where the batch is packed.
    pub(super) cu_seqlens: Option<[u64; 2]>,
    /// The address of four zero bytes, where a parameter is empty.
    pub(super) zero: Option<u64>,
}

impl Bindings<'_> {
    pub(super) fn tensor(&mut self, role: TensorRole, tensor: &Tensor) {
        self.tensors.insert(role, tensor.clone());
    }

    pub(super) fn row(&mut self, row: RowArray, address: u64) {
        self.rows.insert(row, address);
    }

    pub(super) fn length(&mut self, length: Length, value: usize) {
        self.lengths.insert(length, i32::try_from(value).expect("extents are below 2^24"));
    }
}

/// The tensor map of `[b, h, n, d]` in boxes of 64 columns and `rows` rows.
fn tensor_map(tensor: &Tensor, rows: u32, machine: &dyn Machine) -> Result<[u8; 128], Error> {
    let element = match tensor.dtype() {
        DType::F16 => TensorElement::F16,
        DType::BF16 => TensorElement::Bf16,
        DType::F32 | DType::I32 => {
            return Err(Error::Internal(format!("a tensor map of {} is not used", tensor.dtype())));
        }
    };
    // nothing is copied of a tensor without elements, wherever it lies, but a map must have some
    let is_empty = tensor.element_count() == 0;
    let shape = if is_empty { [1, 1, 1, tensor.shape()[3].max(1)].to_vec() } else { tensor.shape().to_vec() };
    // from the innermost axis
    let extents: Vec<u64> = shape.iter().rev().map(|&extent| extent as u64).collect();
    let size = tensor.dtype().size();
    // along an axis of one entry nothing moves, and its stride may be anything
    let axes = tensor.strides().iter().zip(&shape).take(3).rev();
    let strides: Vec<u64> =
        axes.map(|(&stride, &extent)| if extent > 1 { (stride * size) as u64 } else { 16 }).collect();
    let box_extents = [BOX_COLUMNS, rows, 1, 1];
    let address = if is_empty { tensor.device_address()? / 16 * 16 } else { tensor.device_address()? };
    let swizzle = TensorSwizzle::Bytes128;
    machine.tensor_map(&TensorDescription {
        element,
        address,
        extents: &extents,
        strides: &strides,
        box_extents: &box_extents,
        swizzle,
    })
}

/// The bytes of a kernel's parameter.
#[derive(Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    pub(super) fn of(
        arguments: &[Argument],
        definition: &Definition,
        bindings: &Bindings<'_>,
        machine: &dyn Machine,
    ) -> Result<Packed, Error> {
        let mut packed = Packed::default();
        for argument in arguments {
            let end = packed.bytes.len() + argument.bytes(definition);
            packed.push(argument, bindings, machine)?;
            if packed.bytes.len() != end {
                return Err(Error::Internal(format!("the kernel's argument {argument:?} is not as long as declared")));
            }
        }
        packed.bytes.resize(Argument::structure_bytes(arguments, definition), 0);
        Ok(packed)
    }

    fn push(&mut self, argument: &Argument, bindings: &Bindings<'_>, machine: &dyn Machine) -> Result<(), Error> {
        let missing = || unbound(argument);
        match argument {
            Argument::Tensor(role) => {
                let tensor = bindings.tensors.get(role).ok_or_else(missing)?;
                let [batch, head, row] = [0, 1, 2].map(|axis| tensor.strides()[axis] as u64);
                self.words(&[tensor.device_address()?, batch, head, row]);
            }
            Argument::TensorMap(role, rows) => {
                let tensor = bindings.tensors.get(role).ok_or_else(missing)?;
                self.bytes.extend(tensor_map(tensor, *rows, machine)?);
            }
            Argument::SequenceMaps(tensors) => {
                self.words(&[*bindings.sequence_maps.get(tensors).ok_or_else(missing)?]);
            }
            Argument::Rows(row) => self.words(&[*bindings.rows.get(row).ok_or_else(missing)?]),
            Argument::Parameter(id) => {
                let tensor = bindings.parameters.get(id.0 as usize).ok_or_else(missing)?;
                // a table without entries has no address that may be read: every index of it reads a zero
                let is_empty = tensor.element_count() == 0;
                let address = if is_empty { bindings.zero.ok_or_else(missing)? } else { tensor.device_address()? };
                self.array(address, tensor.shape(), tensor.strides());
            }
            Argument::Extremes(id, axis) => {
                let (address, shape) = bindings.extremes.get(&(*id, *axis)).ok_or_else(missing)?;
                let is_empty = shape.contains(&0);
                let address = if is_empty { bindings.zero.ok_or_else(missing)? } else { *address };
                self.array(address, shape, &row_major_strides(shape));
            }
            Argument::Partial(id) | Argument::TilePartial(id, _) => {
                self.words(&[*bindings.partials.get(id).ok_or_else(missing)?]);
            }
            Argument::RowPartial(id) => self.words(&[*bindings.row_partials.get(id).ok_or_else(missing)?]),
            Argument::QueryGradSums(_) => self.words(&[bindings.query_grad_sums.ok_or_else(missing)?]),
            Argument::QueryGradTurns => self.words(&[bindings.query_grad_turns.ok_or_else(missing)?]),
            Argument::States => self.words(&[bindings.states.ok_or_else(missing)?[0]]),
            Argument::StateExponents => self.words(&[bindings.states.ok_or_else(missing)?[1]]),
            Argument::StateIn => self.words(&[bindings.state_ends[0]]),
            Argument::StateOut => self.words(&[bindings.state_ends[1]]),
            Argument::ProductSums(side) => {
                let [of_queries, of_keys] = bindings.product_sums.ok_or_else(missing)?;
                self.words(&[if *side == Side::Query { of_queries } else { of_keys }]);
            }
            Argument::DenseGrad(id) => self.words(bindings.dense.get(id).ok_or_else(missing)?),
            Argument::WorksTaken => self.words(&[bindings.works_taken.ok_or_else(missing)?]),
            Argument::CuSeqlensQ => self.words(&[bindings.cu_seqlens.ok_or_else(missing)?[0]]),
            Argument::CuSeqlensKv => self.words(&[bindings.cu_seqlens.ok_or_else(missing)?[1]]),
            Argument::Length(length) => {
                self.bytes.extend(bindings.lengths.get(length).ok_or_else(missing)?.to_ne_bytes());
            }
            Argument::Scale => self.bytes.extend(bindings.scale.to_ne_bytes()),
        }
        Ok(())
    }

    /// An array with strides and extents; an axis of one entry serves every index.
    fn array(&mut self, address: u64, shape: &[usize], strides: &[usize]) {
        self.words(&[address]);
        let is_fixed = |extent: usize| shape.contains(&0) || extent == 1;
        let axes = shape.iter().zip(strides);
        axes.for_each(|(&extent, &stride)| self.words(&[if is_fixed(extent) { 0 } else { stride as u64 }]));
        shape.iter().for_each(|&extent| self.bytes.extend((extent as i32).to_ne_bytes()));
        self.align(8);
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.bytes.extend(word.to_ne_bytes()));
    }

    fn align(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
