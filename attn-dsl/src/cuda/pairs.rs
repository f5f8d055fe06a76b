//! What the joint Hopper backward kernel computes of each pair, and the functions that do.
//!
//! Where gradients follow from the weight, they have a function of their own, which is given the weight: weights are computed while
//! the gradients of weights still are. A weight that is a sigmoid is then left as `y` of `y / (1 + y)`, so that the kernel needs no
//! reciprocal where all of a tile are small.
//!
//! Invariant: the gradients are expressions of the very node that they are given as the weight.

use super::assemble::Variant;
use super::backward::pair_part;
use super::forward::in_log2_units;
use super::gradients::Gradient;
use super::relative;
use super::values::{Values, function};
use crate::ir::{Graph, Input, NodeId, Op, Unary};

/// How weights and gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Together, from both products.
    Joint,
    /// One after the other.
    Split,
    /// One after the other, the weight a sigmoid of this exponent of 2.
    Sigmoid(NodeId),
}

/// What is computed of each pair.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    probability: NodeId,
    form: Form,
    /// The gradient of the product and those of parameters, by their names in `struct Pair`.
    gradients: Vec<(String, NodeId)>,
}

impl Pairs {
    /// Of a variant with these sums of parameters' gradients; new expressions go to its graph.
    pub(super) fn of(variant: &mut Variant<'_>, sums: &[&Gradient]) -> Pairs {
        let backward = &variant.lowered.backward;
        let probability = backward.probability;
        let mut gradients: Vec<(String, NodeId)> = vec![("product_grad".into(), backward.product_grad)];
        gradients.extend(
            sums.iter()
                .map(|sum| (format!("grad_{}", variant.name_of(sum.parameter)), sum.pair.expect("summed by pair"))),
        );
        let form = if gradients.iter().any(|(_, root)| reads_product_beside(&variant.graph, *root, probability)) {
            Form::Joint
        } else if let Op::Unary(Unary::Sigmoid, inner) = *variant.graph.op(probability) {
            Form::Sigmoid(in_log2_units(&mut variant.graph, inner))
        } else {
            Form::Split
        };
        Pairs { probability, form, gradients }
    }

    /// All expressions.
    pub(super) fn roots(&self) -> Vec<NodeId> {
        let mut roots: Vec<NodeId> = self.gradients.iter().map(|(_, root)| *root).collect();
        roots.push(self.probability);
        if let Form::Sigmoid(exponent) = self.form {
            roots.push(exponent);
        }
        roots
    }

    /// With other expressions in the order of [`Pairs::roots`].
    pub(super) fn with_roots(&self, roots: &[NodeId]) -> Pairs {
        let (gradients, rest) = roots.split_at(self.gradients.len());
        let names = self.gradients.iter().map(|(name, _)| name.clone());
        let form = match self.form {
            Form::Sigmoid(_) => Form::Sigmoid(rest[1]),
            form => form,
        };
        Pairs { probability: rest[0], form, gradients: names.zip(gradients.iter().copied()).collect() }
    }

    pub(super) fn is_split(&self) -> bool {
        self.form != Form::Joint
    }

    pub(super) fn is_sigmoid(&self) -> bool {
        matches!(self.form, Form::Sigmoid(_))
    }

    /// Makes fields of what the functions need.
    pub(super) fn demand(&self, values: &mut Values<'_>) {
        let given = self.is_split().then_some(self.probability);
        self.gradients.iter().for_each(|(_, root)| values.demand_of_pair(*root, given));
        values.demand_of_pair(self.weight(), None);
    }

    /// What the function of weights computes.
    fn weight(&self) -> NodeId {
        if let Form::Sigmoid(exponent) = self.form { exponent } else { self.probability }
    }

    /// `arguments, ` where the function of weights takes them.
    pub(super) fn weight_arguments(&self, variant: &Variant<'_>) -> &'static str {
        variant.pair_arguments(&[self.weight()])
    }

    /// `arguments, ` where `backward_pair` takes them.
    pub(super) fn gradient_arguments(&self, variant: &Variant<'_>) -> &'static str {
        let mut roots: Vec<NodeId> = self.gradients.iter().map(|(_, root)| *root).collect();
        let given = self.is_split().then_some(self.probability);
        if given.is_none() {
            roots.push(self.probability);
        }
        variant.pair_arguments_beside(&roots, given)
    }

    /// The function of weights, or of both, and that of gradients.
    pub(super) fn functions(&self, variant: &Variant<'_>, values: &Values<'_>) -> (String, String) {
        let name = match self.form {
            Form::Joint => {
                let mut members = vec![("probability".to_owned(), self.probability)];
                members.extend(self.gradients.iter().cloned());
                return (pair_part(variant, values, &members), String::new());
            }
            Form::Split => "backward_probability",
            Form::Sigmoid(_) => "sigmoid_exponent",
        };
        let weight = variant.pair_function(values, "float", name, &[self.weight()], false);
        (weight, self.after_weight(variant, values))
    }

    /// `struct Pair` and `backward_pair`, given the weight instead of the product.
    fn after_weight(&self, variant: &Variant<'_>, values: &Values<'_>) -> String {
        let (names, roots): (Vec<&str>, Vec<NodeId>) =
            self.gradients.iter().map(|(name, root)| (name.as_str(), *root)).unzip();
        let given = [(Input::OutputGradProduct, "output_grad_product")];
        let (statements, texts) = values.body_given(&roots, &given, (self.probability, "probability"));
        let value = format!("{{{}}}", texts.join(", "));
        let arguments = if self.gradient_arguments(variant).is_empty() { "" } else { "const Arguments& arguments, " };
        let relative = relative::parameter(&statements, &value);
        let signature = format!(
            "Pair backward_pair({arguments}float probability, float output_grad_product, const Tile& tile, const Query& query, const Key& key{relative})"
        );
        format!("struct Pair {{ float {}; }};\n{}", names.join(", "), function(&signature, &statements, &value))
    }
}

/// Whether `root` reads the product other than through `given`.
fn reads_product_beside(graph: &Graph, root: NodeId, given: NodeId) -> bool {
    let mut stack = vec![root];
    let mut seen = std::collections::HashSet::new();
    while let Some(id) = stack.pop() {
        if id == given || !seen.insert(id) {
            continue;
        }
        if *graph.op(id) == Op::Input(Input::Product) {
            return true;
        }
        stack.extend(graph.op(id).operands());
    }
    false
}
