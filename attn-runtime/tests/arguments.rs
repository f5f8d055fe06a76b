//! Wrong arguments: every error names the tensor, what it has and what is needed. Both devices refuse alike.

mod common;

use attn_runtime::{Attention, DType, Device, Error, Parameter, Parameters, Tensor};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(DType::F32, shape).unwrap()
}

fn refuse<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_say_what_is_needed() {
    let attention = |name: &str, device: &Device| Attention::new(&common::variant(name), device).unwrap();
    let none = Parameters::new();
    let scalar = |x: f32| Tensor::from(Parameter::<f32, 0>::from(x));
    let ok = || [zeros(&[2, 4, 5, 8]), zeros(&[2, 2, 7, 8]), zeros(&[2, 2, 7, 3])];
    let messages = |device: &Device| {
        let softmax = attention("softmax", device);
        let run = |q: Tensor, k: Tensor, v: Tensor| refuse(softmax.forward(&q, &k, &v, &none));
        let [q, k, v] = ok();
        let with =
            |name: &str, parameters: Parameters| refuse(attention(name, device).forward(&q, &k, &v, &parameters));
        let output = softmax.forward(&q, &k, &v, &none).unwrap();
        let sigmoid = attention("sigmoid", device);
        let unnormalized = sigmoid.forward(&q, &k, &v, &none).unwrap();
        let half = |shape: &[usize]| Tensor::zeros(DType::F16, shape).unwrap();
        let int = |shape: &[usize]| Tensor::zeros(DType::I32, shape).unwrap();
        [
            run(zeros(&[4, 5, 8]), k.clone(), v.clone()),
            run(q.clone(), half(&[2, 2, 7, 8]), v.clone()),
            run(int(&[2, 4, 5, 8]), int(&[2, 2, 7, 8]), int(&[2, 2, 7, 3])),
            run(q.clone(), zeros(&[1, 2, 7, 8]), v.clone()),
            run(q.clone(), zeros(&[2, 2, 7, 16]), v.clone()),
            run(q.clone(), k.clone(), zeros(&[2, 2, 6, 3])),
            run(q.clone(), k.clone(), zeros(&[2, 4, 7, 3])),
            run(q.clone(), zeros(&[2, 3, 7, 8]), zeros(&[2, 3, 7, 3])),
            run(zeros(&[2, 4, 5, 0]), zeros(&[2, 2, 7, 0]), v.clone()),
            run(zeros(&[2, 4, 8, 5]).transpose(2, 3).unwrap(), k.clone(), v.clone()),
            run(zeros(&[1, 1, 0, 8]).narrow(1, 0, 0).unwrap(), zeros(&[1, 1, 16_777_216, 0]), zeros(&[1, 1, 0, 1])),
            refuse(softmax.clone().scale(0.0)),
            refuse(softmax.clone().mask("casual")),
            with("softcap", none.clone()),
            with("softcap", none.clone().with("cap", scalar(1.0)).with("slope", scalar(1.0))),
            with("softcap", none.clone().with("capp", scalar(1.0))),
            with("softmax", none.clone().with("cap", scalar(1.0))),
            with("softcap", none.clone().with("cap", int(&[]))),
            with("softcap", none.clone().with("cap", zeros(&[1]))),
            with("alibi", none.clone().with("slope", zeros(&[2]))),
            with("table", none.clone().with("table", zeros(&[4, 16]))),
            with("bias", none.clone().with("bias", zeros(&[1, 4, 7, 5]))),
            with("bias", none.clone().with("bias", zeros(&[1, 4, 7, 5]).transpose(2, 3).unwrap())),
            with("document", none.clone().with("ids", int(&[2, 5]))),
            with("table_named", none.clone().with("table", zeros(&[4, 0]))),
            refuse(softmax.backward(&q, &k, &v, &none, &output, &zeros(&[2, 4, 5, 8]), None)),
            refuse(softmax.backward(&q, &k, &v, &none, &output, &half(&[2, 4, 5, 3]), None)),
            refuse(softmax.backward(&q, &k, &v, &none, &output, &zeros(&[2, 4, 5, 3]), Some(&zeros(&[2, 4])))),
            refuse(softmax.backward(&q, &k, &v, &none, &output, &zeros(&[2, 4, 5, 3]), Some(&zeros(&[2, 4, 6])))),
            refuse(sigmoid.backward(&q, &k, &v, &none, &unnormalized, &zeros(&[2, 4, 5, 3]), Some(&zeros(&[2, 4, 5])))),
        ]
        .join("\n")
    };
    let cpu = messages(&Device::Cpu);
    assert_eq!(cpu, messages(&Device::Oracle));
    insta::assert_snapshot!(cpu);
    let softmax = attention("softmax", &Device::Cpu);
    let [q, k, v] = ok();
    let foreign = attention("softmax", &Device::Oracle).forward(&q, &k, &v, &none).unwrap();
    insta::assert_snapshot!(
        refuse(softmax.backward(&q, &k, &v, &none, &foreign, &zeros(&[2, 4, 5, 3]), None)),
        @"`output` is not what `forward` of this attention returned: it holds 0 saved rows, 1 are needed; pass the output of the forward pass on the same device"
    );
}
