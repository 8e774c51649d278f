//! A call to the provider, as its span tells it: by the conventions for HTTP, without the URL.

use super::context::Context;
use super::span::Attribute;

/// A request that a call sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// The path with a placeholder for the user's id, and without a query.
    pub template: String,
    pub host: String,
    pub port: Option<u16>,
}

/// A call whose answer is awaited.
pub(super) struct Open {
    pub(super) context: Context,
    pub(super) request: Request,
    pub(super) status: Option<u16>,
}

/// How a call ended.
pub(super) struct Ended {
    pub(super) kind: &'static str,
    pub(super) answer: &'static str,
    pub(super) failed: bool,
    /// Of an error.
    pub(super) status: Option<u16>,
}

impl Open {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.request.method, self.request.template)
    }
}

/// The attributes of a call. One that runs a program, or that sends nothing, has no request.
pub(super) fn attributes(open: Option<Open>, ended: &Ended) -> Vec<Attribute> {
    let mut attributes = vec![
        ("usher.call", ended.kind.into()),
        ("usher.answer", ended.answer.into()),
    ];
    let answered = open.as_ref().and_then(|open| open.status).or(ended.status);
    if let Some(Open { request, .. }) = open {
        attributes.push(("http.request.method", request.method.into()));
        attributes.push(("url.template", request.template.into()));
        attributes.push(("server.address", request.host.into()));
        attributes.extend(request.port.map(|port| ("server.port", port.into())));
    }
    attributes.extend(answered.map(|status| ("http.response.status_code", status.into())));
    if ended.failed {
        let error = match answered {
            Some(status) if status >= 400 => status.to_string().into(),
            _ => ended.answer.into(),
        };
        attributes.push(("error.type", error));
    }
    attributes
}
