//! What an operation would change.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::Serialize;

use super::{Access, OperationError};
use crate::contract::ProviderName;
use crate::operations::dead_letters::{Filter, Letter, look};

/// The most batches that are counted apart.
const BATCHES_MAX: usize = 100;

/// Of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub provider: ProviderName,
    pub count: u64,
    pub reasons: BTreeMap<String, u64>,
    pub users: u64,
    pub batches: BTreeMap<String, u64>,
    /// In further batches, or in none.
    pub other_batches: u64,
    /// When the last of them died. What died later is not part of the operation.
    pub dead_until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Plans {
    pub plans: Vec<Plan>,
    /// Chosen, but without the headers that say where they came from: they are left alone.
    pub unusable: u64,
    /// Consumers that may hold others.
    pub consumers: u64,
}

struct Counting {
    plan: Plan,
    /// Hashes of their ids.
    users: HashSet<u64>,
}

/// Looks at all dead letters, and changes nothing.
pub async fn plan(access: &Access, filter: &Filter) -> Result<Plans, OperationError> {
    let hasher = RandomState::new();
    let mut counting: BTreeMap<String, Counting> = BTreeMap::new();
    let mut unusable = 0;
    let looked = look(&*access.inspector, |letter, _| {
        if filter.matches(&letter) {
            match letter.addressed_to().zip(letter.dead_at) {
                None => unusable += 1,
                Some((provider, dead_at)) => {
                    let of_provider = counting.entry(provider.to_string());
                    let counting = of_provider.or_insert_with(|| Counting::new(provider, dead_at));
                    counting.add(&letter, dead_at, &hasher);
                }
            }
        }
        ControlFlow::Continue(())
    });
    let looked = looked.await?;
    let plans = counting.into_values().map(|counting| Plan {
        users: counting.users.len() as u64,
        ..counting.plan
    });
    Ok(Plans {
        plans: plans.collect(),
        unusable,
        consumers: looked.consumers,
    })
}

impl Counting {
    fn new(provider: ProviderName, dead_until: Timestamp) -> Self {
        Self {
            plan: Plan {
                provider,
                count: 0,
                reasons: BTreeMap::new(),
                users: 0,
                batches: BTreeMap::new(),
                other_batches: 0,
                dead_until,
            },
            users: HashSet::new(),
        }
    }

    fn add(&mut self, letter: &Letter, dead_at: Timestamp, hasher: &RandomState) {
        let plan = &mut self.plan;
        plan.count += 1;
        plan.dead_until = plan.dead_until.max(dead_at);
        // Reasons are few; those of a later version are one.
        let reason = letter.known_reason().map_or("another", |reason| reason.as_str());
        *plan.reasons.entry(reason.to_owned()).or_default() += 1;
        self.users.insert(hasher.hash_one(&letter.user));
        match &letter.batch {
            Some(batch) if plan.batches.contains_key(batch) || plan.batches.len() < BATCHES_MAX => {
                *plan.batches.entry(batch.clone()).or_default() += 1;
            }
            _ => plan.other_batches += 1,
        }
    }
}
