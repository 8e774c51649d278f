//! The drawings of a batch's page: inline SVG without text, so that it may be stretched. What they say stands beside them.

use std::fmt::Write as _;

use usher::operations::batch::{Account, Bucket, Series};

/// What is drawn is so wide and so high; the page stretches it.
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
    let mut svg = format!(
        r#"<svg class="bar" viewBox="0 0 {WIDTH} 28" preserveAspectRatio="none" role="img" aria-label="The shares of the outcomes, as in the table">"#
    );
    let mut x = 0.0;
    for (class, _, count) in parts {
        let width = count as f64 / all.max(1) as f64 * WIDTH;
        let _infallible = write!(
            svg,
            r#"<rect class="{class}" x="{x:.2}" width="{width:.2}" height="28"/>"#
        );
        x += width;
    }
    svg.push_str("</svg>");
    svg
}

fn plot(label: &str, content: &str) -> String {
    let mut grid = String::new();
    for quarter in 0..4 {
        let y = f64::from(quarter) * HEIGHT / 4.0;
        let _infallible = write!(grid, r#"<path class="grid" d="M0 {y}H{WIDTH}"/>"#);
    }
    format!(
        r#"<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">{grid}{content}</svg>"#
    )
}

/// How many commands had ended when. `all`: the top.
pub fn progress(series: &Series, all: u64) -> String {
    let step = WIDTH / series.buckets.len().max(1) as f64;
    let mut path = format!("M0 {HEIGHT}");
    let mut ended = 0;
    for (n, bucket) in series.buckets.iter().enumerate() {
        ended += bucket.first;
        let (x, y) = ((n + 1) as f64 * step, height(ended as f64, all as f64));
        let _infallible = write!(path, "L{x:.1} {:.1}", HEIGHT - y);
    }
    plot(
        "Commands that had ended, over time",
        &format!(r#"<path class="curve" d="{path}"/>"#),
    )
}

/// How many outcomes a second there were when, failures at the bottom. `top`: the fastest.
pub fn pace(series: &Series, top: f64) -> String {
    let step = WIDTH / series.buckets.len().max(1) as f64;
    let mut bars = String::new();
    for (n, bucket) in series.buckets.iter().enumerate() {
        let per_second = |count: u64| count as f64 / series.bucket_seconds as f64;
        let all = height(per_second(bucket.ended), top);
        let failed = height(per_second(bucket.failed), top);
        let (x, width) = (n as f64 * step, step * 0.9);
        for (class, above, high) in [("bad", failed, failed), ("ok", all, all - failed)] {
            if high > 0.0 {
                let y = HEIGHT - above;
                let _infallible = write!(
                    bars,
                    r#"<rect class="{class}" x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{high:.2}"/>"#
                );
            }
        }
    }
    plot("Outcomes a second, over time, failures at the bottom", &bars)
}

/// The fastest pace of a bucket.
pub fn top(series: &Series) -> f64 {
    let per_second = |bucket: &Bucket| bucket.ended as f64 / series.bucket_seconds as f64;
    series.buckets.iter().map(per_second).fold(0.0, f64::max)
}

fn height(value: f64, top: f64) -> f64 {
    if top <= 0.0 {
        return 0.0;
    }
    (value / top).min(1.0) * HEIGHT
}
