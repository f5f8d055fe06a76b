//! Feature maps of the oracle: every element of q or of k mapped, with its derivative by dual numbers.

use attn_dsl::definition::Definition;
use attn_dsl::ir::{Input, NodeId, ParameterId};

use super::dual::{Direction, Expression, Place, Scratch, Value};

/// The place of an element.
struct Element(f64);

impl Place for Element {
    fn input(&self, _: Input) -> Value {
        Value::Float(self.0)
    }

    fn parameter(&self, _: ParameterId, _: &[i32]) -> Value {
        unreachable!("a checked feature map reads no parameter")
    }
}

/// Values and derivatives of a map.
pub(super) struct Mapped {
    pub(super) values: Vec<f64>,
    /// None where the map is the element itself.
    slopes: Option<Vec<f64>>,
}

impl Mapped {
    pub(super) fn of(definition: &Definition, map: Option<NodeId>, elements: &[f64]) -> Mapped {
        let Some(root) = map else { return Mapped { values: elements.to_vec(), slopes: None } };
        let expression = Expression::new(&definition.graph, root, &[Direction::Input(Input::Score)]);
        let mut scratch = Scratch::default();
        let both = elements.iter().map(|&x| {
            let value = expression.evaluate(&Element(x), None, &mut scratch).float();
            (value, expression.tangents(&scratch)[0])
        });
        let (values, slopes) = both.unzip();
        Mapped { values, slopes: Some(slopes) }
    }

    /// Gradients in the mapped elements become gradients in the elements.
    pub(super) fn chain(&self, gradients: &mut [f64]) {
        for (gradient, slope) in gradients.iter_mut().zip(self.slopes.iter().flatten()) {
            *gradient *= slope;
        }
    }

    /// The same of magnitudes.
    #[cfg(feature = "testing")]
    pub(super) fn chain_magnitudes(&self, magnitudes: &mut [f64]) {
        for (magnitude, slope) in magnitudes.iter_mut().zip(self.slopes.iter().flatten()) {
            *magnitude *= slope.abs();
        }
    }
}
