//! The control endpoints: tests and trials read the simulation's state here, and change its conditions while it runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Faults;
use super::calls::{Call, CallEnd, Summary};
use super::world::World;

type Refused = (StatusCode, String);

pub(super) async fn users(State(world): State<Arc<World>>) -> Json<Value> {
    Json(world.users())
}

pub(super) async fn user(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    world.user(&id).map(Json).ok_or(StatusCode::NOT_FOUND)
}

pub(super) async fn calls(State(world): State<Arc<World>>) -> Json<Vec<Value>> {
    Json(world.calls().iter().map(shown).collect())
}

fn shown(call: &Call) -> Value {
    let us = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    json!({
        "seq": call.seq,
        "at_ms": u64::try_from(call.at.as_millis()).unwrap_or(u64::MAX),
        "at_us": us(call.at),
        "ended_us": call.ended.map(us),
        "method": call.method.as_str(),
        "user": call.user,
        "op": call.op,
        "status": match call.end {
            CallEnd::Pending => json!("pending"),
            CallEnd::Answered(status) => json!(status),
            CallEnd::Dropped => json!("dropped"),
        },
        "applied": call.applied,
        "body": call.body(),
    })
}

pub(super) async fn forget_calls(State(world): State<Arc<World>>) -> StatusCode {
    world.forget_calls();
    StatusCode::NO_CONTENT
}

pub(super) async fn summary(State(world): State<Arc<World>>) -> Json<Summary> {
    Json(world.summary())
}

/// Sets all faults: one that is absent is off. `rate_per_second` (null: no limit) and `burst` change the quota; without
/// `rate_per_second` it stays. A quota in windows keeps their length and allows as many calls per window as this rate
/// gives.
pub(super) async fn set_faults(
    State(world): State<Arc<World>>,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<StatusCode, Refused> {
    let rate = body.remove("rate_per_second");
    let burst = body.remove("burst");
    let faults: Faults = read(Value::Object(body))?;
    let rate: Option<Option<u32>> = rate.map(read).transpose()?;
    let burst: u32 = burst.map_or(Ok(1), read)?;
    world.set_faults(faults);
    if let Some(rate) = rate {
        world.set_rate(rate, burst);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    token: Option<String>,
}

/// Sets the only token that is accepted; null accepts any.
pub(super) async fn set_token(State(world): State<Arc<World>>, Json(accepted): Json<Accepted>) -> StatusCode {
    world.set_token(accepted.token);
    StatusCode::NO_CONTENT
}

/// Revokes every token that was issued.
pub(super) async fn revoke_tokens(State(world): State<Arc<World>>) -> StatusCode {
    world.revoke_tokens();
    StatusCode::NO_CONTENT
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}
