//! Puts a finished folder in the place of an older one.

use super::{Check, parent};
use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::path::Path;
use tempfile::Builder;

/// Moves `staged` to `target`. An older folder swaps places with it, or is moved aside first and removed last. It must pass `check` before
/// and after that: files that it got meanwhile are not lost.
pub(super) fn replace(staged: &Path, target: &Path, check: Check) -> Result<()> {
    check(target)?;
    let failed = || Error::io("cannot replace", target);
    if !target.is_dir() {
        return fs::rename(staged, target).map_err(failed());
    }
    if !exchange(staged, target) {
        return move_aside(staged, target, check);
    }
    let Err(problem) = check(staged) else { return Ok(()) };
    if exchange(staged, target) {
        // The error names the folder where it is now.
        return Err(check(target).err().unwrap_or(problem));
    }
    Err(failed()(io::Error::other(format!(
        "{problem}; the new folder is in its place, and the older one goes to another"
    ))))
}

/// As [`replace`], where the system cannot exchange folders: for a moment, there is none at `target`. A process that is killed in
/// this moment leaves the older one under a name that begins with its own.
fn move_aside(staged: &Path, target: &Path, check: Check) -> Result<()> {
    let failed = || Error::io("cannot replace", target);
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".older-");
    let aside = Builder::new().prefix(&name).tempdir_in(parent(target)).map_err(failed())?;
    let old = aside.path().join("old");
    fs::rename(target, &old).map_err(failed())?;
    let moved = check(&old).and_then(|()| fs::rename(staged, target).map_err(failed()));
    let Err(problem) = moved else { return Ok(()) };
    if fs::rename(&old, target).is_ok() {
        return Err(check(target).err().unwrap_or(problem));
    }
    let old = aside.keep().join("old");
    Err(failed()(io::Error::other(format!("{problem}; the older folder is at {}", old.display()))))
}

/// Swaps two folders in one atomic call, if the system can: at every moment there is a folder under both names.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A folder `target` with the file `old`, and a folder `staged` with the file `new`.
    fn two_folders() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (folder, file) in [("target", "old"), ("staged", "new")] {
            fs::create_dir(home.path().join(folder)).unwrap();
            fs::write(home.path().join(folder).join(file), "").unwrap();
        }
        home
    }

    #[test]
    fn where_folders_cannot_be_exchanged_the_older_one_is_moved_aside_and_comes_back() {
        let home = two_folders();
        let at = |name: &str| home.path().join(name);
        move_aside(&at("staged"), &at("target"), |_| Ok(())).unwrap();
        assert!(at("target/new").exists() && !at("target/old").exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        // Nothing can take its place.
        assert!(move_aside(&at("absent"), &at("target"), |_| Ok(())).is_err());
        assert!(at("target/new").exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    /// Somebody writes a file into the older folder between the check and the exchange.
    #[test]
    fn an_older_folder_that_gets_a_file_at_the_last_moment_comes_back() {
        /// Passes the first time.
        fn late(_: &Path) -> Result<()> {
            static CALLS: AtomicUsize = AtomicUsize::new(0);
            match CALLS.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(()),
                _ => Err(Error::Usage("it holds a file of somebody else".into())),
            }
        }
        let refused = |_: &Path| Err(Error::Usage("it holds a file of somebody else".into()));
        for exchanged in [true, false] {
            let home = two_folders();
            let at = |name: &str| home.path().join(name);
            let replaced = match exchanged {
                true => replace(&at("staged"), &at("target"), late),
                false => move_aside(&at("staged"), &at("target"), refused),
            };
            let problem = replaced.unwrap_err().to_string();
            assert!(problem.contains("a file of somebody else"), "{problem}");
            assert!(at("target/old").exists() && at("staged/new").exists());
            assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
        }
    }
}
