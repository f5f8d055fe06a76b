//! Tensors in the memory of a machine such as a GPU, and copies between it and the host.
//!
//! Invariant: a device buffer holds a whole number of elements of its dtype.

use std::sync::Arc;

use super::{DType, Storage, Tensor, row_major_strides};
use crate::device::Device;
use crate::error::Error;
use crate::machine::{DeviceMemory, Machine};
use crate::parameter::Parameters;

/// Elements in the memory of a machine.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    pub(crate) memory: Box<dyn DeviceMemory>,
    pub(crate) dtype: DType,
}

impl DeviceBuffer {
    pub(crate) fn len(&self) -> usize {
        self.memory.len() / self.dtype.size()
    }
}

impl Tensor {
    /// A row-major tensor over device memory that holds just its elements.
    pub(crate) fn from_device(dtype: DType, shape: &[usize], memory: Box<dyn DeviceMemory>) -> Result<Tensor, Error> {
        let storage = Storage::Device(Arc::new(DeviceBuffer { memory, dtype }));
        Ok(Self::from_parts(shape.to_vec(), row_major_strides(shape), 0, storage)?)
    }

    /// The address of the first element in device memory.
    pub(crate) fn device_address(&self) -> Result<u64, Error> {
        match &self.storage {
            Storage::Device(buffer) => Ok(buffer.memory.address() + (self.offset * self.dtype.size()) as u64),
            Storage::Host(_) => Err(Error::Internal("a tensor of the host reached a kernel of a device".to_owned())),
        }
    }

    /// The same tensor where a device needs it: this one if it is there, else a copy (with the same strides on a GPU).
    ///
    /// # Errors
    /// When the device has no memory left, or a copy fails.
    ///
    /// ```
    /// use attn_runtime::{DType, Device, Tensor};
    /// let tensor = Tensor::zeros(DType::F32, &[2, 3])?;
    /// assert_eq!(tensor.to_device(&Device::Cpu)?.shape(), [2, 3]);
    /// # Ok::<(), attn_runtime::Error>(())
    /// ```
    pub fn to_device(&self, device: &Device) -> Result<Tensor, Error> {
        self.to_device_as(device, &self.kind())
    }

    /// The same with the name that a device's reports give the memory, where it is new.
    pub(crate) fn to_device_as(&self, device: &Device, name: &str) -> Result<Tensor, Error> {
        if self.location() == device.location() {
            return Ok(self.clone());
        }
        let host = self.to_host()?;
        match device.machine() {
            Some(machine) => host.upload(machine, name),
            None => Ok(host),
        }
    }

    /// What reports call the memory of a tensor that has no better name.
    fn kind(&self) -> String {
        format!("{}{:?}", self.dtype, self.shape)
    }

    fn upload(&self, machine: &dyn Machine, name: &str) -> Result<Tensor, Error> {
        if self.is_contiguous() {
            return Self::from_device(self.dtype, &self.shape, machine.upload(name, &self.to_bytes()?)?);
        }
        let buffer = DeviceBuffer { memory: machine.upload(name, self.host()?.bytes())?, dtype: self.dtype };
        let storage = Storage::Device(Arc::new(buffer));
        Ok(Self::from_parts(self.shape.clone(), self.strides.clone(), self.offset, storage)?)
    }

    /// The same tensor in the memory of the host: this one if it is there, else a row-major copy.
    ///
    /// # Errors
    /// When a kernel that was issued before failed, or the copy fails.
    pub fn to_host(&self) -> Result<Tensor, Error> {
        let Storage::Device(buffer) = &self.storage else { return Ok(self.clone()) };
        // the whole memory behind a view is copied: views reach most of it
        let bytes = buffer.memory.download()?;
        let all = Tensor::from_bytes(self.dtype, &[buffer.len()], &bytes)?;
        let view = Self::from_parts(self.shape.clone(), self.strides.clone(), self.offset, all.storage)?;
        Ok(view.contiguous()?)
    }

    /// A row-major tensor of the same elements on the same device: this one if it already is, else a copy (through the host
    /// for a tensor on a GPU).
    ///
    /// # Errors
    /// When a copy fails.
    pub fn to_contiguous(&self) -> Result<Tensor, Error> {
        match &self.storage {
            _ if self.is_contiguous() => Ok(self.contiguous()?),
            Storage::Host(_) => Ok(self.contiguous()?),
            Storage::Device(buffer) => self.to_host()?.upload(buffer.memory.machine(), &self.kind()),
        }
    }
}

impl Parameters {
    /// The same parameters where a device needs them; see [`Tensor::to_device`].
    ///
    /// # Errors
    /// When the device has no memory left, or a copy fails.
    ///
    /// ```
    /// use attn_runtime::{DType, Device, Parameters, Tensor};
    /// let parameters = Parameters::new().with("slope", Tensor::full(DType::F32, &[8], 0.5)?);
    /// let moved = parameters.to_device(&Device::Cpu)?;
    /// assert_eq!(moved.get("slope").map(Tensor::shape), Some(&[8][..]));
    /// # Ok::<(), attn_runtime::Error>(())
    /// ```
    pub fn to_device(&self, device: &Device) -> Result<Parameters, Error> {
        let moved = self.iter().map(|(name, tensor)| Ok((name.to_owned(), tensor.to_device_as(device, name)?)));
        Ok(moved.collect::<Result<Vec<_>, Error>>()?.into_iter().collect())
    }
}
