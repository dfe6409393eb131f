//! A layer between a program and its files that fails on request, for `LD_PRELOAD`. It counts the calls of one kind that concern
//! files whose paths begin in one way, and lets them fail from some call on.
//!
//! `OSP_FAILING=KIND:NUMBER:ERRNO:BEGINNING`, such as `write:3:28:/tmp/x`: the third write to `/tmp/x` and below finds the disk full, and so
//! do all later ones; with `3x`, only that one. Number 0 fails nothing. The program writes how many calls there were to the file that
//! `OSP_FAILING_CALLS` names. With `kill` in place of the error, SIGKILL ends the program before the call. With `pause`, the program
//! writes that file, and waits before the call until somebody removes the file.
//!
//! Kinds: `write` (write, pwrite, writev, ftruncate), `read` (read, pread), `open` (for writing), `sync` (fsync, fdatasync), `create`
//! (mkdir), `name` (rename, renameat2, link, unlink, unlinkat, rmdir), and `change` for all of them but `read`. The crate rustix asks the
//! system without the C library, except in builds with its feature `use-libc`, which the tests switch on.
//!
//! The kind `thread` is no call for a file: the system refuses a new thread (`thread:2:11:`, with the error of `pthread_create`).
//!
//! With `OSP_CLOCK_JUMPS=SECONDS`, each reading of the wall clock is so much too late, and the next one too early.

#![allow(clippy::missing_safety_doc, reason = "these are functions of the C library, with its rules")]

use libc::{
    c_char, c_int, c_long, c_uint, c_void, clockid_t, iovec, mode_t, off_t, pthread_attr_t, pthread_t, size_t, ssize_t,
    timespec,
};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What fails.
struct Plan {
    kind: String,
    /// The first call that fails; 0 for none.
    number: usize,
    /// Whether it is the only one.
    alone: bool,
    effect: Effect,
    /// How the paths begin.
    beginning: String,
}

/// What a call does in place of its work.
enum Effect {
    Error(c_int),
    Kill,
    /// It waits, once, and then does its work.
    Pause,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
static CALLS: AtomicUsize = AtomicUsize::new(0);

impl Plan {
    fn get() -> Option<&'static Self> {
        PLAN.get_or_init(|| Self::read(&std::env::var("OSP_FAILING").ok()?)).as_ref()
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let (kind, number) = (parts.next()?.to_owned(), parts.next()?);
        let alone = number.ends_with('x');
        let number = number.trim_end_matches('x').parse().ok()?;
        let effect = match parts.next()? {
            "kill" => Effect::Kill,
            "pause" => Effect::Pause,
            error => Effect::Error(error.parse().ok()?),
        };
        let beginning = parts.next()?.to_owned();
        // SAFETY: the function is called at the end, when nothing else runs.
        unsafe { libc::atexit(write_calls) };
        Some(Self { kind, number, alone, effect, beginning })
    }
}

/// Writes down how many calls there were.
extern "C" fn write_calls() {
    if let Some(name) = std::env::var_os("OSP_FAILING_CALLS") {
        let _ = std::fs::write(name, CALLS.load(Ordering::SeqCst).to_string());
    }
}

/// Waits until somebody has seen how many calls there were, and removed the file that says it.
fn wait() {
    write_calls();
    while std::env::var_os("OSP_FAILING_CALLS").is_some_and(|name| Path::new(&name).exists()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a call of `kind` for `path` fails; sets `errno` then.
fn fails(kind: &str, path: impl FnOnce() -> Option<PathBuf>) -> bool {
    let concerns = |plan: &&Plan| plan.kind == kind || (plan.kind == "change" && !["read", "thread"].contains(&kind));
    let Some(plan) = Plan::get().filter(concerns) else { return false };
    if !path().is_some_and(|path| path.as_os_str().as_bytes().starts_with(plan.beginning.as_bytes())) {
        return false;
    }
    let call = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    if plan.number == 0 || call < plan.number || plan.alone && call > plan.number {
        return false;
    }
    match plan.effect {
        // SAFETY: errno is this thread's own.
        Effect::Error(error) => unsafe { *libc::__errno_location() = error },
        // SAFETY: the call takes any signal; this one ends the process.
        Effect::Kill => unsafe {
            libc::raise(libc::SIGKILL);
        },
        Effect::Pause => {
            if call == plan.number {
                wait();
            }
            return false;
        }
    }
    true
}

/// The file of a descriptor.
fn of(descriptor: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()
}

/// A path of the C library, made absolute.
fn named(path: *const c_char) -> Option<PathBuf> {
    within(libc::AT_FDCWD, path)
}

/// A path of the C library that begins in the folder of a descriptor.
fn within(folder: c_int, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller gives a string of the C library.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    if folder == libc::AT_FDCWD { std::path::absolute(path).ok() } else { Some(of(folder)?.join(path)) }
}

/// The function of this name behind this layer. The name ends with a zero.
fn behind(name: &str) -> usize {
    // SAFETY: the name ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) as usize }
}

/// Defines a function that fails on request, and otherwise is the C library's.
macro_rules! layer {
    ($kind:literal, $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $path:expr) => {
        /// See the module.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            static NEXT: OnceLock<usize> = OnceLock::new();
            if fails($kind, || $path) {
                return -1;
            }
            let next = *NEXT.get_or_init(|| behind(concat!(stringify!($name), "\0")));
            // SAFETY: the function behind this layer has this type.
            unsafe { std::mem::transmute::<usize, Function>(next)($($argument),*) }
        }
    };
}

layer!("write", write(descriptor: c_int, bytes: *const c_void, count: size_t) -> ssize_t, of(descriptor));
layer!("write", writev(descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t, of(descriptor));
layer!("write", pwrite64(descriptor: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t, of(descriptor));
layer!("read", read(descriptor: c_int, bytes: *mut c_void, count: size_t) -> ssize_t, of(descriptor));
layer!("read", pread64(descriptor: c_int, bytes: *mut c_void, count: size_t, at: off_t) -> ssize_t, of(descriptor));
layer!("sync", fsync(descriptor: c_int) -> c_int, of(descriptor));
layer!("sync", fdatasync(descriptor: c_int) -> c_int, of(descriptor));
layer!("create", mkdir(path: *const c_char, mode: mode_t) -> c_int, named(path));
layer!("name", rename(from: *const c_char, to: *const c_char) -> c_int, named(to));
layer!("name", link(from: *const c_char, to: *const c_char) -> c_int, named(to));
layer!("name", unlink(path: *const c_char) -> c_int, named(path));
layer!("name", rmdir(path: *const c_char) -> c_int, named(path));
layer!("name", unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int, within(folder, path));
layer!(
    "name",
    renameat2(folder: c_int, from: *const c_char, other: c_int, to: *const c_char, flags: c_uint) -> c_int,
    within(other, to)
);
layer!("write", ftruncate64(descriptor: c_int, length: off_t) -> c_int, of(descriptor));
layer!("open", open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, writable(flags).and_then(|()| named(path)));

fn writable(flags: c_int) -> Option<()> {
    (flags & (libc::O_WRONLY | libc::O_RDWR) != 0).then_some(())
}

/// See the module. It returns its error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> c_int {
    type Function = unsafe extern "C" fn(
        *mut pthread_t,
        *const pthread_attr_t,
        extern "C" fn(*mut c_void) -> *mut c_void,
        *mut c_void,
    ) -> c_int;
    static NEXT: OnceLock<usize> = OnceLock::new();
    if fails("thread", || Plan::get().map(|plan| PathBuf::from(&plan.beginning))) {
        return std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
    }
    let next = *NEXT.get_or_init(|| behind("pthread_create\0"));
    // SAFETY: the function behind this layer has this type.
    unsafe { std::mem::transmute::<usize, Function>(next)(thread, attributes, start, argument) }
}

/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    static JUMPS: OnceLock<c_long> = OnceLock::new();
    static LATE: AtomicBool = AtomicBool::new(false);
    // SAFETY: the caller gives room for a time, as the system's call wants it.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let read = || std::env::var("OSP_CLOCK_JUMPS").ok().and_then(|text| text.parse().ok());
    if result == 0 && clock == libc::CLOCK_REALTIME {
        let jump = *JUMPS.get_or_init(|| read().unwrap_or(0));
        let late = LATE.fetch_xor(true, Ordering::SeqCst);
        // SAFETY: the system has just written this time.
        unsafe { (*time).tv_sec += if late { jump } else { -jump } };
    }
    result as c_int
}
