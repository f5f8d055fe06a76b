//! A learnable array with its gradient, and Adam, which moves it.
//!
//! Invariant: `value`, `grad` and both moments have one shape; a step leaves the gradient at zero.

use ndarray::{Array2, Zip};

/// A learnable array.
pub(crate) struct Weight {
    pub(crate) value: Array2<f32>,
    pub(crate) grad: Array2<f32>,
    first: Array2<f32>,
    second: Array2<f32>,
}

impl Weight {
    pub(crate) fn new(value: Array2<f32>) -> Weight {
        let zeros = Array2::zeros(value.dim());
        Weight { grad: zeros.clone(), first: zeros.clone(), second: zeros, value }
    }

    pub(crate) fn constant(shape: (usize, usize), value: f32) -> Weight {
        Weight::new(Array2::from_elem(shape, value))
    }

    /// Normal numbers of a deviation, by Box and Muller's transformation.
    pub(crate) fn normal(shape: (usize, usize), deviation: f32, random: &mut fastrand::Rng) -> Weight {
        Weight::new(Array2::from_shape_simple_fn(shape, || {
            let radius = (-2.0 * (1.0 - random.f32()).ln()).sqrt();
            deviation * radius * (std::f32::consts::TAU * random.f32()).cos()
        }))
    }
}

/// Adam (Kingma and Ba 2015), with the gradient clipped to a norm of 1.
pub(crate) struct Adam {
    step: i32,
}

const DECAY: (f32, f32) = (0.9, 0.98);
const EPSILON: f32 = 1e-8;

impl Adam {
    pub(crate) fn new() -> Adam {
        Adam { step: 0 }
    }

    /// Moves every weight against its gradient.
    pub(crate) fn step(&mut self, weights: &mut [&mut Weight], rate: f32) {
        self.step += 1;
        let norm = weights.iter().map(|w| w.grad.iter().map(|g| g * g).sum::<f32>()).sum::<f32>().sqrt();
        let clip = 1.0 / norm.max(1.0);
        let (first_bias, second_bias) = (1.0 - DECAY.0.powi(self.step), 1.0 - DECAY.1.powi(self.step));
        for weight in weights {
            let Weight { value, grad, first, second } = &mut **weight;
            Zip::from(value).and(grad).and(first).and(second).for_each(|value, grad, first, second| {
                let clipped = clip * std::mem::take(grad);
                *first = DECAY.0 * *first + (1.0 - DECAY.0) * clipped;
                *second = DECAY.1 * *second + (1.0 - DECAY.1) * clipped * clipped;
                *value -= rate * (*first / first_bias) / ((*second / second_bias).sqrt() + EPSILON);
            });
        }
    }
}
