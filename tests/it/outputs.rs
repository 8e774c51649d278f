//! What becomes of a run whose output can't be written, whose reader goes away or whose input ends too early.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::apply::{commands, lines, rows, slow_provider};
use crate::process::{Folder, Settings};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn mode(path: &str) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_full_disk_ends_the_run_with_the_files_name_the_reason_and_4() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &format!("{}no JSON\n", commands(50)));
    let events = settings
        .run(&["apply", &file, "--outcomes", "/dev/full"], b"")
        .await;
    assert_eq!(events.status.code(), Some(4), "{events:?}");
    let why = "usher: /dev/full can't be written: No space left on device";
    assert!(said(&events).contains(why), "{events:?}");
    // What can't be told is not done.
    assert_eq!(provider.summary().applied, 0);

    let outcomes = folder.path("out.jsonl");
    let dead_letters = [
        "apply",
        &file,
        "--outcomes",
        &outcomes,
        "--dead-letters",
        "/dev/full",
    ];
    let dead_letters = settings.run(&dead_letters, b"").await;
    assert_eq!(dead_letters.status.code(), Some(4), "{dead_letters:?}");
    assert!(said(&dead_letters).contains(why), "{dead_letters:?}");
    let stdout = settings
        .script(&format!(r#""$USHER" apply {file} >/dev/full"#))
        .await;
    assert_eq!(stdout.status.code(), Some(4), "{stdout:?}");
    assert!(
        said(&stdout).contains("stdout can't be written: No space left"),
        "{stdout:?}"
    );
}

#[tokio::test]
async fn a_run_that_ran_out_of_room_in_the_middle_of_a_line_goes_on_where_it_ended() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &format!("{}no JSON\n", commands(300)));
    let outcomes = folder.path("out.jsonl");
    // In units of 1,024 bytes; a line that goes beyond is written by half.
    let short = format!(r#"trap '' XFSZ; ulimit -f 150; "$USHER" apply {file} --outcomes {outcomes}"#);
    let first = settings.script(&short).await;
    assert_eq!(first.status.code(), Some(4), "{first:?}");
    assert!(
        said(&first).contains("out.jsonl can't be written: File too large"),
        "{first:?}"
    );
    assert!(!folder.read("out.jsonl").ends_with('\n'));

    let second = settings
        .run(&["apply", &file, "--outcomes", &outcomes], b"")
        .await;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(said(&second).contains("out.jsonl: the last line was half-written and is cut off"));
    let rows = rows(&second.stderr);
    assert!(rows["were"] > 0, "{rows:?}");
    assert_eq!(rows.values().sum::<u64>(), 301, "{rows:?}");
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for event in lines(&folder.read("out.jsonl")) {
        if event["type"] != "USER_UPDATE_START" {
            let id = event["data"]["commandId"].as_str().unwrap().to_owned();
            *ends.entry(id).or_default() += 1;
        }
    }
    assert_eq!(ends.len(), 301);
    assert!(ends.values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_dead_letter_whose_event_is_missing_is_not_written_twice() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", "no JSON\n");
    let outcomes = folder.path("out.jsonl");
    let arguments = ["apply", &file, "--outcomes", &outcomes];
    let first = settings.run(&arguments, b"").await;
    assert_eq!(first.status.code(), Some(1), "{first:?}");
    let dead_letters = folder.read("out.dead-letters.jsonl");
    assert_eq!(lines(&dead_letters).len(), 1);
    // As a crash between the two leaves it, in the middle of the event.
    let events = folder.read("out.jsonl");
    folder.write("out.jsonl", &events[..events.len() - 100]);
    let second = settings.run(&arguments, b"").await;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert_eq!(folder.read("out.dead-letters.jsonl"), dead_letters);
    assert_eq!(rows(&second.stderr).values().sum::<u64>(), 1);
    // And in the middle of the dead letter.
    folder.write("out.jsonl", events.split_inclusive('\n').next().unwrap());
    folder.write("out.dead-letters.jsonl", &dead_letters[..dead_letters.len() - 20]);
    let third = settings.run(&arguments, b"").await;
    assert_eq!(third.status.code(), Some(1), "{third:?}");
    assert_eq!(lines(&folder.read("out.dead-letters.jsonl")).len(), 1);
}

#[tokio::test]
async fn a_pipe_that_its_reader_closes_ends_the_run_quietly_with_3() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(2000));
    let script = format!(r#""$USHER" apply {file} | head -n 1; exit "${{PIPESTATUS[0]}}""#);
    let applied = settings.script(&script).await;
    assert_eq!(applied.status.code(), Some(3), "{applied:?}");
    assert_eq!(lines(&String::from_utf8_lossy(&applied.stdout)).len(), 1);
    let said = said(&applied);
    assert!(!said.contains("panicked") && !said.contains("can't be"), "{said}");
    assert!(said.contains("interrupted before the end of the input"), "{said}");
    assert!(provider.summary().applied < 2000);
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_no_interrupt() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(2000));
    let (_unread, output) = std::io::pipe().unwrap();
    let mut run = settings.start_between(Stdio::null(), &["apply", &file], output.into());
    // A pipe takes 64 KiB: a hundred events or two.
    crate::support::eventually("some writes", async || {
        (provider.summary().applied >= 20).then_some(())
    })
    .await;
    // Two that come together may count as one.
    crate::support::eventually("its end", async || {
        let ended = !run.is_running();
        if !ended {
            run.signal("INT").await;
        }
        ended.then_some(())
    })
    .await;
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
}

#[tokio::test]
async fn an_interrupt_ends_a_run_that_waits_for_its_stdin() {
    let (provider, settings) = slow_provider().await;
    let (input, mut open) = std::io::pipe().unwrap();
    let run = settings.start_between(input.into(), &["apply", "-"], Stdio::null());
    open.write_all(commands(1).as_bytes()).unwrap();
    crate::support::eventually("a write", async || {
        (provider.summary().applied == 1).then_some(())
    })
    .await;
    run.signal("INT").await;
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
    drop(open);
}

#[tokio::test]
async fn a_closed_or_full_stderr_is_no_reason_to_stop() {
    let (_provider, settings) = slow_provider().await;
    let settings = settings.with("LOG__LEVEL", &"debug");
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &format!("{}no JSON\n", commands(5)));
    let closed = format!(r#"exec 3> >(true); wait $!; "$USHER" apply {file} 2>&3"#);
    let full = format!(r#""$USHER" apply {file} 2>/dev/full"#);
    for script in [closed, full] {
        let applied = settings.script(&script).await;
        assert_eq!(applied.status.code(), Some(1), "{script}: {applied:?}");
        assert_eq!(lines(&String::from_utf8_lossy(&applied.stdout)).len(), 12);
    }
}

#[tokio::test]
async fn a_result_that_nobody_reads_is_no_error_and_one_that_cannot_be_written_is() {
    let settings = Settings::default();
    for verb in [
        "schema event",
        "schema config",
        "simulate zitadel --listen 127.0.0.1:0",
    ] {
        let full = settings.script(&format!(r#""$USHER" {verb} >/dev/full"#)).await;
        assert_eq!(full.status.code(), Some(4), "{verb}: {full:?}");
        let why = "usher: stdout can't be written: No space left on device";
        assert!(said(&full).contains(why), "{verb}: {full:?}");
    }
    let closed = r#"exec 3> >(true); wait $!; "$USHER" schema event >&3"#;
    let closed = settings.script(closed).await;
    assert_eq!(closed.status.code(), Some(0), "{closed:?}");
    assert_eq!(said(&closed), "");
}

#[tokio::test]
async fn an_input_that_breaks_off_is_worked_off_as_far_as_it_was_read() {
    let (provider, settings) = slow_provider().await;
    let mut input = commands(3).into_bytes();
    input.resize(input.len() + 17 * 1024 * 1024, b'x');
    let applied = settings.run(&["apply", "-"], &input).await;
    assert_eq!(applied.status.code(), Some(2), "{applied:?}");
    let said = said(&applied);
    assert!(
        said.contains("stdin: line 4 is longer than any command"),
        "{said}"
    );
    assert!(said.contains("interrupted before the end of the input"), "{said}");
    assert_eq!(provider.summary().applied, 3);
}

#[tokio::test]
async fn the_dead_letter_file_is_private_and_named_after_the_outcomes_file() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", "no JSON\n");
    for name in ["a", "b"] {
        let outcomes = folder.path(&format!("{name}.jsonl"));
        let applied = settings
            .run(&["apply", &file, "--outcomes", &outcomes], b"")
            .await;
        assert_eq!(applied.status.code(), Some(1), "{applied:?}");
        let dead_letters = format!("{name}.dead-letters.jsonl");
        assert_eq!(lines(&folder.read(&dead_letters)).len(), 1);
        assert_eq!(mode(&folder.path(&dead_letters)), 0o600);
    }
    let wide = folder.write("wide.jsonl", "");
    std::fs::set_permissions(&wide, std::fs::Permissions::from_mode(0o644)).unwrap();
    let applied = settings
        .run(&["apply", &file, "--dead-letters", &wide], b"")
        .await;
    assert!(
        said(&applied).contains("others may read it (mode 0644)"),
        "{applied:?}"
    );
    let mixed = ["apply", &file, "--outcomes", &wide, "--dead-letters", &wide];
    let mixed = settings.run(&mixed, b"").await;
    assert_eq!(mixed.status.code(), Some(2));
    assert!(said(&mixed).contains("are the same file"), "{mixed:?}");
    let over = settings
        .run(&["apply", &file, "--dead-letters", &file], b"")
        .await;
    assert_eq!(over.status.code(), Some(2));
    assert_eq!(folder.read("commands.jsonl"), "no JSON\n");
}
