//! A generator of test values: the same on every machine, from a seed (SplitMix64, Steele et al., OOPSLA 2014).

/// The generator's state.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 bits.
    pub fn word(&mut self) -> u32 {
        (self.bits() >> 32) as u32
    }

    /// An integer of `-limit..=limit`.
    pub fn integer(&mut self, limit: i32) -> i32 {
        let count = 2 * limit as u64 + 1;
        (self.bits() % count) as i32 - limit
    }

    /// Nearly normal with variance 1: a sum of four uniform numbers, scaled.
    pub fn normal(&mut self) -> f32 {
        let uniform = |bits: u64| (bits >> 40) as f64 / (1_u64 << 24) as f64 - 0.5;
        let sum: f64 = (0..4).map(|_| uniform(self.bits())).sum();
        (sum * 3.0_f64.sqrt()) as f32
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }
}
