//! What operators do here: a form of a session, its plan where much would change, and the name of whoever sent it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Deserialize;
use tokio::time::timeout;
use uuid::Uuid;

use super::access::Viewer;
use super::address::{Query, Screen};
use super::block;
use super::link::Trouble;
use super::page::{self, Again, Shown, refused};
use super::runs::{self, RUNS_MAX};
use super::screens::{self, Ask};
use super::{Console, Ports};
use crate::contract::lifecycle::OperationKind;
use crate::contract::orders::{PaceOrder, PauseOrder};
use crate::contract::{BatchId, BatchState};
use crate::operations::dead_letters::export;
use crate::operations::operation::{self, Options};
use crate::operations::steering::{self, Order, Steering};

/// An action is answered within this. What it began goes on.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);

/// The largest file that is exported: it is held meanwhile.
const EXPORT_BYTES_MAX: usize = 50_000_000;
const EXPORT_NAME: &str = "dead-letters.jsonl";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields {
    form_token: String,
    /// Whether its plan was seen.
    yes: String,
    /// The last of those that were planned for.
    dead_until: String,
    rate: String,
    canary: String,
    reason: String,
    what: String,
    until: String,
}

/// What an action leads to.
enum Done {
    /// Another page.
    To(String),
    /// A page of its own.
    Page(Box<(Screen, Shown)>),
    /// A file to keep.
    File(Vec<u8>),
}

type Acted = Result<Done, Trouble>;

pub fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/act/{what}", post(act))
        .route("/act/{what}/{more}", post(act_on))
}

async fn act(
    state: State<Arc<Console>>,
    Path(what): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    form: Form<Fields>,
) -> Response {
    answer(state, (what, String::new()), uri, headers, form).await
}

async fn act_on(
    state: State<Arc<Console>>,
    Path(what): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    form: Form<Fields>,
) -> Response {
    answer(state, what, uri, headers, form).await
}

async fn answer(
    State(console): State<Arc<Console>>,
    (what, more): (String, String),
    uri: Uri,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let viewer = match console.access.viewer(&headers).await {
        Ok(viewer) => viewer,
        Err(denied) => {
            return page::denied(console.provider.as_str(), denied, console.access.has_tokens(), "");
        }
    };
    let query = Query::parse(uri.query().unwrap_or_default());
    let show = |screen: &Screen, shown: &Shown| {
        page::page(
            console.provider.as_str(),
            &viewer,
            (screen, &query.with("live", "off")),
            shown,
        )
    };
    let why = match is_allowed(&viewer, &what) {
        false => Some("Your role does not allow this: it needs operator, or auditor for values."),
        true if !console.access.is_own_form(&headers, &viewer, &fields.form_token) => Some(
            "The form was not sent by a page of this session: open the page again, and send it from there.",
        ),
        true => None,
    };
    if let Some(why) = why {
        return show(&Screen::Overview, &refused(StatusCode::FORBIDDEN, why));
    }
    tracing::info!(
        by = viewer.name,
        action = what,
        on = more,
        "console: an action was asked for"
    );
    let acting = Acting {
        console: &console,
        viewer: &viewer,
        query: &query,
        fields: &fields,
    };
    let acted = timeout(ANSWERED_WITHIN, acting.act(&what, &more)).await;
    match acted.unwrap_or(Err(Trouble::Slow)) {
        Ok(Done::To(path)) => (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response(),
        Ok(Done::Page(page)) => {
            let (screen, shown) = *page;
            let blocks = block::with_names(shown.blocks);
            show(&screen, &Shown { blocks, ..shown })
        }
        Ok(Done::File(lines)) => attachment(lines),
        Err(trouble) => {
            let mut shown = page::trouble(&trouble, &console.link.address());
            // Nothing is sent twice by itself.
            shown.again = Some(Again::Never);
            show(&Screen::Overview, &shown)
        }
    }
}

fn is_allowed(viewer: &Viewer, action: &str) -> bool {
    match action {
        "reveal" | "export" => viewer.may_reveal,
        _ => viewer.may_act,
    }
}

fn attachment(lines: Vec<u8>) -> Response {
    let name = format!("attachment; filename=\"{EXPORT_NAME}\"");
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, name.as_str()),
    ];
    (headers, lines).into_response()
}

struct Acting<'a> {
    console: &'a Arc<Console>,
    viewer: &'a Viewer,
    query: &'a Query,
    fields: &'a Fields,
}

fn wrong(why: impl Into<String>) -> Trouble {
    Trouble::Refused(why.into())
}

impl Acting<'_> {
    async fn act(&self, what: &str, more: &str) -> Acted {
        match (what, more) {
            ("redrive", "") => self.change(OperationKind::Redrive).await,
            ("discard", "") => self.change(OperationKind::Discard).await,
            ("reveal", "") => self.reveal().await,
            ("export", "") => self.export().await,
            ("pause", "") => self.pause().await,
            ("resume", "") => self.order(&Order::Resume).await,
            ("pin", "") => self.pin().await,
            ("unpin", "") => self.order(&Order::Unpin).await,
            ("batch", "pause") => self.batch(Some(BatchState::Paused)).await,
            ("batch", "resume") => self.batch(None).await,
            ("batch", "cancel") => self.batch(Some(BatchState::Cancelled)).await,
            ("resume-operation", id) => self.resume(parsed(id)?).await,
            ("abort-operation", id) => self.abort(parsed(id)?).await,
            ("stop-operation", id) => self.stop(parsed(id)?),
            _ => Err(wrong("There is no such action.")),
        }
    }

    /// Where this console runs as many operations as it may, no further one begins.
    async fn room(&self) -> Result<Ports, Trouble> {
        if self.console.runs.running() >= RUNS_MAX {
            return Err(wrong(format!(
                "This console runs {RUNS_MAX} operations already: wait for one to end."
            )));
        }
        self.own().await
    }

    async fn own(&self) -> Result<Ports, Trouble> {
        self.console.link.own().await.map_err(Trouble::Away)
    }

    /// First what it would do; with `yes` it begins, and goes on in the background.
    async fn change(&self, kind: OperationKind) -> Acted {
        let mut filter = self.query.filter().map_err(wrong)?;
        let options = self.options(kind)?;
        let is_planned = self.fields.yes == "yes";
        if is_planned {
            // What died since the plan was seen is not part of it.
            let seen: Timestamp = self
                .fields
                .dead_until
                .parse()
                .map_err(|_| wrong("Look at the plan first."))?;
            let after = seen + SignedDuration::from_nanos(1);
            filter.until = Some(filter.until.map_or(after, |until| until.min(after)));
        }
        let ports = self.room().await?;
        let access = runs::access(&ports, self.console.clock);
        let looks = self.console.looks.acquire().await;
        let plans = operation::plan(&access, &filter).await;
        drop(looks);
        let plans = plans?;
        if !is_planned || plans.plans.is_empty() {
            ports.close().await;
            let ask = Ask {
                viewer: self.viewer,
                screen: &Screen::Failures,
                query: self.query,
            };
            let blocks = screens::plan(ask, kind, &plans);
            return Ok(Done::Page(Box::new((Screen::Failures, blocks))));
        }
        for plan in &plans.plans {
            let own = self.room().await?;
            let access = runs::access(&own, self.console.clock);
            let by = &self.viewer.name;
            let ready = operation::start(&access, kind, plan, &filter, by, &options).await?;
            self.console.runs.begin(ready, own);
        }
        ports.close().await;
        Ok(Done::To("/operations?fresh=1".to_owned()))
    }

    fn options(&self, kind: OperationKind) -> Result<Options, Trouble> {
        let mut options = Options::default();
        if kind == OperationKind::Redrive && !self.fields.rate.is_empty() {
            options.rate = self.fields.rate.trim().parse().map_err(wrong)?;
        }
        if !self.fields.canary.is_empty() {
            let canary = self.fields.canary.trim().parse();
            options.canary =
                canary.map_err(|_| wrong("How many first: write a whole number, such as 10."))?;
        }
        Ok(options)
    }

    /// The audit log knows it before anybody sees a value.
    async fn reveal(&self) -> Acted {
        let id = self.query.get("command").unwrap_or_default();
        let (screen, filter) = (
            Screen::Failure(id.to_owned()),
            self.query.filter().map_err(wrong)?,
        );
        let ask = Ask {
            viewer: self.viewer,
            screen: &screen,
            query: self.query,
        };
        let found = self.console.found(ask, id).await?;
        let provider = found.value.iter().find_map(|found| found.letter.addressed_to());
        let provider = provider.ok_or_else(|| {
            wrong("There is no such dead letter, or it does not say whose it is, so the audit log can't be told.")
        })?;
        let ports = self.console.link.ports().await?;
        let access = runs::access(&ports, self.console.clock);
        let count = found.value.len() as u64;
        operation::reveal(&access, &provider, &self.viewer.name, &filter.to_map(), count).await?;
        let shown = screens::revealed(&found.value).into();
        Ok(Done::Page(Box::new((screen, shown))))
    }

    /// The commands that the filter chooses. The audit log knows it before anybody has them.
    async fn export(&self) -> Acted {
        let filter = self.query.filter().map_err(wrong)?;
        let ports = self.console.link.ports().await?;
        let looks = self.console.looks.acquire().await;
        let exported = export(&*ports.inspector, &filter, EXPORT_BYTES_MAX).await;
        drop(looks);
        let exported = exported?;
        if exported.is_cut {
            return Err(wrong(format!(
                "They have more than {} MB: choose fewer, or use `usher dead-letters export`.",
                EXPORT_BYTES_MAX / 1_000_000
            )));
        }
        let access = runs::access(&ports, self.console.clock);
        let by = &self.viewer.name;
        for (provider, count) in &exported.counts {
            let provider = provider.as_ref().unwrap_or(&self.console.provider);
            operation::reveal(&access, provider, by, &filter.to_map(), *count).await?;
        }
        Ok(Done::File(exported.lines))
    }

    async fn resume(&self, id: Uuid) -> Acted {
        let ports = self.room().await?;
        let access = runs::access(&ports, self.console.clock);
        let ready = operation::resume(&access, id).await?;
        self.console.runs.begin(ready, ports);
        Ok(Done::To(format!("/operations/{id}?fresh=1")))
    }

    async fn abort(&self, id: Uuid) -> Acted {
        let ports = self.own().await?;
        let access = runs::access(&ports, self.console.clock);
        let runtime = tokio::runtime::Handle::current();
        // Its future stays on the thread where it began, and goes on if nobody waits for it.
        let aborting = tokio::task::spawn_blocking(move || {
            let aborted = runtime.block_on(operation::abort(&access, id, &|_: &str| {}));
            runtime.block_on(ports.close());
            aborted
        });
        match aborting.await {
            Ok(aborted) => aborted
                .map(|_| Done::To(format!("/operations/{id}?fresh=1")))
                .map_err(Trouble::from),
            Err(_) => Err(wrong("The console failed at it; its log says where.")),
        }
    }

    fn stop(&self, id: Uuid) -> Acted {
        match self.console.runs.stop_one(id) {
            true => Ok(Done::To(format!("/operations/{id}?fresh=1"))),
            false => Err(wrong("It does not run in this console: stop it where it runs.")),
        }
    }

    fn now(&self) -> Timestamp {
        let now = self.console.clock.now();
        now.round(Unit::Millisecond).unwrap_or(now)
    }

    /// From the fields: `None` is until somebody lifts it.
    fn until(&self) -> Result<Option<Timestamp>, Trouble> {
        match self.fields.until.as_str() {
            "" | screens::UNTIL_LIFTED => Ok(None),
            span => {
                let span: SignedDuration = span
                    .parse()
                    .map_err(|_| wrong("For how long: choose one of the list."))?;
                Ok(self.now().checked_add(span).ok())
            }
        }
    }

    async fn steering(&self) -> Result<Steering, Trouble> {
        let ports = self.console.link.ports().await?;
        let (inspector, publisher) = (ports.inspector.clone(), ports.publisher.clone());
        Ok(Steering::new(inspector, publisher, &self.console.provider))
    }

    async fn order(&self, order: &Order) -> Acted {
        let by = (self.viewer.name.as_str(), self.now());
        self.steering().await?.order(order, by).await?;
        Ok(Done::To("/fleet?fresh=1".to_owned()))
    }

    async fn pause(&self) -> Acted {
        let order = PauseOrder {
            bulk_only: self.fields.what == screens::BULK_ALONE,
            by: self.viewer.name.clone(),
            reason: steering::text("The reason", &self.fields.reason)?,
            since: self.now(),
            until: self.until()?,
        };
        self.order(&Order::Pause(order)).await
    }

    async fn pin(&self) -> Acted {
        let order = PaceOrder {
            per_second: steering::rate(&self.fields.rate).map_err(wrong)?,
            by: self.viewer.name.clone(),
            since: self.now(),
            until: self.until()?,
        };
        self.order(&Order::Pin(order)).await
    }

    async fn batch(&self, state: Option<BatchState>) -> Acted {
        let id = self.query.get("batch").and_then(BatchId::parse);
        let id = id.ok_or_else(|| wrong("This is no id of a batch."))?;
        let screen = Screen::Batch(id.as_str().to_owned());
        if state == Some(BatchState::Cancelled) && self.fields.yes != "yes" {
            let ask = Ask {
                viewer: self.viewer,
                screen: &screen,
                query: self.query,
            };
            let shown = screens::cancel(ask, id.as_str());
            return Ok(Done::Page(Box::new((screen, shown))));
        }
        let steering = self.steering().await?;
        let by = (self.viewer.name.as_str(), self.now());
        steering.order_batch(&id, state, by).await?;
        Ok(Done::To(format!("{}?fresh=1", screen.path())))
    }
}

fn parsed(id: &str) -> Result<Uuid, Trouble> {
    id.parse().map_err(|_| wrong("This is no id of an operation."))
}
