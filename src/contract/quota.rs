//! What a provider's answer says about its quota. It is a hint: the quota may be shared with other clients, and headers
//! may be wrong.

use std::time::Duration;

/// Read from the headers of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitHint {
    /// The calls allowed in each window, and the window's length.
    pub limit: Option<(u64, Duration)>,
    /// Calls that remain in the current window.
    pub remaining: Option<u64>,
    /// The time until the current window ends.
    pub reset: Option<Duration>,
}
