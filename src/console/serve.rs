//! The console over HTTP: pages, live updates, tables as CSV, and its own style and script.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::Console;
use super::access::{COOKIE_NAME, Viewer};
use super::address::{Query, Screen};
use super::block::Block;
use super::page::{self, Shown, with_headers};
use super::screens::{self, Ask};

const STYLE: &str = include_str!("pages/console.css");
const SCRIPT: &str = include_str!("pages/htmax-4.0.1.min.js");

/// The largest form.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// How often a live page looks again.
const LIVE_EVERY: Duration = Duration::from_secs(5);

/// A page is answered within this, whatever the broker does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

type Shared = State<Arc<Console>>;

pub fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route(
            "/assets/console.css",
            get(|| asset("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/assets/htmax-4.0.1.min.js",
            get(|| asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/live/{*path}", get(live))
        .route("/live/", get(live))
        .merge(super::act::routes())
        .fallback(get(screen))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(headers))
        .with_state(console)
}

async fn headers(request: Request, next: Next) -> Response {
    with_headers(next.run(request).await)
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")];
    (headers, text).into_response()
}

fn asked(uri: &Uri, path: &str) -> (Option<Screen>, Query) {
    (Screen::parse(path), Query::parse(uri.query().unwrap_or_default()))
}

impl Console {
    /// What a screen shows; its troubles are shown, too.
    async fn shown(&self, viewer: &Viewer, screen: &Screen, query: &Query) -> Shown {
        let ask = Ask {
            viewer,
            screen,
            query,
        };
        let shown = match timeout(ANSWERED_WITHIN, screens::shown(self, ask)).await {
            Ok(shown) => shown,
            Err(_) => Err(super::Trouble::Slow),
        };
        match shown {
            Ok(shown) => Shown {
                blocks: super::block::with_csv(shown.blocks, screen, query),
                ..shown
            },
            Err(trouble) => page::trouble(&trouble, &self.link.address()),
        }
    }

    fn denied(&self, denied: super::access::Denied) -> Response {
        page::denied(self.provider.as_str(), denied, self.access.has_tokens(), "")
    }
}

async fn screen(State(console): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let viewer = match console.access.viewer(&headers).await {
        Ok(viewer) => viewer,
        Err(denied) => return console.denied(denied),
    };
    let provider = console.provider.as_str();
    let (Some(screen), query) = asked(&uri, uri.path()) else {
        let nothing = page::refused(StatusCode::NOT_FOUND, "There is no such page.");
        return page::page(
            provider,
            &viewer,
            (&Screen::Overview, &Query::default()),
            &nothing,
        );
    };
    let shown = console.shown(&viewer, &screen, &query).await;
    if let Some(name) = query.get("csv") {
        return csv(name, &shown);
    }
    page::page(provider, &viewer, (&screen, &query), &shown)
}

/// A table of what is shown.
fn csv(name: &str, shown: &Shown) -> Response {
    let table = shown.blocks.iter().find_map(|block| match block {
        Block::Table(table) if table.name == name => Some(table),
        _ => None,
    });
    let Some(table) = table else {
        let status = match shown.status {
            StatusCode::OK => StatusCode::NOT_FOUND,
            status => status,
        };
        return (status, "there is no such table now\n").into_response();
    };
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.csv\"", table.name),
        ),
    ];
    (headers, table.as_csv()).into_response()
}

/// Sends a screen again and again, each time that it has changed.
async fn live(State(console): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let viewer = match console.access.viewer(&headers).await {
        Ok(viewer) => viewer,
        Err(denied) => return console.denied(denied),
    };
    let (Some(screen), query) = asked(&uri, uri.path().strip_prefix("/live").unwrap_or_default()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let sent = stream::unfold(String::new(), move |before| {
        let (console, viewer, screen, query, headers) = (
            console.clone(),
            viewer.clone(),
            screen.clone(),
            query.clone(),
            headers.clone(),
        );
        async move {
            loop {
                sleep(LIVE_EVERY).await;
                // A token that is taken away ends the updates, too.
                if console.access.viewer(&headers).await.as_ref() != Ok(&viewer) {
                    return None;
                }
                let content = page::content(&console.shown(&viewer, &screen, &query).await.blocks);
                if content != before {
                    let event = Event::default().data(&content);
                    return Some((Ok::<_, Infallible>(event), content));
                }
            }
        }
    });
    Sse::new(sent).into_response()
}

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

fn to(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path.to_owned())]).into_response()
}

async fn sign_in_page(State(console): Shared, headers: HeaderMap) -> Response {
    match console.access.viewer(&headers).await {
        Ok(_) => to("/"),
        Err(denied) => console.denied(denied),
    }
}

async fn sign_in(State(console): Shared, headers: HeaderMap, Form(form): Form<SignIn>) -> Response {
    match console.access.sign_in(&headers, &form.token).await {
        Ok(id) => {
            let cookie = format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Strict");
            (
                StatusCode::SEE_OTHER,
                [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)],
            )
                .into_response()
        }
        Err(denied) => {
            let wrong = "Nobody has this token.";
            page::denied(
                console.provider.as_str(),
                denied,
                console.access.has_tokens(),
                wrong,
            )
        }
    }
}

#[derive(Deserialize)]
struct SignOut {
    #[serde(default)]
    form_token: String,
}

async fn sign_out(State(console): Shared, headers: HeaderMap, Form(form): Form<SignOut>) -> Response {
    if let Ok(viewer) = console.access.viewer(&headers).await
        && console.access.is_own_form(&headers, &viewer, &form.form_token)
    {
        console.access.sign_out(&headers);
    }
    to("/")
}
