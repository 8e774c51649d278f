//! What `--help` says beside the options: examples, exit codes and the environment of each verb, from one table.

use clap::{Command, CommandFactory as _};

use super::Cli;

/// Lines are as long as fits a terminal of 60 columns.
const ENVIRONMENT: &str = "\
Environment:
  USHER_…   a key of the configuration: USHER_BROKER__URL
  NO_COLOR  not empty: no colours, unless --color always";

const REACHES: &str = "  2  wrong use or configuration
  3  interrupted before the end
  4  broker or provider out of reach, or the output
     can't be written";

const STAYS: &str = "  2  wrong use or configuration
  4  the output can't be written";

/// A verb, what exit code 1 means (`""`: it has none), the other codes, and examples.
type Page = (&'static str, &'static str, &'static str, &'static [&'static str]);

const FAILED_AGAIN: &str = "it stopped, or some failed again";
const HAS_FAILURES: &str = "the batch has failures";

const PAGES: [Page; 39] = [
    (
        "run",
        "a bug in the worker, which the log names",
        "  2  wrong use or configuration\n  3  the grace period ran out",
        &["usher run --config usher.toml"],
    ),
    (
        "apply",
        "some commands failed",
        REACHES,
        &["usher apply commands.jsonl --outcomes out.jsonl"],
    ),
    (
        "publish",
        "rows are refused",
        REACHES,
        &[
            "usher publish commands.jsonl",
            "usher publish users.csv --bulk --batch spring",
        ],
    ),
    (
        "resolve",
        "some keys have no id",
        REACHES,
        &["usher resolve users.csv --out map.csv"],
    ),
    (
        "topology plan",
        "something is missing or differs",
        REACHES,
        &["usher topology plan --json"],
    ),
    (
        "topology declare",
        "something differs",
        REACHES,
        &["usher topology declare --config usher.toml"],
    ),
    (
        "check",
        "",
        "  2  something is wrong\n  3  interrupted before the end\n  4  broker or provider out of reach",
        &["usher check --all", "usher check --show-request command.json"],
    ),
    (
        "health",
        "",
        "  2  wrong use or configuration\n  3  interrupted before the end\n  4  it isn't alive, or with --ready isn't ready",
        &["usher health --ready"],
    ),
    (
        "dead-letters list",
        "",
        REACHES,
        &[
            "usher dead-letters list",
            "usher dead-letters list --by code --json",
        ],
    ),
    (
        "dead-letters show",
        "no dead letter has this id",
        REACHES,
        &["usher dead-letters show 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e"],
    ),
    (
        "dead-letters redrive",
        FAILED_AGAIN,
        REACHES,
        &["usher dead-letters redrive --reason conflict --yes"],
    ),
    (
        "dead-letters discard",
        "it stopped",
        REACHES,
        &["usher dead-letters discard --batch spring --yes"],
    ),
    (
        "dead-letters export",
        "",
        REACHES,
        &["usher dead-letters export failed.jsonl"],
    ),
    ("operations list", "", REACHES, &["usher operations list --json"]),
    (
        "operations show",
        "",
        REACHES,
        &["usher operations show 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e"],
    ),
    (
        "operations abort",
        "",
        REACHES,
        &["usher operations abort 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e"],
    ),
    (
        "operations resume",
        FAILED_AGAIN,
        REACHES,
        &["usher operations resume 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e"],
    ),
    (
        "pause",
        "",
        REACHES,
        &["usher pause --reason maintenance --until 2h"],
    ),
    ("resume", "", REACHES, &["usher resume"]),
    (
        "why",
        "it is a dead letter, or was not seen",
        REACHES,
        &["usher why --user 69629023906488334 --since 2h"],
    ),
    ("waiting", "", REACHES, &["usher waiting --json"]),
    ("batch list", "", REACHES, &["usher batch list"]),
    (
        "batch status",
        HAS_FAILURES,
        REACHES,
        &["usher batch status spring"],
    ),
    (
        "batch watch",
        HAS_FAILURES,
        REACHES,
        &["usher batch watch spring"],
    ),
    (
        "batch report",
        HAS_FAILURES,
        REACHES,
        &["usher batch report spring --html report.html"],
    ),
    ("batch pause", "", REACHES, &["usher batch pause spring"]),
    ("batch resume", "", REACHES, &["usher batch resume spring"]),
    ("batch cancel", "", REACHES, &["usher batch cancel spring --yes"]),
    ("pace show", "", REACHES, &["usher pace show --json"]),
    ("pace pin", "", REACHES, &["usher pace pin 20/s --for 2h"]),
    ("pace unpin", "", REACHES, &["usher pace unpin"]),
    ("console", "", STAYS, &["usher console --provider zitadel-eu"]),
    ("explain", "", STAYS, &["usher explain U014"]),
    (
        "explain answer",
        "",
        STAYS,
        &["usher explain answer --status 403"],
    ),
    ("completions", "", STAYS, &["usher completions bash"]),
    ("man", "", STAYS, &["usher man"]),
    ("schema", "", STAYS, &["usher schema command"]),
    (
        "simulate",
        "",
        STAYS,
        &["usher simulate zitadel --listen 127.0.0.1:8080"],
    ),
    (
        "",
        "done, with failures in the data",
        REACHES,
        &["usher check", "usher run --config usher.toml"],
    ),
];

/// The command line with these pages.
pub fn command() -> Command {
    PAGES.iter().fold(Cli::command(), |command, page| {
        let names: Vec<_> = page.0.split_whitespace().collect();
        with(command, &names, text(page))
    })
}

fn with(command: Command, names: &[&'static str], text: String) -> Command {
    match names {
        [] => command.after_help(text),
        [name, inner @ ..] => command.mut_subcommand(name, |verb| with(verb, inner, text)),
    }
}

fn text((_, failures, codes, examples): &Page) -> String {
    let title = match examples.len() {
        1 => "Example",
        _ => "Examples",
    };
    let examples = examples.join("\n  ");
    let failures = match *failures {
        "" => String::new(),
        failures => format!("  1  {failures}\n"),
    };
    format!("{title}:\n  {examples}\n\nExit codes:\n  0  done\n{failures}{codes}\n\n{ENVIRONMENT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_of_its_verb_and_can_be_run_as_it_is_written() {
        for (verb, _, _, examples) in PAGES {
            for example in examples {
                assert!(
                    example.starts_with(format!("usher {verb}").trim_end()),
                    "{example}"
                );
                let parsed = command().try_get_matches_from(example.split(' '));
                parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn the_lines_fit_60_columns() {
        for page in &PAGES {
            let text = text(page);
            assert!(
                text.contains("\n  2  ") && text.contains("\n\nEnvironment:"),
                "{text}"
            );
            let wide = text.lines().find(|line| line.chars().count() > 60);
            let is_id = |line: &str| line.contains("018f6f1e-3b1c");
            assert!(wide.is_none_or(is_id), "{wide:?}");
        }
    }
}
