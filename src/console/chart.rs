//! The console's drawings: inline SVG from numbers alone, without text and without inline style.

use std::fmt::Write as _;

use super::hour::Counts;

fn share(value: f64, top: f64) -> f64 {
    match top > 0.0 {
        true => (value / top).clamp(0.0, 1.0) * 100.0,
        false => 0.0,
    }
}

/// What ended in each minute, failures at the bottom.
pub fn minutes(counts: &[Counts]) -> String {
    let top = counts
        .iter()
        .map(|counts| counts.ended())
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let step = 100.0 / counts.len().max(1) as f64;
    let mut svg =
        r#"<svg class="plot" role="img" aria-label="What ended in each minute, as in the table">"#.to_owned();
    for quarter in [0, 25, 50, 75] {
        let _infallible = write!(
            svg,
            r#"<line class="grid" x2="100%" y1="{quarter}%" y2="{quarter}%"/>"#
        );
    }
    for (n, counts) in counts.iter().enumerate() {
        let (all, failed) = (
            share(counts.ended() as f64, top),
            share(counts.failed as f64, top),
        );
        for (class, above, high) in [("bad", failed, failed), ("good", all, all - failed)] {
            if high > 0.0 {
                let (x, y, width) = (n as f64 * step, 100.0 - above, step * 0.8);
                let _infallible = write!(
                    svg,
                    r#"<rect class="{class}" x="{x:.2}%" y="{y:.2}%" width="{width:.2}%" height="{high:.2}%"/>"#
                );
            }
        }
    }
    svg + "</svg>"
}

/// A few numbers beside each other.
pub fn trend(counts: &[u64]) -> String {
    let top = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = 100.0 / counts.len().max(1) as f64;
    let mut svg = r#"<svg class="trend" role="img" aria-label=""#.to_owned();
    let said: Vec<_> = counts.iter().map(ToString::to_string).collect();
    svg += &said.join(", ");
    svg += "\">";
    for (n, count) in counts.iter().enumerate() {
        let high = share(*count as f64, top).max(4.0);
        let (x, y, width) = (n as f64 * step, 100.0 - high, step * 0.7);
        let class = if *count == 0 { "none" } else { "bar" };
        let _infallible = write!(
            svg,
            r#"<rect class="{class}" x="{x:.2}%" y="{y:.2}%" width="{width:.2}%" height="{high:.2}%"/>"#
        );
    }
    svg + "</svg>"
}

/// A bar whose parts have the widths of their shares.
pub fn parts(parts: &[(&'static str, u64)]) -> String {
    let all: u64 = parts.iter().map(|(_, count)| count).sum();
    let mut svg = r#"<svg class="parts" role="img" aria-label="The shares, as in the table">"#.to_owned();
    let mut x = 0.0;
    for (class, count) in parts {
        let width = share(*count as f64, all as f64);
        let _infallible = write!(
            svg,
            r#"<rect class="{class}" x="{x:.2}%" width="{width:.2}%" height="100%"/>"#
        );
        x += width;
    }
    svg + "</svg>"
}

/// How much of what may be. `what` is read aloud in its place.
pub fn gauge(what: &'static str, value: f64, allowed: Option<f64>, top: f64) -> String {
    let mut svg = format!(r#"<svg class="gauge" role="img" aria-label="{what}">"#);
    svg += r#"<rect class="none" width="100%" height="100%"/>"#;
    let _infallible = write!(
        svg,
        r#"<rect class="bar" width="{:.2}%" height="100%"/>"#,
        share(value, top)
    );
    if let Some(allowed) = allowed {
        let x = share(allowed, top);
        let _infallible = write!(
            svg,
            r#"<line class="mark" x1="{x:.2}%" x2="{x:.2}%" y1="0" y2="100%"/>"#
        );
    }
    svg + "</svg>"
}
