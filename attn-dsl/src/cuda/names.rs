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
    "asm",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
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
    "nullptr",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "register",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
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
    "while",
    "xor",
    "u16",
    "u32",
    "i64",
    "element",
    "INFINITY",
    "LOG2E",
    "LN2",
    "data",
    "stride",
    "extent",
];

/// Gives out identifiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// Names beside some that are taken already.
    pub(crate) fn taking(taken: &[&str]) -> Self {
        Names { used: taken.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// An identifier like `wanted`.
    pub(crate) fn unique(&mut self, wanted: &str) -> String {
        let clean: String = wanted.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let clean = clean.trim_matches('_').to_owned();
        let starts_well = clean.starts_with(|c: char| c.is_ascii_alphabetic());
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

#[cfg(test)]
mod tests {
    use super::Names;

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
    }
}
