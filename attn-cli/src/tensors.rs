//! Tensors in safetensors files.
//!
//! Invariants: elements are copied bit by bit; a type that attention does not take is an error that names the tensor. 64-bit
//! integers, as PyTorch makes them, are taken where every one fits 32 bits.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use attn::{DType, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian, and this machine is not");

/// Reads every tensor of a file.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file =
        SafeTensors::deserialize(&bytes).with_context(|| format!("{} is no safetensors file", path.display()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let tensor = from_view(&view).with_context(|| format!("tensor `{name}` of {}", path.display()))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn from_view(view: &TensorView<'_>) -> Result<Tensor> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => return narrowed(view),
        other => bail!("its type is {other:?}; convert it to F32, F16, BF16 or I32"),
    };
    Ok(Tensor::from_bytes(dtype, view.shape(), view.data())?)
}

fn narrowed(view: &TensorView<'_>) -> Result<Tensor> {
    let numbers = view.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    let fits = |number: i64| i32::try_from(number).with_context(|| format!("{number} does not fit 32 bits"));
    let numbers = numbers.map(fits).collect::<Result<Vec<i32>>>()?;
    Ok(Tensor::from_i32(view.shape(), numbers)?)
}

/// Writes tensors of the host, and notes about them.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], notes: HashMap<String, String>) -> Result<()> {
    let bytes = tensors.iter().map(|(_, tensor)| Ok(tensor.to_bytes()?)).collect::<Result<Vec<_>>>()?;
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I32 => Dtype::I32,
        };
        views.push((name.as_str(), TensorView::new(dtype, tensor.shape().to_vec(), bytes)?));
    }
    let bytes = safetensors::serialize(views, Some(notes))?;
    // Not `serialize_to_file`, whose files only their owner can read.
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let values = [1.0, -0.5, 3.25, 1e-3, -7.0, 0.0];
        let types = [DType::F32, DType::F16, DType::BF16, DType::I32];
        let tensors: Vec<_> =
            types.iter().map(|&t| (t.to_string(), Tensor::from_f64(t, &[2, 3], &values).unwrap())).collect();
        write(&path, &tensors, HashMap::new()).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.len(), types.len());
        for (name, tensor) in &tensors {
            assert_eq!(back[name].dtype(), tensor.dtype());
            assert_eq!(back[name].shape(), tensor.shape());
            assert_eq!(back[name].to_bytes().unwrap(), tensor.to_bytes().unwrap());
        }
    }

    #[test]
    fn long_integers_are_narrowed_or_refused() {
        let bytes = |numbers: [i64; 2]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let fits = bytes([-3, 7]);
        let tensor = from_view(&TensorView::new(Dtype::I64, vec![2], &fits).unwrap()).unwrap();
        assert_eq!(tensor.to_i32_vec().unwrap(), [-3, 7]);
        let large = bytes([0, 1 << 40]);
        let error = from_view(&TensorView::new(Dtype::I64, vec![2], &large).unwrap()).unwrap_err();
        assert!(error.to_string().contains("1099511627776 does not fit"), "{error}");
        let doubles = [0; 16];
        let error = from_view(&TensorView::new(Dtype::F64, vec![2], &doubles).unwrap()).unwrap_err();
        assert!(error.to_string().contains("convert it to F32"), "{error}");
    }
}
