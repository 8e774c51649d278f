//! The batches that the audit log knows, or that are under orders.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use super::{Announced, READ_WITHIN};
use crate::broker::topology::AUDIT_LOG;
use crate::broker::{InspectError, Inspector};
use crate::contract::lifecycle::{LifecycleBody, LifecycleEvent};
use crate::contract::orders::BatchOrder;
use crate::contract::{BatchId, Orders, ProviderName};
use crate::operations::stream::read_to_present;

/// The latest batches that are listed.
const LISTED_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub batch_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    pub closed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    pub files: usize,
    /// How many commands it has, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<u64>,
    /// What operators ordered for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<BatchOrder>,
}

/// The provider's latest batches, the earliest first; those of which only the orders know come last.
pub async fn list(
    inspector: &dyn Inspector,
    provider: &ProviderName,
    orders: &Orders,
) -> Result<Vec<Listed>, InspectError> {
    let source = format!("/usher/{provider}");
    let mut known: HashMap<BatchId, Announced> = HashMap::new();
    let mut order: VecDeque<BatchId> = VecDeque::new();
    let mut reader = inspector.read(AUDIT_LOG, None).await?;
    read_to_present(&mut *reader, READ_WITHIN, |message| {
        if !message.routing_key.starts_with("batch.") {
            return;
        }
        let Ok(event) = serde_json::from_slice::<LifecycleEvent>(&message.body) else {
            return;
        };
        let batch = match &event.body {
            LifecycleBody::BatchOpened(opened) => &opened.batch_id,
            LifecycleBody::BatchClosed(closed) => &closed.batch_id,
            _ => return,
        };
        if event.source != source {
            return;
        }
        if !known.contains_key(batch) {
            order.push_back(batch.clone());
            if order.len() > LISTED_MAX
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
        known.entry(batch.clone()).or_default().take(&event);
    })
    .await?;
    let mut under_orders: BTreeMap<_, _> = orders.batches.clone();
    let mut listed: Vec<_> = order
        .iter()
        .filter_map(|batch| {
            let announced = known.get(batch)?;
            Some(Listed {
                batch_id: batch.as_str().to_owned(),
                opened_at: announced.opened_at(),
                closed: announced.is_closed(),
                closed_at: announced.closed_at(),
                files: announced.files(),
                commands: announced.commands(),
                order: under_orders.remove(batch.as_str()),
            })
        })
        .collect();
    listed.extend(under_orders.into_iter().map(|(batch_id, order)| Listed {
        batch_id,
        opened_at: None,
        closed: false,
        closed_at: None,
        files: 0,
        commands: None,
        order: Some(order),
    }));
    Ok(listed)
}
