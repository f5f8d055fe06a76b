//! Definitions, built node by node.

use attn_dsl::definition::{Axis, Definition, Parameter};
use attn_dsl::ir::{Binary, Compare, Graph, Input, NodeId, ParameterId, Reduction, Type, Unary};

/// A definition under construction: plain softmax attention until told otherwise.
pub(crate) struct Builder {
    pub(crate) graph: Graph,
    name: &'static str,
    parameters: Vec<Parameter>,
    score: NodeId,
    activation: NodeId,
    normalizer: Option<NodeId>,
    mask: Option<NodeId>,
}

impl Builder {
    pub(crate) fn new(name: &'static str) -> Self {
        let mut graph = Graph::new();
        let (product, scale) = (graph.input(Input::Product), graph.input(Input::Scale));
        let score = graph.product(scale, product);
        let s = graph.input(Input::Score);
        let activation = graph.unary(Unary::Exp, s);
        let normalizer = Some(graph.input(Input::Reduction(Reduction::Sum)));
        Self { graph, name, parameters: Vec::new(), score, activation, normalizer, mask: None }
    }

    /// A learnable float parameter, read with `axes` of the place of evaluation.
    pub(crate) fn read(&mut self, name: &str, axes: &[Axis]) -> NodeId {
        let id = ParameterId(self.parameters.len() as u32);
        self.parameters.push(Parameter {
            name: name.to_owned(),
            docs: String::new(),
            ty: Type::Float,
            learnable: true,
            axes: axes.to_vec(),
        });
        let index = axes.iter().map(|axis| self.input(axis_input(axis))).collect();
        self.graph.parameter(id, index, Type::Float)
    }

    pub(crate) fn input(&mut self, input: Input) -> NodeId {
        self.graph.input(input)
    }

    pub(crate) fn reduction(&mut self, reduction: Reduction) -> NodeId {
        self.graph.input(Input::Reduction(reduction))
    }

    pub(crate) fn float(&mut self, value: f64) -> NodeId {
        self.graph.float(value)
    }

    pub(crate) fn cast(&mut self, input: Input) -> NodeId {
        let node = self.graph.input(input);
        self.graph.cast(Type::Float, node)
    }

    pub(crate) fn un(&mut self, op: Unary, a: NodeId) -> NodeId {
        self.graph.unary(op, a)
    }

    pub(crate) fn bin(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.graph.binary(op, a, b)
    }

    pub(crate) fn score(&self) -> NodeId {
        self.score
    }

    pub(crate) fn set_score(mut self, score: NodeId) -> Self {
        self.score = score;
        self
    }

    pub(crate) fn set_activation(mut self, activation: NodeId) -> Self {
        self.activation = activation;
        self
    }

    pub(crate) fn set_normalizer(mut self, normalizer: Option<NodeId>) -> Self {
        self.normalizer = normalizer;
        self
    }

    pub(crate) fn causal(mut self) -> Self {
        let (q, kv) = (self.input(Input::Query), self.input(Input::Key));
        let (q_len, kv_len) = (self.input(Input::QueryLen), self.input(Input::KeyLen));
        let offset = self.graph.difference(kv_len, q_len);
        let aligned = self.graph.difference(kv, offset);
        self.mask = Some(self.graph.compare(Compare::Le, aligned, q));
        self
    }

    pub(crate) fn build(self) -> Definition {
        Definition {
            name: self.name.to_owned(),
            docs: String::new(),
            text: String::new(),
            parameters: self.parameters,
            sizes: Vec::new(),
            graph: self.graph,
            score: self.score,
            activation: self.activation,
            normalizer: self.normalizer,
            entmax: None,
            keep: None,
            post: None,
            mask: self.mask,
            features: [None; 2],
        }
    }
}

fn axis_input(axis: &Axis) -> Input {
    match axis {
        Axis::Batch => Input::Batch,
        Axis::Head => Input::Head,
        Axis::Query => Input::Query,
        Axis::Key => Input::Key,
        Axis::Fixed(_) | Axis::Named(_) => panic!("read it by hand"),
    }
}

/// The normalizer of a variant whose weights are exponentials.
fn exponential(name: &'static str, normalizer: impl FnOnce(&mut Builder) -> NodeId) -> Definition {
    let mut b = Builder::new(name);
    let z = normalizer(&mut b);
    b.set_normalizer(Some(z)).causal().build()
}

/// A variant by its activation and its normalizer.
fn activated(
    name: &'static str,
    activation: impl FnOnce(&mut Builder, NodeId) -> NodeId,
    normalizer: impl FnOnce(&mut Builder) -> Option<NodeId>,
) -> Definition {
    let mut b = Builder::new(name);
    let s = b.input(Input::Score);
    let w = activation(&mut b, s);
    let z = normalizer(&mut b);
    b.set_activation(w).set_normalizer(z).causal().build()
}

/// A softmax over a modified score.
fn scored(name: &'static str, score: impl FnOnce(&mut Builder, NodeId) -> NodeId) -> Definition {
    let mut b = Builder::new(name);
    let s = b.score();
    let s = score(&mut b, s);
    b.set_score(s).causal().build()
}

fn relu(b: &mut Builder, s: NodeId) -> NodeId {
    let zero = b.float(0.0);
    b.bin(Binary::Max, s, zero)
}

fn silu(b: &mut Builder, s: NodeId) -> NodeId {
    let sigmoid = b.un(Unary::Sigmoid, s);
    b.bin(Binary::Mul, s, sigmoid)
}

fn elu_plus_one(b: &mut Builder, s: NodeId) -> NodeId {
    let (zero, one) = (b.float(0.0), b.float(1.0));
    let positive = b.graph.compare(Compare::Gt, s, zero);
    let above = b.bin(Binary::Add, s, one);
    let below = b.un(Unary::Exp, s);
    b.graph.select(positive, above, below)
}

fn sum(b: &mut Builder) -> NodeId {
    b.reduction(Reduction::Sum)
}

fn distance(b: &mut Builder) -> NodeId {
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let (q_len, kv_len) = (b.input(Input::QueryLen), b.input(Input::KeyLen));
    let offset = b.graph.difference(kv_len, q_len);
    let row = b.graph.sum(offset, q);
    let difference = b.graph.difference(row, kv);
    let distance = b.un(Unary::Abs, difference);
    b.graph.cast(Type::Float, distance)
}

pub(crate) fn softmax() -> Definition {
    Builder::new("softmax").causal().build()
}

pub(crate) fn softmax_1() -> Definition {
    exponential("softmax_1", |b| {
        let (sum, one) = (sum(b), b.float(1.0));
        b.bin(Binary::Add, sum, one)
    })
}

pub(crate) fn softmax_n() -> Definition {
    exponential("softmax_n", |b| {
        let (sum, n) = (sum(b), b.read("n", &[Axis::Head]));
        b.bin(Binary::Add, sum, n)
    })
}

pub(crate) fn sink() -> Definition {
    exponential("sink", |b| {
        let (sum, sink) = (sum(b), b.read("sink", &[Axis::Head]));
        let sink = b.un(Unary::Exp, sink);
        b.bin(Binary::Add, sum, sink)
    })
}

pub(crate) fn root_of_squares() -> Definition {
    exponential("root_of_squares", |b| {
        let squares = b.reduction(Reduction::SumSquares);
        b.un(Unary::Sqrt, squares)
    })
}

pub(crate) fn largest() -> Definition {
    exponential("largest", |b| b.reduction(Reduction::Max))
}

pub(crate) fn alibi() -> Definition {
    scored("alibi", |b, s| {
        let (slope, distance) = (b.read("slope", &[Axis::Head]), distance(b));
        let bias = b.bin(Binary::Mul, slope, distance);
        b.bin(Binary::Sub, s, bias)
    })
}

pub(crate) fn softcap() -> Definition {
    scored("softcap", |b, s| {
        let cap = b.read("cap", &[]);
        let ratio = b.bin(Binary::Div, s, cap);
        let tanh = b.un(Unary::Tanh, ratio);
        b.bin(Binary::Mul, cap, tanh)
    })
}

pub(crate) fn silu_streaming() -> Definition {
    activated("silu_streaming", silu, |b| {
        let (sum, one) = (sum(b), b.float(1.0));
        let size = b.un(Unary::Abs, sum);
        Some(b.bin(Binary::Max, size, one))
    })
}

pub(crate) fn sigmoid_bias() -> Definition {
    activated(
        "sigmoid_bias",
        |b, s| {
            let bias = b.read("bias", &[Axis::Head]);
            let s = b.bin(Binary::Add, s, bias);
            b.un(Unary::Sigmoid, s)
        },
        |_| None,
    )
}

pub(crate) fn normalised_relu() -> Definition {
    activated("normalised_relu", relu, |b| Some(sum(b)))
}

/// Every variant that the numerical test runs.
pub(crate) fn all() -> Vec<Definition> {
    vec![
        softmax(),
        softmax_1(),
        softmax_n(),
        sink(),
        root_of_squares(),
        largest(),
        alibi(),
        softcap(),
        silu_streaming(),
        sigmoid_bias(),
        normalised_relu(),
        exponential("sink_per_query", |b| {
            let (sum, sink) = (sum(b), b.read("sink", &[Axis::Head, Axis::Query]));
            let (sink, two) = (b.un(Unary::Exp, sink), b.float(2.0));
            let sinks = b.bin(Binary::Mul, sink, two);
            b.bin(Binary::Add, sum, sinks)
        }),
        exponential("at_least_one", |b| {
            let (sum, one) = (sum(b), b.float(1.0));
            let size = b.un(Unary::Abs, sum);
            b.bin(Binary::Max, size, one)
        }),
        exponential("at_least_learned", |b| {
            let (sum, least) = (sum(b), b.read("least", &[Axis::Head]));
            let least = b.un(Unary::Exp2, least);
            b.bin(Binary::Max, sum, least)
        }),
        exponential("every_reduction", |b| {
            let (sum, max, squares) = (sum(b), b.reduction(Reduction::Max), b.reduction(Reduction::SumSquares));
            let c = b.read("c", &[]);
            let square = b.bin(Binary::Mul, c, c);
            let inner = b.bin(Binary::Add, squares, square);
            let root = b.un(Unary::Sqrt, inner);
            let ratio = b.bin(Binary::Div, squares, sum);
            let total = b.bin(Binary::Add, root, ratio);
            let total = b.bin(Binary::Add, total, max);
            let root_sum = b.un(Unary::Sqrt, sum);
            b.bin(Binary::Add, total, root_sum)
        }),
        exponential("sum_over_max", |b| {
            let (sum, max, one) = (sum(b), b.reduction(Reduction::Max), b.float(1.0));
            let ratio = b.bin(Binary::Div, sum, max);
            let larger = b.graph.compare(Compare::Gt, ratio, one);
            b.graph.select(larger, ratio, one)
        }),
        exponential("log_of_sum", |b| {
            let (sum, two) = (sum(b), b.float(2.0));
            let shifted = b.bin(Binary::Add, sum, two);
            let log = b.un(Unary::Ln, shifted);
            b.bin(Binary::Add, sum, log)
        }),
        exponential("sum_per_count", |b| {
            let (sum, count) = (sum(b), b.cast(Input::LiveKeys));
            b.bin(Binary::Div, sum, count)
        }),
        exponential("exp_over_count", |b| b.cast(Input::LiveKeys)),
        scored("temperature", |b, s| {
            let (t, n) = (b.read("temperature", &[Axis::Head]), b.cast(Input::LiveKeys));
            let log = b.un(Unary::Ln, n);
            let s = b.bin(Binary::Mul, s, log);
            b.bin(Binary::Div, s, t)
        }),
        scored("dense_bias", |b, s| {
            let bias = b.read("bias", &[Axis::Batch, Axis::Head, Axis::Query, Axis::Key]);
            b.bin(Binary::Add, s, bias)
        }),
        activated("mean", |_, s| s, |b| Some(b.cast(Input::LiveKeys))),
        activated(
            "exp2_sink",
            |b, s| b.un(Unary::Exp2, s),
            |b| {
                let (sum, sink) = (sum(b), b.read("sink", &[Axis::Head]));
                let sink = b.un(Unary::Exp2, sink);
                Some(b.bin(Binary::Add, sum, sink))
            },
        ),
        activated("normalised_elu", elu_plus_one, |b| Some(sum(b))),
        activated("relu_by_root", relu, |b| {
            let squares = b.reduction(Reduction::SumSquares);
            Some(b.un(Unary::Sqrt, squares))
        }),
        activated("sigmoid_by_largest", |b, s| b.un(Unary::Sigmoid, s), |b| Some(b.reduction(Reduction::Max))),
        activated(
            "softplus_learned",
            |b, s| b.un(Unary::Softplus, s),
            |b| {
                let (sum, n) = (sum(b), b.read("n", &[Axis::Head]));
                let square = b.bin(Binary::Mul, n, n);
                Some(b.bin(Binary::Add, sum, square))
            },
        ),
        activated("tanh_by_parameter", |b, s| b.un(Unary::Tanh, s), |b| Some(b.read("divisor", &[Axis::Head]))),
        activated(
            "gelu",
            |b, s| {
                let (root, half, one) = (b.float(std::f64::consts::FRAC_1_SQRT_2), b.float(0.5), b.float(1.0));
                let scaled = b.bin(Binary::Mul, s, root);
                let erf = b.un(Unary::Erf, scaled);
                let cdf = b.bin(Binary::Add, erf, one);
                let weight = b.bin(Binary::Mul, s, cdf);
                b.bin(Binary::Mul, weight, half)
            },
            |_| None,
        ),
    ]
}
