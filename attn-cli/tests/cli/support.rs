//! Runs the built command, and makes files for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Output};

use attn::{DType, Tensor};
use attn_runtime::testing::Random;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// What the command printed and how it ended.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command with these arguments.
pub(crate) fn attn(arguments: &[&str]) -> Run {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_attn")).args(arguments).output().expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("the command prints UTF-8");
    Run { status: status.code().expect("the command ends by itself"), out: text(stdout), err: text(stderr) }
}

impl Run {
    /// Asserts the exit status and gives the run back.
    #[track_caller]
    pub(crate) fn ended(self, status: i32) -> Run {
        assert_eq!(self.status, status, "\nstdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Asserts that a text was printed to standard output.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Run {
        assert!(self.out.contains(text), "`{text}` is not in\n{}\nstderr: {}", self.out, self.err);
        self
    }

    /// Asserts that a text was printed to standard error.
    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Run {
        assert!(self.err.contains(text), "`{text}` is not in\n{}\nstdout: {}", self.err, self.out);
        self
    }
}

/// Writes tensors as a safetensors file.
pub(crate) fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, tensor)| tensor.to_bytes().unwrap()).collect();
    let views = tensors.iter().zip(&data).map(|((name, tensor), data)| {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I32 => Dtype::I32,
        };
        (*name, TensorView::new(dtype, tensor.shape().to_vec(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

/// The shape and the numbers of every tensor of a file.
pub(crate) fn read(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                other => panic!("`{name}` is {other:?}"),
            };
            let tensor = Tensor::from_bytes(dtype, view.shape(), view.data()).unwrap();
            (name.to_owned(), (view.shape().to_vec(), tensor.to_f64_vec().unwrap()))
        })
        .collect()
}

/// q, k, v and the gradients of a call with grouped heads, odd lengths and a narrower v.
pub(crate) fn inputs(dtype: DType) -> Vec<(&'static str, Tensor)> {
    let mut random = Random::new(3);
    let mut tensor = |dtype, shape: &[usize]| random.normal_tensor(dtype, shape).unwrap();
    vec![
        ("q", tensor(dtype, &[2, 4, 13, 16])),
        ("k", tensor(dtype, &[2, 2, 21, 16])),
        ("v", tensor(dtype, &[2, 2, 21, 8])),
        ("do", tensor(dtype, &[2, 4, 13, 8])),
        ("dstatistic", tensor(DType::F32, &[2, 4, 13])),
    ]
}

/// The relative root mean square of a difference.
pub(crate) fn difference(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let error = square(&mut left.iter().zip(right).map(|(a, b)| a - b));
    (error / square(&mut right.iter().copied())).sqrt()
}
