//! What a check found, how it is printed, and the exit code that follows.

use serde::Serialize;
use usher::operations::findings::{Number, Severity};

use crate::cli::counted;
use crate::cli::exit::Exit;
use crate::cli::style;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    /// `None`: it is fine.
    pub(super) number: Option<Number>,
    pub(super) what: &'static str,
    /// False only if it is wrong.
    ok: bool,
    level: Level,
    pub(super) detail: String,
    fix: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It was found and is mended now.
    Fixed,
    Advice,
    /// It works now, but may not always.
    Warning,
    Wrong,
}

impl Finding {
    pub(super) fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            number: None,
            what,
            ok: true,
            level: Level::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    pub(super) fn of(number: Number, what: &'static str, detail: impl Into<String>) -> Self {
        let about = number.about();
        let level = match about.severity {
            Severity::Advice => Level::Advice,
            Severity::Warning => Level::Warning,
            Severity::Wrong | Severity::OutOfReach => Level::Wrong,
        };
        Self {
            number: Some(number),
            ok: level != Level::Wrong,
            level,
            fix: Some(about.fix),
            ..Self::ok(what, detail)
        }
    }

    /// `detail` says what was done.
    pub(super) fn fixed(number: Number, what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            level: Level::Fixed,
            ok: true,
            fix: None,
            ..Self::of(number, what, detail)
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }

    /// Whether something is left to mend or to know.
    fn is_open(&self) -> bool {
        !matches!(self.level, Level::Ok | Level::Fixed)
    }

    fn severity(&self) -> Option<Severity> {
        let number = self.number.filter(|_| self.is_open());
        number.map(|number| number.about().severity)
    }
}

/// Nothing is told twice: what the worker of this machine says may be known from the fleet or from the orders.
pub(super) fn once(findings: Vec<Finding>) -> Vec<Finding> {
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let is_known = |known: &Finding| {
            let says_why = finding.number.is_some_and(|number| number != Number::NotChecked);
            let is_the_workers = finding.what == "worker" && says_why;
            known == &finding || is_the_workers && known.number == finding.number
        };
        if !kept.iter().any(is_known) {
            kept.push(finding);
        }
    }
    kept
}

/// The worst one decides.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    let codes = findings.iter().filter_map(Finding::severity);
    match codes.map(Severity::exit_code).max() {
        None | Some(0) => Exit::Done,
        Some(4) => Exit::OutOfReach,
        Some(_) => Exit::Usage,
    }
}

pub(super) fn print(findings: &[Finding], all: bool, json: bool) -> anyhow::Result<()> {
    crate::cli::print(&match json {
        true => format!("{}\n", serde_json::to_string_pretty(findings)?),
        false => text(findings, all),
    })
}

fn text(findings: &[Finding], all: bool) -> String {
    let listed = findings
        .iter()
        .filter(|finding| all || finding.level != Level::Ok);
    let mut text: String = listed.map(line).collect();
    let open = findings.iter().filter(|finding| finding.is_open()).count();
    let checks = counted(findings.len() as u64, "check");
    text.push_str(&match open {
        0 => format!("{checks}, nothing to mend\n"),
        open => format!("{checks}, {}\n", counted(open as u64, "finding")),
    });
    text
}

fn line(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Ok => "ok",
        Level::Fixed => "FIXED",
        Level::Advice => "NOTE",
        Level::Warning => "WARN",
        Level::Wrong => "WRONG",
    };
    let number = finding.number.map_or(String::new(), |number| number.to_string());
    let mark = format!("{mark:<5}");
    let mark = match finding.level {
        Level::Ok | Level::Fixed => style::good(&mark),
        Level::Advice => mark,
        Level::Warning => style::doubtful(&mark),
        Level::Wrong => style::bad(&mark),
    };
    let mut line = format!("{mark}  {number:<4}  {:<13}  {}\n", finding.what, finding.detail);
    if let Some(fix) = finding.fix {
        line.push_str(&format!("{:28}fix: {fix}\n", ""));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[Number]) -> Vec<Finding> {
        let each = numbers.iter().map(|number| Finding::of(*number, "x", "is so"));
        [Finding::ok("y", "is fine")].into_iter().chain(each).collect()
    }

    #[test]
    fn only_what_differs_is_listed_unless_all_is_asked_for() {
        assert_eq!(text(&found(&[]), false), "1 check, nothing to mend\n");
        let one = text(&found(&[Number::OrderedPace]), false);
        assert!(one.starts_with("NOTE   U025  x "), "{one}");
        assert!(one.contains("fix: `usher pace unpin`"), "{one}");
        assert!(
            one.ends_with("\n2 checks, 1 finding\n") && !one.contains("is fine"),
            "{one}"
        );
        assert!(text(&found(&[]), true).starts_with("ok           y "));
        let mended = [Finding::fixed(Number::TopologyMissing, "x", "declared")];
        let mended = text(&mended, false);
        assert!(mended.starts_with("FIXED  U013  x "), "{mended}");
        assert!(mended.ends_with("1 check, nothing to mend\n"), "{mended}");
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        assert_eq!(exit(&found(&[])), Exit::Done);
        assert_eq!(exit(&found(&[Number::OrderedPace, Number::Stalled])), Exit::Done);
        assert_eq!(
            exit(&found(&[Number::Stalled, Number::TopologyDiffers])),
            Exit::Usage
        );
        let both = [Number::BrokerUnreachable, Number::Credentials];
        assert_eq!(exit(&found(&both)), Exit::OutOfReach);
        assert_eq!(
            exit(&[Finding::fixed(Number::Configuration, "x", "")]),
            Exit::Done
        );
    }

    #[test]
    fn each_level_is_what_the_list_of_numbers_says() {
        for number in Number::ALL {
            let written = serde_json::to_value(Finding::of(number, "x", "")).unwrap();
            assert_eq!(written["level"], number.about().severity.level(), "{number}");
            assert_eq!(written["number"], number.to_string());
            assert_eq!(
                written["ok"],
                number.about().severity.exit_code() == 0,
                "{number}"
            );
        }
    }

    #[test]
    fn what_the_worker_says_is_told_once() {
        let orders = Finding::of(Number::OrderedPause, "orders", "by alex");
        let worker = Finding::of(Number::OrderedPause, "worker", "operator");
        let kept = once(vec![
            orders.clone(),
            worker,
            Finding::ok("x", ""),
            Finding::ok("x", ""),
        ]);
        assert_eq!(kept, [orders, Finding::ok("x", "")]);
        let unknown = |what| Finding::of(Number::NotChecked, what, "");
        assert_eq!(once(vec![unknown("fleet"), unknown("worker")]).len(), 2);
    }
}
