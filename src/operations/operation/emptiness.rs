//! Whether an operation's queue is empty. The broker's count of a queue is no proof: where a queue is slow to answer, the
//! count is zero. So a mark is published behind everything; when it arrives first, nothing is before it.

use bytes::Bytes;
use uuid::Uuid;

use super::{Access, OperationError};
use crate::broker::topology::operation_queue;
use crate::broker::{Message, Properties};

/// The AMQP type of a mark. An interrupted process may leave one.
const MARK: &str = "usher-end";

pub(super) fn is_mark(properties: &Properties) -> bool {
    properties.message_type() == Some(MARK)
}

/// True only if nothing but marks is in the queue, or there is no such queue.
pub(super) async fn is_empty(access: &Access, id: Uuid) -> Result<bool, OperationError> {
    let queue = operation_queue(&id);
    if access.inspector.depth(&queue).await?.is_none() {
        return Ok(true);
    }
    let mark = Uuid::new_v4().to_string();
    let message = Message {
        exchange: String::new(),
        routing_key: queue.clone(),
        properties: Properties::persistent(&mark, "text/plain").with_message_type(MARK),
        body: Bytes::new(),
        mandatory: true,
    };
    access.publisher.publish(&message).await?;
    let mut holder = access.inspector.hold(&queue).await?;
    let mut is_empty = None;
    while is_empty.is_none()
        && let Some(delivery) = holder.next().await?
    {
        if !is_mark(&delivery.properties) {
            is_empty = Some(false);
            break;
        }
        if delivery.properties.message_id() == Some(&mark) {
            is_empty = Some(true);
        }
        delivery.ack().await.map_err(|_| OperationError::Stale)?;
    }
    holder.release().await;
    // A mark that does not arrive proves nothing.
    Ok(is_empty == Some(true))
}
