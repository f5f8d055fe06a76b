//! The oracle against values that JAX computed in float64 (tests/golden/make_golden.py), and against recurrences in float64.

use serde_json::Value;

use super::naive::Naive;
use crate::call::Call;
use crate::parameter::Parameters;
use crate::tensor::{Location, Tensor};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn tensor(shape: &[usize], value: &Value) -> Tensor {
    // The inputs were rounded to f32 before the file was written.
    Tensor::from_f32(shape, numbers(value).into_iter().map(|x| x as f32).collect()).unwrap()
}

#[track_caller]
fn assert_close(name: &str, actual: &[f64], expected: &Value) {
    let expected = numbers(expected);
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (at, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!((a - e).abs() <= 1e-10 * e.abs().max(1.0), "{name}[{at}] is {a}, expected {e}");
    }
}

#[test]
fn oracle_equals_jax() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/golden.json")).unwrap();
    let [b, h, h_kv, n, m, d, dv] = *numbers(&golden["extents"]) else { panic!("seven extents") };
    let [b, h, h_kv, n, m, d, dv] = [b, h, h_kv, n, m, d, dv].map(|x| x as usize);
    let q = tensor(&[b, h, n, d], &golden["q"]);
    let k = tensor(&[b, h_kv, m, d], &golden["k"]);
    let v = tensor(&[b, h_kv, m, dv], &golden["v"]);
    let output_grad = numbers(&golden["do"]);
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 20);
    for (name, case) in cases {
        let source = format!("struct {name} {{ {} }}", case["body"].as_str().unwrap());
        let definition = attn_dsl::compile_one(&source).unwrap();
        let parameters: Parameters = case["parameters"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let shape: Vec<usize> = numbers(&value["shape"]).into_iter().map(|x| x as usize).collect();
                (name.clone(), tensor(&shape, &value["values"]))
            })
            .collect();
        let call = Call::new(&definition, None, Location::Host, [&q, &k, &v], &parameters, None).unwrap();
        let oracle = Naive::new(&definition, &call).unwrap();
        let output = oracle.forward();
        assert_close(&format!("{name}: o"), &output.output, &case["o"]);
        assert_eq!(output.statistic.is_some(), !case["statistic"].is_null(), "{name}: statistic");
        let alive: Vec<bool> = case["alive"].as_array().unwrap().iter().map(|x| x.as_bool().unwrap()).collect();
        if let Some(mut statistic) = output.statistic {
            for (row, value) in statistic.iter_mut().enumerate().filter(|(row, _)| !alive[row % n]) {
                assert_eq!(*value, f64::NEG_INFINITY, "{name}: row {row} sees nothing");
                *value = 0.0;
            }
            assert_close(&format!("{name}: statistic"), &statistic, &case["statistic"]);
        }
        let statistic_grad = (!case["statistic"].is_null()).then(|| numbers(&golden["dstatistic"]));
        let gradients = oracle.backward(&output_grad, statistic_grad.as_deref());
        assert_close(&format!("{name}: dq"), &gradients.q, &case["dq"]);
        assert_close(&format!("{name}: dk"), &gradients.k, &case["dk"]);
        assert_close(&format!("{name}: dv"), &gradients.v, &case["dv"]);
        for (declared, gradient) in definition.parameters.iter().zip(&gradients.parameters) {
            let expected = &case["dparameters"][&declared.name];
            assert_close(&format!("{name}: d_{}", declared.name), gradient.as_ref().unwrap(), expected);
        }
    }
}

/// Attention that factorises, against recurrences over tokens (tests/golden/make_linear.py).
#[test]
fn oracle_equals_recurrences() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/linear.json")).unwrap();
    let [b, h, n, d, dv] = *numbers(&golden["extents"]) else { panic!("five extents") };
    let [b, h, n, d, dv] = [b, h, n, d, dv].map(|x| x as usize);
    let [q, k, v] = [("q", d), ("k", d), ("v", dv)].map(|(name, width)| tensor(&[b, h, n, width], &golden[name]));
    let output_grad = numbers(&golden["do"]);
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 3);
    for (name, case) in cases {
        let source = format!("struct {name} {{ {} }}", case["body"].as_str().unwrap());
        let definition = attn_dsl::compile_one(&source).unwrap();
        let mut parameters = Parameters::new();
        if let Some(parameter) = case["parameter"].as_str() {
            let shape: Vec<usize> = numbers(&case["shape"]).into_iter().map(|x| x as usize).collect();
            parameters.insert(parameter, tensor(&shape, &case["values"]));
        }
        let call = Call::new(&definition, None, Location::Host, [&q, &k, &v], &parameters, None).unwrap();
        let oracle = Naive::new(&definition, &call).unwrap();
        assert_close(&format!("{name}: o"), &oracle.forward().output, &case["o"]);
        let gradients = oracle.backward(&output_grad, None);
        assert_close(&format!("{name}: dq"), &gradients.q, &case["dq"]);
        assert_close(&format!("{name}: dk"), &gradients.k, &case["dk"]);
        assert_close(&format!("{name}: dv"), &gradients.v, &case["dv"]);
        if let Some(Some(gradient)) = gradients.parameters.first() {
            assert_close(&format!("{name}: parameter"), gradient, &case["dparameter"]);
        }
    }
}
