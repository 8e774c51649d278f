//! How far the outcome log is read, in offsets. Plain data.

use crate::broker::Extent;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) extent: Extent,
    /// The next offset of the end.
    pub(super) next: i64,
    /// The last message that was there at the start, or one of its chunk; `None`: it was read.
    pub(super) present: Option<i64>,
    /// `None`: the older part was read.
    pub(super) earlier: Option<Earlier>,
}

/// The older part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Earlier {
    /// The next offset; `None`: start at the extent's time.
    pub(super) next: Option<i64>,
    /// Where the end begins.
    pub(super) end: i64,
    /// No message before this one is wanted.
    pub(super) start: i64,
}

impl Place {
    /// The initial place. `first`: the first message since the extent's time, if known; `last`: the log's last message.
    pub(super) fn new(extent: Extent, first: Option<i64>, last: i64) -> Self {
        let back = |messages: usize| {
            let messages = i64::try_from(messages).unwrap_or(i64::MAX);
            last.saturating_sub(messages).saturating_add(1).max(0)
        };
        let end = first.map_or(last, |first| back(extent.end_max).max(first).min(last));
        Self {
            extent,
            next: end,
            present: Some(last),
            earlier: Some(Earlier {
                // If the end begins with the first message, the older part is empty.
                next: first.filter(|first| *first >= end),
                end,
                start: back(extent.messages_max),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn place(first: Option<i64>, last: i64) -> (i64, Earlier) {
        let extent = Extent {
            since: Timestamp::UNIX_EPOCH,
            messages_max: 100,
            end_max: 10,
        };
        let place = Place::new(extent, first, last);
        assert_eq!(place.present, Some(last));
        (place.next, place.earlier.unwrap())
    }

    #[test]
    fn the_end_of_the_log_is_read_first_and_within_the_extent() {
        let earlier = |next, end, start| Earlier { next, end, start };
        assert_eq!(place(Some(0), 999), (990, earlier(None, 990, 900)));
        assert_eq!(place(Some(995), 999), (995, earlier(Some(995), 995, 900)));
        assert_eq!(place(Some(0), 4), (0, earlier(Some(0), 0, 0)));
        // The first was stored after the last was asked for.
        assert_eq!(place(Some(1000), 999), (999, earlier(Some(1000), 999, 900)));
    }

    #[test]
    fn without_a_known_first_offset_the_last_event_is_the_end() {
        let (next, earlier) = place(None, 999);
        assert_eq!((next, earlier.next, earlier.end), (999, None, 999));
    }
}
