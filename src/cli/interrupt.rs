//! Ctrl-C: the first press asks the run to stop at the next opportunity, so that temporary files are removed; the second
//! ends the process at once.

use osp::{Error, Result};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C, and the signals with which systems end a process.
pub fn install(quiet: bool) {
    // Fails only if a handler exists already; then that one decides, and the run is simply not interruptible.
    let _ = ctrlc::set_handler(move || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(Error::Interrupted.exit_code()));
        }
        if !quiet {
            let _ =
                io::stderr().write_all(b"osp: stopping after the current step; press Ctrl-C again to stop at once\n");
        }
    });
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// [`Error::Interrupted`] if the user wants to stop.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}
