//! A batch as one page to read, keep and print. It needs no other file and no network, runs nothing, and holds neither values
//! nor ids of users.

use std::fmt::Write as _;

use jiff::Timestamp;
use usher::contract::Reason;
use usher::operations::batch::{Series, Status, Verified};

use super::account::progress;
use super::{chart, verify};

const STYLE: &str = include_str!("report.css");

/// What the page may load: its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub fn page(status: &Status, series: Option<&Series>, verified: Option<&Verified>) -> String {
    let title = format!("Batch {} of {}", status.batch_id, status.provider);
    let title = escaped(&title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}<main>\n<h1>{title}</h1>\n",
        chart::PATTERNS
    );
    head(&mut page, status);
    totals(&mut page, status);
    if let Some(series) = series {
        over_time(&mut page, status, series);
    }
    failures(&mut page, status);
    if let Some(verified) = verified {
        page.push_str(&verify::section(verified));
    }
    let _infallible = write!(
        page,
        "<h2>About this page</h2>\n<p class=\"soft\">Written at {} by usher {}, from the audit log and the outcome log. A \
         command that was sent again counts by its last outcome. Times are in UTC.</p>\n</main>\n</body>\n</html>\n",
        time(status.at),
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn head(page: &mut String, status: &Status) {
    let said = match (status.done, status.opened_at, status.closed_at) {
        (true, _, Some(at)) => format!("All published at {}, and all ended.", time(at)),
        (false, _, Some(at)) => format!("All published at {}; not all have ended.", time(at)),
        (_, Some(at), None) => format!("Open since {}.", time(at)),
        _ => "Never opened.".to_owned(),
    };
    let _infallible = writeln!(page, "<p>{said}</p>\n<p>{}.</p>", escaped(&progress(status)));
    let mut notes: Vec<String> = Vec::new();
    if status.cancelled {
        notes.push("It is cancelled: commands that have made no call end as failures.".into());
    }
    notes.extend(status.held.iter().map(|held| format!("Paused: {held}")));
    notes.extend(status.missing.iter().map(|missing| format!("Missing: {missing}")));
    if !notes.is_empty() {
        page.push_str("<div class=\"notes\">\n");
        for note in notes {
            let _infallible = writeln!(page, "<p>{}</p>", escaped(&note));
        }
        page.push_str("</div>\n");
    }
}

fn totals(page: &mut String, status: &Status) {
    let account = &status.account;
    let _infallible = writeln!(
        page,
        "<h2>Totals</h2>\n{}\n<table>\n<tr><th>commands</th><th class=\"n\">number</th></tr>",
        chart::bar(account)
    );
    for (class, what, count) in chart::parts(account) {
        let _infallible = writeln!(
            page,
            "<tr><td>{}{what}</td><td class=\"n\">{count}</td></tr>",
            chart::key(class)
        );
    }
    let published = account
        .published
        .map_or("not known".to_owned(), |published| published.to_string());
    let _infallible = writeln!(
        page,
        "<tr class=\"sum\"><td>published</td><td class=\"n\">{published}</td></tr>\n</table>"
    );
    if let Some(ids) = &status.ids {
        let _infallible = writeln!(
            page,
            "<p class=\"soft\">Digest of the ids of the published commands: {}</p>",
            escaped(ids)
        );
    }
}

fn over_time(page: &mut String, status: &Status, series: &Series) {
    let ended = status.account.counts.ended();
    let all = status.account.published.unwrap_or(ended).max(ended);
    let ends = format!(
        "<p class=\"ends\"><span>{}</span><span>{}</span></p>",
        time(series.from()),
        time(series.until())
    );
    let top = chart::top(series);
    let each = match series.bucket_seconds {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    };
    let _infallible = writeln!(
        page,
        "<h2>Progress</h2>\n<figure>\n<figcaption>Commands that had ended; the top is {all}.</figcaption>\n{}\n{ends}\n\
         </figure>\n<h2>Pace</h2>\n<figure>\n<figcaption>Outcomes a second, each bar is {each}; the top is {top:.1}/s. Failures \
         are crossed, at the bottom.</figcaption>\n{}\n{ends}\n</figure>",
        chart::progress(series, all),
        chart::pace(series, top)
    );
}

fn failures(page: &mut String, status: &Status) {
    page.push_str("<h2>Failures</h2>\n");
    let reasons = &status.account.counts.reasons;
    if reasons.is_empty() {
        page.push_str("<p>None.</p>\n");
        return;
    }
    page.push_str("<table>\n<tr><th>reason</th><th class=\"n\">number</th><th>what to do</th></tr>\n");
    for (reason, count) in reasons {
        let _infallible = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{count}</td><td>{}</td></tr>",
            // It may be broken there on a narrow page.
            reason.as_str().replace('_', "_<wbr>"),
            escaped(Reason::remedy(*reason)).replace('`', "")
        );
    }
    page.push_str(
        "</table>\n<p class=\"soft\">\u{201c}usher dead-letters list\u{201d} tells more of them.</p>\n",
    );
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The text as it stands in an element or an attribute in double quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_t_end_its_place_in_the_page() {
        let text = "</title><script>\"x'&\n";
        let expected = "&lt;/title&gt;&lt;script&gt;&quot;x&#39;&amp;\u{fffd}";
        assert_eq!(escaped(text), expected);
    }
}
