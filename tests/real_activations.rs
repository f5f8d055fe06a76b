//! Real queries, keys and values of a trained model, against softmax attention that PyTorch computed in float64.

use attn::gallery::Softmax;
use attn::testing::{Comparison, Tolerance};
use attn::{Attention, DType, Device, Parameters, Tensor, Variant};
use safetensors::SafeTensors;

static ACTIVATIONS: &[u8] = include_bytes!("../examples/data/minilm-layer2.safetensors");

fn tensor(name: &str) -> Tensor {
    let file = SafeTensors::deserialize(ACTIVATIONS).unwrap();
    let tensor = file.tensor(name).unwrap();
    Tensor::from_bytes(DType::F32, tensor.shape(), tensor.data()).unwrap()
}

#[test]
fn softmax_agrees_with_pytorch() {
    let golden = tensor("softmax_o");
    for device in [Device::Cpu, Device::Oracle] {
        let attention = Attention::new(Softmax::definition(), &device).unwrap();
        let output = attention.forward(&tensor("q"), &tensor("k"), &tensor("v"), &Parameters::new()).unwrap();
        let rows = output.output.narrow(2, 0, golden.shape()[2]).unwrap();
        let (actual, expected) = (rows.to_f64_vec().unwrap(), golden.to_f64_vec().unwrap());
        let magnitude = vec![0.0; expected.len()];
        let tolerance = Tolerance { relative: 1e-6, slack: 0.0 };
        let comparison = Comparison::new("o", &actual, &expected, &magnitude, tolerance);
        assert!(comparison.passed(), "{device}: {comparison}");
    }
}
