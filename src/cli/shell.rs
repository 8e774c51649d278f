//! `usher completions` and `usher man`: for the shell and for `man`.

use std::io::Write as _;

use clap::Command;
use clap_complete::Shell;

use super::exit::Exit;
use super::{help, print};

#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// To be read by the shell: `source <(usher completions bash)`.
pub fn completions(args: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "usher", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// One page with all verbs: `usher man | man -l -`.
pub fn man() -> anyhow::Result<Exit> {
    let mut page = Vec::new();
    let mut usher = help::command();
    usher.build();
    clap_mangen::Man::new(usher.clone()).render(&mut page)?;
    for verb in verbs(&usher) {
        writeln!(page)?;
        let man = clap_mangen::Man::new(verb);
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    print(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}

/// All verbs that do something, each under its whole name.
fn verbs(of: &Command) -> Vec<Command> {
    let mut verbs = Vec::new();
    for verb in of.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{} {}", of.get_bin_name().unwrap_or("usher"), verb.get_name());
        let verb = verb.clone().bin_name(name);
        if verb.has_subcommands() {
            verbs.extend(self::verbs(&verb));
        } else {
            verbs.push(verb);
        }
    }
    verbs
}
