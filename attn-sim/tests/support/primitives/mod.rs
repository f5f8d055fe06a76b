//! One small launch for every primitive, with the bytes that it must give. Sums are of integers, so that their order is free.

mod copy;
mod product;
mod tensor;
pub(crate) mod turns;
mod warp;

use super::case::Case;

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    [warp::cases(), copy::cases(), tensor::cases(), product::cases(), turns::cases()].into_iter().flatten().collect()
}
