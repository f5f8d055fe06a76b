//! The shapes of the self-test.
//!
//! Kernels are specialised for the head dimensions, so every further pair of them costs a compilation for each variant, type
//! and pass: 64 and 128 are tried with every variant, others in turn, and all of them where the test is thorough.

use std::fmt;

use attn::DType;
use attn_runtime::testing::{Case, Shape};

/// How much to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    Quick,
    Usual,
    Thorough,
    /// For a simulated GPU, which computes thousands of pairs in the time of millions elsewhere.
    Simulated,
}

/// A case, and a mask on top of the variant's own.
#[derive(Clone, Debug)]
pub(super) struct TestCase {
    pub(super) mask: Option<&'static str>,
    pub(super) case: Case,
}

impl fmt::Display for TestCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        self.mask.map_or(Ok(()), |mask| write!(f, " mask {mask}"))
    }
}

/// Batch, query heads, heads of k and v.
type Heads = (usize, usize, usize);
/// Queries, keys.
type Lengths = (usize, usize);
/// The last extents of q and k, and of v.
type Dims = (usize, usize);

/// Head dimensions that take turns: v narrower and wider than q, the least, the largest.
const TURNS: [Dims; 6] = [(40, 80), (256, 256), (96, 32), (8, 24), (80, 80), (32, 192)];

/// Queries and keys of packed sequences: one, none of both and of either, tiles that are not whole, whole ones and one row more,
/// several, and keys farther away than every window of the gallery.
const SEQUENCES: &[[usize; 2]] =
    &[[1, 1], [0, 0], [17, 131], [128, 128], [129, 17], [0, 5], [5, 0], [300, 140], [2, 1150], [64, 300]];
/// The same for a simulated GPU.
const FEW_SEQUENCES: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 40], [0, 5], [5, 0], [131, 70], [2, 65]];

/// The cases of the variant at position `at` of the gallery.
pub(super) fn cases(at: usize, effort: Effort, dtype: DType) -> Vec<TestCase> {
    let causal = Some("causal");
    let mut list = List { dtype, cases: Vec::new() };
    if effort == Effort::Quick {
        list.add(None, (2, 2, 1), (37, 51), (64, 64));
        list.add(causal, (1, 2, 2), (40, 21), (64, 64));
        list.add_packed(None, (2, 1), FEW_SEQUENCES, (64, 64));
        return list.cases;
    }
    if effort == Effort::Simulated {
        list.add_simulated();
        return list.cases;
    }
    // Odd lengths and grouped heads.
    list.add(None, (2, 4, 2), (75, 83), (64, 64));
    // One query, as in decoding; one key; nothing to attend to; nothing to do.
    list.add(None, (2, 3, 1), (1, 131), (64, 64));
    list.add(None, (1, 2, 2), (66, 1), (64, 64));
    list.add(None, (1, 2, 1), (5, 0), (64, 64));
    list.add(None, (1, 2, 1), (0, 5), (64, 64));
    // Keys farther away than every window and bucket of the gallery.
    list.add(None, (1, 1, 1), (33, 1150), (64, 64));
    list.add(None, (1, 2, 1), (129, 65), (128, 128));
    for (turn, &dims) in TURNS.iter().enumerate() {
        if effort == Effort::Thorough || turn == at % TURNS.len() {
            list.add(None, (2, 2, 1), (47, 70), dims);
        }
    }
    // A square, and rows without a live key: their queries come before every key.
    list.add(causal, (1, 2, 2), (128, 128), (64, 64));
    list.add(causal, (1, 4, 1), (90, 45), (64, 64));
    list.add_packed(None, (4, 2), SEQUENCES, (64, 64));
    list.add_packed(causal, (2, 2), SEQUENCES, (64, 64));
    list.cases
}

struct List {
    dtype: DType,
    cases: Vec<TestCase>,
}

impl List {
    /// Every further pair of a mask and head dimensions costs a compilation of all kernels here too.
    fn add_simulated(&mut self) {
        // Several tiles of queries and of keys in every pass (128 and 64 are the largest), the last ones not whole.
        self.add(None, (1, 2, 1), (133, 141), (64, 64));
        // One query, as in decoding; one key; nothing to attend to.
        self.add(None, (2, 3, 1), (1, 77), (64, 64));
        self.add(None, (1, 2, 2), (35, 1), (64, 64));
        self.add(None, (1, 2, 1), (5, 0), (64, 64));
        // Head dimensions that fill no tile of 16 columns, v narrower than q; whole tiles of keys behind the window; rows without a
        // live key.
        let window = Some("causal & window(20, 0)");
        self.add(window, (2, 2, 1), (37, 131), (40, 24));
        self.add(window, (1, 4, 2), (70, 21), (40, 24));
        self.add_packed(None, (2, 1), FEW_SEQUENCES, (64, 64));
    }

    /// Sequences of different lengths; query heads, heads of k and v.
    fn add_packed(
        &mut self,
        mask: Option<&'static str>,
        (heads, kv_heads): (usize, usize),
        sequences: &'static [[usize; 2]],
        dims: Dims,
    ) {
        self.add(mask, (1, heads, kv_heads), (0, 0), dims);
        if let Some(test) = self.cases.last_mut() {
            test.case.packed = Some(sequences);
        }
    }

    fn add(&mut self, mask: Option<&'static str>, heads: Heads, lengths: Lengths, dims: Dims) {
        let at = self.cases.len();
        let shape = Shape {
            batch: heads.0,
            heads: heads.1,
            kv_heads: heads.2,
            q_len: lengths.0,
            kv_len: lengths.1,
            head_dim: dims.0,
            value_dim: dims.1,
        };
        // Layouts and broadcast parameters take turns too.
        let (strided, broadcast) = (at.is_multiple_of(2), at % 3 == 1);
        let case =
            Case { shape, dtype: self.dtype, seed: at as u64 + 1, strided, broadcast, spread: 1.0, packed: None };
        self.cases.push(TestCase { mask, case });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_variants_together_try_every_head_dimension() {
        let mut seen: Vec<Dims> = (0..TURNS.len())
            .flat_map(|at| cases(at, Effort::Usual, DType::F32))
            .map(|test| (test.case.shape.head_dim, test.case.shape.value_dim))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        let mut needed = TURNS.to_vec();
        needed.extend([(64, 64), (128, 128)]);
        needed.sort_unstable();
        assert_eq!(seen, needed);
        let thorough = cases(0, Effort::Thorough, DType::F32);
        assert_eq!(thorough.len(), cases(0, Effort::Usual, DType::F32).len() + TURNS.len() - 1);
    }

    #[test]
    fn some_rows_have_no_live_key() {
        let is_causal = |test: &TestCase| test.mask.is_some_and(|mask| mask.starts_with("causal"));
        let dead = |test: &TestCase| is_causal(test) && test.case.shape.kv_len < test.case.shape.q_len;
        for effort in [Effort::Quick, Effort::Usual, Effort::Thorough, Effort::Simulated] {
            assert!(cases(0, effort, DType::BF16).iter().any(dead), "{effort:?}");
        }
    }

    #[test]
    fn simulated_cases_are_small_and_varied() {
        let cases = cases(0, Effort::Simulated, DType::BF16);
        let pairs = |test: &TestCase| {
            let shape = test.case.shape;
            let lengths = [[shape.q_len, shape.kv_len]];
            let pairs = test.case.packed.unwrap_or(&lengths).iter().map(|[queries, keys]| queries * keys);
            shape.batch * shape.heads * pairs.sum::<usize>()
        };
        assert!(cases.iter().map(pairs).sum::<usize>() < 100_000);
        let any = |holds: &dyn Fn(&TestCase) -> bool| assert!(cases.iter().any(holds));
        any(&|test| test.case.shape.q_len > 128 && test.case.shape.kv_len > 128);
        any(&|test| test.case.shape.q_len == 1);
        any(&|test| test.case.shape.kv_len == 1);
        any(&|test| test.case.shape.heads > test.case.shape.kv_heads);
        any(&|test| test.case.shape.head_dim != test.case.shape.value_dim);
        any(&|test| test.case.strided && test.case.broadcast);
        any(&|test| test.case.packed.is_some());
    }
}
