//! The fields of a variant, each read on its own.
//!
//! The tokens are cut before anything is parsed: a field begins at `name :` behind a comma (or at the name of one of the
//! expressions, when its comma was forgotten), so a mistake in one field never hides the next one, although closures hold
//! commas of their own.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use syn::Attribute;
use syn::parse::{ParseStream, Parser};

use super::ast::{Axis, AxisKind, Element, Expr, ExprKind, Name, Parameter, Variant};
use super::{Span, expression, items};
use crate::diagnostics::{Code, Problem, Problems};

const EXPRESSIONS: [&str; 9] =
    ["score", "activation", "normalizer", "keep", "post", "mask", "feature", "feature_q", "feature_k"];
const PARAMETER_SHAPE: &str = "a parameter is `name: f32`, `name: f32[h]` or `const name: i32[b, kv]`; \
                               axes are `b`, `h`, `q`, `kv`, a number or the name of a length";

/// The most axes of a parameter, as many as an attention score has.
const MAX_AXES: usize = 4;

/// Where a field's parts are in a slice of tokens.
struct Head {
    /// How many tokens are attributes.
    attributes: usize,
    /// `pub` or `pub(...)`.
    visibility: Option<Span>,
    /// `const`.
    constant: bool,
    /// The name.
    name: Name,
    /// The position of the colon.
    colon: usize,
}

pub(super) fn parse(body: TokenStream, variant: &mut Variant, problems: &mut Problems) {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let mut nodes = 0;
    let mut seen: Vec<Name> = vec![];
    let mut at = 0;
    while at < tokens.len() {
        let mut end = at + 1 + head(&tokens[at..]).map_or(0, |head| head.colon);
        while end < tokens.len() && !begins_after(&tokens, end) {
            end += 1;
        }
        let mut slice = &tokens[at..end];
        at = end;
        match slice.split_last() {
            Some((last, rest)) if is_punct(last, ',') => slice = rest,
            Some((last, _)) if end < tokens.len() => problems.push(
                Problem::new(Code::Syntax, "no comma after this field", Span::token(last.span()))
                    .help("separate fields by `,`"),
            ),
            _ => {}
        }
        if let Some(first) = slice.first() {
            field(slice, Span::token(first.span()), variant, &mut seen, &mut nodes, problems);
        }
    }
}

/// Whether a field begins at `at`, which is not the first token.
fn begins_after(tokens: &[TokenTree], at: usize) -> bool {
    let Some(head) = head(&tokens[at..]) else { return false };
    let after_comma = is_punct(&tokens[at - 1], ',');
    after_comma || (head.attributes == 0 && !head.constant && EXPRESSIONS.contains(&head.name.text.as_str()))
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_group(token: Option<&TokenTree>, delimiter: Delimiter) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == delimiter)
}

/// The head of the field that begins with the first token, if one does.
fn head(tokens: &[TokenTree]) -> Option<Head> {
    let mut at = 0;
    while is_punct(tokens.get(at)?, '#') && is_group(tokens.get(at + 1), Delimiter::Bracket) {
        at += 2;
    }
    let attributes = at;
    let mut visibility = None;
    let mut constant = false;
    loop {
        match tokens.get(at)? {
            TokenTree::Ident(ident) if ident == "pub" => {
                visibility = Some(Span::token(ident.span()));
                at += if is_group(tokens.get(at + 1), Delimiter::Parenthesis) { 2 } else { 1 };
            }
            TokenTree::Ident(ident) if ident == "const" => {
                constant = true;
                at += 1;
            }
            TokenTree::Ident(ident) => {
                let colon = at + 1;
                let single = matches!(tokens.get(colon)?,
                    TokenTree::Punct(p) if p.as_char() == ':' && !(p.spacing() == Spacing::Joint
                        && tokens.get(colon + 1).is_some_and(|next| is_punct(next, ':'))));
                let name = Name { text: ident.to_string(), span: Span::token(ident.span()) };
                return single.then_some(Head { attributes, visibility, constant, name, colon });
            }
            _ => return None,
        }
    }
}

fn field(
    tokens: &[TokenTree],
    place: Span,
    variant: &mut Variant,
    seen: &mut Vec<Name>,
    nodes: &mut usize,
    problems: &mut Problems,
) {
    let Some(head) = head(tokens) else {
        problems.push(
            Problem::new(Code::Syntax, "expected a field, `name: ...`", place).help(
                "fields are parameters, `score`, `activation`, `normalizer`, `keep`, `post`, `feature` and `mask`",
            ),
        );
        return;
    };
    let attributes: TokenStream = tokens[..head.attributes].iter().cloned().collect();
    let attributes = match Attribute::parse_outer.parse2(attributes) {
        Ok(attributes) => attributes,
        Err(error) => return items::syntax(error, "write documentation as `/// text`", problems),
    };
    let (docs, others) = items::split_docs(attributes);
    if let Some(attribute) = others.first() {
        problems.push(
            Problem::new(Code::Unsupported, "fields take no attributes but documentation", Span::of(attribute))
                .help("remove it, or put it before `struct`"),
        );
    }
    if let Some(span) = head.visibility {
        problems.push(
            Problem::new(Code::Unsupported, "fields take no visibility", span)
                .help("parameters are always public fields of the struct; remove `pub`"),
        );
    }
    if let Some(first) = seen.iter().find(|name| name.text == head.name.text) {
        problems.push(
            Problem::new(Code::Duplicate, format!("`{}` is given twice", head.name.text), head.name.span)
                .also(first.span, "the first one")
                .help(if EXPRESSIONS.contains(&head.name.text.as_str()) {
                    "keep one of them"
                } else {
                    "rename or remove one of them"
                }),
        );
        return;
    }
    seen.push(head.name.clone());
    let colon = tokens[head.colon].span();
    let value = &tokens[head.colon + 1..];
    if EXPRESSIONS.contains(&head.name.text.as_str()) {
        if head.constant {
            problems.push(
                Problem::new(Code::Syntax, format!("`const` before `{}`", head.name.text), head.name.span)
                    .help("only parameters are marked `const`"),
            );
        }
        let tokens = value.iter().cloned().collect();
        let value = field_value(&head.name.text, tokens, colon, nodes, problems);
        match head.name.text.as_str() {
            "score" => variant.score = Some(value),
            "activation" => variant.activation = Some(value),
            "normalizer" => variant.normalizer = Some(value),
            "keep" => variant.keep = Some(value),
            "post" => variant.post = Some(value),
            "feature" => variant.feature = Some(value),
            "feature_q" => variant.feature_q = Some(value),
            "feature_k" => variant.feature_k = Some(value),
            _ => variant.mask = Some(value),
        }
        return;
    }
    variant.parameters.extend(parameter(head, docs, value, colon, problems));
}

/// Reads an expression field. `colon` is the place for an empty one.
pub(super) fn field_value(
    name: &str,
    tokens: TokenStream,
    colon: proc_macro2::Span,
    nodes: &mut usize,
    problems: &mut Problems,
) -> Expr {
    let help = match name {
        "score" => "a score is a closure, `score: |s, b, h, q, kv| s`",
        "activation" => "an activation is a name or a closure, `activation: exp` or `activation: |s| exp(s)`",
        "normalizer" => "a normalizer is `none`, `softmax` or an expression, `normalizer: sum + 1`",
        "keep" => "what is kept is `keep: top_k(64)` or a condition, `keep: |s, max, p| s >= max - 5.0`",
        "post" => "a map after normalization is a closure, `post: |p| clamp(1.1 * p - 0.1, 0, 1)`",
        "feature" | "feature_q" | "feature_k" => "a feature map is a closure, `feature: |x| elu_plus_one(x)`",
        _ => "a mask is made of names and closures, `mask: causal & (|b, h, q, kv| kv != 0)`",
    };
    let last = tokens.clone().into_iter().last();
    let end = last.map_or(colon, |token| token.span());
    let whole = Span::of(&tokens);
    if let Some(place) = cast_before_less(&tokens) {
        problems.push(
            Problem::new(Code::Syntax, "`<` behind a cast is read as the start of generics", place)
                .help("put the cast in parentheses: `(x as i32) < y`"),
        );
        return Expr { kind: ExprKind::Error, span: whole };
    }
    // In a group of its own, an end that comes too early is reported at the field's last token.
    let mut group = Group::new(Delimiter::Parenthesis, tokens);
    group.set_span(end);
    let parser = |input: ParseStream| {
        let content;
        syn::parenthesized!(content in input);
        let expr: syn::Expr = content.parse()?;
        if content.is_empty() { Ok(expr) } else { Err(content.error("the expression ended before this")) }
    };
    match parser.parse2(TokenTree::Group(group).into()) {
        Ok(expr) => expression::convert(&expr, nodes, problems),
        Err(error) => {
            items::syntax(error, help, problems);
            Expr { kind: ExprKind::Error, span: whole }
        }
    }
}

/// The `<` of `x as i32 < y`, also within groups.
fn cast_before_less(tokens: &TokenStream) -> Option<Span> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let is_word =
        |token: &TokenTree, words: &[&str]| matches!(token, TokenTree::Ident(i) if words.iter().any(|w| i == w));
    let types = ["f32", "i32", "f64", "i64", "u32", "usize"];
    let here = tokens.windows(3).enumerate().find(|(at, three)| {
        let less = is_punct(&three[2], '<') && !tokens.get(at + 3).is_some_and(|next| is_punct(next, '='));
        less && is_word(&three[0], &["as"]) && is_word(&three[1], &types)
    });
    here.map(|(_, three)| Span::token(three[2].span())).or_else(|| {
        tokens.iter().find_map(|token| match token {
            TokenTree::Group(group) => cast_before_less(&group.stream()),
            _ => None,
        })
    })
}

fn parameter(
    head: Head,
    docs: Vec<String>,
    value: &[TokenTree],
    colon: proc_macro2::Span,
    problems: &mut Problems,
) -> Option<Parameter> {
    let all: TokenStream = value.iter().cloned().collect();
    let place = if value.is_empty() { Span::token(colon) } else { Span::of(&all) };
    let element = match value {
        [TokenTree::Ident(ident), ..] => match ident.to_string().as_str() {
            "f32" => Some(Element::F32),
            "i32" => Some(Element::I32),
            _ => None,
        },
        _ => None,
    };
    let bracket = match value {
        [_] => Some(None),
        [_, TokenTree::Group(group)] if group.delimiter() == Delimiter::Bracket => Some(Some(group)),
        _ => None,
    };
    match (element, bracket) {
        (Some(element), Some(bracket)) => {
            let axes = bracket.map_or(Some(vec![]), |group| axes(group, problems))?;
            Some(Parameter { docs, constant: head.constant, name: head.name, element, axes })
        }
        (None, Some(_)) if matches!(value[0], TokenTree::Ident(_)) => {
            let near = crate::check::nearest(&head.name.text, EXPRESSIONS.iter().copied());
            problems.push(match near {
                Some(near) => unknown_field(&head.name, Some(near)),
                None => Problem::new(Code::WrongType, format!("`{}` is no type of a parameter", value[0]), place)
                    .help("parameters are of type `f32` or `i32`"),
            });
            None
        }
        (Some(_), None) => {
            // Behind a comma stands something that does not look like a field.
            let comma = value.iter().position(|token| is_punct(token, ','));
            let problem = match comma {
                Some(comma) if comma <= 2 && comma + 1 < value.len() => {
                    let rest: TokenStream = value[comma + 1..].iter().cloned().collect();
                    Problem::new(Code::Syntax, "expected a field, `name: ...`", Span::of(&rest))
                }
                _ => {
                    let rest: TokenStream = value[1..].iter().cloned().collect();
                    Problem::new(Code::Syntax, "a parameter ends after its type", Span::of(&rest))
                }
            };
            problems.push(problem.help(PARAMETER_SHAPE));
            None
        }
        _ if value.is_empty() => {
            problems.push(
                Problem::new(Code::Syntax, format!("`{}` has no type", head.name.text), place).help(PARAMETER_SHAPE),
            );
            None
        }
        _ => {
            problems
                .push(unknown_field(&head.name, crate::check::nearest(&head.name.text, EXPRESSIONS.iter().copied())));
            None
        }
    }
}

fn unknown_field(name: &Name, near: Option<&str>) -> Problem {
    Problem::new(Code::UnknownField, format!("there is no field `{}`", name.text), name.span).help(match near {
        Some(near) => format!("write `{near}`"),
        None => {
            format!("expressions are `score`, `activation`, `normalizer`, `keep`, `post`, `feature` and `mask`; {PARAMETER_SHAPE}")
        }
    })
}

fn axes(group: &Group, problems: &mut Problems) -> Option<Vec<Axis>> {
    let mut tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    // `limits::prepare` has wrapped a list in parentheses of its own.
    if let [TokenTree::Group(inner)] = tokens.as_slice() {
        tokens = inner.stream().into_iter().collect();
    }
    let mut axes = vec![];
    let mut wrong = false;
    for part in tokens.split(|token| is_punct(token, ',')) {
        let place = part.first().map_or(group.span(), TokenTree::span);
        match part {
            [TokenTree::Ident(ident)] => {
                axes.push(Axis { kind: AxisKind::Name(ident.to_string()), span: Span::token(place) });
            }
            [TokenTree::Literal(literal)] => match literal.to_string().replace('_', "").parse::<u32>() {
                Ok(extent) if (1..=i32::MAX as u32).contains(&extent) => {
                    axes.push(Axis { kind: AxisKind::Extent(extent), span: Span::token(place) });
                }
                _ => {
                    wrong = true;
                    problems.push(
                        Problem::new(Code::Syntax, format!("`{literal}` is no extent of an axis"), Span::token(place))
                            .help("write a whole number from 1 to 2147483647"),
                    );
                }
            },
            // A trailing comma, or no axis at all: `f32[]` is a scalar.
            [] if !axes.is_empty() || tokens.is_empty() => {}
            _ => {
                wrong = true;
                problems.push(Problem::new(Code::Syntax, "this is no axis", Span::token(place)).help(PARAMETER_SHAPE));
            }
        }
    }
    if axes.len() > MAX_AXES {
        wrong = true;
        problems.push(
            Problem::new(
                Code::TooLarge,
                format!("{} axes; a parameter has at most {MAX_AXES}", axes.len()),
                Span::token(group.span()),
            )
            .help("flatten axes of fixed extent into one and compute the index"),
        );
    }
    (!wrong).then_some(axes)
}
