//! One call from start to end: counted, logged, and checked for overlaps.

use std::mem;
use std::sync::Arc;

use axum::http::request::Parts;
use tokio::time::Instant;

use super::{World, bearer};
use crate::provider::shape::{Op, Target};
use crate::simulator::calls::{Call, CallEnd, Trouble};
use crate::simulator::headers::Header;
use crate::simulator::quota::Quota;

/// One call from start to end. A call whose client has gone ends as dropped.
pub(in crate::simulator) struct RunningCall {
    world: Arc<World>,
    seq: u64,
    user: String,
    headers: Vec<Header>,
    end: CallEnd,
    pub(in crate::simulator) applied: bool,
}

impl RunningCall {
    pub(in crate::simulator) fn begin(
        world: &Arc<World>,
        target: &Target<'_>,
        parts: &Parts,
        body: &[u8],
    ) -> (Self, Option<Trouble>) {
        let user = String::from(&*target.user_id);
        let mut state = world.state();
        // One instant for the log and the quota, so that counting the logged calls of a window gives what the quota
        // counted.
        let now = Instant::now();
        let seq = state.next_seq;
        state.next_seq += 1;
        state.summary.calls += 1;
        match target.op {
            Op::Read => state.summary.reads += 1,
            Op::Write => state.summary.writes += 1,
            Op::Token => state.summary.token_requests += 1,
            Op::Search => state.summary.searches += 1,
        }
        let running = state.in_flight.entry(user.clone()).or_default();
        *running += 1;
        if *running > 1 && target.op != Op::Search {
            state.summary.overlapping += 1;
        }
        if state.calls.len() >= world.calls_max {
            state.calls.pop_front();
        }
        let trouble = state.trouble(now);
        state.calls.push_back(Call {
            seq,
            at: now - world.started_at,
            ended: None,
            method: parts.method.clone(),
            user: user.clone(),
            op: target.op,
            end: CallEnd::Pending,
            applied: false,
            trouble,
            token: bearer(&parts.headers).into(),
            body: match target.op {
                Op::Token => Box::default(),
                Op::Read | Op::Write | Op::Search => body.into(),
            },
        });
        let quota = state.quota.as_mut().map(Quota::state);
        drop(state);
        let call = Self {
            world: Arc::clone(world),
            seq,
            user,
            headers: world.quota_headers.headers(quota, seq),
            end: CallEnd::Dropped,
            applied: false,
        };
        (call, trouble)
    }

    /// The quota headers, with this call counted.
    pub(in crate::simulator) fn take_headers(&mut self) -> Vec<Header> {
        mem::take(&mut self.headers)
    }

    pub(in crate::simulator) fn answered(mut self, status: u16) {
        self.end = CallEnd::Answered(status);
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let ended = Instant::now() - self.world.started_at;
        if let Some(running) = state.in_flight.get_mut(&self.user) {
            *running -= 1;
            if *running == 0 {
                state.in_flight.remove(&self.user);
            }
        }
        match self.end {
            CallEnd::Answered(status) => *state.summary.statuses.entry(status).or_default() += 1,
            CallEnd::Dropped | CallEnd::Pending => state.summary.dropped += 1,
        }
        state.summary.applied += u64::from(self.applied);
        let first = state.calls.front().map_or(0, |call| call.seq);
        let index = self
            .seq
            .checked_sub(first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(call) = index.and_then(|index| state.calls.get_mut(index)) {
            call.end = self.end;
            call.ended = Some(ended);
            call.applied = self.applied;
        }
    }
}
