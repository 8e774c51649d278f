//! The configurations in `docs/providers/rest`: each loads, makes the request that its document is for, and reads back what it
//! wrote from a mock. None of it says what the real service does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::process::{Folder, Settings};

const OAUTH2: &str = "Bearer <hidden>";

/// What a preset makes of a command that sets these fields.
struct Preset {
    document: &'static str,
    update: Value,
    method: &'static str,
    url: &'static str,
    authorization: &'static str,
    body: Value,
    /// Where the mock shows a user that is written at the top.
    shown_under: Option<&'static str>,
}

fn names() -> Value {
    json!({ "email": "alex@example.com", "givenName": "Alex", "familyName": "Taylor" })
}

fn preset(document: &'static str, method: &'static str, url: &'static str, body: Value) -> Preset {
    Preset {
        document,
        update: names(),
        method,
        url,
        authorization: OAUTH2,
        body,
        shown_under: None,
    }
}

fn presets() -> Vec<Preset> {
    let profile = json!({ "email": "alex@example.com", "firstName": "Alex", "lastName": "Taylor" });
    vec![
        preset(
            "auth0.md",
            "PATCH",
            "https://acme.eu.auth0.com/api/v2/users/u%7C1",
            json!({ "email": "alex@example.com", "given_name": "Alex", "family_name": "Taylor" }),
        ),
        Preset {
            update: json!({ "phone": "+61412345678", "nickname": "Al" }),
            shown_under: Some("user"),
            ..preset(
                "dynamic.md",
                "PUT",
                "https://app.dynamicauth.com/api/v0/environments/00000000-0000-0000-0000-000000000000/users/u%7C1",
                json!({ "phoneNumber": "+61412345678", "alias": "Al" }),
            )
        },
        Preset {
            authorization: "<hidden>",
            ..preset(
                "fusionauth.md",
                "PATCH",
                "https://auth.example/api/user/u%7C1",
                json!({ "user": profile }),
            )
        },
        preset(
            "keycloak.md",
            "PUT",
            "https://keycloak.example/admin/realms/acme/users/u%7C1",
            profile.clone(),
        ),
        preset(
            "microsoft-graph.md",
            "PATCH",
            "https://graph.microsoft.com/v1.0/users/u%7C1",
            json!({ "mail": "alex@example.com", "givenName": "Alex", "surname": "Taylor" }),
        ),
        Preset {
            authorization: "SSWS <hidden>",
            ..preset(
                "okta.md",
                "POST",
                "https://acme.okta.com/api/v1/users/u%7C1",
                json!({ "profile": profile }),
            )
        },
        preset(
            "workos.md",
            "PUT",
            "https://api.workos.com/user_management/users/u%7C1",
            json!({ "email": "alex@example.com", "first_name": "Alex", "last_name": "Taylor" }),
        ),
    ]
}

/// The TOML of each document, by its file's name.
fn documents() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers/rest");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().into_string().unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).collect();
        assert_eq!(blocks.len(), 1, "{name} has one configuration");
        (name, blocks[0].split("```").next().unwrap().to_owned())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

fn command(toml: &str, update: &Value) -> String {
    let name = toml.split("name = \"").nth(1).unwrap().split('"').next().unwrap();
    json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": name, "userId": "u|1", "update": update,
    })
    .to_string()
}

#[tokio::test]
async fn each_preset_makes_the_request_that_its_document_is_for() {
    let mut documents = documents();
    let folder = Folder::new();
    for preset in presets() {
        let document = preset.document;
        let toml = documents.remove(document).unwrap();
        let file = folder.write("usher.toml", &toml);
        let arguments = ["check", "--show-request", "-", "--json", "--config", &file];
        let command = command(&toml, &preset.update);
        let output = Settings::default().run(&arguments, command.as_bytes()).await;
        assert!(output.status.success(), "{document} {output:?}");
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = json!({
            "method": preset.method, "url": preset.url, "body": preset.body,
            "headers": {
                "accept": "application/json", "authorization": preset.authorization,
                "content-type": "application/json",
            },
        });
        assert_eq!(shown["write"], expected, "{document}");
    }
    assert!(
        documents.is_empty(),
        "no request is expected of {:?}",
        documents.keys()
    );
}

/// A user that is what was written to it, and how often it was.
struct Mock {
    user: Value,
    shown_under: Option<&'static str>,
    writes: Vec<Method>,
}

type Shared = Arc<Mutex<Mock>>;

async fn serve(State(mock): State<Shared>, request: Request) -> Response {
    let method = request.method().clone();
    if request.uri().path() == "/token" {
        let token = json!({ "access_token": "t0ken", "token_type": "Bearer", "expires_in": 3600 });
        return axum::Json(token).into_response();
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 16).await.unwrap();
    let mut mock = mock.lock().unwrap();
    if method == Method::GET {
        let user = match mock.shown_under {
            Some(name) => json!({ name: mock.user }),
            None => mock.user.clone(),
        };
        return axum::Json(user).into_response();
    }
    mock.user = serde_json::from_slice(&body).unwrap();
    mock.writes.push(method);
    StatusCode::NO_CONTENT.into_response()
}

async fn mock(shown_under: Option<&'static str>) -> (Shared, String) {
    let mock: Shared = Arc::new(Mutex::new(Mock {
        user: json!({}),
        shown_under,
        writes: Vec::new(),
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(serve).with_state(Arc::clone(&mock));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (mock, base_url)
}

#[tokio::test]
async fn each_preset_reads_back_from_a_mock_what_it_wrote() {
    let documents = documents();
    for preset in presets() {
        let document = preset.document;
        let folder = Folder::new();
        let (mock, base_url) = mock(preset.shown_under).await;
        let toml = documents[document].replace("/run/secrets/", &folder.path(""));
        for name in [
            "auth0",
            "dynamic",
            "fusionauth",
            "graph",
            "keycloak",
            "okta",
            "workos",
        ] {
            folder.write(name, "s3cret");
        }
        let file = folder.write("usher.toml", &toml);
        let mut settings = Settings::default()
            .with("PROVIDER__BASE_URL", &base_url)
            .with("PROVIDER__SKIP_UNCHANGED", &"true");
        if toml.contains("oauth2") {
            let token_url = format!("{base_url}/token");
            settings = settings.with("PROVIDER__AUTH__OAUTH2__TOKEN_URL", &token_url);
        }
        let command = command(&toml, &preset.update);
        for (outcomes, changed) in [("first.jsonl", true), ("second.jsonl", false)] {
            let outcomes = folder.path(outcomes);
            let arguments = ["apply", "-", "--outcomes", &outcomes, "--config", &file];
            let output = settings.run(&arguments, command.as_bytes()).await;
            assert!(output.status.success(), "{document} {output:?}");
            let events = fs::read_to_string(&outcomes).unwrap();
            let end: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
            assert_eq!(end["type"], "USER_UPDATE_SUCCESS", "{document}");
            assert_eq!(end["data"]["changed"], changed, "{document}");
        }
        let mock = mock.lock().unwrap();
        assert_eq!((&mock.user, mock.writes.len()), (&preset.body, 1), "{document}");
        assert_eq!(mock.writes[0], preset.method, "{document}");
    }
}
