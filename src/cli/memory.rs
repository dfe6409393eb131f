//! Memory that the system refuses ends the process as other errors do: with one line, exit code 4 and no temporary files.
//!
//! Rust has no stable hook for this, and aborts. So the program's allocator is the system's, but for a look at what it gives.

#[cfg(unix)]
use super::interrupt::end;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which is not asked in vain twice.
pub struct Allocator;

// Safety: the system's allocator does all of it, with just what it is given here.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        granted(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
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
