//! What `usher check` finds at the broker.

use usher::broker::amqp::{self, Surveyed};
use usher::config::Config;

use super::Finding;
use crate::cli::exit::{self, Exit};

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let surveyed = match amqp::survey(&config.broker).await {
        Ok(surveyed) => surveyed,
        Err(error) => return vec![Finding::new("broker", exit::of_broker(&error), error.to_string())],
    };
    let reached = surveyed.iter().any(|one| one.answer.is_ok());
    let mut findings: Vec<_> = surveyed.iter().map(|one| address(one, reached)).collect();
    if reached {
        findings.push(topology(config).await);
    }
    findings
}

fn address(surveyed: &Surveyed, another: bool) -> Finding {
    let url = &surveyed.url;
    match &surveyed.answer {
        Ok(()) => Finding::ok("broker", format!("{url} accepts the worker")),
        Err(error) if another && error.is_out_of_reach() => Finding::warning(
            "broker",
            format!("{url}: {error}; the worker goes to another address"),
        ),
        Err(error) => Finding::new("broker", exit::of_broker(error), format!("{url}: {error}")),
    }
}

async fn topology(config: &Config) -> Finding {
    let plan = match amqp::plan(&config.broker, config.provider.name.as_str()).await {
        Ok(plan) => plan,
        Err(error) => return Finding::new("topology", exit::of_broker(&error), error.to_string()),
    };
    let table = crate::cli::topology::table(&plan);
    let unsettled: Vec<_> = table.lines().filter(|line| !line.ends_with("present")).collect();
    match (plan.is_settled(), plan.differs()) {
        (true, _) => Finding::ok("topology", "is as configured"),
        (false, true) => Finding::new("topology", Exit::Usage, unsettled.join("; ")),
        (false, false) => {
            let missing = unsettled.len();
            Finding::ok(
                "topology",
                format!("{missing} objects are missing; `usher run` declares them"),
            )
        }
    }
}
