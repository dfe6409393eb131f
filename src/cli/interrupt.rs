//! Ctrl-C, and the other signals with which people and systems end a process.
//!
//! A command that writes nothing ends at once. One that does, stops at the next opportunity when it is asked, and at once when
//! it is asked again. Temporary files go in any case.

use osp::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether the command looks at [`INTERRUPTED`].
static PATIENT: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);

/// Lets the first signal only ask, from now on. `quiet`: without a word.
pub fn be_patient(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
    PATIENT.store(true, Ordering::Relaxed);
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// [`Error::Interrupted`] if the user wants to stop.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

#[cfg(unix)]
pub use unix::{end, install};

/// Elsewhere the system's own way of ending a process holds.
#[cfg(not(unix))]
pub fn install() {}

#[cfg(unix)]
mod unix {
    use super::{Error, INTERRUPTED, PATIENT, QUIET};
    use osp::staged;
    use std::ffi::c_int;
    use std::mem::zeroed;
    use std::ptr::{null, null_mut};
    use std::sync::atomic::Ordering;

    /// Takes over Ctrl-C, and the other signals that end a process, if not those of a broken one. Those that this process was started to ignore, by
    /// `nohup` or as a job in the background of a script, it goes on to ignore.
    pub fn install() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            handle(signal, on_end);
        }
        for signal in [libc::SIGABRT, libc::SIGQUIT, libc::SIGXCPU, libc::SIGXFSZ] {
            handle(signal, on_abort);
        }
    }

    fn handle(signal: c_int, handler: extern "C" fn(c_int)) {
        // Safety: zeros are valid for these plain structs, and the handlers do only what handlers may: they use atomics, and
        // call the system for what neither allocates nor locks.
        unsafe {
            let mut found: libc::sigaction = zeroed();
            if libc::sigaction(signal, null(), &mut found) != 0 || found.sa_sigaction == libc::SIG_IGN {
                return;
            }
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            // Fails for no signal of these.
            libc::sigaction(signal, &action, null_mut());
        }
    }

    /// Asks the command to stop, or ends the process.
    extern "C" fn on_end(_: c_int) {
        let exit_code = c_int::from(Error::Interrupted.exit_code());
        if !PATIENT.load(Ordering::Relaxed) {
            end(b"osp: error: interrupted\n", exit_code);
        }
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            end(b"", exit_code);
        }
        if !QUIET.load(Ordering::Relaxed) {
            say(b"osp: stopping after the current step; press Ctrl-C again to stop at once\n");
        }
    }

    /// Ends the process at once, with last words and without temporary files. It neither allocates nor locks.
    pub fn end(words: &[u8], exit_code: c_int) -> ! {
        say(words);
        staged::remove_all();
        // Safety: it ends the process, and runs nothing of it.
        unsafe { libc::_exit(exit_code) }
    }

    /// A bug that does not unwind, such as a panic in a panic, `Ctrl-\` or a limit of the system ends the process as it would
    /// without this.
    extern "C" fn on_abort(signal: c_int) {
        staged::remove_all();
        // Safety: plain calls of the system. The signal comes again when this returns, and meets what the system does with it.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// A stderr that is gone is no reason to stop.
    fn say(line: &[u8]) {
        let _ = rustix::io::write(rustix::stdio::stderr(), line);
    }
}
