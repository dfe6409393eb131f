//! A list of temporary files and folders, for a process that ends without unwinding and would leave them behind.
//!
//! Removing them does not allocate, lock or wait, so that a signal handler may do it.

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A run writes few outputs at the same time. Outputs beyond this number are not listed, and only removed on drop.
const MOST: usize = 64;
/// How often a folder is emptied that a thread still writes into, and how often the list is gone through.
const TRIES: usize = 10;
/// Depth of nested folders: an output, and a component of a model in it.
const DEPTH: usize = 2;

/// Paths that end in a zero, or null. The thread that swaps a path out owns it.
static PATHS: [AtomicPtr<c_char>; MOST] = [const { AtomicPtr::new(null_mut()) }; MOST];

/// Keeps a temporary file or folder on the list. Dropping this removes the entry. A signal that comes after the file was made, but before
/// this, leaves the file to the next run.
pub struct Known(Option<usize>);

impl Known {
    /// An entry for nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Puts `path` on the list.
    pub fn new(path: &Path) -> Self {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Self(None) };
        let path = path.into_raw();
        let claim =
            |slot: &AtomicPtr<c_char>| slot.compare_exchange(null_mut(), path, Ordering::AcqRel, Ordering::Relaxed);
        let slot = PATHS.iter().position(|slot| claim(slot).is_ok());
        if slot.is_none() {
            // SAFETY: it comes from `into_raw`, and no exchange has stored it, so no other thread has seen it.
            drop(unsafe { CString::from_raw(path) });
        }
        Self(slot)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let Some(slot) = self.0 else { return };
        let path = PATHS[slot].swap(null_mut(), Ordering::AcqRel);
        if !path.is_null() {
            // SAFETY: it comes from `into_raw`, and after the swap no other thread has it.
            drop(unsafe { CString::from_raw(path) });
        }
    }
}

/// Removes everything on the list. For a process that is about to end.
///
/// Other threads go on meanwhile. What they list behind this one's back is found in the next round.
pub fn remove_all() {
    for _ in 0..TRIES {
        let mut found = false;
        for slot in &PATHS {
            let path = slot.swap(null_mut(), Ordering::AcqRel);
            if !path.is_null() {
                found = true;
                // SAFETY: it comes from `CString::into_raw`, so it ends in a zero. After the swap no other thread has it,
                // and this one never frees it.
                remove(CWD, unsafe { CStr::from_ptr(path) }, DEPTH);
            }
        }
        if !found {
            return;
        }
    }
}

/// Removes the file or folder `name` of `folder`. An entry that cannot be removed stays.
fn remove(folder: impl AsFd + Copy, name: &CStr, depth: usize) {
    if unlinkat(folder, name, AtFlags::empty()).is_ok() {
        return;
    }
    for _ in 0..TRIES {
        if depth > 0 {
            empty(folder, name, depth - 1);
        }
        if unlinkat(folder, name, AtFlags::REMOVEDIR) != Err(Errno::NOTEMPTY) {
            return;
        }
    }
}

/// Removes everything in a folder.
#[cfg(target_os = "linux")]
fn empty(folder: impl AsFd, name: &CStr, depth: usize) {
    use rustix::fs::{Mode, OFlags, RawDir, openat};
    use std::mem::MaybeUninit;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(folder) = openat(folder, name, flags, Mode::empty()) else { return };
    // Small, because the stack of a signal handler may be small.
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(folder.as_fd(), entry.file_name(), depth);
        }
    }
}

/// Other systems cannot list a folder without allocating: the folder stays.
#[cfg(not(target_os = "linux"))]
fn empty(_: impl AsFd, _: &CStr, _: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_removed_with_everything_that_an_output_may_hold() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("staged");
        fs::create_dir_all(path.join("vae")).unwrap();
        // More names than the buffer holds.
        for index in 0..100 {
            fs::write(path.join(format!("frame_{index:05}.png")), "").unwrap();
            fs::write(path.join(format!("vae/{index:05}.safetensors")), "").unwrap();
        }
        remove(CWD, &CString::new(path.as_os_str().as_bytes()).unwrap(), DEPTH);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_a_thread_fills_meanwhile_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("staged");
        fs::create_dir(&path).unwrap();
        // So many names that the thread writes more while they are listed.
        (0..2000).for_each(|index| fs::write(path.join(format!("frame_{index:05}.png")), "").unwrap());
        std::thread::scope(|scope| {
            // Ends when the folder is gone.
            scope.spawn(|| {
                (2000..20_000).try_for_each(|index| {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    fs::write(path.join(format!("frame_{index:05}.png")), "").ok()
                })
            });
            while !path.join("frame_02000.png").exists() {
                std::thread::yield_now();
            }
            remove(CWD, &CString::new(path.as_os_str().as_bytes()).unwrap(), DEPTH);
            let left = path.exists();
            let _ = fs::remove_dir_all(&path);
            assert!(!left, "the folder stays");
        });
    }
}
