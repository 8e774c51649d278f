//! A program that prints a token, run with /bin/sh.

use serde_json::json;

use super::*;
use crate::provider::TokenState;
use crate::provider::http::{Http, Settings};
use crate::provider::karmo;
use crate::provider::testbed::{ScratchFile, TIMEOUT, command, error, scratch_file, simulated};
use crate::provider::token::Source;
use crate::provider::{Kind, Provider};

fn program(arguments: &[&str]) -> Program {
    Program::new(arguments.iter().map(|word| (*word).to_owned()).collect(), TIMEOUT).unwrap()
}

fn state_of(program: &Program) -> TokenState {
    program.lock().fetched.state()
}

fn header_of(program: &Program) -> Option<HeaderValue> {
    program.lock().fetched.header()
}

/// The program, and its script, which is deleted with the file.
fn script(text: &str) -> (Program, ScratchFile) {
    let file = scratch_file(text);
    let path = file.path().to_str().unwrap();
    (program(&["/bin/sh", path, "an argument; $HOME"]), file)
}

#[tokio::test]
async fn printed_token_is_used_for_its_printed_lifetime() {
    for (printed, header) in [
        (r#"{"token":"t0ken","expires_in":900}"#, "Bearer t0ken"),
        (
            r#" {"access_token":"t0ken","token_type":"Bearer","expires_in":"900"} "#,
            "Bearer t0ken",
        ),
        (r#"{"token":"t0ken"}"#, "Bearer t0ken"),
    ] {
        let (program, _file) = script(&format!("echo '{printed}'\necho hunter2 >&2\n"));
        assert_eq!(
            (state_of(&program), header_of(&program)),
            (TokenState::Missing, None)
        );
        program.fetch().await.unwrap();
        assert_eq!(state_of(&program), TokenState::Ready);
        let in_use = header_of(&program).unwrap();
        assert_eq!(in_use, header, "{printed}");
        assert!(in_use.is_sensitive());
    }
}

#[tokio::test]
async fn arguments_and_environment_reach_the_program_unchanged() {
    let (program, _file) = script(
        r#"test "$1" = 'an argument; $HOME' && test -n "$PATH" && echo '{"token":"t0ken","expires_in":9}'"#,
    );
    program.fetch().await.unwrap();
    assert_eq!(header_of(&program).unwrap(), "Bearer t0ken");
}

#[tokio::test]
async fn program_without_a_token_is_named_with_a_remedy_and_without_its_output() {
    for (text, expected) in [
        (
            "echo hunter2; echo hunter2 >&2; exit 3",
            "failed (exit status: 3)",
        ),
        ("kill -9 $$", "failed (signal: 9"),
        ("echo hunter2", "printed something other than JSON"),
        ("true", "printed something other than JSON"),
        (r#"echo '["hunter2",900]'"#, "printed something other than JSON"),
        (r#"echo '{"jwt":"hunter2"}'"#, "printed something other than JSON"),
        (
            r#"echo '{"token":"hunter2 x"}'"#,
            "a token that an HTTP header can't contain",
        ),
        (
            r#"echo '{"token":""}'"#,
            "a token that an HTTP header can't contain",
        ),
        (r#"echo '{"token":"hunter2","expires_in":0}'"#, "expires_in"),
        (r#"echo '{"token":"hunter2","expires_in":"soon"}'"#, "expires_in"),
        ("yes hunter2", "printed more than 64 KiB"),
    ] {
        let (program, _file) = script(text);
        let failed = error(program.fetch().await);
        assert_eq!(failed.fault, Fault::Credentials, "{text}");
        assert!(
            failed.detail.contains("`/bin/sh` of token_command") && failed.detail.contains(expected),
            "{text}: {failed}"
        );
        assert_eq!(state_of(&program), TokenState::Missing);
    }
    let failed = error(program(&["/no/such/program", "hunter2"]).fetch().await);
    assert_eq!(failed.fault, Fault::Credentials);
    assert!(failed.detail.contains("can't be started"), "{failed}");
}

#[tokio::test]
async fn program_that_does_not_end_is_stopped_in_time() {
    let mut program = program(&["/bin/sh", "-c", "sleep 1000"]);
    program.time_max = Duration::from_millis(50);
    let failed = error(program.fetch().await);
    assert!(failed.detail.contains("did not end within 50ms"), "{failed}");
}

#[tokio::test]
async fn children_of_a_stopped_program_are_stopped() {
    let pid = scratch_file("");
    let path = pid.path().to_str().unwrap();
    let text = format!("sleep 1000 & echo $! > {path}; wait");
    let program = program(&["/bin/sh", "-c", &text]);
    let started = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            if let Some(pid) = text.strip_suffix('\n') {
                return pid.to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let child = tokio::select! {
        ended = program.fetch() => panic!("{ended:?}"),
        child = started => child,
    };
    // If nothing waits for it, it stays as a zombie.
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    };
    while lives() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn current_token_survives_a_failed_run() {
    let (program, file) = script(r#"echo '{"token":"t0ken","expires_in":900}'"#);
    program.fetch().await.unwrap();
    file.write("exit 1");
    error(program.fetch().await);
    assert_eq!(header_of(&program).unwrap(), "Bearer t0ken");
}

#[test]
fn command_without_a_program_is_refused() {
    for command in [vec![], vec![String::new()]] {
        let refused = Program::new(command, TIMEOUT).map(drop).unwrap_err();
        assert_eq!(refused.key, "provider.auth.token_command");
    }
}

#[tokio::test]
async fn refused_token_is_printed_again() {
    let simulated = simulated(Kind::Karmo).await;
    let minted = |n: u32| format!(r#"echo '{{"token":"minted-{n}","expires_in":900}}'"#);
    let file = scratch_file(&minted(1));
    let http = Http::new(Settings {
        base_url: simulated.base_url(),
        timeout: TIMEOUT,
        token: Source::Program {
            command: vec!["/bin/sh".into(), file.path().to_str().unwrap().into()],
            time_max: TIMEOUT,
        },
        concurrency: 4,
        answers: Vec::new(),
    });
    let karmo = karmo::adapter(&karmo::Config::default(), http.unwrap()).unwrap();
    let command = command("u", &json!({"givenName": "Alex"}));
    for n in 1..=2 {
        simulated.set_token(Some(format!("minted-{n}")));
        file.write(&minted(n));
        // There is no token yet, or the previous one was refused.
        let renewed = error(karmo.update(&command, None).await);
        assert_eq!(renewed.fault, Fault::CredentialsRenewed);
        assert_eq!(karmo.access().token(), TokenState::Missing);
        karmo.access().fetch_token().await.unwrap();
        karmo.update(&command, None).await.unwrap();
    }
}
