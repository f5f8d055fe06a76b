//! The backward pass, derived.
//!
//! With `Delta` as [`super::Backward`] defines it, `dz = -Delta / z` in every class, and a weight that enters the reductions
//! `r_k` by `g_k(w)` has `dw = (dP - Delta sum_k dZ/dr_k g_k'(w)) / z`, where `g'` is 1 for the sum, `2 w` for the sum of
//! squares and 1 at the largest weight for the maximum.
//!
//! For a shifted exponential `w dw` is the gradient of the natural exponent. With `w' = 2^-m w = P Z'` and the same of the
//! reductions, every power of `2^m` cancels:
//! `dS = P (dP - Delta (dZ'/dsum' + 2 Z' dZ'/dsum_squares' P + dZ'/dmax' [kv is the arg max]))`.
//!
//! Invariants:
//! * Expressions read saved rows only, and the form that needs the fewest of them is taken: `Z'` is an expression over the
//!   reductions, but also `2^(log2(e) statistic - m)`, of which one or the other may cancel.
//! * Where `z` is 0, every gradient is 0, and no factor makes a NaN of that. A streaming variant's `1 / z` is selected to 0, a
//!   shifted exponential's statistic `ln 0` to plus infinity, at the rate of rows, so that `P` is 0 and pairs need no test;
//!   coefficients that are not constant are selected to 0 before they meet a factor.

use std::collections::BTreeSet;
use std::f64::consts::LOG2_E;

use crate::definition::Definition;
use crate::diff::derivative;
use crate::ir::{Compare, Graph, Input, NodeId, Op, Unary};
use crate::simplify::split_tile_factor;

use super::forward::{Weights, in_powers_of_two};
use super::rows::{Entmax, PostMap};
use super::{Backward, Class, ParameterGradient, REDUCTIONS};

/// Derives the backward pass of `weights`, of which `post` maps the normalized ones, if given.
pub(super) fn backward(
    graph: &mut Graph,
    definition: &Definition,
    weights: &Weights,
    post: Option<&PostMap>,
) -> Backward {
    let mut builder = Builder::new(graph, definition, weights);
    let probability = builder.probability();
    let output_grad = builder.graph.input(Input::OutputGradProduct);
    let weight_grad = match post {
        Some(post) => builder.graph.product(post.slope, output_grad),
        None => output_grad,
    };
    let natural_grad = match (weights.class, weights.entmax) {
        (_, Some(entmax)) => builder.entmax(&entmax, weight_grad),
        (Class::Elementwise, None) => builder.elementwise(weight_grad),
        (Class::Streaming, None) => builder.streaming(weight_grad),
        (Class::ShiftedExponential, None) => builder.shifted_exponential(probability, weight_grad),
    };
    let natural_grad = post.map_or(natural_grad, |post| post.where_mapped(builder.graph, natural_grad));
    let mut parameters = builder.row_gradients();
    if let Some(entmax) = weights.entmax {
        parameters.extend(builder.alpha_gradients(&entmax, weight_grad));
    }
    if let Some(post) = post {
        parameters.extend(builder.post_gradients(post, output_grad));
    }
    let (product_grad, pair_gradients) = builder.chain(natural_grad);
    parameters.splice(0..0, pair_gradients);
    let (product_grad_scale, product_grad) = split_tile_factor(builder.graph, product_grad);
    let roots = parameters.iter().map(|gradient| gradient.value).chain([product_grad]);
    let needs_delta = roots.into_iter().any(|root| graph.reads(root, Input::Delta));
    let probability = post.map_or(probability, |post| post.value);
    Backward { probability, product_grad, product_grad_scale, needs_delta, parameters }
}

/// Derives what belongs to one row's weights.
pub(super) struct Builder<'a> {
    graph: &'a mut Graph,
    definition: &'a Definition,
    weights: &'a Weights,
}

impl<'a> Builder<'a> {
    pub(super) fn new(graph: &'a mut Graph, definition: &'a Definition, weights: &'a Weights) -> Self {
        Builder { graph, definition, weights }
    }

    /// `P = w / z`, of a shifted exponential `2^(t - log2(e) statistic)`; 0 where a reduced `z` is 0.
    pub(super) fn probability(&mut self) -> NodeId {
        let weight = self.weights.pair;
        let probability = match (self.weights.class, self.weights.normalizer) {
            (Class::Elementwise, None) => return weight,
            (Class::Elementwise, Some(z)) => {
                let one = self.graph.float(1.0);
                let inverse = self.graph.quotient(one, z);
                self.graph.product(weight, inverse)
            }
            (Class::Streaming, _) => {
                let inverse = self.inverse_statistic();
                self.graph.product(weight, inverse)
            }
            (Class::ShiftedExponential, _) => {
                let statistic = self.log2_statistic();
                let exponent = self.graph.difference(weight, statistic);
                self.graph.unary(Unary::Exp2, exponent)
            }
        };
        in_powers_of_two(self.graph, probability)
    }

    /// `1 / z` by the saved statistic, 0 where it is 0.
    fn inverse_statistic(&mut self) -> NodeId {
        let statistic = self.graph.input(Input::Statistic);
        let (zero, one) = (self.graph.float(0.0), self.graph.float(1.0));
        let is_zero = self.normalizer_is_zero();
        let inverse = self.graph.quotient(one, statistic);
        self.graph.select(is_zero, zero, inverse)
    }

    /// `dw = dP / z`.
    fn elementwise(&mut self, weight_grad: NodeId) -> NodeId {
        let Some(z) = self.weights.normalizer else { return weight_grad };
        let one = self.graph.float(1.0);
        let inverse = self.graph.quotient(one, z);
        self.graph.product(weight_grad, inverse)
    }

    /// `dw = (dP - Delta sum_k dZ/dr_k g_k'(w)) / z`.
    fn streaming(&mut self, weight_grad: NodeId) -> NodeId {
        let inverse = self.inverse_statistic();
        let coefficients = self.reduction_slopes().map(|slope| self.coefficient(slope));
        let two = self.graph.float(2.0);
        let slope = self.graph.product(self.weights.pair, two);
        let grad = self.minus_reductions(weight_grad, coefficients, slope);
        self.graph.product(grad, inverse)
    }

    /// The gradient of the natural exponent as in the head of this file.
    fn shifted_exponential(&mut self, probability: NodeId, weight_grad: NodeId) -> NodeId {
        let z = self.normalizer();
        let [sum, squares, max] = self.reduction_slopes();
        let two = self.graph.float(2.0);
        let twice = self.graph.product(z, two);
        let squares = self.graph.product(squares, twice);
        let coefficients = [sum, squares, max].map(|slope| self.coefficient(slope));
        let grad = self.minus_reductions(weight_grad, coefficients, probability);
        self.graph.product(probability, grad)
    }

    /// `ds = u (dP - Delta)` (Peters et al., Sparse Sequence-to-Sequence Models, 2019).
    fn entmax(&mut self, entmax: &Entmax, weight_grad: NodeId) -> NodeId {
        let delta = self.graph.input(Input::Delta);
        let centred = self.graph.difference(weight_grad, delta);
        let grad = self.graph.product(entmax.slope, centred);
        in_powers_of_two(self.graph, grad)
    }

    /// What pairs add to the parameters in alpha: `p (dP - Delta) (1 - ln r) / (alpha - 1)^2`, of which the sum over a row is the
    /// gradient of alpha (Correia et al., Adaptively Sparse Transformers, 2019).
    fn alpha_gradients(&mut self, entmax: &Entmax, weight_grad: NodeId) -> Vec<ParameterGradient> {
        let reads = self.learnable_reads(entmax.alpha);
        if reads.is_empty() {
            return Vec::new();
        }
        let value = entmax.alpha_slope(self.graph);
        let delta = self.graph.input(Input::Delta);
        let centred = self.graph.difference(weight_grad, delta);
        let seed = self.graph.product(value, centred);
        self.pair_gradients(entmax.alpha, &reads, seed)
    }

    /// What pairs add to the parameters in the map after normalization.
    fn post_gradients(&mut self, post: &PostMap, output_grad: NodeId) -> Vec<ParameterGradient> {
        let reads = self.learnable_reads(post.map);
        let seed = post.where_mapped(self.graph, output_grad);
        let mut gradients = self.pair_gradients(post.map, &reads, seed);
        for gradient in &mut gradients {
            // derived of the map of any weight
            let weight = self.graph.input(Input::Probability);
            let value = self.graph.substitute(gradient.value, weight, post.probability);
            gradient.value = in_powers_of_two(self.graph, value);
        }
        gradients
    }

    fn pair_gradients(&mut self, root: NodeId, reads: &[NodeId], seed: NodeId) -> Vec<ParameterGradient> {
        let grads = derivative(self.graph, root, reads, seed);
        let grads: Vec<_> = grads.into_iter().map(|grad| in_powers_of_two(self.graph, grad)).collect();
        reads.iter().zip(grads).filter_map(|(&read, value)| self.gradient(read, value, true)).collect()
    }

    /// `Delta` times a slope, 0 where `z` is 0.
    fn coefficient(&mut self, slope: NodeId) -> NodeId {
        let slope = self.cheapest(slope);
        let delta = self.graph.input(Input::Delta);
        let coefficient = self.graph.product(slope, delta);
        if self.graph.as_float(slope).is_some() { coefficient } else { self.unless_zero(coefficient) }
    }

    /// Whether `z` is 0, by the saved statistic.
    pub(super) fn normalizer_is_zero(&mut self) -> NodeId {
        let at_zero = if self.weights.class == Class::ShiftedExponential { f64::NEG_INFINITY } else { 0.0 };
        let (statistic, at_zero) = (self.graph.input(Input::Statistic), self.graph.float(at_zero));
        self.graph.compare(Compare::Eq, statistic, at_zero)
    }

    /// `value`, 0 where `z` is 0.
    fn unless_zero(&mut self, value: NodeId) -> NodeId {
        let (is_zero, zero) = (self.normalizer_is_zero(), self.graph.float(0.0));
        self.graph.select(is_zero, zero, value)
    }

    /// `dP - sum - squares * square_slope - [kv == arg_max] max`, over the coefficients of sum, squares and max.
    fn minus_reductions(&mut self, weight_grad: NodeId, coefficients: [NodeId; 3], square_slope: NodeId) -> NodeId {
        let [sum, squares, max] = coefficients;
        let (key, arg_max) = (self.graph.input(Input::Key), self.graph.input(Input::ArgMax));
        let is_largest = self.graph.compare(Compare::Eq, key, arg_max);
        let zero = self.graph.float(0.0);
        let max = self.graph.select(is_largest, max, zero);
        let squares = self.graph.product(squares, square_slope);
        let mut grad = weight_grad;
        for term in [sum, squares, max] {
            let term = in_powers_of_two(self.graph, term);
            grad = self.graph.difference(grad, term);
        }
        in_powers_of_two(self.graph, grad)
    }

    /// `dZ/dr` for the sum, the sum of squares and the maximum.
    fn reduction_slopes(&mut self) -> [NodeId; 3] {
        let z = self.normalizer();
        let one = self.graph.float(1.0);
        let inputs = REDUCTIONS.map(|reduction| self.graph.input(Input::Reduction(reduction)));
        let slopes = derivative(self.graph, z, &inputs, one);
        [slopes[0], slopes[1], slopes[2]]
    }

    /// The gradients of `product` and of the parameter reads of the pair's expression, from that of the expression.
    fn chain(&mut self, natural_grad: NodeId) -> (NodeId, Vec<ParameterGradient>) {
        let reads = self.learnable_reads(self.weights.natural);
        let mut targets = vec![self.graph.input(Input::Product)];
        targets.extend(&reads);
        let grads = derivative(self.graph, self.weights.natural, &targets, natural_grad);
        let grads: Vec<_> = grads.into_iter().map(|grad| in_powers_of_two(self.graph, grad)).collect();
        let parameters = reads.iter().zip(&grads[1..]).filter_map(|(&read, &value)| self.gradient(read, value, true));
        (grads[0], parameters.collect())
    }

    /// The gradients of the normalizer's parameter reads: `-Delta (dZ/dtheta) / Z`.
    fn row_gradients(&mut self) -> Vec<ParameterGradient> {
        let Some(z) = self.weights.normalizer else { return Vec::new() };
        let reads = self.learnable_reads(z);
        let one = self.graph.float(1.0);
        let slopes = derivative(self.graph, z, &reads, one);
        let mut gradients = Vec::new();
        for (&read, slope) in reads.iter().zip(slopes) {
            let relative = self.graph.quotient(slope, z);
            let relative = self.cheapest(relative);
            let delta = self.graph.input(Input::Delta);
            let product = self.graph.product(relative, delta);
            let mut value = self.graph.unary(Unary::Neg, product);
            if self.weights.class != Class::Elementwise {
                value = self.unless_zero(value);
            } else if self.definition.post.is_some() {
                // the main pass divides by nothing, and does not see it
                let zero = self.graph.float(0.0);
                let is_zero = self.graph.compare(Compare::Eq, z, zero);
                value = self.graph.select(is_zero, zero, value);
            }
            let value = in_powers_of_two(self.graph, value);
            gradients.extend(self.gradient(read, value, false));
        }
        gradients
    }

    /// A contribution, unless it is zero everywhere.
    fn gradient(&self, read: NodeId, value: NodeId, per_pair: bool) -> Option<ParameterGradient> {
        let Op::Parameter { parameter, index, .. } = self.graph.op(read) else { unreachable!("a read is a read") };
        (self.graph.as_float(value) != Some(0.0)).then(|| ParameterGradient {
            parameter: *parameter,
            index: index.clone(),
            value,
            per_pair,
        })
    }

    /// The distinct reads of learnable parameters in `root`.
    fn learnable_reads(&self, root: NodeId) -> Vec<NodeId> {
        let is_learnable = |id: &NodeId| match self.graph.op(*id) {
            Op::Parameter { parameter, .. } => self.definition.parameter(*parameter).learnable,
            _ => false,
        };
        self.graph.reachable(&[root]).into_iter().filter(is_learnable).collect()
    }

    fn normalizer(&self) -> NodeId {
        self.weights.normalizer.expect("a class with reductions has a normalizer")
    }

    /// `log2 z` of a shifted exponential, but plus infinity where `z` is 0: of a row of scores of minus infinity, too, every `P`
    /// is then 0.
    fn log2_statistic(&mut self) -> NodeId {
        let (statistic, infinity) = (self.graph.input(Input::Statistic), self.graph.float(f64::INFINITY));
        let is_zero = self.normalizer_is_zero();
        let statistic = self.graph.select(is_zero, infinity, statistic);
        let unit = self.graph.float(LOG2_E);
        self.graph.product(statistic, unit)
    }

    /// The normalizer as the backward pass can have it from the saved statistic.
    fn saved_normalizer(&mut self) -> Option<NodeId> {
        match self.weights.class {
            Class::Elementwise => None,
            Class::Streaming => Some(self.graph.input(Input::Statistic)),
            Class::ShiftedExponential => {
                let (statistic, shift) = (self.log2_statistic(), self.graph.input(Input::Shift));
                let exponent = self.graph.difference(statistic, shift);
                Some(self.graph.unary(Unary::Exp2, exponent))
            }
        }
    }

    /// A row expression over the normalizer, in whichever form reads fewer saved rows.
    fn cheapest(&mut self, row: NodeId) -> NodeId {
        let direct = in_powers_of_two(self.graph, row);
        let Some(saved) = self.saved_normalizer() else { return direct };
        let normalizer = self.normalizer();
        let replaced = self.graph.substitute(row, normalizer, saved);
        let replaced = in_powers_of_two(self.graph, replaced);
        if rows_read(self.graph, replaced).len() < rows_read(self.graph, direct).len() { replaced } else { direct }
    }
}

/// The inputs of `root` that must be saved by the forward pass beside the statistic.
pub(super) fn rows_read(graph: &Graph, root: NodeId) -> BTreeSet<Input> {
    let read = |id: NodeId| match graph.op(id) {
        Op::Input(input @ (Input::Shift | Input::Reduction(_) | Input::ArgMax | Input::Row(_))) => Some(*input),
        _ => None,
    };
    graph.reachable(&[root]).into_iter().filter_map(read).collect()
}
