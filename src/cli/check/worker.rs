//! What the worker on this machine says of itself.

use usher::admin::{self, Reported};
use usher::config;
use usher::operations::findings::Number;

use super::report::Finding;

const WHAT: &str = "worker";

pub(super) async fn look(config: &config::Admin) -> Option<Finding> {
    let at = config.listen;
    // Such a worker chose a port that only its log names.
    if at.port() == 0 {
        return None;
    }
    Some(match admin::readiness_of(at).await {
        Ok(Some(reported)) => of(&reported, &at.to_string()),
        Ok(None) => Finding::ok(WHAT, format!("none answers at {at}")),
        Err(error) => Finding::of(
            Number::NotChecked,
            WHAT,
            format!("what answers at admin.listen {at} could not be asked for /readyz: {error}"),
        ),
    })
}

fn of(reported: &Reported, at: &str) -> Finding {
    let Reported { ready, state, detail } = reported;
    let detail = detail
        .as_ref()
        .map_or(String::new(), |detail| format!(": {detail}"));
    // The worker writes the text, or whatever else listens there.
    let said = crate::cli::printable(&format!("at {at}: {state}{detail}"));
    match number(state).filter(|_| !ready) {
        Some(number) => Finding::of(number, WHAT, said),
        None => Finding::ok(WHAT, said),
    }
}

/// What it means that a worker does not make progress for this cause. `None`: it is about to, or was asked to stop.
pub(super) fn number(state: &str) -> Option<Number> {
    Some(match state {
        "outage" | "credentials" | "configuration" | "worker" | "throttled" => Number::CallsPaused,
        "operator" => Number::OrderedPause,
        "dead_letters" => Number::GuardShut,
        "stalled" => Number::Stalled,
        "window_full" => Number::WindowFull,
        "broker" | "fleet" | "outcome_log" | "holder_unknown" => Number::WorkerCutOff,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ready: bool, state: &str) -> Finding {
        let reported = Reported {
            ready,
            state: state.to_owned(),
            detail: Some("since noon\u{1b}[2J".to_owned()),
        };
        of(&reported, "127.0.0.1:9464")
    }

    #[test]
    fn each_standstill_has_its_number() {
        for (state, number) in [
            ("outage", Number::CallsPaused),
            ("credentials", Number::CallsPaused),
            ("operator", Number::OrderedPause),
            ("dead_letters", Number::GuardShut),
            ("stalled", Number::Stalled),
            ("window_full", Number::WindowFull),
            ("broker", Number::WorkerCutOff),
            ("holder_unknown", Number::WorkerCutOff),
        ] {
            let found = said(false, state);
            assert_eq!(found.number, Some(number), "{state}");
            assert_eq!(
                found.detail,
                format!("at 127.0.0.1:9464: {state}: since noon\u{fffd}[2J")
            );
        }
        for (ready, state) in [
            (true, "throttled"),
            (true, "idle"),
            (false, "starting"),
            (false, "draining"),
        ] {
            assert_eq!(said(ready, state).number, None, "{state}");
        }
    }
}
