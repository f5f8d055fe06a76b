//! What a macro call gives its user.
#![deny(missing_docs, unused)]

use attn::{Parameter, Tensor, Variant};

attn::attention! {
    /// Documented.
    #[derive(Clone, Debug)]
    pub struct Capped {
        /// The cap.
        const cap: f32,
        sink: f32[h],
        ids: i32[b, kv],
        score: |s| cap * tanh(s / cap),
        normalizer: sum + exp(sink[h]),
        mask: causal & document(ids),
    }

    struct Plain;
}

mod inner {
    attn::attention! {
        /// Seen in the crate.
        pub(crate) struct Inner {
            x: f32,
            score: |s| s * x,
        }
    }
}

fn main() {
    let capped = Capped { cap: 30.0.into(), sink: [0.0; 4].into(), ids: [[0, 0, 1]].into() };
    let sink: &Parameter<f32, 1> = &capped.sink;
    let tensor: Tensor = sink.into();
    assert_eq!(tensor.shape(), [4]);
    let names: Vec<_> = capped.clone().parameters().iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["cap", "sink", "ids"]);
    assert!(std::ptr::eq(Capped::definition(), Capped::definition()));
    assert_eq!(Capped::definition().text, Capped::TEXT);
    assert_eq!(Capped::definition().docs, "Documented.");
    assert!(Plain {}.parameters().is_empty());
    assert_eq!(Plain::definition().name, "Plain");
    let inner = inner::Inner { x: 2.0.into() };
    assert_eq!(inner.parameters().len(), 1);
}
