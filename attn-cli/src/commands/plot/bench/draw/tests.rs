//! Places of numbers and texts.

use std::fmt::Write as _;

use svg::node::element::tag::Type;
use svg::parser::Event;

use super::*;
use crate::commands::plot::bench::chart::tests::{args, chart};

#[test]
fn values_keep_clear_of_lines() {
    let place = |end, right, lines: &[f64]| Room { right, lines }.place(0.0, end, 20.0);
    assert_eq!(place(100.0, 200.0, &[]), Place::Inside(96.0));
    assert_eq!(place(100.0, 200.0, &[90.0]), Place::Behind(104.0), "a line in the way inside");
    assert_eq!(place(15.0, 200.0, &[]), Place::Behind(19.0), "a short bar");
    assert_eq!(place(100.0, 110.0, &[90.0]), Place::Inside(82.0), "no room behind");
    assert_eq!(place(100.0, 200.0, &[90.0, 110.0]), Place::Inside(82.0), "lines on both sides");
    assert_eq!(place(10.0, 200.0, &[20.0]), Place::Behind(28.0), "a short bar and a line behind");
    for line in 0..200 {
        let line = f64::from(line);
        for end in 0..150 {
            let left = match place(f64::from(end), 200.0, &[line]) {
                Place::Inside(right) => right - 20.0,
                Place::Behind(left) => left,
            };
            assert!(left >= 0.0 && (line < left || line > left + 20.0), "bar to {end}, line at {line}: {left}");
        }
    }
}

#[test]
fn numbers_have_the_digits_that_mean_something() {
    let shown = [0.0, 1234.4, 67.3, 9.0, 0.25, 0.0123].map(number);
    assert_eq!(shown, ["0", "1234", "67", "9", "0.25", "0.0123"]);
}

/// Where the lines in ink are, marks and the dashed one: x, top and bottom.
fn lines(picture: &str) -> Vec<[f64; 3]> {
    let tags = svg::read(picture).unwrap().filter_map(|event| match event {
        Event::Tag("line", _, attributes) if &*attributes["stroke"] == INK => Some(attributes),
        _ => None,
    });
    tags.map(|attributes| ["x1", "y1", "y2"].map(|key| attributes[key].parse().unwrap())).collect()
}

/// Left, right, top and bottom of a text, and itself.
type Block = ([f64; 4], String);

/// All texts of a picture, as wide as they may get.
fn texts(picture: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = None;
    for event in svg::read(picture).unwrap() {
        match event {
            Event::Tag("text", Type::Start, attributes) => {
                let number = |key: &str| attributes[key].parse::<f64>().unwrap();
                let style = Style::new(number("font-size")).bold_if(attributes.contains_key("font-weight"));
                let anchor = attributes.get("text-anchor").map(|anchor| anchor.to_string());
                at = Some((number("x"), number("y"), style, anchor));
            }
            Event::Text(text) => {
                let Some((x, y, style, anchor)) = at.take() else { continue };
                let width = style.width(text);
                let left = match anchor.as_deref() {
                    Some("end") => x - width,
                    Some("middle") => x - width / 2.0,
                    _ => x,
                };
                blocks.push(([left, left + width, y - 0.72 * style.size, y], text.to_owned()));
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn no_text_lies_on_another_or_on_a_line_or_leaves_the_page() {
    let peers = ["attn", "cudnn", "fa4-cute", "fa2", "flex-flash", "flex-triton", "another-program"];
    let variants = ["softmax", "softmax-causal", "alibi-causal", "relu", "t5bias-causal", "window1024", "document8"];
    for panels in [&[128][..], &[64, 128, 256], &[32, 64, 128, 256]] {
        for seed in 0..20 {
            let mut random = attn_runtime::testing::Random::new(seed);
            let mut rows = Vec::new();
            for &head_dim in panels {
                for variant in variants {
                    let has = |peer: &&str| matches!(*peer, "attn" | "flex-triton") || variant.starts_with("softmax");
                    for peer in peers.into_iter().filter(has) {
                        let ms = 1.0 + 20.0 * random.uniform(0.0, 1.0).powi(3);
                        rows.push((peer, variant, head_dim, (random.uniform(0.0, 1.0) < 0.9).then_some(ms)));
                    }
                }
            }
            let gemm = r#"{"run":"r","device":"gpu","peer":"cublas","variant":"gemm8192","ms":1.0,"tflops":800.0}"#;
            let picture = svg(&chart(&rows, &[gemm], &args(panels)).unwrap());
            let height: f64 = picture.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            let texts = texts(&picture);
            assert!(texts.len() > 30 * panels.len());
            let lines = lines(&picture);
            assert!(lines.len() > 3 * panels.len());
            let mut wrong = String::new();
            for (at, ([left, right, top, bottom], text)) in texts.iter().enumerate() {
                if *left < 0.0 || *right > WIDTH || *top < 0.0 || *bottom > height {
                    writeln!(wrong, "`{text}` leaves the page").unwrap();
                }
                let crosses = |[x, from, to]: &&[f64; 3]| left < x && x < right && from < bottom && top < to;
                for line in lines.iter().filter(crosses) {
                    writeln!(wrong, "`{text}` is crossed at {line:?}").unwrap();
                }
                let on = |other: &&Block| {
                    other.0[0] < *right && *left < other.0[1] && other.0[2] < *bottom && *top < other.0[3]
                };
                for (_, other) in texts[..at].iter().filter(on) {
                    writeln!(wrong, "`{text}` lies on `{other}`").unwrap();
                }
            }
            assert!(wrong.is_empty(), "{} panels, seed {seed}:\n{wrong}", panels.len());
        }
    }
}
