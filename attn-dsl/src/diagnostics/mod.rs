//! What is wrong with a variant, as data: a code, a message, labelled places and what to write instead.
//!
//! Inside the compiler a place is a [`Span`] of tokens ([`Problem`]). At the border it becomes a byte range of the text
//! ([`Diagnostic`]) or a [`syn::Error`] on the macro's tokens. Invariant: the first label is the primary one.

mod render;

use std::fmt;
use std::ops::Range;

use crate::syntax::Span;

/// The kind of a diagnostic; stable, for tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Code {
    Syntax,
    Unsupported,
    TooLarge,
    UnknownName,
    UnknownFunction,
    UnknownField,
    Duplicate,
    ReservedName,
    WrongType,
    WrongArity,
    WrongIndex,
    NotDifferentiable,
    OutOfPlace,
    IntegerOverflow,
    NoStableForm,
}

impl Code {
    /// The code as printed: `unknown-name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Syntax => "syntax",
            Code::Unsupported => "unsupported",
            Code::TooLarge => "too-large",
            Code::UnknownName => "unknown-name",
            Code::UnknownFunction => "unknown-function",
            Code::UnknownField => "unknown-field",
            Code::Duplicate => "duplicate",
            Code::ReservedName => "reserved-name",
            Code::WrongType => "wrong-type",
            Code::WrongArity => "wrong-arity",
            Code::WrongIndex => "wrong-index",
            Code::NotDifferentiable => "not-differentiable",
            Code::OutOfPlace => "out-of-place",
            Code::IntegerOverflow => "integer-overflow",
            Code::NoStableForm => "no-stable-form",
        }
    }
}

/// A diagnostic on tokens.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: Code,
    message: String,
    labels: Vec<(Span, String)>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>, place: Span) -> Self {
        Self { code, message: message.into(), labels: vec![(place, String::new())], help: None }
    }

    /// What stands under the primary place.
    #[must_use]
    pub(crate) fn here(mut self, text: impl Into<String>) -> Self {
        self.labels[0].1 = text.into();
        self
    }

    /// Another place that explains.
    #[must_use]
    pub(crate) fn also(mut self, place: Span, text: impl Into<String>) -> Self {
        self.labels.push((place, text.into()));
        self
    }

    /// What to write instead.
    #[must_use]
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    fn into_diagnostic(self) -> Diagnostic {
        let mut labels: Vec<Label> =
            self.labels.into_iter().map(|(span, text)| Label { range: span.byte_range(), text }).collect();
        // Pieces that the compiler added have no place; only the primary label must stay.
        let mut first = true;
        labels.retain(|label| std::mem::take(&mut first) || !label.range.is_empty());
        Diagnostic { code: self.code, message: self.message, labels, help: self.help }
    }

    fn into_error(self) -> syn::Error {
        use proc_macro2::{Ident, TokenStream, TokenTree};
        let mut text = self.message;
        // Stable rustc shows one place an error: what labels say of other places would mislead here.
        if let Some(help) = &self.help {
            text.push_str("\n  help: ");
            text.push_str(help);
        }
        let place = self.labels[0].0;
        // syn marks from the first to the last token of what it is given.
        let ends = [place.start(), place.end()];
        let tokens: TokenStream = ends.iter().map(|&end| TokenTree::Ident(Ident::new("_", end))).collect();
        syn::Error::new_spanned(tokens, text)
    }
}

/// Problems as they are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them as one error for the macro; `None` if there is none.
    pub(crate) fn into_error(self) -> Option<syn::Error> {
        self.0.into_iter().map(Problem::into_error).reduce(|mut all, error| {
            all.combine(error);
            all
        })
    }

    /// All of them as data. Call it on the thread that parsed the text.
    pub(crate) fn into_diagnostics(self) -> Diagnostics {
        let mut list: Vec<_> = self.0.into_iter().map(Problem::into_diagnostic).collect();
        list.sort_by_key(|diagnostic| diagnostic.labels[0].range.start);
        Diagnostics { list }
    }
}

/// A place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// What there is to say there; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Where: the primary place first, then those that explain. Never empty.
    pub labels: Vec<Label>,
    /// What to write instead.
    pub help: Option<String>,
}

/// Everything that is wrong with a text, in its order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// One diagnostic about no place in particular.
    pub(crate) fn single(code: Code, message: impl Into<String>, range: Range<usize>, help: Option<String>) -> Self {
        let labels = vec![Label { range, text: String::new() }];
        Self { list: vec![Diagnostic { code, message: message.into(), labels, help }] }
    }

    /// The diagnostics in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.list.len()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// The messages without the text; [`Diagnostics::render`] shows the places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}error[{}]: {}", diagnostic.code.as_str(), diagnostic.message)?;
            if let Some(help) = &diagnostic.help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
