//! A provider that does as it is told: throttles, fails, applies, denies, and keeps a log of its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;
use usher::contract::{Failure, Fault, Field, RateLimitHint, Reason, UpdateUser, UserId, Version};
use usher::provider::{Access, Comparison, Provider, ProviderError, TokenState, Updated, User};

/// What the provider does with a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Ok,
    /// The fault, without anything being applied.
    Fail(Fault),
    /// The write is applied, and this is what the caller hears.
    ApplyAnd(Fault),
    /// This is what the caller hears, and the write is applied a while later.
    ApplyLater(Fault),
    /// The caller hears of a success, and sees a user without what was asked; nothing is applied.
    Ignore,
    /// The same, but what the caller sees is the user from before: the write is applied.
    ApplyAndShowOld,
    Panic,
}

impl Answer {
    /// What the caller hears.
    fn told(self) -> Result<Option<String>, ProviderError> {
        match self {
            Answer::Ok => Ok(None),
            Answer::Ignore | Answer::ApplyAndShowOld => Ok(Some("/update/nickname".into())),
            Answer::Fail(fault) | Answer::ApplyAnd(fault) | Answer::ApplyLater(fault) => {
                Err(ProviderError::new(fault, "as the script says"))
            }
            Answer::Panic => panic!("as the script says"),
        }
    }
}

/// Where a user shows its version.
const VERSION: &str = "version";

/// What a write that was given up takes to take effect.
const LATER: Duration = Duration::from_millis(900);

/// One call, as the provider saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub user: String,
    /// The number in the command's nickname; none for a read.
    pub number: Option<u64>,
    pub bulk: bool,
    pub started: Instant,
    /// None while it runs, and for ever if the caller was cut off.
    pub ended: Option<Instant>,
    pub applied: bool,
    pub answer: Option<Answer>,
}

/// Decides each call's answer: the user, whether it is a write, and the generator.
pub type Script = Box<dyn Fn(&str, bool, &mut fastrand::Rng) -> Answer + Send>;

#[derive(Clone)]
pub struct Scripted(Arc<Mutex<State>>);

struct State {
    script: Script,
    rng: fastrand::Rng,
    latency_max: Duration,
    users: BTreeMap<String, BTreeMap<&'static str, String>>,
    calls: Vec<Call>,
    reads: bool,
    /// How long a read still shows a user as it was before its last change.
    lag: Duration,
    before: BTreeMap<String, (Instant, BTreeMap<&'static str, String>)>,
    reads_first: bool,
    versioned: bool,
    parts: usize,
    harmless: bool,
    credentials_change: bool,
    outlives: bool,
    applies_late: bool,
    /// Commands with such a number are failed, whatever the script says.
    fails: fn(u64) -> bool,
}

impl Scripted {
    pub fn new(seed: u64, latency_max: Duration, script: Script) -> Self {
        Self(Arc::new(Mutex::new(State {
            script,
            rng: fastrand::Rng::with_seed(seed),
            latency_max,
            users: BTreeMap::new(),
            calls: Vec::new(),
            reads: true,
            lag: Duration::ZERO,
            before: BTreeMap::new(),
            reads_first: false,
            versioned: false,
            parts: 1,
            harmless: true,
            credentials_change: false,
            outlives: false,
            applies_late: false,
            fails: |_| false,
        })))
    }

    pub fn always(answer: Answer) -> Self {
        Self::new(1, Duration::from_millis(10), Box::new(move |_, _, _| answer))
    }

    /// Answers in this order, and `Ok` from then on. Only writes count.
    pub fn in_turn(answers: impl IntoIterator<Item = Answer>) -> Self {
        let left = Mutex::new(answers.into_iter().collect::<std::collections::VecDeque<_>>());
        let script = move |_: &str, write: bool, _: &mut fastrand::Rng| match write {
            true => left.lock().unwrap().pop_front().unwrap_or(Answer::Ok),
            false => Answer::Ok,
        };
        Self::new(1, Duration::from_millis(10), Box::new(script))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn script(&self, script: Script) {
        self.lock().script = script;
    }

    /// Sending a command twice does harm from now on.
    pub fn harmful(self) -> Self {
        self.lock().harmless = false;
        self
    }

    /// Each write takes so many calls from now on.
    pub fn in_parts(self, parts: usize) -> Self {
        self.lock().parts = parts;
        self
    }

    /// Each write needs a read before it from now on.
    pub fn reading_first(self) -> Self {
        self.lock().reads_first = true;
        self
    }

    /// A user's version is the number of its changes, and a write names the one that it is for.
    pub fn versioned(self) -> Self {
        self.lock().versioned = true;
        self
    }

    /// Reads lag so far behind writes from now on.
    pub fn lagging(self, lag: Duration) -> Self {
        self.lock().lag = lag;
        self
    }

    pub fn unreadable(self) -> Self {
        self.lock().reads = false;
        self
    }

    /// From now on every other call is finished here though its caller died in the middle of it, as if it was on
    /// its way already. The others end with their caller.
    pub fn outliving(self) -> Self {
        self.lock().outlives = true;
        self
    }

    /// Where the answer is not known from now on, half of the writes are applied a while later.
    pub fn applying_late(self) -> Self {
        self.lock().applies_late = true;
        self
    }

    /// The provider fails on commands with such numbers.
    pub fn failing_commands(&self, fails: fn(u64) -> bool) {
        self.lock().fails = fails;
    }

    /// The next look at the credentials finds new ones.
    pub fn rotate_credentials(&self) {
        self.lock().credentials_change = true;
    }

    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub fn writes(&self) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.number.is_some())
            .collect()
    }

    pub fn user(&self, user: &str) -> BTreeMap<&'static str, String> {
        self.lock().users.get(user).cloned().unwrap_or_default()
    }

    /// Somebody else changes the user.
    pub fn change_as_another(&self, user: &str) {
        self.lock().calls.push(Call {
            user: user.to_owned(),
            number: None,
            bulk: false,
            started: Instant::now(),
            ended: Some(Instant::now()),
            applied: true,
            answer: None,
        });
    }

    fn version_of(&self, user: &str) -> Option<Version> {
        let state = self.lock();
        // Only then: all calls are counted.
        state.versioned.then(|| version(&state.calls, user)).flatten()
    }

    /// What the answer shows not to be as asked.
    async fn call(
        &self,
        user: &UserId,
        command: Option<&UpdateUser>,
    ) -> Result<Option<String>, ProviderError> {
        let (index, answer, latency, outlives) = {
            let mut state = self.lock();
            let State {
                script,
                rng,
                latency_max,
                calls,
                applies_late,
                fails,
                versioned,
                ..
            } = &mut *state;
            let mut answer = script(user.as_str(), command.is_some(), rng);
            if command.is_some_and(|command| fails(number(command))) {
                answer = Answer::Fail(Fault::Broken);
            }
            let stale = |command: &UpdateUser| command.expected_version != version(calls, user.as_str());
            if *versioned && command.is_some_and(stale) {
                answer = Answer::Fail(Fault::Command(Reason::VersionConflict));
            }
            if let Answer::ApplyAnd(fault @ Fault::Unknown) = answer
                && *applies_late
                && command.is_some()
                && rng.bool()
            {
                answer = Answer::ApplyLater(fault);
            }
            let latency = latency_max.mul_f64(rng.f64());
            calls.push(Call {
                user: user.as_str().to_owned(),
                number: command.map(number),
                bulk: command.is_some_and(|command| command.batch_id.is_some()),
                started: Instant::now(),
                ended: None,
                applied: false,
                answer: None,
            });
            let index = calls.len() - 1;
            (index, answer, latency, state.outlives && state.rng.bool())
        };
        let changes = command.map(changes).unwrap_or_default();
        if let Answer::ApplyLater(fault) = answer {
            tokio::time::sleep(latency).await;
            let late = self
                .clone()
                .make(index, user.clone(), changes, answer, [LATER, Duration::ZERO]);
            tokio::spawn(late);
            return Err(ProviderError::new(fault, "as the script says"));
        }
        let made = self
            .clone()
            .make(index, user.clone(), changes, answer, [latency / 2; 2]);
        match outlives {
            true => tokio::spawn(made).await.unwrap(),
            false => made.await,
        }
        answer.told()
    }

    /// The effect is between the two waits.
    async fn make(self, index: usize, user: UserId, changes: Changes, answer: Answer, waits: [Duration; 2]) {
        tokio::time::sleep(waits[0]).await;
        let applies = matches!(
            answer,
            Answer::Ok | Answer::ApplyAnd(_) | Answer::ApplyLater(_) | Answer::ApplyAndShowOld
        );
        if !changes.is_empty() && applies {
            let mut state = self.lock();
            let shown = state.users.get(user.as_str()).cloned().unwrap_or_default();
            state
                .before
                .insert(user.as_str().to_owned(), (Instant::now(), shown));
            let user = state.users.entry(user.as_str().to_owned()).or_default();
            for (field, value) in changes {
                match value {
                    Some(value) => user.insert(field, value),
                    None => user.remove(field),
                };
            }
            state.calls[index].applied = true;
        }
        tokio::time::sleep(waits[1]).await;
        let call = &mut self.lock().calls[index];
        call.ended = Some(Instant::now());
        call.answer = Some(answer);
    }
}

/// Fields and what they are to be.
type Changes = Vec<(&'static str, Option<String>)>;

fn changes(command: &UpdateUser) -> Changes {
    let changes = command.update.shared_changes();
    changes
        .map(|(field, value)| (field.name(), value.map(str::to_owned)))
        .collect()
}

fn version(calls: &[Call], user: &str) -> Option<Version> {
    let changes = calls.iter().filter(|call| call.applied && call.user == user);
    Version::parse(&changes.count().to_string())
}

/// The number that a test gave the command.
fn number(command: &UpdateUser) -> u64 {
    let nickname = command.update.shared(Field::Nickname).flatten();
    nickname.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Provider for Scripted {
    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        match command.update.locale {
            Some(_) => Err(Failure::new(Reason::UnsupportedField, "no locales here").at("/update/locale")),
            None => Ok(()),
        }
    }

    fn reads(&self) -> bool {
        self.lock().reads
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        self.lock().reads_first
    }

    fn calls_of_write(&self, _: &UpdateUser) -> usize {
        self.lock().parts
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        self.lock().harmless
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        let as_asked = command
            .update
            .shared_changes()
            .all(|(field, value)| user.0.get(field.name()).and_then(Value::as_str) == value);
        match (as_asked, self.lock().harmless) {
            (false, _) => Comparison::Differs,
            (true, true) => Comparison::Matches,
            (true, false) => Comparison::Unreadable,
        }
    }

    fn is_unchanged(&self, before: &User, after: &User) -> bool {
        before == after
    }

    fn version(&self, user: &User) -> Option<Version> {
        Version::parse(user.0.get(VERSION)?.as_str()?)
    }

    async fn read(&self, user: &UserId) -> Result<User, ProviderError> {
        self.call(user, None).await?;
        let before = {
            let state = self.lock();
            let before = state.before.get(user.as_str());
            let lags = before.filter(|(at, _)| at.elapsed() < state.lag);
            lags.map(|(_, shown)| shown.clone())
        };
        let mut shown = before.unwrap_or_else(|| self.user(user.as_str()));
        shown.extend(
            self.version_of(user.as_str())
                .map(|version| (VERSION, version.as_str().to_owned())),
        );
        Ok(User(json!(shown)))
    }

    async fn update(&self, command: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        let ignored = self.call(&command.user_id, Some(command)).await?;
        Ok(Updated {
            ignored,
            version: self.version_of(command.user_id.as_str()),
            ..Updated::default()
        })
    }

    fn access(&self) -> &dyn Access {
        self
    }
}

#[async_trait]
impl Access for Scripted {
    fn token(&self) -> TokenState {
        TokenState::Ready
    }

    async fn fetch_token(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn credentials_changed(&self) {
        while !std::mem::take(&mut self.lock().credentials_change) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn rate_limit_hint(&self) -> Option<RateLimitHint> {
        None
    }
}
