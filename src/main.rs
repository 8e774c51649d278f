//! The program: reads its arguments, and ends with the exit code that tells what came of it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
