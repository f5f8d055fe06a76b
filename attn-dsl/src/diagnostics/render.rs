//! Diagnostics as rustc prints them: source lines, carets, help.
//!
//! Invariant: rendering never fails, also for a text other than the one that was compiled: ranges are clipped to it.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Diagnostic, Diagnostics};

impl Diagnostics {
    /// The report for people, without colors: each diagnostic with its lines of `source` and marks under what is wrong.
    pub fn render(&self, source: &str, file_name: &str) -> String {
        let reports: Vec<_> = self.iter().map(|diagnostic| one(diagnostic, source, file_name)).collect();
        let mut out = reports.join("\n\n");
        out.push('\n');
        out
    }
}

fn one(diagnostic: &Diagnostic, source: &str, file_name: &str) -> String {
    let mut snippet = Snippet::source(source).path(file_name);
    for (i, label) in diagnostic.labels.iter().enumerate() {
        let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(clip(&label.range, source));
        snippet =
            snippet.annotation(if label.text.is_empty() { annotation } else { annotation.label(label.text.as_str()) });
    }
    let mut group =
        Level::ERROR.primary_title(diagnostic.message.as_str()).id(diagnostic.code.as_str()).element(snippet);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain().render(&[group])
}

/// The range within the text, on character boundaries.
fn clip(range: &Range<usize>, source: &str) -> Range<usize> {
    let floor = |at: usize| (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0);
    let start = floor(range.start);
    start..floor(range.end).max(start)
}
