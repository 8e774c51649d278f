//! The program: reads its arguments, and exits with the code of its result.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
