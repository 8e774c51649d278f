//! The simulation's state: users, calls, and the current conditions.

mod running_call;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Call, Summary, Trouble};
use super::issuer::Issuer;
use super::quota::{Quota, QuotaKind};
use super::{Faults, QuotaHeaders, RetryAfterStyle, Settings};
use crate::provider::shape::{Account, Op, Refusal, Reply, Search, Shape, Target, Write};
use crate::provider::{Kind, scim};

pub(super) use running_call::RunningCall;

pub(super) struct World {
    shape: Box<dyn Shape>,
    pub(super) retry_after: RetryAfterStyle,
    quota_headers: QuotaHeaders,
    /// The kind of quota that a new rate applies to.
    quota_kind: QuotaKind,
    latency: Duration,
    calls_max: usize,
    started_at: Instant,
    stopping: CancellationToken,
    state: Mutex<State>,
}

struct State {
    token: Option<String>,
    issuer: Issuer,
    faults: Faults,
    quota: Option<Quota>,
    rng: fastrand::Rng,
    users: HashMap<String, Account>,
    /// Users that were removed.
    removed: HashSet<String>,
    in_flight: HashMap<String, u32>,
    calls: VecDeque<Call>,
    next_seq: u64,
    summary: Summary,
}

impl World {
    pub(super) fn new(settings: Settings, stopping: CancellationToken) -> Self {
        Self {
            shape: match settings.kind {
                Kind::Scim => Box::new(scim::Simulated(settings.scim_dialect)),
                kind => kind.simulated(),
            },
            retry_after: settings.retry_after,
            quota_headers: settings.quota_headers,
            quota_kind: settings.quota.unwrap_or(QuotaKind::Bucket {
                per_second: 1,
                burst: 1,
            }),
            latency: settings.latency,
            calls_max: settings.calls_max,
            started_at: Instant::now(),
            stopping,
            state: Mutex::new(State {
                token: settings.token,
                issuer: Issuer::new(settings.client, settings.token_lifetime),
                faults: settings.faults,
                quota: settings.quota.map(Quota::new),
                rng: fastrand::Rng::with_seed(settings.seed),
                users: HashMap::new(),
                removed: HashSet::new(),
                in_flight: HashMap::new(),
                calls: VecDeque::new(),
                next_seq: 0,
                summary: Summary::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remove_user(&self, id: &str) {
        self.state().removed.insert(id.to_owned());
    }

    pub(super) fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        match Issuer::is_token_request(method, path) {
            true => Some(Target {
                op: Op::Token,
                user_id: "".into(),
            }),
            false => self.shape.target(method, path),
        }
    }

    pub(super) fn search(&self, parts: &Parts, body: &[u8]) -> Option<Search> {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        self.shape.search(&parts.method, path, query, body)
    }

    pub(super) fn document(&self, method: &Method, path: &str) -> Option<Reply> {
        self.shape.document(method, path)
    }

    pub(super) fn refuse(&self, refusal: &Refusal) -> Reply {
        self.shape.refuse(refusal)
    }

    /// False if the simulation stops before the time has passed.
    pub(super) async fn wait(&self, wait: Duration) -> bool {
        if wait.is_zero() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.stopping.cancelled() => false,
        }
    }

    pub(super) fn latency(&self) -> Duration {
        self.latency
    }

    /// Carries the call out. The flag beside the reply says whether a write took effect.
    pub(super) fn perform(
        &self,
        target: &Target<'_>,
        method: &Method,
        headers: &HeaderMap,
        body: &[u8],
    ) -> (Reply, bool) {
        let user_id = &*target.user_id;
        let mut state = self.state();
        if target.op == Op::Token {
            return (state.issuer.answer(headers, body), false);
        }
        let result = state.admit(headers, user_id).and_then(|()| {
            let account = state.account(user_id, &*self.shape);
            if target.op == Op::Read {
                let user = self.shape.show(user_id, account);
                return Ok((self.shape.reply(&user, account), false));
            }
            if user_id.starts_with("locked") {
                return Err(Refusal::locked());
            }
            let write = Write {
                method,
                headers,
                user_id,
                body,
            };
            let answer = self.shape.write(&write, account)?;
            account.writes += 1;
            Ok((self.shape.reply(&answer, account), true))
        });
        drop(state);
        match result {
            Ok((reply, applied)) => (reply, applied),
            Err(refusal) => (self.shape.refuse(&refusal), false),
        }
    }

    /// Finds users. One that nobody has used yet exists like any other, unless its id begins with `missing`; an id that
    /// begins with `twin` has a second user with the same values.
    pub(super) fn perform_search(&self, search: &Search, headers: &HeaderMap) -> Reply {
        let mut state = self.state();
        let owner = search.first_owner();
        let admitted = state.admit(headers, owner);
        let mut found = state.found(search, &*self.shape);
        match admitted {
            Ok(()) if found.is_empty() => {
                state.account(owner, &*self.shape);
                if owner.starts_with("twin") {
                    let twin = self.shape.account(owner);
                    state.users.entry(format!("{owner}-second")).or_insert(twin);
                }
                found = state.found(search, &*self.shape);
            }
            Ok(()) | Err(Refusal::Missing) => {}
            Err(refusal) => return self.shape.refuse(&refusal),
        }
        self.shape.reply(&self.shape.list(found), &Account::default())
    }

    pub(super) fn user(&self, id: &str) -> Option<Value> {
        self.state().users.get(id).map(shown)
    }

    pub(super) fn users(&self) -> Value {
        let state = self.state();
        state
            .users
            .iter()
            .map(|(id, account)| (id.clone(), shown(account)))
            .collect()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.iter().cloned().collect()
    }

    pub(super) fn forget_calls(&self) {
        self.state().calls.clear();
    }

    pub(super) fn summary(&self) -> Summary {
        let state = self.state();
        let mut summary = state.summary.clone();
        summary.users = state.users.len() as u64;
        summary.throttled = summary.statuses.get(&429).copied().unwrap_or_default();
        summary.accepted = summary.calls - summary.throttled;
        for account in state.users.values() {
            summary.mails += u64::from(account.mails);
            summary.texts += u64::from(account.texts);
        }
        summary
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(super) fn set_rate(&self, per_second: Option<u32>, burst: u32) {
        let kind = per_second.map(|per_second| self.quota_kind.at_rate(per_second, burst));
        self.state().quota = kind.map(Quota::new);
    }

    pub(super) fn set_token(&self, token: Option<String>) {
        self.state().token = token;
    }

    pub(super) fn revoke_tokens(&self) {
        self.state().issuer.revoke();
    }
}

/// Empty if the call has none.
fn bearer(headers: &HeaderMap) -> &str {
    headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

fn shown(account: &Account) -> Value {
    json!({
        "fields": account.fields, "version": account.version, "writes": account.writes,
        "mails": account.mails, "texts": account.texts,
    })
}

impl State {
    fn admit(&self, headers: &HeaderMap, user_id: &str) -> Result<(), Refusal> {
        let bearer = bearer(headers);
        let accepted = match (self.issuer.accepts(bearer), &self.token) {
            (Some(serves), _) => serves,
            (None, Some(token)) => bearer == token,
            (None, None) => !bearer.is_empty() && !self.issuer.has_client(),
        };
        if !accepted {
            return Err(Refusal::Unauthorized);
        }
        if self.removed.contains(user_id) {
            return Err(Refusal::Missing);
        }
        let special = [
            ("forbidden", Refusal::Forbidden),
            ("broken", Refusal::Broken),
            ("missing", Refusal::Missing),
        ];
        special
            .into_iter()
            .find(|(prefix, _)| user_id.starts_with(prefix))
            .map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    /// The users that a search finds, as they are shown.
    fn found(&self, search: &Search, shape: &dyn Shape) -> Vec<Value> {
        let there = self.users.iter().filter(|(id, _)| !self.removed.contains(*id));
        let shown = there.map(|(id, account)| shape.show(id, account));
        shown.filter(|user| search.finds(user)).collect()
    }

    fn account(&mut self, user_id: &str, shape: &dyn Shape) -> &mut Account {
        self.users
            .entry(user_id.into())
            .or_insert_with(|| shape.account(user_id))
    }

    /// The quota is checked first, because the rate limiters of real providers are in front of them.
    fn trouble(&mut self, now: Instant) -> Option<Trouble> {
        if let Some(Err(wait)) = self.quota.as_mut().map(|quota| quota.take_at(now)) {
            return Some(Trouble::Throttled(wait));
        }
        let faults = self.faults;
        let mut draw = self.rng.f64();
        [
            (faults.broken, Trouble::Broken),
            (faults.drop_before, Trouble::DropBefore),
            (faults.drop_after, Trouble::DropAfter),
            (faults.slow, Trouble::Slow(Duration::from_millis(faults.slow_ms))),
            (faults.garbage, Trouble::Garbage),
            (faults.throttle_after, Trouble::ThrottleAfter),
            (faults.broken_after, Trouble::BrokenAfter),
        ]
        .into_iter()
        .find_map(|(share, trouble)| {
            draw -= share;
            (draw < 0.0).then_some(trouble)
        })
    }
}
