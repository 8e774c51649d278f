//! What a provider's answer tells of its quota. It is evidence, not truth: the quota may be shared with
//! others, and headers may be wrong.

use std::time::Duration;

/// Read from the headers of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitHint {
    /// So many calls in each window of this length.
    pub limit: Option<(u64, Duration)>,
    /// Calls that are left in the present window.
    pub remaining: Option<u64>,
    /// When the present window ends, from now.
    pub reset: Option<Duration>,
}
