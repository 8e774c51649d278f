//! Injects a broker's faults on demand.

use std::time::Duration;

use super::MemoryBroker;
use super::state::Faults;

impl MemoryBroker {
    /// Every connection is lost and restored at once: unsettled deliveries turn stale and are
    /// redelivered in order, outstanding confirms are lost.
    pub fn drop_connection(&self) {
        self.disconnect("the connection was dropped");
        self.reconnect();
    }

    /// Every connection is lost and can't be restored until `reconnect`.
    pub fn disconnect(&self, reason: &str) {
        {
            let mut state = self.shared.state();
            state.end_leases();
            state.requeue_broker_dead_letters();
            state.faults.connection += 1;
            state.faults.down = Some(reason.to_owned());
        }
        self.notify();
    }

    pub fn reconnect(&self) {
        self.change(|faults| faults.down = None);
        self.shared.state().grant();
        self.notify();
    }

    /// The broker ends the consumers that hold leases: their deliveries turn stale, and the next claimants
    /// take over.
    pub fn end_consumer(&self) {
        {
            let mut state = self.shared.state();
            state.end_leases();
            state.grant();
        }
        self.notify();
    }

    /// Delays confirms by this much after the message is taken.
    pub fn delay_confirms(&self, delay: Duration) {
        self.change(|faults| faults.confirm_delay = delay);
    }

    /// Holds all confirms until released; publishes run into their time-out.
    pub fn hold_confirms(&self, held: bool) {
        self.change(|faults| faults.confirms_held = held);
    }

    /// The outcome log delivers nothing until released.
    pub fn hold_log(&self, held: bool) {
        self.change(|faults| faults.log_held = held);
    }

    /// The outcome log's older part delivers nothing until released.
    pub fn hold_earlier(&self, held: bool) {
        self.change(|faults| faults.earlier_held = held);
    }

    /// Refuses read access to the outcome log.
    pub fn refuse_log(&self, refused: bool) {
        let trouble = refused.then(|| "read access to the outcome log refused".to_owned());
        self.shared.log_trouble.send_replace(trouble);
        self.change(|faults| faults.log_refused = refused);
    }

    /// Whether a message whose confirm is lost or late is lost too. Otherwise the broker has it.
    pub fn lose_unconfirmed(&self, lost: bool) {
        self.change(|faults| faults.taken_on_confirm = lost);
    }

    /// Refuses this many of the next publishes.
    pub fn nack_next(&self, count: usize) {
        self.change(|faults| faults.nacks = count);
    }

    /// An alarm: publishes wait, deliveries and acks continue.
    pub fn block(&self, reason: &str) {
        self.change(|faults| faults.blocked = Some(reason.to_owned()));
    }

    pub fn unblock(&self) {
        self.change(|faults| faults.blocked = None);
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.state().faults);
        self.notify();
    }

    fn notify(&self) {
        let (consuming, publishing) = {
            let state = self.shared.state();
            (state.faults.consume_link(), state.faults.publish_link())
        };
        let changed = |link: &mut _, now| std::mem::replace(link, now) != *link;
        self.shared
            .consume_link
            .send_if_modified(|link| changed(link, consuming));
        self.shared
            .publish_link
            .send_if_modified(|link| changed(link, publishing));
        self.shared.deliverable.notify_waiters();
        self.shared.publishable.notify_waiters();
    }
}
