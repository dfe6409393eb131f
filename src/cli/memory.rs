//! If the system refuses memory, the process ends as after other errors: with one line, exit code 4 and no temporary
//! files.
//!
//! Rust aborts in this case and has no stable hook. So the program's allocator is the system's, plus a check of its
//! results. Linux rarely refuses memory: it promises more than it has, and kills a process that uses it. So large
//! allocations are first compared with the memory of the machine.

#[cfg(unix)]
use super::interrupt;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator. The process ends at the first allocation that fails.
pub struct Allocator;

// Safety: every call passes its arguments unchanged to the system's allocator.
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

/// Returns `memory`; ends the process if it is null.
fn granted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        refused(bytes);
    }
    memory
}

/// Ends the process with the number of bytes that were requested. Uses no memory but the stack.
#[cfg(unix)]
#[cold]
fn refused(bytes: usize) {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};
    static SAID: AtomicBool = AtomicBool::new(false);
    // If memory is refused to another thread, too, it waits here for the end.
    while SAID.swap(true, Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let mut line = [0; 250];
    let mut rest = &mut line[..];
    let mib = bytes.div_ceil(1 << 20);
    let [before, after] = interrupt::last_words(4);
    let advice = "use a smaller size, fewer frames or smaller tiles";
    // The line has room for any number.
    let _ = writeln!(rest, "{before}out of memory: the system refuses {mib} MiB more; {advice}{after}");
    let unused = rest.len();
    let used = line.len() - unused;
    interrupt::end(&line[..used], 4)
}

/// On other systems Rust aborts.
#[cfg(not(unix))]
fn refused(_: usize) {}

/// The peak of the process's memory in bytes, if the system reports it (`VmHWM` on Linux).
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(not(target_os = "linux"))]
mod large {
    pub fn book(_: usize, _: usize) {}
}

/// Allocations that may be a large share of the machine's memory.
#[cfg(target_os = "linux")]
mod large {
    use super::refused;
    use rustix::fs::{Mode, OFlags, open};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Smaller allocations are not counted.
    const LARGE: usize = 64 << 20;

    /// Bytes of all large allocations.
    static HELD: AtomicU64 = AtomicU64::new(0);

    /// Counts that an allocation of `before` bytes becomes `after`, and ends the process if the machine has no room for
    /// it.
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

    /// Memory and swap space of a machine, in bytes.
    #[derive(Debug, PartialEq)]
    struct Room {
        free: u64,
        all: u64,
    }

    impl Room {
        /// Whether `more` bytes can be used. `held` are allocated, but the system counts untouched pages of them as
        /// free.
        fn has(&self, held: u64, more: u64) -> bool {
            more <= self.free && held + more <= self.all
        }
    }

    /// Reads the memory of this machine, if the system reports it. Allocates nothing.
    fn room() -> Option<Room> {
        let file = open("/proc/meminfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = [0; 2048];
        let read = rustix::io::read(&file, &mut text).ok()?;
        parse(std::str::from_utf8(&text[..read]).ok()?)
    }

    /// Parses lines of a name, a colon and a number of KiB.
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
        fn both_free_memory_and_held_memory_limit_an_allocation() {
            let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\nSwapTotal: 100 kB\nSwapFree: 50 kB\n";
            let room = parse(text).unwrap();
            assert_eq!(room, Room { free: 650 << 10, all: 1100 << 10 });
            assert!(room.has(0, 650 << 10) && !room.has(0, 651 << 10));
            assert!(room.has(500 << 10, 600 << 10) && !room.has(501 << 10, 600 << 10));
            assert_eq!(parse("MemTotal: 5 kB\n"), None);
        }

        #[test]
        fn this_machine_reports_its_memory() {
            let Room { free, all } = room().unwrap();
            assert!(all > 1 << 20 && (1..=all).contains(&free));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn linux_reports_the_peak_of_memory() {
        assert!(super::peak_rss().unwrap() > 1 << 20);
    }
}
