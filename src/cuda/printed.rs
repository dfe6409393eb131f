//! Prints every launch to stderr if `OSP_PRINT_LAUNCHES` is 1.

use super::device::Launch;
use std::io::Write;
use std::sync::LazyLock;

/// The environment variable that asks for the lines.
const VARIABLE: &str = "OSP_PRINT_LAUNCHES";

static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os(VARIABLE).is_some_and(|value| value == "1"));

/// Prints a launch if the variable asks for it.
pub(super) fn print(launch: &Launch<'_>) {
    if *WANTED {
        // A closed stderr must not stop the run.
        let _ = std::io::stderr().lock().write_all(line(launch).as_bytes());
    }
}

fn line(launch: &Launch<'_>) -> String {
    let Launch { kernel, grid: [x, y, z], threads, shared_bytes, flops, bytes, choice, .. } = launch;
    let choice = choice.map(|choice| format!("; {choice}")).unwrap_or_default();
    format!(
        "launch {kernel}: grid {x}x{y}x{z}, {threads} threads, {shared_bytes} bytes of shared memory, {flops} FLOP, \
         {bytes} bytes{choice}\n"
    )
}
