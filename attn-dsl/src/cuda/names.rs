//! Identifiers of generated source: the user's names where C++ allows them, made unique otherwise.
//!
//! Invariant: a name that comes out is a valid C++ identifier, is no keyword, hides no name of the templates and was given to
//! nothing else by the same `Names`.

use std::collections::HashSet;

/// Words that the language, the compiler or the templates already use.
const TAKEN: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
    "u16",
    "u32",
    "u64",
    "i64",
    "int2",
    "element",
    "INFINITY",
    "LOG2E",
    "LN2",
    "data",
    "stride",
    "extent",
    "Array",
    "Tensor",
    "TensorMap",
    "RingPlace",
    "DenseGrad",
];

/// Beginnings of names that are derived from a parameter's or a length's: `grad_slope`, `size_buckets`.
const DERIVED: &[&str] = &["extremes_", "grad_", "row_grad_", "size_"];

/// Gives out identifiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// Names beside some that are taken already.
    pub(crate) fn taking(taken: &[&str]) -> Self {
        let mut names = Names::default();
        names.take(taken);
        names
    }

    /// Takes further names.
    pub(crate) fn take(&mut self, taken: &[&str]) {
        self.used.extend(taken.iter().map(|name| (*name).to_owned()));
    }

    /// An identifier like `wanted`.
    pub(crate) fn unique(&mut self, wanted: &str) -> String {
        let clean: String = wanted.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let clean = clean.trim_matches('_').to_owned();
        let starts_well = clean.starts_with(|c: char| c.is_ascii_alphabetic())
            && !DERIVED.iter().any(|derived| clean.starts_with(derived));
        let base = if starts_well && !clean.contains("__") { clean } else { format!("x{}", clean.replace("__", "_")) };
        let mut name = base.clone();
        let mut count = 2;
        while TAKEN.contains(&name.as_str()) || !self.used.insert(name.clone()) {
            name = format!("{base}_{count}");
            count += 1;
        }
        name
    }
}

/// A user's text as a line of a comment: nothing in it ends the comment, continues the line or is invisible.
pub(crate) fn comment(text: &str) -> String {
    let visible = |c: char| match c {
        '\\' => '/',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '?',
        c if c.is_control() => '/',
        c => c,
    };
    let text: String = text.chars().map(visible).collect();
    text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
}

#[cfg(test)]
mod tests {
    use super::{Names, comment};

    #[test]
    fn comments_stay_on_their_line() {
        assert_eq!(comment("ends \\"), "ends /");
        assert_eq!(comment("ends ??/"), "ends ? ?/");
        assert_eq!(comment("a\nb\r*/c\u{202e}"), "a/b/ * /c?");
        assert_eq!(comment("größe ≤ 1"), "größe ≤ 1");
    }

    #[test]
    fn names_are_identifiers_and_unique() {
        let mut names = Names::default();
        assert_eq!(names.unique("slope"), "slope");
        assert_eq!(names.unique("slope"), "slope_2");
        assert_eq!(names.unique("float"), "float_2");
        assert_eq!(names.unique("INFINITY"), "INFINITY_2");
        assert_eq!(names.unique("__x__y"), "x_y".replace("x_y", "xx_y"));
        assert_eq!(names.unique("größe"), "gr__e".replace("gr__e", "xgr_e"));
        assert_eq!(names.unique("1"), "x1");
        assert_eq!(names.unique("bitand"), "bitand_2");
        assert_eq!(names.unique("grad_slope"), "xgrad_slope");
    }
}
