//! The outcome log, as far back as a worker needs it and no further.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{AllProviders, Fleet, SILENCE, lock};
use crate::broker::{Extent, Heard, Listener, Message};
use crate::worker::lifecycle::Lifecycle;

/// What happened so shortly before the log was left is read again when it is followed once more: clocks
/// differ, and so do the moments of publishing and of storing.
const OVERLAP: Duration = Duration::from_secs(60);

impl Fleet {
    /// Takes in notices and the outcome log. Ends when it is told to.
    pub async fn listen(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        let mut wanted = self.follow.subscribe();
        let mut all_providers = self.all_providers.subscribe();
        let began = self.clock.now();
        let mut read_until = self.window();
        self.ledger.reads_since(read_until);
        listener.follow(Some(self.extent(read_until)));
        let (mut following, mut is_followed) = (false, true);
        loop {
            let heard = tokio::select! {
                heard = listener.next() => heard,
                _ = wanted.changed() => {
                    let follow = *wanted.borrow_and_update();
                    if follow == is_followed {
                        continue;
                    }
                    *lock(&self.log_heard_at) = None;
                    if follow {
                        listener.follow(Some(self.extent(self.resumes(read_until))));
                    } else {
                        read_until = self.clock.now();
                        listener.follow(None);
                    }
                    is_followed = follow;
                    continue;
                }
                _ = all_providers.changed() => {
                    if *all_providers.borrow_and_update() == AllProviders::Asked {
                        *lock(&self.log_heard_at) = None;
                        is_followed = true;
                        listener.follow(Some(self.extent(self.window())));
                    }
                    continue;
                }
                () = sleep(SILENCE), if following && !*self.caught_up.borrow() => {
                    self.caught_up.send_replace(true);
                    continue;
                }
            };
            match heard {
                Heard::Notice(notice) => self.hear(&notice),
                Heard::GivenUp(delivery) => self.gave_up(delivery),
                Heard::Following => {
                    self.all_providers_become(AllProviders::Asked, AllProviders::Following);
                    following = true;
                    *lock(&self.log_heard_at) = Some(Instant::now());
                }
                Heard::Cut => self.ledger.is_cut(),
                Heard::Logged(message) => {
                    *lock(&self.log_heard_at) = Some(Instant::now());
                    let at = self.read(message);
                    if at.is_some_and(|at| at >= began) && !*self.caught_up.borrow() {
                        self.caught_up.send_replace(true);
                    }
                }
            }
        }
    }

    /// More than the ledger can hold is of no use, and would only be waited for.
    fn extent(&self, since: Timestamp) -> Extent {
        Extent {
            since,
            messages_max: self.ledger.events_max(),
        }
    }

    /// Since when the log is of use.
    fn window(&self) -> Timestamp {
        self.clock.now() - self.settings.ledger_window
    }

    /// From where it goes on, where it was read until then. However long that is ago, a command waits for no more
    /// than the window: what lies between is not known.
    fn resumes(&self, read_until: Timestamp) -> Timestamp {
        let (left, window) = (read_until - OVERLAP, self.window());
        if left < window {
            self.ledger.reads_since(window);
        }
        left.max(window)
    }

    fn read(&self, message: Message) -> Option<Timestamp> {
        // user.update.<what>.<provider>
        let (what, provider) = message.routing_key.rsplit_once('.')?;
        let is_ours = provider == self.settings.provider.as_str();
        if Lifecycle::is_of(what) {
            if is_ours {
                self.lifecycle.read(&message.body);
            }
            return None;
        }
        let wanted = is_ours || *self.all_providers.borrow() != AllProviders::Unread;
        wanted.then(|| self.ledger.read(message))?
    }
}
