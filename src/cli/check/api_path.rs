//! Whether `base_url` already ends in the path that the kind's own requests begin with.

use usher::config::Provider;
use usher::contract::UserId;
use usher::operations::findings::Number;

use super::report::Finding;
use super::request::rehearse;
use crate::cli::assemble;

/// What is compared comes from a request that is built and not sent, so each adapter says itself what it appends.
pub(super) async fn look(config: &Provider) -> Option<Finding> {
    let request = request(config).await?;
    Some(match repeated(&config.base_url, &request) {
        Some(path) => Finding::of(
            Number::RepeatedPath,
            "base_url",
            format!(
                "ends in {path}, which the kind {} appends itself: requests would go to {request}",
                config.kind.as_str()
            ),
        ),
        None => Finding::ok("base_url", "does not end in what is appended to it"),
    })
}

/// The URL of a read, or of a write where users are not read. `None` where a write depends on its command.
async fn request(config: &Provider) -> Option<String> {
    let (provider, rehearsal) = assemble::rehearsed(config).ok()?;
    if provider.reads() {
        let _nothing_was_sent = provider.read(&UserId::parse("usher-check")?).await;
        return rehearsal.requests().pop().map(|request| request.url);
    }
    let command = serde_json::json!({
        "id": "00000000-0000-7000-8000-000000000000", "provider": config.name.as_str(), "userId": "usher-check",
        "update": { "email": "usher-check@example.com" },
    });
    let command = usher::contract::decode(command.to_string().as_bytes()).ok()?;
    provider.check(&command).ok()?;
    let shown = rehearse(&*provider, &rehearsal, &command).await.ok()?;
    shown.write.map(|request| request.url)
}

/// The segments at the end of the base that the rest of the request begins with.
fn repeated(base: &str, request: &str) -> Option<String> {
    let rest = request.strip_prefix(base.trim_end_matches('/'))?;
    let (base, rest) = (segments(path(base)), segments(rest));
    (1..=base.len().min(rest.len())).rev().find_map(|count| {
        let end = &base[base.len() - count..];
        (end == &rest[..count]).then(|| format!("/{}", end.join("/")))
    })
}

/// What follows the host.
fn path(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    after.split_once('/').map_or("", |(_, path)| path)
}

fn segments(path: &str) -> Vec<&str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_end_of_the_base_is_found() {
        for (base, request, expected) in [
            ("https://x/v2", "https://x/v2/v2/users/u", Some("/v2")),
            (
                "https://x/api/v2/users/",
                "https://x/api/v2/users/v2/users/u",
                Some("/v2/users"),
            ),
            (
                "https://x/scim/v2/Users",
                "https://x/scim/v2/Users/Users/u",
                Some("/Users"),
            ),
            ("https://x/scim/v2", "https://x/scim/v2/Users/u", None),
            ("https://x", "https://x/v2/users/u", None),
            ("https://v2", "https://v2/v2/users/u", None),
            ("https://x/gateway", "https://x/gateway/users/u?v=1", None),
        ] {
            assert_eq!(repeated(base, request).as_deref(), expected, "{base}");
        }
    }
}
