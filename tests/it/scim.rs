//! The whole program against a SCIM server that is not ours: scim2-server, which keeps ETag and If-Match.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::node::free_ports;
use crate::process::{Folder, Settings};
use crate::scene::TOKEN;
use crate::support::eventually;

/// Where tests/run puts it.
const SERVER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/scim2-server-0.8.3/bin/scim2-server"
);

/// When whoever holds its input is gone, even by kill -9, it ends the server.
const KEEPER: &str = r#"
"$SERVER" --port "$PORT" --bearer-token "$TOKEN" >"$LOG" 2>&1 </dev/null &
read -r _end
kill "$!"
"#;

const ROUNDS: u64 = 5;
const USERS: u64 = 50;
const COMMANDS_OF_A_USER: u64 = 4;

struct Server {
    keeper: Child,
    base_url: String,
    client: reqwest::Client,
    folder: Folder,
}

impl Server {
    async fn start() -> Self {
        assert!(
            Path::new(SERVER).exists(),
            "there is no {SERVER}: run tests/run, which installs it"
        );
        let [port] = free_ports();
        let folder = Folder::new();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .env("SERVER", SERVER)
            .env("PORT", port.to_string())
            .env("TOKEN", TOKEN)
            .env("LOG", folder.path("log"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = Self {
            keeper,
            base_url: format!("http://127.0.0.1:{port}/v2"),
            client: reqwest::Client::new(),
            folder,
        };
        eventually("scim2-server answers", async || {
            let said = server.folder.read("log");
            assert!(
                !said.contains("Traceback"),
                "{said}; run tests/run, which installs it"
            );
            let config = server
                .client
                .get(format!("{}/ServiceProviderConfig", server.base_url));
            config.bearer_auth(TOKEN).send().await.ok()
        })
        .await;
        server
    }

    async fn create(&self, user: &Value) -> String {
        let url = format!("{}/Users", self.base_url);
        let request = self.client.post(url).bearer_auth(TOKEN).json(user);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{user}");
        let created: Value = answer.json().await.unwrap();
        created["id"].as_str().unwrap().to_owned()
    }

    async fn user(&self, id: &str) -> Value {
        let url = format!("{}/Users/{id}", self.base_url);
        let answer = self.client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{id}");
        answer.json().await.unwrap()
    }

    fn settings(&self) -> Settings {
        // Its backlog holds five connections, and it closes each after one answer.
        Settings::default()
            .with("PROVIDER__NAME", &"scim")
            .with("PROVIDER__KIND", &"scim")
            .with("PROVIDER__BASE_URL", &self.base_url)
            .with("PROVIDER__AUTH__TOKEN", &TOKEN)
            .with("PROVIDER__CONCURRENCY", &4)
            .with("BROKER__URL", &"amqp://guest:guest@127.0.0.1:1/%2f")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self
            .keeper
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(b"end\n"));
        let _ = self.keeper.wait();
    }
}

fn user(name: &str) -> Value {
    json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name })
}

fn command(n: u64, user_id: &str, update: &Value) -> Value {
    json!({ "id": Uuid::from_u128(u128::from(n) + 1), "provider": "scim", "userId": user_id, "update": update })
}

/// How each command ended, by its id: `success`, or the reason of its failure with the status and the field that
/// it names. Each has ended once.
async fn applied(settings: &Settings, commands: &[Value]) -> BTreeMap<String, String> {
    let folder = Folder::new();
    let lines: String = commands.iter().map(|command| format!("{command}\n")).collect();
    let file = folder.write("commands.jsonl", &lines);
    let (outcomes, dead) = (folder.path("outcomes.jsonl"), folder.path("dead.jsonl"));
    let arguments = ["apply", &file, "--outcomes", &outcomes, "--dead-letters", &dead];
    let run = settings.run(&arguments, b"").await;
    assert!(matches!(run.status.code(), Some(0 | 1)), "{run:?}");
    let mut ends = BTreeMap::new();
    for line in folder.read("outcomes.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let error = &event["data"]["error"];
        let end = match event["type"].as_str().unwrap() {
            "USER_UPDATE_START" => continue,
            "USER_UPDATE_SUCCESS" => "success".to_owned(),
            _ => format!(
                "{} {} {}",
                error["reason"].as_str().unwrap(),
                error["status"],
                error["pointer"].as_str().unwrap_or("-")
            ),
        };
        let id = event["data"]["commandId"].as_str().unwrap().to_owned();
        assert_eq!(ends.insert(id, end), None, "{event}");
    }
    let sent: BTreeSet<_> = commands
        .iter()
        .map(|command| command["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        sent,
        ends.keys().map(String::as_str).collect(),
        "commands that were lost"
    );
    let failed = ends.values().filter(|end| *end != "success").count();
    assert_eq!(folder.read("dead.jsonl").lines().count(), failed);
    ends
}

/// Commands of one user and round. One carries the version that was just read; those before it carry an older one,
/// those after it the same, which is stale by then.
fn round_of(user: &Value, user_number: u64, round: u64) -> Vec<Value> {
    let version = user["meta"]["version"].as_str().unwrap();
    let fresh = (user_number + round) % COMMANDS_OF_A_USER;
    let command = |position: u64| {
        let n = (round * USERS + user_number) * COMMANDS_OF_A_USER + position;
        let word = if position == fresh { "fresh" } else { "stale" };
        let nickname = format!("{word}-{round}-{position}");
        let mut command = command(n, user["id"].as_str().unwrap(), &json!({ "nickname": nickname }));
        command["expectedVersion"] = if position < fresh {
            "W/\"older\"".into()
        } else {
            version.into()
        };
        command
    };
    (0..COMMANDS_OF_A_USER).map(command).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_commands_at_a_scim_server_those_of_the_present_version_are_applied() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for n in 0..USERS {
        ids.push(server.create(&user(&format!("user-{n}"))).await);
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut users = Vec::new();
        for id in &ids {
            users.push(server.user(id).await);
        }
        let rounds: Vec<_> = (0..)
            .zip(&users)
            .map(|(n, user)| round_of(user, n, round))
            .collect();
        // Position by position, so that the users' commands are mixed.
        let mixed: Vec<_> = (0..rounds[0].len())
            .flat_map(|position| rounds.iter().map(move |commands| commands[position].clone()))
            .collect();
        let ends = applied(&server.settings(), &mixed).await;
        for command in &mixed {
            let end = &ends[command["id"].as_str().unwrap()];
            let is_fresh = command["update"]["nickname"]
                .as_str()
                .unwrap()
                .starts_with("fresh");
            let expected = if is_fresh {
                "success"
            } else {
                "version_conflict 412 -"
            };
            assert_eq!(end, expected, "{command}");
            *counts.entry(end.clone()).or_default() += 1;
        }
        for (n, before) in (0..).zip(&users) {
            let after = server.user(before["id"].as_str().unwrap()).await;
            let fresh = (n + round) % COMMANDS_OF_A_USER;
            assert_eq!(after["nickName"], format!("fresh-{round}-{fresh}"));
            assert_ne!(after["meta"]["version"], before["meta"]["version"]);
        }
    }
    let (fresh, all) = (ROUNDS * USERS, ROUNDS * USERS * COMMANDS_OF_A_USER);
    let expected = [("success", fresh), ("version_conflict 412 -", all - fresh)];
    assert_eq!(
        counts,
        expected.map(|(end, count)| (end.to_owned(), count)).into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scim_server_has_the_fields_as_asked_and_loses_those_that_are_cleared() {
    let server = Server::start().await;
    let home = json!({ "type": "home", "value": "home@example.com" });
    let set = json!({
        "username": "renamed", "email": "new@example.com", "phone": "+61412345678", "givenName": "Alex",
        "familyName": "Taylor", "displayName": "Alex T", "nickname": "Al", "locale": "de-CH",
        "scim": {
            "active": false, "externalId": "e", "title": "t", "userType": "u", "preferredLanguage": "de",
            "timezone": "Australia/Sydney", "profileUrl": "https://example.com/alex", "password": "hunter2",
        },
    });
    let clear = json!({
        "email": null, "phone": null, "givenName": null, "displayName": null, "nickname": null, "locale": null,
        "scim": { "externalId": null, "title": null, "profileUrl": null },
    });
    for (n, (contacts, read_first)) in (0..).zip([
        ("entry", false),
        ("entry", true),
        ("value", true),
        ("list", false),
    ]) {
        let settings = server
            .settings()
            .with("PROVIDER__SCIM__CONTACTS", &contacts)
            .with("PROVIDER__SCIM__READ_FIRST", &read_first);
        let mut new = user(&format!("user-{n}"));
        new["emails"] = json!([home]);
        let id = server.create(&new).await;
        let mut set = set.clone();
        set["username"] = format!("renamed-{n}").into();
        // Twice, so that there is nothing to clear the second time.
        for (part, update) in (0..).zip([&set, &set, &clear, &clear]) {
            let ends = applied(&settings, &[command(10 * n + part, &id, update)]).await;
            assert!(
                ends.values().all(|end| end == "success"),
                "{contacts} {part}: {ends:?}"
            );
            let user = server.user(&id).await;
            match part {
                0 | 1 => check_set(&user, n),
                _ => check_cleared(&user),
            }
            let kept = user["emails"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|entry| entry["type"] == "home");
            assert_eq!(kept, contacts != "list", "{contacts}: {user}");
        }
    }
}

fn check_set(user: &Value, n: u64) {
    let expected = json!({
        "userName": format!("renamed-{n}"), "name": { "givenName": "Alex", "familyName": "Taylor" },
        "displayName": "Alex T", "nickName": "Al", "locale": "de-CH", "active": false, "externalId": "e", "title": "t",
        "userType": "u", "preferredLanguage": "de", "timezone": "Australia/Sydney",
        "profileUrl": "https://example.com/alex",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(user[name], *value, "{name}");
    }
    for (list, value) in [("emails", "new@example.com"), ("phoneNumbers", "+61412345678")] {
        let entries = user[list].as_array().unwrap().iter();
        let work: Vec<_> = entries.filter(|entry| entry["type"] == "work").collect();
        assert_eq!((work.len(), &work[0]["value"]), (1, &json!(value)), "{user}");
        assert_eq!(work[0]["primary"], true, "{user}");
    }
}

fn check_cleared(user: &Value) {
    assert_eq!(user["name"], json!({ "familyName": "Taylor" }));
    for name in [
        "displayName",
        "nickName",
        "locale",
        "externalId",
        "title",
        "profileUrl",
        "phoneNumbers",
    ] {
        assert!(user[name].is_null(), "{name}: {user}");
    }
    let mut emails = user["emails"].as_array().into_iter().flatten();
    assert!(emails.all(|entry| entry["type"] == "home"), "{user}");
    assert_eq!((&user["userType"], &user["active"]), (&json!("u"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scim_server_refuses_ends_with_its_reason() {
    let server = Server::start().await;
    let id = server.create(&user("alex")).await;
    server.create(&user("somebody")).await;
    let taken = json!({ "username": "somebody" });
    let taken_among_others = json!({ "username": "somebody", "email": "alex@example.com" });
    let bad_url = json!({ "nickname": "Al", "scim": { "profileUrl": "no address" } });
    let cases = [
        (&*id, taken, "conflict 409 /update/username"),
        (&*id, taken_among_others, "conflict 409 -"),
        ("nobody", json!({ "nickname": "Al" }), "not_found 404 -"),
        ("nobody", json!({ "nickname": null }), "not_found 404 -"),
        (&*id, bad_url, "rejected 400 -"),
        (
            &*id,
            json!({ "username": null }),
            "unsupported_field null /update/username",
        ),
        (
            &*id,
            json!({ "zitadel": { "gender": "male" } }),
            "unsupported_field null /update/zitadel",
        ),
    ];
    let commands: Vec<_> = (0..)
        .zip(&cases)
        .map(|(n, (id, update, _))| command(n, id, update))
        .collect();
    let ends = applied(&server.settings(), &commands).await;
    let ends: Vec<_> = commands
        .iter()
        .map(|command| &*ends[command["id"].as_str().unwrap()])
        .collect();
    assert_eq!(ends, cases.each_ref().map(|case| case.2));
    // All of a command is applied or nothing.
    let user = server.user(&id).await;
    assert_eq!(user["userName"], "alex");
    assert!(user["nickName"].is_null() && user["emails"].is_null(), "{user}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_a_scim_server_can_do() {
    let server = Server::start().await;
    let check = server.settings().run(&["check", "--json"], b"").await;
    let findings: Vec<Value> = serde_json::from_slice(&check.stdout).unwrap();
    let of = |what: &str| -> Vec<_> {
        findings
            .iter()
            .filter(|finding| finding["what"] == what)
            .collect()
    };
    assert_eq!(of("token")[0]["ok"], true, "{findings:?}");
    let abilities = of("abilities");
    assert_eq!(abilities.len(), 4, "{findings:?}");
    let words = [
        "PATCH",
        "ETag",
        "an entry of `emails` has a value",
        "users are under `/Users`",
    ];
    for (finding, word) in abilities.iter().zip(words) {
        assert!(
            finding["ok"] == true && finding["detail"].as_str().unwrap().contains(word),
            "{finding}"
        );
    }
}
