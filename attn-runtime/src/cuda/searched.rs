//! What a search for a shared library tried, so that an error can list it.

use std::fmt;

/// One place that was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searched {
    /// A path, a folder, or a name given to the system's loader.
    pub place: String,
    /// Why the library was not taken from there.
    pub outcome: String,
}

impl Searched {
    pub(crate) fn new(place: impl Into<String>, outcome: impl Into<String>) -> Self {
        let (place, outcome) = (place.into(), outcome.into());
        // The loader's messages begin with the file that the place names already.
        let outcome = outcome.strip_prefix(&format!("{place}: ")).map(str::to_owned).unwrap_or(outcome);
        Self { place, outcome }
    }
}

/// Formats a search one place a line, indented, for the end of an error message.
pub(crate) struct SearchList<'a>(pub(crate) &'a [Searched]);

impl fmt::Display for SearchList<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(formatter, "\n  (nothing to search on this system)");
        }
        self.0.iter().try_for_each(|searched| write!(formatter, "\n  {}: {}", searched.place, searched.outcome))
    }
}

/// The loader's message for a failed load, on one line: libloading's own Display hides it in the source.
pub(crate) fn loader_message(error: &libloading::Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.replace('\n', " ")
}
