//! What a listener knows of the broker besides its messages, as of a few seconds ago.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::Link;

#[derive(Clone)]
pub struct ListenerStatus {
    /// The connection that receives notices.
    pub link: watch::Receiver<Link>,
    /// Why the outcome log can't be read, in the broker's words.
    pub log_trouble: watch::Receiver<Option<String>>,
    /// How many messages are in `user.unroutable`. `None`: not known, or no such queue.
    pub unroutable: watch::Receiver<Option<u64>>,
    pub ready: Ready,
}

/// How many commands of each partition are ready to be delivered. If there are fewer numbers than partitions, the rest
/// are not known.
pub type Ready = Arc<dyn Fn() -> Vec<u64> + Send + Sync>;

impl fmt::Debug for ListenerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerStatus")
            .field("link", &self.link)
            .field("log_trouble", &self.log_trouble)
            .finish_non_exhaustive()
    }
}
