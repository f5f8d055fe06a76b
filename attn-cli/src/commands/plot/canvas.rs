//! What all pictures are drawn on and with: a white page, marks, text in the reader's own sans-serif font.
//!
//! Invariants: no coordinate depends on a font of this machine, since [`width`] only estimates, from above; coordinates come of
//! additions, multiplications and divisions alone, which are the same everywhere.

use svg::Document;
use svg::node::element::{Description, Element, Line, Polyline, Rectangle, Text, Title};

/// Fonts that readers have; the widest of them is DejaVu Sans.
const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// Text, and marks that must be seen.
pub(super) const INK: &str = "#1f2328";
/// Text that is read second.
pub(super) const FADED: &str = "#57606a";
/// Lines behind the data.
pub(super) const GRID: &str = "#d0d7de";
/// Bands behind the data.
pub(super) const BAND: &str = "#f3f5f7";
/// The page, whatever colour surrounds it.
pub(super) const PAPER: &str = "#ffffff";

/// The colours of Okabe and Ito, which people with any form of colour blindness tell apart, without black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Blue,
    Orange,
    SkyBlue,
    Green,
    Yellow,
    Purple,
    Vermillion,
}

impl Colour {
    pub(super) fn fill(self) -> &'static str {
        match self {
            Colour::Blue => "#0072b2",
            Colour::Orange => "#e69f00",
            Colour::SkyBlue => "#56b4e9",
            Colour::Green => "#009e73",
            Colour::Yellow => "#f0e442",
            Colour::Purple => "#cc79a7",
            Colour::Vermillion => "#d55e00",
        }
    }

    /// The colour of text that can be read on this one.
    pub(super) fn ink(self) -> &'static str {
        if self == Colour::Blue { PAPER } else { INK }
    }
}

/// Which point of a text is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) bold: bool,
    pub(super) anchor: Anchor,
}

impl Style {
    pub(super) fn new(size: f64) -> Style {
        Style { size, colour: INK, bold: false, anchor: Anchor::Start }
    }

    pub(super) fn colour(self, colour: &'static str) -> Style {
        Style { colour, ..self }
    }

    pub(super) fn bold(self) -> Style {
        self.bold_if(true)
    }

    pub(super) fn bold_if(self, bold: bool) -> Style {
        Style { bold, ..self }
    }

    pub(super) fn anchor(self, anchor: Anchor) -> Style {
        Style { anchor, ..self }
    }

    /// About how wide a text is, in the widest font that a reader may have.
    pub(super) fn width(self, text: &str) -> f64 {
        let em = |letter: char| match letter {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '(' | ')' => 0.36,
            'f' | 't' | 'r' | '-' | '/' => 0.42,
            'm' | 'w' | 'M' | 'W' | '%' => 0.95,
            letter if letter.is_ascii_uppercase() => 0.72,
            _ => 0.635,
        };
        let letters: f64 = text.chars().map(em).sum();
        letters * self.size * if self.bold { 1.1 } else { 1.0 }
    }
}

/// A picture that grows.
pub(super) struct Canvas {
    width: f64,
    children: Vec<Element>,
}

impl Canvas {
    pub(super) fn new(width: f64) -> Canvas {
        Canvas { width, children: Vec::new() }
    }

    pub(super) fn rectangle(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], fill: &str) {
        let rectangle =
            Rectangle::new().set("x", px(x)).set("y", px(y)).set("width", px(width)).set("height", px(height));
        self.children.push(rectangle.set("fill", fill).into());
    }

    /// A line; `dashes` are the lengths of dash and gap, nothing for a line without gaps.
    pub(super) fn line(
        &mut self,
        [x, y]: [f64; 2],
        [to_x, to_y]: [f64; 2],
        colour: &str,
        thickness: f64,
        dashes: &str,
    ) {
        let line = Line::new().set("x1", px(x)).set("y1", px(y)).set("x2", px(to_x)).set("y2", px(to_y));
        let line = line.set("stroke", colour).set("stroke-width", px(thickness));
        self.children.push(if dashes.is_empty() { line } else { line.set("stroke-dasharray", dashes) }.into());
    }

    /// A line through several points.
    pub(super) fn polyline(&mut self, points: &[[f64; 2]], colour: &str, thickness: f64) {
        let points: Vec<String> = points.iter().map(|&[x, y]| format!("{},{}", px(x), px(y))).collect();
        let line = Polyline::new().set("points", points.join(" ")).set("fill", "none");
        self.children.push(line.set("stroke", colour).set("stroke-width", px(thickness)).into());
    }

    /// A text whose capitals have their middle at this height.
    pub(super) fn text(&mut self, [x, y]: [f64; 2], text: &str, style: Style) {
        let Style { size, colour, bold, anchor } = style;
        let mut element = Text::new(text).set("x", px(x)).set("y", px(y + 0.36 * size));
        element = element.set("font-size", px(size)).set("fill", colour);
        if bold {
            element = element.set("font-weight", "bold");
        }
        element = match anchor {
            Anchor::Start => element,
            Anchor::Middle => element.set("text-anchor", "middle"),
            Anchor::End => element.set("text-anchor", "end"),
        };
        self.children.push(element.into());
    }

    /// The picture as a file, with what is read aloud to those who do not see it.
    pub(super) fn finish(self, height: f64, title: &str, description: &str) -> String {
        let (width, height) = (px(self.width), px(height));
        let page = Rectangle::new().set("width", width).set("height", height).set("fill", PAPER).set("rx", 6);
        let document = Document::new()
            .set("viewBox", format!("0 0 {width} {height}"))
            .set("width", width)
            .set("height", height)
            .set("role", "img")
            .set("font-family", FONTS)
            .add(Title::new(title))
            .add(Description::new().add(svg::node::Text::new(description)))
            .add(page);
        let document = self.children.into_iter().fold(document, Document::add);
        format!("{document}\n")
    }
}

/// A coordinate to a hundredth, so that files are short and their differences are those that are seen.
fn px(value: f64) -> f64 {
    // Adding zero makes of -0 a 0.
    (value * 100.0).round() / 100.0 + 0.0
}

/// Round numbers from 0 up to `top`, at most `most` steps apart.
pub(super) fn ticks(top: f64, most: usize) -> Vec<f64> {
    let fits = |step: f64| top / step <= most as f64;
    let mut unit = 1.0;
    while unit > top / 100.0 && unit > 1e-9 {
        unit /= 10.0;
    }
    let step = loop {
        match [1.0, 2.0, 5.0].map(|factor| factor * unit).into_iter().find(|&step| fits(step)) {
            Some(step) => break step,
            None => unit *= 10.0,
        }
    };
    (0..=most).map(|at| at as f64 * step).take_while(|&tick| tick <= top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(780.0, 5), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(ticks(1000.0, 5), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!(ticks(3.0, 4), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(0.04, 4).len(), 5);
        assert_eq!(ticks(1e7, 3).len(), 3);
    }

    #[test]
    fn text_is_escaped_and_estimated_from_above() {
        let mut canvas = Canvas::new(100.0);
        canvas.text([1.0, -0.36 * 10.0], "a < b & c", Style::new(10.0));
        let picture = canvas.finish(50.0, "<title>", "what & why");
        assert!(
            picture.contains(">a &lt; b &amp; c<") && picture.contains("<title>&lt;title&gt;</title>"),
            "{picture}"
        );
        assert!(picture.contains("y=\"0\""), "{picture}");
        // Widths in DejaVu Sans, in thousandths of an em.
        for (text, widest) in [("0123456789", 6362.0), ("FlashAttention-2", 8233.0), ("softmax-causal", 7607.0)] {
            let estimate = 1000.0 * Style::new(1.0).width(text);
            assert!(estimate >= 0.97 * widest && estimate < 1.2 * widest, "{text}: {estimate}");
        }
    }
}
