//! The topology on the broker against the configuration, and what may be declared by `--fix`.

use usher::broker::Topology;
use usher::broker::amqp::{self, ConnectError, ObjectState, Plan};
use usher::broker::topology::UNROUTABLE;
use usher::config::Config;
use usher::operations::findings::Number;

use super::broker::number_of;
use super::fleet;
use super::report::Finding;
use crate::cli::counted;

const WHAT: &str = "topology";

pub(super) async fn look(config: &Config, fix: bool) -> Vec<Finding> {
    match compared(config, fix).await {
        Ok((plan, mut findings)) => {
            findings.extend(unroutable(config).await);
            if plan.is_settled() {
                findings.extend(fleet::look(config).await);
            }
            findings
        }
        Err(error) => vec![Finding::of(number_of(&error), WHAT, error.to_string())],
    }
}

/// The topology as it is now, and what was found or done.
async fn compared(config: &Config, fix: bool) -> Result<(Plan, Vec<Finding>), ConnectError> {
    let (mut plan, mut findings) = (plan(config).await?, Vec::new());
    if fix && may_be_declared(&plan, config) {
        amqp::declare(&config.broker, config.provider.name.as_str()).await?;
        let detail = format!("declared {}", missing(&plan).join(", "));
        findings.push(Finding::fixed(Number::TopologyMissing, WHAT, detail));
        plan = self::plan(config).await?;
    }
    findings.extend(compare(&plan, config));
    Ok((plan, findings))
}

async fn plan(config: &Config) -> Result<Plan, ConnectError> {
    amqp::plan(&config.broker, config.provider.name.as_str()).await
}

fn missing(plan: &Plan) -> Vec<&str> {
    let objects = plan.objects.iter();
    let missing = objects.filter(|planned| planned.state == ObjectState::Missing);
    missing.map(|planned| planned.object.as_str()).collect()
}

/// Only additions: nothing differs, and no workers of a version without leases are served by what is there.
fn may_be_declared(plan: &Plan, config: &Config) -> bool {
    !plan.is_settled() && !plan.differs() && !is_older(plan, config)
}

fn compare(plan: &Plan, config: &Config) -> Vec<Finding> {
    let missing = missing(plan);
    let mut findings = Vec::new();
    if plan.is_settled() {
        findings.push(Finding::ok(
            WHAT,
            "is as configured; policies can't be queried: check with `rabbitmqctl list_policies` that none changes \
             its queues",
        ));
    }
    if plan.differs() {
        let table = crate::cli::topology::table(plan);
        let unsettled: Vec<_> = table.lines().filter(|line| !line.ends_with("present")).collect();
        findings.push(Finding::of(Number::TopologyDiffers, WHAT, unsettled.join("; ")));
    } else if !missing.is_empty() && !is_older(plan, config) {
        let detail = match missing.len() {
            1 => format!("1 object is missing: {}", missing[0]),
            count => format!("{count} objects are missing: {}", missing.join(", ")),
        };
        findings.push(Finding::of(Number::TopologyMissing, WHAT, detail));
    }
    if is_older(plan, config) {
        findings.push(Finding::of(
            Number::OlderTopology,
            WHAT,
            "there are command queues but not all leases, as an earlier version left them",
        ));
    }
    findings
}

/// Messages that reached no queue. If they can't be counted, the topology's finding says why.
async fn unroutable(config: &Config) -> Option<Finding> {
    let messages = amqp::look(&config.broker, &[], false).await.ok()?.unroutable;
    Some(match messages {
        0 => Finding::ok("unroutable", format!("{UNROUTABLE} is empty")),
        messages => Finding::of(
            Number::Unroutable,
            "unroutable",
            format!("{UNROUTABLE} holds {}", counted(messages, "message")),
        ),
    })
}

/// Whether an earlier version without leases declared the topology.
fn is_older(plan: &Plan, config: &Config) -> bool {
    let topology = Topology::new(config.provider.name.as_str(), &config.broker);
    let missing = |object: String| {
        let mut objects = plan.objects.iter();
        objects.any(|planned| planned.object == object && planned.state == ObjectState::Missing)
    };
    // One of them may have been deleted while its workers run.
    let commands = topology
        .command_queues()
        .any(|(name, _)| !missing(format!("queue {name}")));
    let leases = (0..topology.partitions).any(|partition| {
        let lease = topology.lease_queue(partition);
        missing(format!("queue {lease}"))
    });
    commands && (leases || missing(format!("exchange {}", topology.fleet_exchange())))
}
