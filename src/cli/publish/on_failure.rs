//! What a failure in the batch means for the user's later commands: an order to the workers, given before the first command.

use usher::contract::ProviderName;
use usher::operations::steering::{self, Steering};

use super::Publishing;
use super::args::OnFailure;
use crate::cli::operator::{inspector, publisher, refused};
use crate::cli::times;

pub async fn order(publishing: &Publishing<'_>, provider: &ProviderName) -> anyhow::Result<()> {
    let args = publishing.args;
    let Some((on_failure, batch)) = args.on_failure.zip(args.batch.as_ref()) else {
        return Ok(());
    };
    let (by, since) = (args.by.name()?, times::now());
    let inspector = inspector(publishing.config).await?;
    let publisher = publisher(publishing.config).await?;
    let steering = Steering::new(inspector.clone(), publisher.clone(), provider);
    let ordered = steering.change(|orders| match on_failure {
        OnFailure::Hold => steering::hold(orders, batch, (&by, since)),
        OnFailure::Continue => steering::unhold(orders, batch),
    });
    let ordered = ordered.await;
    publisher.close().await;
    inspector.close().await;
    ordered.map(drop).map_err(refused)
}
