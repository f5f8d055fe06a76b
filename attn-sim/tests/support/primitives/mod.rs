//! One small launch for every primitive, with the bytes that it must give. Sums are of integers, so that their order is free.

mod copy;
mod product;
mod tensor;
mod warp;

use super::case::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    [warp::cases(), copy::cases(), tensor::cases(), product::cases()].into_iter().flatten().collect()
}
