//! Memory that the system refuses ends the process as other errors do: with one line, exit code 4 and no temporary files.
//!
//! Rust has no stable hook for this, and aborts. So the program's allocator is the system's, but for a look at what it gives.
//! Linux refuses little: it promises memory that it does not have, and kills a process that uses it. So what may be much of a
//! machine's memory is held against what is there.

#[cfg(unix)]
use super::interrupt::end;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which is not asked in vain twice.
pub struct Allocator;

// Safety: the system's allocator does all of it, with just what it is given here.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        large::book(0, layout.size());
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        large::book(0, layout.size());
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        large::book(layout.size(), bytes);
        granted(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        large::book(layout.size(), 0);
        unsafe { System.dealloc(memory, layout) }
    }
}

/// `memory`, if there is any.
fn granted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        refused(bytes);
    }
    memory
}

/// Says how much was asked for, with no memory but the stack's.
#[cfg(unix)]
#[cold]
fn refused(bytes: usize) {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};
    static SAID: AtomicBool = AtomicBool::new(false);
    // Another thread that is refused waits for the end.
    while SAID.swap(true, Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let mut line = [0; 200];
    let mut rest = &mut line[..];
    let mib = bytes.div_ceil(1 << 20);
    // The line has room for any number.
    let _ = writeln!(
        rest,
        "osp: error: out of memory: the system refuses {mib} MiB more; ask for a smaller size, fewer frames or smaller tiles"
    );
    let unused = rest.len();
    let used = line.len() - unused;
    end(&line[..used], 4)
}

/// Elsewhere Rust's own abort holds.
#[cfg(not(unix))]
fn refused(_: usize) {}

#[cfg(not(target_os = "linux"))]
mod large {
    pub fn book(_: usize, _: usize) {}
}

/// What may be much of a machine's memory.
#[cfg(target_os = "linux")]
mod large {
    use super::refused;
    use rustix::fs::{Mode, OFlags, open};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What has fewer bytes is not looked at.
    const LARGE: usize = 64 << 20;

    /// Bytes of all that is large.
    static HELD: AtomicU64 = AtomicU64::new(0);

    /// Notes that `before` bytes become `after`, and ends the process if there is no room for them.
    pub fn book(before: usize, after: usize) {
        let large = |bytes: usize| if bytes >= LARGE { bytes as u64 } else { 0 };
        let (before, after) = (large(before), large(after));
        if after <= before {
            HELD.fetch_sub(before - after, Ordering::Relaxed);
            return;
        }
        let more = after - before;
        let held = HELD.fetch_add(more, Ordering::Relaxed);
        if room().is_some_and(|room| !room.has(held, more)) {
            refused(more as usize);
        }
    }

    /// Memory of a machine, swapped or not, in bytes.
    #[derive(Debug, PartialEq)]
    struct Room {
        free: u64,
        all: u64,
    }

    impl Room {
        /// Whether `more` bytes can be used. What is `held` may not be in use yet, and then counts as free.
        fn has(&self, held: u64, more: u64) -> bool {
            more <= self.free && held + more <= self.all
        }
    }

    /// Of this machine, if it tells. Nothing is allocated.
    fn room() -> Option<Room> {
        let file = open("/proc/meminfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = [0; 2048];
        let read = rustix::io::read(&file, &mut text).ok()?;
        parse(std::str::from_utf8(&text[..read]).ok()?)
    }

    /// Reads lines of a name, a colon and a number of KiB.
    fn parse(meminfo: &str) -> Option<Room> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse().ok().map(|kib: u64| kib << 10)
        };
        let swap = |name| bytes(name).unwrap_or(0);
        Some(Room { free: bytes("MemAvailable")? + swap("SwapFree"), all: bytes("MemTotal")? + swap("SwapTotal") })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_free_and_what_is_held_are_two_limits() {
            let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\nSwapTotal: 100 kB\nSwapFree: 50 kB\n";
            let room = parse(text).unwrap();
            assert_eq!(room, Room { free: 650 << 10, all: 1100 << 10 });
            assert!(room.has(0, 650 << 10) && !room.has(0, 651 << 10));
            assert!(room.has(500 << 10, 600 << 10) && !room.has(501 << 10, 600 << 10));
            assert_eq!(parse("MemTotal: 5 kB\n"), None);
        }

        #[test]
        fn this_machine_tells() {
            let Room { free, all } = room().unwrap();
            assert!(all > 1 << 20 && (1..=all).contains(&free));
        }
    }
}
