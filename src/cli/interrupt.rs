//! Handles Ctrl-C and the other signals with which users and systems end a process.
//!
//! A command that writes nothing ends at once. A command that writes files stops at the next opportunity after the
//! first signal, and at once after the second. Temporary files are removed in all cases.

use osp::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether the command checks [`INTERRUPTED`].
static PATIENT: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);
/// Whether stderr gets events.
static EVENTS: AtomicBool = AtomicBool::new(false);

/// Whether what is printed here is events from now on.
pub fn print_events(events: bool) {
    EVENTS.store(events, Ordering::Relaxed);
}

/// What stands before and after the words of an error that ends the process with this exit code. Neither allocates nor locks.
#[cfg(unix)]
pub fn last_words(exit_code: u8) -> [&'static str; 2] {
    match (EVENTS.load(Ordering::Relaxed), exit_code) {
        (false, _) => ["osp: error: ", ""],
        (true, 1) => ["{\"event\":\"error\",\"text\":\"", "\",\"exit_code\":1}"],
        (true, 4) => ["{\"event\":\"error\",\"text\":\"", "\",\"exit_code\":4}"],
        (true, _) => ["{\"event\":\"error\",\"text\":\"", "\",\"exit_code\":130}"],
    }
}

/// From now on, the first signal only requests a stop. `quiet`: it prints nothing.
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

/// Other systems end the process in their default way.
#[cfg(not(unix))]
pub fn install() {}

#[cfg(unix)]
mod unix {
    use super::{EVENTS, Error, INTERRUPTED, PATIENT, QUIET, last_words};
    use osp::staged;
    use std::ffi::c_int;
    use std::mem::zeroed;
    use std::ptr::{null, null_mut};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Installs handlers for Ctrl-C and the other signals that end a process, except those of a crash. A signal that
    /// was ignored when this process started (by `nohup`, or in a background job of a script) stays ignored.
    pub fn install() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            handle(signal, on_end);
        }
        for signal in [libc::SIGABRT, libc::SIGQUIT, libc::SIGXCPU, libc::SIGXFSZ] {
            handle(signal, on_abort);
        }
        handle(libc::SIGBUS, on_lost_file);
    }

    fn handle(signal: c_int, handler: extern "C" fn(c_int)) {
        // SAFETY: zeros are valid for these structs of numbers, sets and optional functions, and each pointer is null
        // or one of them. The handlers have the type that the flags ask for, and do only what signal handlers may: they
        // use atomics, and make system calls that neither allocate nor lock.
        unsafe {
            let mut found: libc::sigaction = zeroed();
            if libc::sigaction(signal, null(), &mut found) != 0 || found.sa_sigaction == libc::SIG_IGN {
                return;
            }
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            // Cannot fail for these signals.
            libc::sigaction(signal, &action, null_mut());
        }
    }

    /// Requests a stop, or ends the process.
    extern "C" fn on_end(_: c_int) {
        let exit_code = c_int::from(Error::Interrupted.exit_code());
        if !PATIENT.load(Ordering::Relaxed) {
            let [before, after] = last_words(Error::Interrupted.exit_code());
            [before, "interrupted", after].iter().for_each(|part| say(part.as_bytes()));
            end(b"\n", exit_code);
        }
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            end(b"", exit_code);
        }
        if !QUIET.load(Ordering::Relaxed) {
            say(match EVENTS.load(Ordering::Relaxed) {
                true => b"{\"event\":\"note\",\"text\":\"stopping after the current step; press Ctrl-C again to stop at once\"}\n",
                false => b"osp: stopping after the current step; press Ctrl-C again to stop at once\n",
            });
        }
    }

    /// Ends the process when the bytes of a mapped file are gone: it has become shorter, or its disk fails.
    extern "C" fn on_lost_file(_: c_int) {
        static SAID: AtomicBool = AtomicBool::new(false);
        // Many threads read one file. The first that finds it short speaks for all.
        while SAID.swap(true, Ordering::Relaxed) {
            // SAFETY: the call waits for a signal, and signal handlers may make it.
            unsafe { libc::pause() };
        }
        let [before, after] = last_words(1);
        let words =
            "a file was cut short while it was read, or its disk failed: check the files of the model and the input";
        [before, words, after].iter().for_each(|part| say(part.as_bytes()));
        end(b"\n", 1);
    }

    /// Prints `words`, removes temporary files and ends the process at once. Neither allocates nor locks.
    pub fn end(words: &[u8], exit_code: c_int) -> ! {
        say(words);
        staged::remove_all();
        // SAFETY: the call takes any number. It runs no code of the process any more, so it may be called anywhere.
        unsafe { libc::_exit(exit_code) }
    }

    /// Removes temporary files when a bug without unwinding (such as a panic in a panic), `Ctrl-\` or a limit of the
    /// system ends the process. The process then ends as without this handler.
    extern "C" fn on_abort(signal: c_int) {
        staged::remove_all();
        // SAFETY: signal handlers may make both calls, and `signal` is the number of the signal that this one handles.
        // It is raised again with the default handler, which runs when this returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// Prints a line. A closed stderr is ignored.
    fn say(line: &[u8]) {
        let _ = rustix::io::write(rustix::stdio::stderr(), line);
    }
}
