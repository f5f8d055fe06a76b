//! Where a piece of a variant stands in what the user wrote: macro tokens or text.
//!
//! Invariant: both ends come from one source. A span of no place ([`Span::nowhere`]) has the empty byte range at 0.

use std::ops::Range;

use quote::ToTokens;

/// From the first to the last token of a piece.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: proc_macro2::Span,
    end: proc_macro2::Span,
}

impl Span {
    /// A piece of one token.
    pub fn token(span: proc_macro2::Span) -> Self {
        Self { start: span, end: span }
    }

    /// All tokens of `tokens`; nowhere if there is none.
    pub fn of(tokens: &impl ToTokens) -> Self {
        let mut tokens = tokens.to_token_stream().into_iter().map(|token| token.span());
        match tokens.next() {
            Some(start) => Self { start, end: tokens.last().unwrap_or(start) },
            None => Self::nowhere(),
        }
    }

    /// A place that is in no source, for pieces that the compiler adds.
    pub fn nowhere() -> Self {
        Self::token(proc_macro2::Span::call_site())
    }

    /// From the start of this piece to the end of the other one.
    #[must_use]
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start, end: other.end }
    }

    /// The span of the first token.
    pub fn start(self) -> proc_macro2::Span {
        self.start
    }

    /// The span of the last token.
    pub fn end(self) -> proc_macro2::Span {
        self.end
    }

    /// The byte range in the text. Meaningful for spans of text, on the thread that parsed it.
    pub(crate) fn byte_range(self) -> Range<usize> {
        let (start, end) = (self.start.byte_range().start, self.end.byte_range().end);
        start..end.max(start)
    }
}
