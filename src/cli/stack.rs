//! Makes thread stacks so large that the most deeply nested message can't exhaust them.
//!
//! lapin reads, copies and frees nested headers by recursion, on a thread that it starts itself with the standard
//! library's stack of 2 MiB. Headers of 26,000 levels fit a frame. A stack can't grow, and the library reads
//! its size from the environment once, before the first thread starts: so the program restarts itself with it set.

use std::env;
use std::process::Command;

use super::say;

const VARIABLE: &str = "RUST_MIN_STACK";

/// The size of each stack. It is address space: unused parts take no memory. A debug build needs far more per level.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 2048 } else { 256 } * 1024 * 1024;

/// Returns in a process whose threads have stacks of this size. If that is not possible, it warns and continues.
#[cfg(unix)]
pub fn make_large() {
    use std::os::unix::process::CommandExt;

    let set = env::var(VARIABLE)
        .ok()
        .and_then(|bytes| bytes.parse::<usize>().ok());
    if set.is_some_and(|bytes| bytes >= STACK_BYTES) {
        return;
    }
    let mut arguments = env::args_os();
    let failed = env::current_exe().map(|program| {
        let mut again = Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Returns only on failure.
        again
            .args(arguments)
            .env(VARIABLE, STACK_BYTES.to_string())
            .exec()
    });
    let why = failed.unwrap_or_else(|error| error);
    say(&format!(
        "usher: can't start itself with larger stacks ({why}); set {VARIABLE}={STACK_BYTES}, or a message with deeply \
         nested headers may end it"
    ));
}

#[cfg(not(unix))]
pub fn make_large() {}
