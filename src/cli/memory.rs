//! If the system refuses memory, the process ends as after other errors: with one line, exit code 4 and no temporary
//! files.
//!
//! Rust aborts in this case and has no stable hook. So the program's allocator is the system's, plus a check of its
//! results. Linux rarely refuses memory, so large allocations are first compared with what there is ([`osp::room`]).

#[cfg(unix)]
use super::interrupt;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator. The process ends at the first allocation that fails.
pub struct Allocator;

// SAFETY: memory and layouts are those of the system's allocator, to which every call passes its arguments unchanged.
// What is done besides does not unwind, and what it allocates is too small to be looked at again.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        large::book(0, layout.size());
        // SAFETY: the caller's layout has a size above 0, which is all that `System` asks for.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        large::book(0, layout.size());
        // SAFETY: as in `alloc`.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        large::book(layout.size(), bytes);
        // SAFETY: the caller's memory came from this allocator with this layout, so it came from `System`. The new size
        // is above 0, and its layout exists, by the caller's promise.
        granted(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        large::book(layout.size(), 0);
        // SAFETY: as in `realloc`, the memory came from `System` with this layout.
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
    interrupt::end(&[std::str::from_utf8(&line[..used]).unwrap_or("out of memory\n")], 4)
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
    use osp::room::Room;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Smaller allocations are not counted.
    const LARGE: usize = 64 << 20;

    /// Bytes of all large allocations.
    static HELD: AtomicU64 = AtomicU64::new(0);

    /// Counts that an allocation of `before` bytes becomes `after`, and ends the process if there is no room for it.
    pub fn book(before: usize, after: usize) {
        let large = |bytes: usize| if bytes >= LARGE { bytes as u64 } else { 0 };
        let (before, after) = (large(before), large(after));
        if before == after {
            // Most allocations are small, and threads would wait for each other here.
            return;
        }
        if after < before {
            HELD.fetch_sub(before - after, Ordering::Relaxed);
            return;
        }
        let more = after - before;
        let held = HELD.fetch_add(more, Ordering::Relaxed);
        // To ask takes small allocations, which are not counted.
        if Room::now().is_some_and(|room| !room.has(held, more)) {
            refused(more as usize);
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
