//! Which of the plans of a forward pass runs, and what was found out about them.

use std::ffi::OsStr;
use std::fmt;

/// How the plan of a forward pass is chosen: the tiles in which its kernel computes. Results are the same up to the order of sums.
///
/// Only the kernels for GPUs of compute capability 9.0 (H100, H200), in 16-bit types, have more plans than one. See
/// [`Attention::plan`](crate::Attention::plan).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Plan {
    /// By rules, from the variant and the head dimensions. Equal calls give equal bits, on every machine of a kind.
    #[default]
    Rules,
    /// By measurement: at the first call of a kind (variant, type, head dimensions, and lengths and batch x heads up to the next
    /// power of two) every plan is compiled and timed on the arguments of that call. What was decided is kept on disk beside the
    /// compiled kernels and found there by later processes on such a GPU. While a CUDA graph is recorded nothing can be timed:
    /// a kind that was not decided before then has the plan of the rules, for this call. So have all calls on the CPU and on a
    /// simulated GPU, whose time says nothing.
    Autotune,
    /// The plan of this number, as `attn emit --plan list` counts them, from 0, the plan of the rules. On devices without
    /// kernels there is nothing to choose, and the number is ignored.
    Choice(usize),
}

impl Plan {
    /// What `ATTN_AUTOTUNE` says: rules where it is missing, empty or `0`.
    pub(crate) fn from_environment() -> Plan {
        Plan::from_variable(std::env::var_os("ATTN_AUTOTUNE").as_deref())
    }

    fn from_variable(value: Option<&OsStr>) -> Plan {
        match value {
            Some(value) if !value.is_empty() && value != "0" => Plan::Autotune,
            _ => Plan::Rules,
        }
    }
}

/// Whether attention is computed pair by pair, or in linear time where the weight of a pair is a product of what belongs to the
/// query and what belongs to the key. Results are the same up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Schedule {
    /// In linear time where the weight factorises and the schedule serves the call, else pair by pair.
    #[default]
    Auto,
    /// Pair by pair: time grows with the product of the lengths.
    Quadratic,
    /// In linear time, or an error that says why not.
    Linear,
}

/// What [`Plan::Autotune`] decided for a kind of calls.
///
/// Displayed, it is a line that says so: `192x128 for softmax bf16 d64/64 q4096 kv4096 bh64, of 192x128 0.512 ms, 128x128 0.541 ms;
/// measured`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tuning {
    /// The variant and the kind: type, head dimensions, and the powers of two up to which lengths and batch x heads go.
    pub calls: String,
    /// The plans; that of the rules is the first.
    pub plans: Vec<TimedPlan>,
    /// Which of them runs.
    pub chosen: usize,
    /// Whether it was measured by this object, and not found on disk.
    pub measured: bool,
}

/// A plan of a forward pass and its time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimedPlan {
    /// Queries of a tile.
    pub block_q: u32,
    /// Keys of a tile.
    pub block_kv: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_memory: u32,
    /// Milliseconds of the pass's kernels; none where they could not be compiled or run.
    pub milliseconds: Option<f64>,
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(TimedPlan { block_q, block_kv, .. }) = self.plans.get(self.chosen) {
            write!(f, "{block_q}x{block_kv} for {}, of ", self.calls)?;
        }
        for (at, TimedPlan { block_q, block_kv, milliseconds, .. }) in self.plans.iter().enumerate() {
            write!(f, "{}{block_q}x{block_kv} ", if at == 0 { "" } else { ", " })?;
            match milliseconds {
                Some(milliseconds) => write!(f, "{milliseconds:.4} ms")?,
                None => f.write_str("failed")?,
            }
        }
        f.write_str(if self.measured { "; measured" } else { "; from disk" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_switches_measurements_on() {
        let plan = |value: Option<&str>| Plan::from_variable(value.map(OsStr::new));
        assert_eq!([plan(None), plan(Some("")), plan(Some("0"))], [Plan::Rules; 3]);
        assert_eq!(plan(Some("1")), Plan::Autotune);
    }

    #[test]
    fn a_decision_is_a_line() {
        let plan = |block_kv, milliseconds| TimedPlan { block_q: 128, block_kv, shared_memory: 0, milliseconds };
        let plans = vec![plan(128, Some(0.5)), plan(176, Some(0.25)), plan(112, None)];
        let tuning = Tuning { calls: "softmax".into(), plans, chosen: 1, measured: true };
        let line = "128x176 for softmax, of 128x128 0.5000 ms, 128x176 0.2500 ms, 128x112 failed; measured";
        assert_eq!(tuning.to_string(), line);
        assert!(Tuning { measured: false, ..tuning }.to_string().ends_with("; from disk"));
    }
}
