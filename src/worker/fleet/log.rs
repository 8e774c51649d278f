//! Reads the outcome log as far back as a worker needs it: its end first, so that work can begin, and the older part
//! beside the work.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{AllProviders, Fleet, Read, lock};
use crate::broker::{Extent, FleetMessage, Listener, Message};
use crate::contract::inquiry::Inquiry;
use crate::worker::ledger::LogPart;
use crate::worker::lifecycle::Lifecycle;

/// Events from this long before following stopped are read again when it resumes: clocks differ, and so do the times
/// of publishing and of storing.
const OVERLAP: Duration = Duration::from_secs(60);

/// A fresh command waits no longer for a part of the log, since the part before it was read.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// The current reading of the log.
struct Following {
    listener: Box<dyn Listener>,
    /// `None`: the log is not followed.
    wanted: Option<Extent>,
    /// Whether the reading for the wanted extent has begun. Until then, messages belong to an earlier reading.
    begun: bool,
    /// When following last stopped.
    read_until: Timestamp,
}

impl Following {
    fn follow(&mut self, wanted: Option<Extent>) {
        self.wanted = wanted;
        self.begun = false;
        self.listener.follow(wanted);
    }
}

impl Fleet {
    /// Receives notices and the outcome log. Never ends.
    pub async fn listen(self: Arc<Self>, listener: Box<dyn Listener>) {
        let mut wanted = self.follow.subscribe();
        let mut all_providers = self.all_providers.subscribe();
        let window = self.window();
        self.ledger.reads_since(window);
        let mut following = Following {
            listener,
            wanted: None,
            begun: false,
            read_until: window,
        };
        self.read_from(&mut following, window);
        loop {
            tokio::select! {
                message = following.listener.next() => self.take_in(message, &mut following),
                _ = wanted.changed() => {
                    let follow = *wanted.borrow_and_update();
                    match (follow, following.wanted) {
                        (true, None) => {
                            let since = self.resumes(following.read_until);
                            self.read_from(&mut following, since);
                        }
                        // A reading that was restarted in between is finished first.
                        (false, Some(_)) if self.has_read_all() => {
                            following.read_until = self.clock.now();
                            following.follow(None);
                        }
                        (true, Some(_)) | (false, _) => {}
                    }
                }
                _ = all_providers.changed() => {
                    if *all_providers.borrow_and_update() == AllProviders::Asked {
                        let window = self.window();
                        self.read_from(&mut following, window);
                    }
                }
            }
        }
    }

    fn read_from(&self, following: &mut Following, since: Timestamp) {
        self.begins();
        let messages_max = self.ledger.events_max();
        following.follow(Some(Extent {
            since,
            // More than the ledger can hold is not needed.
            messages_max,
            end_max: self.settings.log_end_max.min(messages_max / 2).max(1),
        }));
    }

    fn begins(&self) {
        self.ledger.begins();
        self.reads(Read::Nothing);
    }

    fn take_in(&self, message: FleetMessage, following: &mut Following) {
        match message {
            FleetMessage::Notice(notice) => match Inquiry::read(&notice) {
                Some(inquiry) => self.inquiries.ask(inquiry),
                None => self.on_notice(&notice),
            },
            FleetMessage::OrdersBegin => self.orders.begins(),
            FleetMessage::Order(orders) => self.orders.read(&orders),
            FleetMessage::OrdersPresent => self.orders.present(),
            FleetMessage::BrokerDeadLetter(delivery) => self.on_broker_dead_letter(delivery),
            FleetMessage::Begins(wanted) => {
                following.begun = following.wanted == Some(wanted);
                if following.begun {
                    self.begins();
                    self.all_providers_become(AllProviders::Asked, AllProviders::Following);
                }
            }
            // It belongs to an earlier reading.
            _ if !following.begun => {}
            FleetMessage::Logged(message) => self.read(message, LogPart::End),
            FleetMessage::Earlier(message) => self.read(message, LogPart::Earlier),
            FleetMessage::Cut => self.ledger.is_cut(),
            FleetMessage::Present => {
                self.reads(Read::ToPresent);
                self.caught_up
                    .send_if_modified(|caught_up| !std::mem::replace(caught_up, true));
            }
            FleetMessage::Complete => {
                self.ledger.is_read();
                self.reads(Read::All);
            }
        }
    }

    /// Waits until the log shows whether a command that was issued then has succeeded before. `None`: whenever that was.
    /// Ends in any case some time after the log's end was read: few fresh commands were published before, and most say when they
    /// were issued.
    pub(in crate::worker) async fn read_since(&self, issued_at: Option<Timestamp>) {
        self.has_read_soon(Read::ToPresent).await;
        if issued_at.is_some_and(|issued_at| self.ledger.knows_since(issued_at - OVERLAP)) {
            return;
        }
        self.has_read_soon(Read::All).await;
    }

    async fn has_read_soon(&self, far: Read) {
        let until = *lock(&self.read_moved) + PART_WITHIN;
        let _ = timeout_at(until, self.has_read(far)).await;
    }

    fn reads(&self, far: Read) {
        *lock(&self.read_moved) = Instant::now();
        self.read.send_replace(far);
    }

    /// The time from which on the log is needed.
    fn window(&self) -> Timestamp {
        self.clock.now() - self.settings.ledger_window
    }

    /// Where reading resumes after it stopped at `read_until`, but no further back than the window, so that commands
    /// don't wait for more. Events in between are then unknown.
    fn resumes(&self, read_until: Timestamp) -> Timestamp {
        let (stopped_at, window) = (read_until - OVERLAP, self.window());
        if stopped_at < window {
            self.ledger.reads_since(window);
        }
        stopped_at.max(window)
    }

    fn read(&self, message: Message, part: LogPart) {
        // user.update.<what>.<provider>
        let Some((what, provider)) = message.routing_key.rsplit_once('.') else {
            return;
        };
        let is_ours = provider == self.settings.provider.as_str();
        if Lifecycle::is_of(what) {
            if is_ours {
                self.lifecycle.read(&message.body, part);
            }
            return;
        }
        if is_ours || *self.all_providers.borrow() != AllProviders::Unread {
            self.ledger.read(message, part);
        }
    }

    /// From now on the log is read for every provider, again from as far back as at the start. Waits until that reading
    /// has begun.
    pub(in crate::worker) async fn read_all_providers(&self) {
        self.all_providers_become(AllProviders::Unread, AllProviders::Asked);
        // The sender lives as long as this does.
        let _ = self
            .all_providers
            .subscribe()
            .wait_for(|all| *all == AllProviders::Following)
            .await;
    }

    fn all_providers_become(&self, from: AllProviders, to: AllProviders) {
        self.all_providers.send_if_modified(|all| {
            let changes = *all == from;
            if changes {
                *all = to;
            }
            changes
        });
    }
}
