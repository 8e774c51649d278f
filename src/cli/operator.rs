//! What operators' verbs share: whose workers, who asks, and the connections.

use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::time::Instant;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::{self, Inspector, Publisher, Topology};
use usher::contract::ProviderName;
use usher::operations::steering::{self, Steering, SteeringError};

use super::exit::{self, Exit};
use super::say::is_verbose;
use super::{Context, detail, told};

/// Which provider's workers.
#[derive(Clone, clap::Args)]
pub struct Scope {
    /// The provider's name. Default: provider.name of the configuration
    #[arg(long, value_name = "NAME")]
    pub provider: Option<ProviderName>,
}

/// Who asks.
#[derive(clap::Args)]
pub struct By {
    /// Your name, for those who look later. Default: USER or LOGNAME of the environment
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// The connections to the broker.
pub struct Operator {
    pub provider: ProviderName,
    pub config: broker::Config,
    pub inspector: Arc<dyn Inspector>,
    pub publisher: Arc<dyn Publisher>,
}

impl Operator {
    pub async fn connect(context: &Context, scope: Scope) -> anyhow::Result<Self> {
        let (config, configured) = context.names()?;
        let provider = scope.provider.or(configured).ok_or_else(|| {
            exit::usage("which provider? Name it with --provider NAME, or configure provider.name")
        })?;
        let inspector = inspector(&config).await?;
        let publisher = publisher(&config).await?;
        Ok(Self {
            provider,
            config,
            inspector,
            publisher,
        })
    }

    /// How many partitions the broker has, whatever is configured here.
    pub async fn partitions(&self) -> anyhow::Result<NonZeroU16> {
        let topology = Topology::new(self.provider.as_str(), &self.config);
        let mut count = 0;
        while count < u16::MAX {
            let depth = self.inspector.depth(&topology.partition_queue(count)).await;
            if depth.map_err(|error| refused(error.into()))?.is_none() {
                break;
            }
            count += 1;
        }
        NonZeroU16::new(count).ok_or_else(|| {
            exit::usage(format_args!(
                "the broker has no queue {}: check the provider's name, or run `usher topology declare`",
                topology.partition_queue(0)
            ))
        })
    }

    pub fn steering(&self) -> Steering {
        Steering::new(self.inspector.clone(), self.publisher.clone(), &self.provider)
    }

    pub async fn close(&self) {
        self.publisher.close().await;
        self.inspector.close().await;
    }
}

/// A connection that only looks.
pub async fn inspector(config: &broker::Config) -> anyhow::Result<Arc<dyn Inspector>> {
    let begun = Instant::now();
    let inspector = amqp::inspector(config).await;
    let inspector: Arc<dyn Inspector> = inspector.map_err(|error| exit::broker(&error))?;
    detail(|| format!("connected to {} to read{}", config.url, told::after(begun)));
    Ok(match is_verbose() {
        true => Arc::new(told::Reading(inspector)),
        false => inspector,
    })
}

/// A connection that only publishes.
pub async fn publisher(config: &broker::Config) -> anyhow::Result<Arc<dyn Publisher>> {
    let begun = Instant::now();
    let publisher = amqp::publisher(config, WhenUnreachable::Fail).await;
    let publisher: Arc<dyn Publisher> = publisher.map_err(|error| exit::broker(&error))?;
    detail(|| format!("connected to {} to publish{}", config.url, told::after(begun)));
    Ok(match is_verbose() {
        true => Arc::new(told::Publishing::new(publisher)),
        false => publisher,
    })
}

impl By {
    pub fn name(&self) -> anyhow::Result<String> {
        let name = self.known()?;
        name.ok_or_else(|| exit::usage("who are you? Say it with --by NAME: it is written down"))
    }

    /// For what may be done by a program that has no login.
    pub fn name_or_unknown(&self) -> anyhow::Result<String> {
        Ok(self.known()?.unwrap_or_else(|| "unknown".to_owned()))
    }

    fn known(&self) -> anyhow::Result<Option<String>> {
        let login = || {
            ["USER", "LOGNAME"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok())
        };
        let name = self.by.clone().or_else(login);
        name.map(|name| steering::text("--by", &name).map_err(refused))
            .transpose()
    }
}

pub fn refused(error: SteeringError) -> anyhow::Error {
    let exit = match error.is_out_of_reach() {
        true => Exit::OutOfReach,
        false => Exit::Usage,
    };
    exit::with(exit, error)
}
