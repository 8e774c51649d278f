//! The gate's state: waiting commands, calls in flight, and the policy's decisions.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::announce::SaidPace;
use super::waiting::{Waiter, Waiting};
use super::{Gate, Live, OrderedPause, Pause, Permit, Settings, Steering};
use crate::contract::notice::{PauseCause, Paused};
use crate::contract::{Fault, Notice, TrafficClass, UserId};
use crate::metrics;
use crate::policy::guard::{Guard, ONE_CALL_IN};
use crate::policy::health::{Call, CallDecision, Cause, Health, Judgement, ProbeId, Trouble};
use crate::policy::pace::{Granted, Pace};
use crate::policy::reported_pauses::ReportedPauses;
use crate::policy::retry::Budget;
use crate::provider::ProviderError;

pub(super) const THROTTLED: &str = PauseCause::Throttled.as_str();
pub(super) const DEAD_LETTERS: &str = "dead_letters";
pub(super) const OPERATOR: &str = PauseCause::Operator.as_str();

const GUARD_IS_SHUT: &str =
    "other commands continue at one call a second; fix what these have in common, then run `usher resume`";

/// A repeated notice of the same pause may end this much later, by the time it takes to arrive: it is not a new pause.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// The weight of the latest call in the average of how long calls take.
const CALL_WEIGHT: f64 = 0.05;

pub(super) struct State {
    pub(super) pace: Pace,
    pub(super) health: Health,
    pub(super) budget: Budget,
    pub(super) guard: Guard,
    pub(super) rng: fastrand::Rng,
    /// When the last call was made.
    called_at: Option<Instant>,
    /// The cause of the pause that was last logged and counted.
    pub(super) announced: Option<&'static str>,
    pub(super) said_pace: Option<SaidPace>,
    settings: Settings,
    in_flight: usize,
    bulk_in_flight: usize,
    pub(super) call_seconds: Option<f64>,
    interactive: Waiting,
    bulk: Waiting,
    /// Calls that bulk traffic is due, as interactive commands overtook it.
    bulk_credit: f64,
    /// The detail of the latest failure that was not a command's fault.
    trouble: Option<Cow<'static, str>>,
    reported: ReportedPauses,
    steering: Steering,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            pace: Pace::new(&settings.pace),
            health: Health::new(&settings.retry, settings.can_read),
            budget: Budget::new(settings.retry.budget),
            guard: Guard::new(settings.guard),
            called_at: None,
            rng: fastrand::Rng::with_seed(settings.seed),
            announced: None,
            said_pace: None,
            in_flight: 0,
            bulk_in_flight: 0,
            call_seconds: None,
            interactive: Waiting::default(),
            bulk: Waiting::default(),
            bulk_credit: 0.0,
            trouble: None,
            reported: ReportedPauses::new(settings.retry.probe_gap_max),
            settings,
            steering: Steering::default(),
        }
    }

    pub(super) fn configure(&mut self, live: Live) {
        self.settings.concurrency = live.concurrency;
        self.settings.bulk_share_min = live.bulk_share_min;
        self.pace.configure(live.rates, live.share);
    }

    pub(super) fn steer(&mut self, steering: Steering) {
        self.pace.pin(steering.pin);
        self.steering = steering;
    }

    pub(super) fn steering(&self, now: Instant) -> Steering {
        let is_on = |until: Option<Instant>| until.is_none_or(|until| until > now);
        let Steering { pause, pin } = self.steering.clone();
        Steering {
            pause: pause.filter(|pause| is_on(pause.until)),
            pin: pin.filter(|pin| is_on(pin.until)),
        }
    }

    /// The operator's pause, if calls of this class have to wait for its end.
    fn ordered_pause(&self, class: TrafficClass, now: Instant) -> Option<&OrderedPause> {
        let pause = self.steering.pause.as_ref()?;
        let concerned = !pause.bulk_only || class == TrafficClass::Bulk;
        (concerned && pause.until.is_none_or(|until| until > now)).then_some(pause)
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// A permit, or when to ask again (`None`: when something changes).
    pub(super) fn grant(
        &mut self,
        gate: &Arc<Gate>,
        class: TrafficClass,
        now: Instant,
    ) -> Result<Permit, Option<Instant>> {
        if !self.has_room(class) {
            return Err(None);
        }
        if let Some(pause) = self.ordered_pause(class, now) {
            return Err(pause.until);
        }
        if self.guard.shut_at().is_some() {
            let next = self.called_at.map(|at| at + ONE_CALL_IN);
            if self.in_flight > 0 || next.is_some_and(|next| next > now) {
                return Err(next.filter(|next| *next > now));
            }
        }
        if let Some(until) = self.pace.paused_until(now) {
            return Err(Some(until));
        }
        let (probe, control) = match self.health.may_call(now) {
            CallDecision::Call => (None, None),
            CallDecision::Probe(id, control) => (Some(id), control),
            CallDecision::NotBefore(at) => return Err(Some(at)),
            CallDecision::ProbeIsOut => return Err(None),
        };
        let granted = match self.pace.take(now) {
            Ok(granted) => granted,
            Err(at) => {
                self.health.probe_ended(probe);
                return Err(Some(at));
            }
        };
        self.reported.call_goes_out(now);
        self.called_at = Some(now);
        self.in_flight += 1;
        self.bulk_in_flight += usize::from(class == TrafficClass::Bulk);
        self.budget.earn();
        metrics::permit(class);
        Ok(Permit {
            gate: gate.clone(),
            class,
            granted,
            since: now,
            probe,
            control,
        })
    }

    /// Bulk calls leave room for an interactive one, which would otherwise wait until one of them ends.
    fn has_room(&self, class: TrafficClass) -> bool {
        let concurrency = self.settings.concurrency;
        let for_interactive = concurrency / 8 + usize::from((2..8).contains(&concurrency));
        self.in_flight < concurrency
            && (class == TrafficClass::Interactive || self.bulk_in_flight < concurrency - for_interactive)
    }

    /// Grants what may be granted now. Returns when to call again, and permits whose commands no longer wait.
    pub(super) fn grant_all(&mut self, gate: &Arc<Gate>, now: Instant) -> (Option<Instant>, Vec<Permit>) {
        self.announce(now);
        let mut unclaimed = Vec::new();
        loop {
            let next = match (self.health.paused(), self.health.next_probe()) {
                (None, _) => self.next_waiter(now),
                (Some(_), Some(at)) if at <= now => self.next_prober(now),
                (Some(_), at) => return (at, unclaimed),
            };
            let Some((class, waiter)) = next else { break };
            if waiter.grant.is_closed() {
                continue;
            }
            match self.grant(gate, class, now) {
                Ok(permit) => {
                    self.count(class);
                    unclaimed.extend(waiter.grant.send(permit).err());
                }
                Err(at) => {
                    self.waiting(class).put_back(waiter);
                    return (at, unclaimed);
                }
            }
        }
        // The end of throttling is announced when it comes, even if no command waits. The other pauses end with an
        // answer. Bulk commands may wait for the end of an operator's pause.
        let ordered = self
            .ordered_pause(TrafficClass::Bulk, now)
            .and_then(|pause| pause.until);
        let ends = [self.pace.paused_until(now), ordered];
        (ends.into_iter().flatten().min(), unclaimed)
    }

    pub(super) fn waiting(&mut self, class: TrafficClass) -> &mut Waiting {
        match class {
            TrafficClass::Interactive => &mut self.interactive,
            TrafficClass::Bulk => &mut self.bulk,
        }
    }

    fn next_waiter(&mut self, now: Instant) -> Option<(TrafficClass, Waiter)> {
        let bulk_runs = !self.bulk.is_empty() && !self.is_only_bulk_paused(now);
        let bulk_first = self.bulk_credit >= 1.0 && self.has_room(TrafficClass::Bulk);
        let class = match (bulk_first || self.interactive.is_empty()) && bulk_runs {
            true => TrafficClass::Bulk,
            false => TrafficClass::Interactive,
        };
        self.waiting(class).pop().map(|waiter| (class, waiter))
    }

    /// The command that sends the next probe, while calls are paused.
    fn next_prober(&mut self, now: Instant) -> Option<(TrafficClass, Waiter)> {
        let bulk = (!self.is_only_bulk_paused(now)).then(|| self.bulk.users());
        let waiting: Vec<_> = self
            .interactive
            .users()
            .chain(bulk.into_iter().flatten())
            .collect();
        let user = self.health.choose(&waiting, now, &mut self.rng)?.clone();
        let interactive = self.interactive.take(&user);
        let waiter = interactive.map(|waiter| (TrafficClass::Interactive, waiter));
        waiter.or_else(|| Some((TrafficClass::Bulk, self.bulk.take(&user)?)))
    }

    fn is_only_bulk_paused(&self, now: Instant) -> bool {
        self.ordered_pause(TrafficClass::Bulk, now)
            .is_some_and(|pause| pause.bulk_only)
    }

    /// Accounts for the interactive calls that overtook bulk commands.
    fn count(&mut self, class: TrafficClass) {
        match class {
            TrafficClass::Interactive if !self.bulk.is_empty() => {
                self.bulk_credit += self.settings.bulk_share_min;
            }
            TrafficClass::Interactive => {}
            TrafficClass::Bulk => self.bulk_credit = (self.bulk_credit - 1.0).max(0.0),
        }
    }

    /// Whether `keep_open` has something to do.
    pub(super) fn needs_care(&self, now: Instant) -> bool {
        !self.nobody_waits() || self.pause(now).map(|pause| pause.cause) != self.announced
    }

    pub(super) fn calls_at_once(&self) -> usize {
        self.settings.concurrency
    }

    pub(super) fn release(&mut self, class: TrafficClass, probe: Option<ProbeId>, took: Duration) {
        let took = took.as_secs_f64();
        let before = self.call_seconds.unwrap_or(took);
        self.call_seconds = Some(before + (took - before) * CALL_WEIGHT);
        self.in_flight -= 1;
        self.bulk_in_flight -= usize::from(class == TrafficClass::Bulk);
        self.health.probe_ended(probe);
    }

    pub(super) fn report(
        &mut self,
        (granted, probe): (Granted, Option<ProbeId>),
        user: &UserId,
        call: Call,
        answer: Result<(), &ProviderError>,
        trouble: &mut Trouble,
        now: Instant,
    ) -> Judgement {
        let throttled = |error: &&ProviderError| matches!(error.fault, Fault::Throttled { .. });
        if answer.err().is_some_and(|error| throttled(&error))
            && self.health.throttled_alone(user, (call, probe), trouble)
        {
            return Judgement::Limited;
        }
        let fault = match answer {
            Ok(())
            | Err(ProviderError {
                fault: Fault::Command(_),
                ..
            }) => {
                let was_down = matches!(self.health.paused(), Some((Cause::Outage, ..)));
                self.call_passed(granted, now);
                self.health.passed(user, call, probe, now);
                if was_down && self.health.paused().is_none() {
                    self.pace.resume_gently();
                }
                return Judgement::Plain;
            }
            Err(error) => self.take_note(granted, error, now),
        };
        let Self { health, rng, .. } = self;
        health.failed(user, (call, probe), fault, trouble, now, rng)
    }

    /// The fetch of a token is no user's call: if it fails, it fails for every user.
    pub(super) fn report_token(
        &mut self,
        (granted, probe): (Granted, Option<ProbeId>),
        answer: Result<(), &ProviderError>,
        now: Instant,
    ) {
        let Err(error) = answer else {
            self.call_passed(granted, now);
            self.health.token_fetched(probe, now);
            return;
        };
        let fault = self.take_note(granted, error, now);
        self.health.token_failed(probe, fault, now, &mut self.rng);
    }

    fn call_passed(&mut self, granted: Granted, now: Instant) {
        self.pace.passed(granted);
        if self.reported.passed(granted.at(), now) {
            self.pace.forget_reported();
        }
    }

    /// Remembers a failure's detail, and slows down if the provider throttled.
    fn take_note(&mut self, granted: Granted, error: &ProviderError, now: Instant) -> Fault {
        self.trouble = Some(error.detail.clone());
        self.reported.failed();
        if let Fault::Throttled { retry_after } = error.fault {
            self.pace.throttled(granted, retry_after, now, &mut self.rng);
        }
        error.fault
    }

    /// Takes in another worker's notice: its trouble is the provider's, and so this worker's too. `ReportedPauses` decides
    /// how far it is believed.
    pub(super) fn on_notice(&mut self, notice: &Notice, now: Instant) {
        self.pace.merge(notice.pace, now);
        let Some(paused) = &notice.paused else {
            self.health.resumed_elsewhere(&notice.worker);
            return;
        };
        if paused.cause == PauseCause::Operator {
            // Orders have a stream of their own.
            return;
        }
        let wait = Duration::from_millis(paused.for_ms);
        let since = now
            .checked_sub(Duration::from_millis(paused.since_ms))
            .unwrap_or(now);
        let cause = match paused.cause {
            PauseCause::Outage => Some(Cause::Outage),
            PauseCause::Credentials => Some(Cause::Credentials),
            PauseCause::Configuration => Some(Cause::Configuration),
            PauseCause::Throttled | PauseCause::Operator => None,
        };
        let is_news = match cause {
            Some(_) => self.health.may_be_paused_since(since),
            // A notice that took a while to arrive ends its pause a little later.
            None => self
                .pace
                .paused_until(now)
                .is_none_or(|until| wait > until - now + ON_ITS_WAY),
        };
        let until = is_news.then(|| self.reported.report(wait, now)).flatten();
        match (until, cause) {
            (None, _) => {}
            (Some(until), None) => self.pace.throttled_elsewhere(until, now),
            (Some(until), Some(cause)) => {
                let span = (until, self.reported.ends_by(now));
                self.health
                    .paused_elsewhere(&notice.worker, cause, span, now, &mut self.rng);
            }
        }
    }

    /// This worker's pause as its notices report it. A pause known only from notices is not repeated, since it would
    /// come back as news; trouble of this worker alone does not concern the others.
    pub(super) fn pause_to_announce(&self, now: Instant) -> Option<Paused> {
        if self.guard.shut_at().is_some() {
            return None;
        }
        let (cause, since, until) = match self.health.paused() {
            Some((cause, since, next_probe)) if !self.health.is_reported() => {
                let cause = match cause {
                    Cause::Outage => PauseCause::Outage,
                    Cause::Credentials => PauseCause::Credentials,
                    Cause::Configuration => PauseCause::Configuration,
                    Cause::Worker => return None,
                };
                (cause, since, next_probe)
            }
            Some(_) => return None,
            None => {
                let until = self.pace.throttled_until(now)?;
                (PauseCause::Throttled, self.pace.paused_since()?, until)
            }
        };
        Some(Paused {
            cause,
            for_ms: millis(until.saturating_duration_since(now)),
            since_ms: millis(now.saturating_duration_since(since)),
        })
    }

    pub(super) fn pause(&self, now: Instant) -> Option<Pause> {
        if let Some(ordered) = self.ordered_pause(TrafficClass::Interactive, now) {
            return Some(Pause {
                cause: OPERATOR,
                since: ordered.since,
                until: ordered.until,
                why: Some(Cow::Owned(ordered.why.clone())),
            });
        }
        if let Some(since) = self.guard.shut_at() {
            return Some(Pause {
                cause: DEAD_LETTERS,
                since,
                until: None,
                why: self
                    .guard
                    .shut_by()
                    .map(|by| Cow::Owned(format!("{by}: {GUARD_IS_SHUT}"))),
            });
        }
        let (cause, since, until) = match self.health.paused() {
            Some((cause, since, next_probe)) => (cause.as_str(), since, next_probe),
            None => (THROTTLED, self.pace.paused_since()?, self.pace.paused_until(now)?),
        };
        Some(Pause {
            cause,
            since,
            until: Some(until),
            why: self.trouble.clone(),
        })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
