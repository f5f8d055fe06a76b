//! The head comment of a kernel: which variant, the mathematics, the class, the schedule.
//!
//! Invariant: whatever the user wrote stays within line comments.

use std::fmt::Write;

use super::assemble::Variant;
use super::names::comment;
use crate::definition::Definition;
use crate::lower::{Class, RowPass};

impl Variant<'_> {
    /// What the head says of row passes.
    fn row_lines(&self) -> Vec<String> {
        let passes = self.lowered.row_passes.iter().enumerate();
        passes
            .map(|(number, pass)| match pass {
                RowPass::Entmax { .. } => format!(
                    "Row pass {number}: the greatest score g_i and the t_i with sum_j max((alpha - 1) (s_ij - g_i) - t_i, 0)^(1 / (alpha - 1)) = 1."
                ),
                RowPass::TopK { .. } => format!("Row pass {number}: the k-th greatest score of each row, and the last key kept of its equals."),
                RowPass::Weights(program) => format!("Row pass {number}: what {} weights of all keys add up to.", match program.class {
                    Class::ShiftedExponential => "exponential",
                    Class::Streaming | Class::Elementwise => "streaming",
                }),
            })
            .collect()
    }

    /// The mathematics of the variant, in two lines.
    fn formulas(&self) -> [String; 2] {
        let Definition { entmax, keep, post, features, .. } = self.definition();
        let mapped = features.iter().any(Option::is_some);
        let product = if mapped { "feature(q_i) . feature(k_j)" } else { "q_i . k_j" };
        let dropped = if keep.is_some() { "masked or not kept" } else { "masked" };
        let output = |weight: &str| match post {
            Some(_) => format!("O_i = sum_j post({weight}) v_j."),
            None => format!("O_i = sum_j {weight} v_j."),
        };
        let score = format!("Per batch and head, s_ij = score(scale * {product})");
        match entmax {
            Some(_) => [
                format!("{score}, minus infinity where {dropped},"),
                format!(
                    "p_ij = max((alpha - 1) s_ij - tau_i, 0)^(1 / (alpha - 1)), sum_j p_ij = 1, {}",
                    output("p_ij")
                ),
            ],
            None => [
                format!("{score}, w_ij = activation(s_ij) and 0 where {dropped},"),
                format!("z_i = normalizer(reductions of w_i), {}", output("w_ij / z_i")),
            ],
        }
    }

    pub(super) fn head(&self, summary: &str) -> String {
        let mut text = String::new();
        let mut line = |content: &str| {
            writeln!(text, "// {}", comment(content).trim_end()).expect("writing to a string");
        };
        line(&format!("{}, {}, {}: {summary}. Written by attn from:", self.definition().name, self.shape, self.target));
        line("");
        self.definition().text.lines().for_each(|of_user| line(&format!("    {of_user}")));
        line("");
        self.formulas().iter().for_each(|formula| line(formula));
        self.row_lines().iter().for_each(|of_rows| line(of_rows));
        line(match self.lowered.class {
            Class::Elementwise => {
                "Class: elementwise. A weight depends on its pair alone; nothing is saved for the backward pass."
            }
            Class::Streaming => {
                "Class: streaming. Reductions of the weights accumulate while keys stream by; O is divided at the end."
            }
            Class::ShiftedExponential => {
                "Class: shifted exponential. Weights are 2^(t - m), m the running maximum of t = log2(e) s, so that nothing overflows."
            }
        });
        text
    }
}
