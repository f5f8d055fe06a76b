//! A lowered program as text, for snapshots and explanations.
//!
//! Invariant: two programs that print the same compute the same.

use std::fmt::{self, Display, Formatter};

use crate::ir::{Names, NodeId, print_expression_with, print_program};

use super::forward::with_names;
use super::{Forward, Lowered, ParameterGradient, RowPass, SavedRow};

impl Display for Lowered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        with_names(&self.definition, |names| self.print(f, names))
    }
}

impl Display for SavedRow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SavedRow::Row(row) => row.fmt(f),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Lowered {
    fn print(&self, f: &mut Formatter<'_>, names: Names<'_>) -> fmt::Result {
        let one = |node: NodeId| print_expression_with(&self.graph, node, names);
        writeln!(f, "class: {:?}", self.class)?;
        if let Some(mask) = self.mask {
            writeln!(f, "mask: {}", one(mask))?;
        }
        if self.needs_live_keys {
            writeln!(f, "counts live keys")?;
        }
        for (number, pass) in self.row_passes.iter().enumerate() {
            match pass {
                RowPass::Entmax { score, alpha } => {
                    writeln!(f, "row pass {number}: entmax({}) of the scores {}", one(*alpha), one(*score))?;
                }
                RowPass::TopK { score, k, ties } => {
                    let ties = if *ties { ", ties" } else { "" };
                    writeln!(f, "row pass {number}: top_k({}{ties}) of the scores {}", one(*k), one(*score))?;
                }
                RowPass::Weights(program) => {
                    writeln!(f, "row pass {number}: {:?}", program.class)?;
                    self.print_forward(f, &program.forward, names)?;
                }
            }
        }
        writeln!(f, "forward:")?;
        self.print_forward(f, &self.forward, names)?;
        if let Some(second) = &self.second_output {
            writeln!(f, "second output: {:?}", second.class)?;
            self.print_forward(f, &second.forward, names)?;
        }

        let backward = &self.backward;
        writeln!(f, "backward:")?;
        if backward.needs_delta {
            writeln!(f, "needs delta")?;
        }
        let targets: Vec<_> = backward.parameters.iter().map(|gradient| self.target(gradient, names)).collect();
        let mut roots = vec![("probability", backward.probability), ("product_grad", backward.product_grad)];
        roots.extend(backward.product_grad_scale.map(|scale| ("product_grad_scale", scale)));
        roots.extend(targets.iter().map(String::as_str).zip(backward.parameters.iter().map(|g| g.value)));
        write!(f, "{}", print_program(&self.graph, &roots, names))
    }

    fn print_forward(&self, f: &mut Formatter<'_>, forward: &Forward, names: Names<'_>) -> fmt::Result {
        let one = |node: NodeId| print_expression_with(&self.graph, node, names);
        if !forward.reductions.is_empty() {
            writeln!(f, "reductions: {:?}", forward.reductions)?;
        }
        if forward.arg_max {
            writeln!(f, "tracks the arg max")?;
        }
        let floors: Vec<_> = forward.shift_floors.iter().map(|&floor| one(floor)).collect();
        if !floors.is_empty() {
            writeln!(f, "floors: {}", floors.join("; "))?;
        }
        let mut roots = vec![("pair", forward.pair)];
        roots.extend(forward.normalizer.map(|z| ("normalizer", z)));
        write!(f, "{}", print_program(&self.graph, &roots, names))?;
        let saved: Vec<String> = forward.saved.iter().map(|saved| saved.to_string()).collect();
        writeln!(f, "saved: [{}]", saved.join(", "))
    }

    fn target(&self, gradient: &ParameterGradient, names: Names<'_>) -> String {
        let index: Vec<_> =
            gradient.index.iter().map(|&index| print_expression_with(&self.graph, index, names)).collect();
        let rate = if gradient.per_pair { "each pair" } else { "each row" };
        format!("{rate}: d {}[{}]", self.definition.parameter(gradient.parameter).name, index.join(", "))
    }
}
