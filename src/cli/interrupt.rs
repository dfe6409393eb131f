//! Handles Ctrl-C and the other signals with which users and systems end a process.
//!
//! A command that writes nothing ends at once. A command that writes files stops at the next opportunity after the
//! first signal, and at once after the second; while it still reads its inputs, it ends at the first. Temporary files are removed in all cases.

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
    // A handler that sees this sees the line above, too.
    PATIENT.store(true, Ordering::Release);
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// [`Error::Interrupted`] if the user wants to stop.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Reads an input. Until it returns, the first signal ends the process: nothing is made yet that could be kept, and what feeds a pipe
/// may never answer.
pub fn while_reading<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let patient = PATIENT.swap(false, Ordering::AcqRel);
    let done = check().and_then(|()| read());
    PATIENT.store(patient, Ordering::Release);
    done
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
    use rustix::thread::{Timespec, nanosleep};
    use std::ffi::c_int;
    use std::io::IoSlice;
    use std::mem::zeroed;
    use std::ptr::{null, null_mut};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Milliseconds after the first signal in which another one is not a second press: some programs send a signal to a process and then
    /// to its group.
    const ONE_PRESS: u64 = 200;

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
            // No other handler begins in the middle of this one.
            libc::sigfillset(&mut action.sa_mask);
            // Cannot fail for these signals.
            libc::sigaction(signal, &action, null_mut());
        }
    }

    /// Requests a stop, or ends the process.
    extern "C" fn on_end(_: c_int) {
        /// When the first signal came; 0 before it.
        static FIRST: AtomicU64 = AtomicU64::new(0);
        let exit_code = c_int::from(Error::Interrupted.exit_code());
        if !PATIENT.load(Ordering::Acquire) {
            let [before, after] = last_words(Error::Interrupted.exit_code());
            end(&[before, "interrupted", after, "\n"], exit_code);
        }
        let now = milliseconds();
        match FIRST.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => INTERRUPTED.store(true, Ordering::Relaxed),
            Err(first) if now < first + ONE_PRESS => return,
            Err(_) => end(&[], exit_code),
        }
        if !QUIET.load(Ordering::Relaxed) {
            say(&[match EVENTS.load(Ordering::Relaxed) {
                true => {
                    "{\"event\":\"note\",\"text\":\"stopping after the current step or tile; press Ctrl-C again to stop at once\"}\n"
                }
                false => "osp: stopping after the current step or tile; press Ctrl-C again to stop at once\n",
            }]);
        }
    }

    /// A clock that does not jump, and is never 0.
    fn milliseconds() -> u64 {
        // SAFETY: zeros are valid for this structure of numbers, and signal handlers may make this call, which writes it.
        let time = unsafe {
            let mut time: libc::timespec = zeroed();
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
            time
        };
        time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000 + 1
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
        end(&[before, words, after, "\n"], 1);
    }

    /// Prints a line of these `words`, removes temporary files and ends the process at once. Neither allocates nor locks.
    pub fn end(words: &[&str], exit_code: c_int) -> ! {
        // SAFETY: zeros are a valid set, which the next call fills. Null means that the set before is not wanted. No handler begins in
        // the middle of what follows.
        unsafe {
            let mut all: libc::sigset_t = zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, null_mut());
        }
        say(words);
        remove_temporary_files();
        // SAFETY: the call takes any number. It runs no code of the process any more, so it may be called anywhere.
        unsafe { libc::_exit(exit_code) }
    }

    /// Removes temporary files. If another thread is doing that, waits for it, but not for long.
    fn remove_temporary_files() {
        const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        static BEGUN: AtomicBool = AtomicBool::new(false);
        static DONE: AtomicBool = AtomicBool::new(false);
        if !BEGUN.swap(true, Ordering::Relaxed) {
            staged::remove_all();
            DONE.store(true, Ordering::Relaxed);
        }
        for _ in 0..100 {
            if DONE.load(Ordering::Relaxed) {
                return;
            }
            // No signal ends it early: they are all held back here.
            let _ = nanosleep(&PAUSE);
        }
    }

    /// Removes temporary files when a bug without unwinding (such as a panic in a panic), `Ctrl-\` or a limit of the
    /// system ends the process. The process then ends as without this handler.
    extern "C" fn on_abort(signal: c_int) {
        remove_temporary_files();
        // SAFETY: signal handlers may make both calls, and `signal` is the number of the signal that this one handles.
        // It is raised again with the default handler, which runs when this returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// Prints parts of a line as one write, so that no other thread's line comes between. A closed stderr is ignored.
    fn say(parts: &[&str]) {
        let mut slices = [IoSlice::new(&[]); 5];
        slices.iter_mut().zip(parts).for_each(|(slice, part)| *slice = IoSlice::new(part.as_bytes()));
        let _ = rustix::io::writev(rustix::stdio::stderr(), &slices);
    }
}
