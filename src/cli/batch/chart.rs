//! The drawings of a batch's page: inline SVG without text, so that it may be stretched. What they say stands beside them.

use std::fmt::Write as _;

use usher::operations::batch::{Account, Bucket, Series};

/// The curve is so wide and so high; the page stretches it.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 170.0;

/// Patterns, so that each outcome is told apart without its colour.
pub const PATTERNS: &str = r#"<svg class="defs" aria-hidden="true"><defs>
<pattern id="same" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="same-b" width="8" height="8"/><path class="same-i" d="M0 4h8" stroke-width="3"/></pattern>
<pattern id="bad" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="same-b" width="8" height="8"/><path class="bad-i" d="M0 0l8 8M8 0l-8 8" stroke-width="2"/></pattern>
<pattern id="run" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="same-b" width="8" height="8"/><path class="run-i" d="M4 0v8" stroke-width="3"/></pattern>
</defs></svg>
"#;

/// The parts of a batch: class, name and number.
pub fn parts(account: &Account) -> Vec<(&'static str, &'static str, u64)> {
    let counts = &account.counts;
    let mut parts = vec![
        ("ok", "succeeded", counts.succeeded),
        ("same", "unchanged: the user was as asked", counts.unchanged),
        ("bad", "failed", counts.failed),
        ("run", "in flight", counts.in_flight),
    ];
    if let Some(waiting) = account.waiting {
        parts.push(("wait", "waiting", waiting));
    }
    if let Some(not_seen) = account.not_seen {
        parts.push((
            "wait",
            "not seen: waiting, or ended before the log begins",
            not_seen,
        ));
    }
    parts
}

/// The sign of a part in a legend.
pub fn key(class: &str) -> String {
    format!(r#"<svg class="key" aria-hidden="true"><rect class="{class}" width="100%" height="100%"/></svg>"#)
}

/// The bar of all parts, the width of each its share.
pub fn bar(account: &Account) -> String {
    let parts = parts(account);
    let all: u64 = parts.iter().map(|(_, _, count)| count).sum();
    let mut svg =
        r#"<svg class="bar" role="img" aria-label="The shares of the outcomes, as in the table">"#.to_owned();
    let mut x = 0.0;
    for (class, _, count) in parts {
        let width = count as f64 / all.max(1) as f64 * 100.0;
        let _infallible = write!(
            svg,
            r#"<rect class="{class}" x="{x:.2}%" width="{width:.2}%" height="100%"/>"#
        );
        x += width;
    }
    svg.push_str("</svg>");
    svg
}

/// The lines at each quarter, and what is drawn over them.
fn plot(attributes: &str, label: &str, content: &str) -> String {
    let mut grid = String::new();
    for quarter in [0, 25, 50, 75] {
        let _infallible = write!(
            grid,
            r#"<line class="grid" x2="100%" y1="{quarter}%" y2="{quarter}%"/>"#
        );
    }
    format!(r#"<svg class="plot" {attributes}role="img" aria-label="{label}">{grid}{content}</svg>"#)
}

/// How many commands had ended when. `all`: the top.
pub fn progress(series: &Series, all: u64) -> String {
    let step = WIDTH / series.buckets.len().max(1) as f64;
    let mut path = format!("M0 {HEIGHT}");
    let mut ended = 0;
    for (n, bucket) in series.buckets.iter().enumerate() {
        ended += bucket.first;
        let x = (n + 1) as f64 * step;
        let y = HEIGHT * (1.0 - share(ended as f64, all as f64));
        let _infallible = write!(path, "L{x:.1} {y:.1}");
    }
    plot(
        &format!(r#"viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" "#),
        "Commands that had ended, over time",
        &format!(r#"<path class="curve" d="{path}"/>"#),
    )
}

/// How many outcomes a second there were when, failures at the bottom. `top`: the fastest. In shares of the drawing, so that
/// patterns are not stretched with it.
pub fn pace(series: &Series, top: f64) -> String {
    let step = 100.0 / series.buckets.len().max(1) as f64;
    let mut bars = String::new();
    for (n, bucket) in series.buckets.iter().enumerate() {
        let percent = |count: u64| share(count as f64 / series.bucket_seconds as f64, top) * 100.0;
        let (all, failed) = (percent(bucket.ended), percent(bucket.failed));
        let (x, width) = (n as f64 * step, step * 0.9);
        for (class, above, high) in [("bad", failed, failed), ("ok", all, all - failed)] {
            if high > 0.0 {
                let y = 100.0 - above;
                let _infallible = write!(
                    bars,
                    r#"<rect class="{class}" x="{x:.2}%" y="{y:.2}%" width="{width:.2}%" height="{high:.2}%"/>"#
                );
            }
        }
    }
    plot("", "Outcomes a second, over time, failures at the bottom", &bars)
}

/// The fastest pace of a bucket.
pub fn top(series: &Series) -> f64 {
    let per_second = |bucket: &Bucket| bucket.ended as f64 / series.bucket_seconds as f64;
    series.buckets.iter().map(per_second).fold(0.0, f64::max)
}

fn share(value: f64, top: f64) -> f64 {
    if top <= 0.0 {
        return 0.0;
    }
    (value / top).min(1.0)
}
