//! Where the marks of a chart go.
//!
//! Invariants: panels share their rows and their axis, so that lengths compare across all; no text lies on another or on a line that
//! must be seen, and none is cut by the page.

#[cfg(test)]
mod tests;

use attn_cli::measurements::OURS;

use super::chart::{Bar, Cell, Chart, Group};
use super::peers::Peer;
use crate::commands::plot::canvas::{Anchor, BAND, Canvas, FADED, GRID, INK, PAPER, Style, ticks};

/// The page; what a README shows without scaling.
const WIDTH: f64 = 900.0;
const MARGIN: f64 = 16.0;
/// Between panels.
const GAP: f64 = 22.0;
const BAR: f64 = 13.0;
/// From the top of a bar to that of the next.
const STEP: f64 = 14.0;
/// Above and below the bars of a group.
const PADDING: f64 = 5.0;
const SMALL: f64 = 10.5;
const TEXT: f64 = 11.5;
const TITLE: f64 = 16.0;
/// From a text's height to that of the next line.
const LINE: f64 = 17.0;
/// How far the mark of a softmax reaches beyond the bars.
const OVERHANG: f64 = 3.0;
/// A dash and its gap.
const DASHES: &str = "4 3";

/// The axis of a panel.
#[derive(Clone, Copy)]
struct Axis {
    left: f64,
    width: f64,
    top: f64,
}

impl Axis {
    fn x(&self, tflops: f64) -> f64 {
        self.left + self.width * (tflops / self.top).min(1.0)
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }
}

/// The picture as SVG.
pub(super) fn svg(chart: &Chart) -> String {
    let mut canvas = Canvas::new(WIDTH);
    let mut y = MARGIN + TITLE / 2.0;
    canvas.text([MARGIN, y], &chart.title, Style::new(TITLE).bold());
    y += 1.2 * LINE;
    canvas.text([MARGIN, y], &chart.subtitle, Style::new(TEXT).colour(FADED));
    y = legend(&mut canvas, chart, y + 1.3 * LINE);

    let heights: Vec<f64> =
        chart.groups.iter().map(|group| group.bars.len() as f64 * STEP - (STEP - BAR) + 2.0 * PADDING).collect();
    let title = y + 1.2 * LINE;
    let first = title + 0.7 * LINE;
    let bottom = first + heights.iter().sum::<f64>();
    let names = Style::new(TEXT).anchor(Anchor::End);
    let widest = chart.groups.iter().map(|group| names.width(&group.variant)).fold(0.0, f64::max);
    let left = MARGIN + widest + 8.0;
    bands(&mut canvas, chart, &heights, first, left);
    let count = chart.panels.len() as f64;
    let width = (WIDTH - MARGIN - left - GAP * (count - 1.0)) / count;
    for (at, panel) in chart.panels.iter().enumerate() {
        let axis = Axis { left: left + at as f64 * (width + GAP), width, top: chart.top() };
        let style = Style::new(TEXT).bold();
        canvas.text([axis.left, title], &panel.title, style);
        let after = axis.left + style.width(&panel.title) + 4.0;
        canvas.text([after, title], &panel.extents, Style::new(SMALL).colour(FADED));
        frame(&mut canvas, &axis, first, bottom);
        // Bars, then lines, then texts: each is seen on what was drawn before.
        let tops = heights.iter().scan(first, |y, height| Some(std::mem::replace(y, *y + height) + PADDING));
        let cells: Vec<_> = chart.groups.iter().zip(&panel.cells).zip(tops).collect();
        for &((group, cell), top) in &cells {
            bars(&mut canvas, chart, group, cell, &axis, top);
        }
        if let Some(gemm) = chart.gemm {
            let x = axis.x(gemm);
            canvas.line([x, first], [x, bottom], INK, 1.0, DASHES);
        }
        for &((group, cell), top) in &cells {
            numbers(&mut canvas, chart, group, cell, &axis, top);
        }
    }
    let mut y = bottom + 2.9 * LINE;
    for note in &chart.notes {
        canvas.text([MARGIN, y], note, Style::new(SMALL).colour(FADED));
        y += 0.9 * LINE;
    }
    let description = format!("{} {}", chart.subtitle, chart.notes.join(" "));
    canvas.finish(y - 0.9 * LINE + MARGIN, &chart.title, &description)
}

/// The names of variants, and a band behind every other of them.
fn bands(canvas: &mut Canvas, chart: &Chart, heights: &[f64], first: f64, left: f64) {
    let mut y = first;
    for (at, (group, height)) in chart.groups.iter().zip(heights).enumerate() {
        if at % 2 == 0 {
            canvas.rectangle([MARGIN, y], [WIDTH - 2.0 * MARGIN, *height], BAND);
        }
        let style = Style::new(TEXT).anchor(Anchor::End);
        canvas.text([left - 8.0, y + height / 2.0], &group.variant, style);
        y += height;
    }
}

/// The lines and numbers of an axis.
fn frame(canvas: &mut Canvas, axis: &Axis, first: f64, bottom: f64) {
    let style = Style::new(SMALL).colour(FADED).anchor(Anchor::Middle);
    for tick in ticks(axis.top, 5) {
        let x = axis.x(tick);
        canvas.line([x, first], [x, bottom], if tick > 0.0 { GRID } else { FADED }, 1.0, "");
        canvas.text([x, bottom + 0.7 * LINE], &number(tick), style);
    }
    canvas.text([axis.left + axis.width / 2.0, bottom + 1.6 * LINE], "TFLOP/s", style);
}

/// Who has which colour, and what the lines are, in as many rows as it takes; returns the height of the last.
fn legend(canvas: &mut Canvas, chart: &Chart, mut y: f64) -> f64 {
    enum Sign<'a> {
        Bar(&'a Peer),
        Softmax,
        Gemm,
    }
    let style = Style::new(TEXT);
    let mut items: Vec<(Sign<'_>, String)> =
        chart.peers.iter().map(|peer| (Sign::Bar(peer), peer.label.clone())).collect();
    if chart.panels.iter().flat_map(|panel| &panel.cells).any(|cell| cell.softmax.is_some()) {
        items.push((Sign::Softmax, "the fastest softmax of the others under the same mask".to_owned()));
    }
    if let Some(gemm) = chart.gemm {
        items.push((Sign::Gemm, format!("cuBLAS, a product of 8192 x 8192 matrices: {}", number(gemm))));
    }
    let mut x = MARGIN;
    for (sign, label) in items {
        let sign_width = if let Sign::Bar(_) = sign { BAR } else { 6.0 };
        let width = sign_width + 5.0 + style.width(&label);
        if x + width > WIDTH - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + LINE);
        }
        let middle = x + sign_width / 2.0;
        match sign {
            Sign::Bar(peer) => {
                canvas.rectangle([x, y - BAR / 2.0], [BAR, BAR], peer.colour.fill());
            }
            Sign::Softmax => mark(canvas, middle, y - BAR / 2.0, y + BAR / 2.0),
            Sign::Gemm => canvas.line([middle, y - 0.45 * LINE], [middle, y + 0.45 * LINE], INK, 1.0, DASHES),
        }
        canvas.text([x + sign_width + 5.0, y], &label, style);
        x += width + 14.0;
    }
    y
}

/// A short thick line that is seen on bars and on paper.
fn mark(canvas: &mut Canvas, x: f64, top: f64, bottom: f64) {
    canvas.line([x, top], [x, bottom], PAPER, 5.0, "");
    canvas.line([x, top], [x, bottom], INK, 2.5, "");
}

/// The bars of a group in a panel, from its height downwards.
fn bars(canvas: &mut Canvas, chart: &Chart, group: &Group, cell: &Cell, axis: &Axis, top: f64) {
    for (at, (&peer, bar)) in group.bars.iter().zip(&cell.bars).enumerate() {
        fill(canvas, &chart.peers[peer], bar, axis, top + at as f64 * STEP);
    }
}

/// The mark and the numbers on the bars of a group.
fn numbers(canvas: &mut Canvas, chart: &Chart, group: &Group, cell: &Cell, axis: &Axis, top: f64) {
    let mut lines: Vec<f64> = chart.gemm.map(|gemm| axis.x(gemm)).into_iter().collect();
    if let Some(softmax) = cell.softmax {
        let (x, bottom) = (axis.x(softmax), top + group.bars.len() as f64 * STEP - (STEP - BAR));
        lines.push(x);
        mark(canvas, x, top - OVERHANG, bottom + OVERHANG);
    }
    for (at, (&peer, bar)) in group.bars.iter().zip(&cell.bars).enumerate() {
        label(canvas, &chart.peers[peer], bar, axis, &lines, top + at as f64 * STEP + BAR / 2.0);
    }
}

fn fill(canvas: &mut Canvas, peer: &Peer, bar: &Bar, axis: &Axis, y: f64) {
    let Some(tflops) = bar.tflops() else { return };
    canvas.rectangle([axis.left, y], [axis.x(tflops) - axis.left, BAR], peer.colour.fill());
    if tflops > axis.top {
        // Longer than the axis: torn before its end.
        let x = axis.right() - 14.0;
        let points =
            [[x + 3.0, y - 1.0], [x - 2.0, y + BAR / 3.0], [x + 3.0, y + 2.0 * BAR / 3.0], [x - 2.0, y + BAR + 1.0]];
        canvas.polyline(&points, PAPER, 3.0);
    }
}

/// The numbers of a bar: its value at its end or behind it, the ratio at its start, or behind both where the bar is short.
fn label(canvas: &mut Canvas, peer: &Peer, bar: &Bar, axis: &Axis, lines: &[f64], y: f64) {
    let style = Style::new(SMALL).bold_if(peer.name == OURS);
    let (tflops, ratio) = match *bar {
        Bar::Absent => return,
        Bar::Failed => {
            canvas.text([axis.left + 4.0, y], "failed", style.colour(FADED));
            return;
        }
        Bar::Measured { tflops, ratio } => (tflops, ratio),
    };
    let inside = style.colour(peer.colour.ink());
    let end = if tflops > axis.top { axis.right() - 18.0 } else { axis.x(tflops) };
    let room = Room { right: axis.right(), lines };
    let value = number(tflops);
    let value_width = style.width(&value);
    let (mut start, mut short) = (axis.left, None);
    if let Some(ratio) = ratio {
        let ratio = format!("{ratio:.2}x");
        let after = start + CLEAR + style.width(&ratio);
        if after + value_width + 2.0 * CLEAR < end && room.is_free(start + CLEAR, after) {
            canvas.text([start + CLEAR, y], &ratio, inside);
            start = after;
        } else {
            short = Some(format!("({ratio})"));
        }
    }
    let behind = match room.place(start, end, value_width) {
        Place::Inside(right) => {
            canvas.text([right, y], &value, inside.anchor(Anchor::End));
            end
        }
        Place::Behind(left) => {
            canvas.text([left, y], &value, style);
            left + value_width
        }
    };
    if let Some(ratio) = short {
        let left = room.behind(behind, style.width(&ratio)).unwrap_or(behind + CLEAR);
        canvas.text([left, y], &ratio, style);
    }
}

/// What texts keep from lines and from the ends of bars.
const CLEAR: f64 = 4.0;

/// A place of a value: its right end inside the bar, or its left end behind.
#[derive(Debug, PartialEq)]
enum Place {
    Inside(f64),
    Behind(f64),
}

/// The height of a bar in a panel that ends at `right`, with the lines that cross it.
struct Room<'a> {
    right: f64,
    lines: &'a [f64],
}

impl Room<'_> {
    fn is_free(&self, left: f64, right: f64) -> bool {
        self.lines.iter().all(|&line| line <= left - CLEAR || line >= right + CLEAR)
    }

    /// The right end of the last free place in a bar.
    fn inside(&self, start: f64, end: f64, width: f64) -> Option<f64> {
        let before = self.lines.iter().filter(|&&line| line <= end + CLEAR).map(|line| line - CLEAR);
        let ends = before.chain([end]).map(|end| end - CLEAR);
        ends.filter(|end| end - width > start + CLEAR / 2.0 && self.is_free(end - width, *end)).max_by(f64::total_cmp)
    }

    /// The left end of the first free place behind something.
    fn behind(&self, end: f64, width: f64) -> Option<f64> {
        let after = self.lines.iter().filter(|&&line| line >= end - CLEAR).map(|line| line + CLEAR);
        let starts = after.chain([end]).map(|start| start + CLEAR);
        starts.filter(|start| start + width <= self.right && self.is_free(*start, start + width)).min_by(f64::total_cmp)
    }

    /// The place of a value for a bar between two ends: in the bar or behind it, rather close to its end than far.
    fn place(&self, start: f64, end: f64, width: f64) -> Place {
        let near = |place: f64| (place - end).abs() < 2.0 * CLEAR;
        match (self.inside(start, end, width), self.behind(end, width)) {
            (Some(inside), _) if near(inside) => Place::Inside(inside),
            (_, Some(behind)) if near(behind) => Place::Behind(behind),
            (Some(inside), _) => Place::Inside(inside),
            (None, Some(behind)) => Place::Behind(behind),
            (None, None) => Place::Behind(end + CLEAR),
        }
    }
}

/// A speed with the digits that mean something.
fn number(tflops: f64) -> String {
    match tflops {
        0.0 => "0".to_owned(),
        10.0.. => format!("{tflops:.0}"),
        0.1.. => format!("{tflops:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{tflops:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}
