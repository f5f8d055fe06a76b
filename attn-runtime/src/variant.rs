//! A variant as a Rust type: what the `attention!` macro implements.

use attn_dsl::definition::Definition;

use crate::parameter::Parameters;

/// A variant of attention whose parameters are the fields of a struct. Implemented by the `attention!` macro.
pub trait Variant {
    /// The variant in the text form of the language.
    const TEXT: &'static str;

    /// The checked definition; the same for every value of the type.
    fn definition() -> &'static Definition;

    /// The values of the parameters, by name, in the order of their declaration.
    fn parameters(&self) -> Parameters;
}
