//! Random numbers and tensors from a seed: the same on every machine.

use crate::tensor::{DType, Tensor, TensorError};

/// A generator (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// A normal number of mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(0.0, 1.0)).ln()).sqrt();
        radius * self.uniform(0.0, std::f64::consts::TAU).cos()
    }

    /// An integer below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A tensor of normal numbers.
    pub fn normal_tensor(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.normal()).collect();
        Tensor::from_f64(dtype, shape, &values)
    }

    /// A tensor of numbers in `low..high`.
    pub fn uniform_tensor(
        &mut self,
        dtype: DType,
        shape: &[usize],
        low: f64,
        high: f64,
    ) -> Result<Tensor, TensorError> {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.uniform(low, high)).collect();
        Tensor::from_f64(dtype, shape, &values)
    }
}
