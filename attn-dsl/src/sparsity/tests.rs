//! Sparsity against brute force: every pair of a tile, evaluated.

mod known;
mod place;
mod random;
