//! The frame around a screen, and the pages without one: sign-in, refusals, troubles.

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{Html, IntoResponse, Response};

use super::access::{Denied, Viewer};
use super::address::{Query, Screen};
use super::block::{Block, Mood};
use super::link::Trouble;
use crate::web::origin::Foreign;

/// No script, style or request but the console's own, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const PLACES: [(&str, &str); 6] = [
    ("", "Overview"),
    ("failures", "Failures"),
    ("operations", "Operations"),
    ("batches", "Batches"),
    ("why", "Why"),
    ("fleet", "Fleet"),
];

#[derive(Template)]
#[template(path = "page.html", config = "src/console/askama.toml")]
struct Page<'a> {
    title: String,
    provider: &'a str,
    /// Who looks; empty: nobody is known.
    viewer: &'a str,
    role: &'a str,
    signed_in: bool,
    form_token: &'a str,
    places: &'a [(&'static str, &'static str)],
    here: &'a str,
    /// Where live updates come from; empty: there are none.
    live: String,
    /// Where they are switched on or off.
    switch: String,
    fresh: String,
    /// Whether the page asks again by itself where there is no JavaScript.
    again: bool,
    content: String,
    version: &'static str,
}

/// The blocks as HTML.
pub fn content(blocks: &[Block]) -> String {
    let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    blocks.join("\n")
}

/// A screen for a viewer.
pub fn page(provider: &str, viewer: &Viewer, (screen, query): (&Screen, &Query), shown: &Shown) -> Response {
    let is_live = query.get("live") != Some("off") && shown.again != Some(Again::Never);
    let rest = query.without("live").without("fresh");
    let (path, text) = (screen.path(), rest.text());
    let switch = match (is_live, shown.again) {
        (true, _) => format!("{path}{}", rest.with("live", "off").text()),
        (false, Some(Again::Never)) => String::new(),
        (false, _) => format!("{path}{text}"),
    };
    // What is refused before it has a screen stands on none.
    let refusal = match (screen, shown.status) {
        (Screen::Overview, StatusCode::NOT_FOUND) => Some("No such page"),
        (Screen::Overview, StatusCode::FORBIDDEN) => Some("Not allowed"),
        (Screen::Overview, StatusCode::UNPROCESSABLE_ENTITY) => Some("Not done"),
        _ => None,
    };
    let page = Page {
        title: refusal.map_or_else(|| screen.title(), str::to_owned),
        provider,
        viewer: &viewer.name,
        role: role(viewer),
        signed_in: viewer.has_session,
        form_token: &viewer.form_token,
        places: &PLACES,
        here: refusal.map_or_else(|| screen.place(), |_| "no screen"),
        live: match is_live {
            true => format!("/live{path}{text}"),
            false => String::new(),
        },
        switch,
        fresh: format!("{path}{}", query.with("fresh", "1").text()),
        again: is_live && shown.again == Some(Again::Soon),
        content: content(&shown.blocks),
        version: env!("CARGO_PKG_VERSION"),
    };
    html(shown.status, &page)
}

/// When a page is asked for again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    Soon,
    Never,
}

/// What is shown of a screen.
pub struct Shown {
    pub status: StatusCode,
    pub blocks: Vec<Block>,
    /// `None`: the screen is shown. Live updates follow it unless it is `Never`.
    pub again: Option<Again>,
}

impl From<Vec<Block>> for Shown {
    fn from(blocks: Vec<Block>) -> Self {
        Self {
            status: StatusCode::OK,
            blocks,
            again: None,
        }
    }
}

/// What is shown where something is not. `address`: the broker's.
pub fn trouble(trouble: &Trouble, address: &str) -> Shown {
    match trouble {
        Trouble::Away(reason) => Shown {
            status: StatusCode::SERVICE_UNAVAILABLE,
            blocks: vec![
                Block::Verdict {
                    mood: Mood::Bad,
                    text: format!("The broker at {address} can't be reached."),
                },
                Block::Text(reason.clone()),
                Block::Text(
                    "The console tries again with each look. This page follows by itself, unless its updates are paused. Workers \
                     keep what they have in hand, and go on when the broker is back."
                        .to_owned(),
                ),
            ],
            again: Some(Again::Soon),
        },
        Trouble::Slow => Shown {
            status: StatusCode::SERVICE_UNAVAILABLE,
            blocks: vec![Block::Verdict {
                mood: Mood::Busy,
                text: format!("Looking. The broker at {address} has not answered yet. This page follows by itself, unless its updates are paused."),
            }],
            again: Some(Again::Soon),
        },
        Trouble::Refused(reason) => refused(StatusCode::UNPROCESSABLE_ENTITY, reason),
    }
}

/// A page that says why something is not done or not shown.
pub fn refused(status: StatusCode, why: &str) -> Shown {
    Shown {
        status,
        blocks: vec![Block::Verdict {
            mood: Mood::Bad,
            text: why.to_owned(),
        }],
        again: Some(Again::Never),
    }
}

fn role(viewer: &Viewer) -> &'static str {
    match (viewer.may_act, viewer.may_reveal) {
        (true, true) => "operator, auditor",
        (true, false) => "operator",
        (false, true) => "auditor",
        (false, false) => "viewer, read-only",
    }
}

#[derive(Template)]
#[template(path = "sign_in.html", config = "src/console/askama.toml")]
struct SignIn<'a> {
    wrong: &'a str,
}

/// The page for somebody who is not let in.
pub fn denied(provider: &str, denied: Denied, has_tokens: bool, wrong: &str) -> Response {
    let (status, text) = match denied {
        Denied::Foreign(Foreign::Host) => (
            StatusCode::FORBIDDEN,
            "This name does not belong to the console: use its IP address or localhost, or name it in console.hosts.",
        ),
        Denied::Foreign(Foreign::Site) => (StatusCode::FORBIDDEN, "A page of another site may not act here."),
        Denied::Unreadable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The file of tokens (console.token_file) can't be read; the console's log says why.",
        ),
        Denied::Unknown if has_tokens => (StatusCode::UNAUTHORIZED, "Sign in to look."),
        Denied::Unknown => (
            StatusCode::UNAUTHORIZED,
            "The proxy before the console (console.user_header) names nobody.",
        ),
    };
    let mut content = match denied {
        Denied::Unknown if has_tokens => SignIn { wrong }.to_string(),
        _ => String::new(),
    };
    if content.is_empty() {
        content = Block::note(Mood::Bad, text).to_string();
    }
    let page = Page {
        title: "Not signed in".to_owned(),
        provider,
        viewer: "",
        role: "",
        signed_in: false,
        form_token: "",
        places: &[],
        here: "",
        live: String::new(),
        switch: String::new(),
        fresh: String::new(),
        again: false,
        content,
        version: env!("CARGO_PKG_VERSION"),
    };
    html(status, &page)
}

fn html(status: StatusCode, page: &Page<'_>) -> Response {
    match page.render() {
        Ok(text) => with_headers((status, Html(text)).into_response()),
        Err(_) => with_headers(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    }
}

/// What every answer says of itself.
pub fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
