//! Values for a kernel's arguments, and the bytes of its one parameter.
//!
//! Invariant: the bytes follow the layout that [`attn_dsl::cuda::Argument`] documents, member by member.

use std::collections::HashMap;

use attn_dsl::cuda::{Argument, Length, RowArray, TensorRole};
use attn_dsl::definition::Definition;
use attn_dsl::ir::ParameterId;

use super::unbound;
use crate::error::Error;
use crate::tensor::Tensor;

/// The values of a call, by role.
#[derive(Default)]
pub(super) struct Bindings<'a> {
    tensors: HashMap<TensorRole, [u64; 4]>,
    rows: HashMap<RowArray, u64>,
    lengths: HashMap<Length, i32>,
    pub(super) partials: HashMap<ParameterId, u64>,
    /// Address, then the strides of b, h, q and kv.
    pub(super) dense: HashMap<ParameterId, [u64; 5]>,
    pub(super) parameters: &'a [Tensor],
    pub(super) scale: f32,
    /// The address of four zero bytes, where a parameter is empty.
    pub(super) zero: Option<u64>,
}

impl Bindings<'_> {
    pub(super) fn tensor(&mut self, role: TensorRole, tensor: &Tensor) -> Result<(), Error> {
        let address = tensor.device_address()?;
        let strides = tensor.strides();
        self.tensors.insert(role, [address, strides[0] as u64, strides[1] as u64, strides[2] as u64]);
        Ok(())
    }

    pub(super) fn row(&mut self, row: RowArray, address: u64) {
        self.rows.insert(row, address);
    }

    pub(super) fn length(&mut self, length: Length, value: usize) {
        self.lengths.insert(length, i32::try_from(value).expect("extents are below 2^24"));
    }
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
    ) -> Result<Packed, Error> {
        let mut packed = Packed::default();
        for argument in arguments {
            let end = packed.bytes.len() + argument.bytes(definition);
            packed.push(argument, bindings)?;
            if packed.bytes.len() != end {
                return Err(Error::Internal(format!("the kernel's argument {argument:?} is not as long as declared")));
            }
        }
        packed.align(8);
        Ok(packed)
    }

    fn push(&mut self, argument: &Argument, bindings: &Bindings<'_>) -> Result<(), Error> {
        let missing = || unbound(argument);
        match argument {
            Argument::Tensor(role) => self.words(bindings.tensors.get(role).ok_or_else(missing)?),
            Argument::Rows(row) => self.words(&[*bindings.rows.get(row).ok_or_else(missing)?]),
            Argument::Parameter(id) => {
                let tensor = bindings.parameters.get(id.0 as usize).ok_or_else(missing)?;
                // a table without entries has no address that may be read: every index of it reads a zero
                let is_empty = tensor.element_count() == 0;
                self.words(&[if is_empty { bindings.zero.ok_or_else(missing)? } else { tensor.device_address()? }]);
                let axes = tensor.shape().iter().zip(tensor.strides());
                // an axis of one entry serves every index
                let is_fixed = |extent: usize| is_empty || extent == 1;
                axes.for_each(|(&extent, &stride)| self.words(&[if is_fixed(extent) { 0 } else { stride as u64 }]));
                tensor.shape().iter().for_each(|&extent| self.bytes.extend((extent as i32).to_ne_bytes()));
                self.align(8);
            }
            Argument::Partial(id) => self.words(&[*bindings.partials.get(id).ok_or_else(missing)?]),
            Argument::DenseGrad(id) => self.words(bindings.dense.get(id).ok_or_else(missing)?),
            Argument::Length(length) => {
                self.bytes.extend(bindings.lengths.get(length).ok_or_else(missing)?.to_ne_bytes());
            }
            Argument::Scale => self.bytes.extend(bindings.scale.to_ne_bytes()),
        }
        Ok(())
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
