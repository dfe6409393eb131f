//! Temporary files that killed processes left behind.
//!
//! A process holds the system's lock of each temporary file and folder that it writes. The lock ends with the process, so what has
//! none has no owner. Locks need not reach other machines that share a folder. So the names say the machine, and each machine
//! removes only its own.

use crate::hash::fnv1a;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The ending of what can be removed.
pub(super) const ENDING: &str = ".part";

/// The beginning of this machine's names, such as `.osp-node7-5d1a3e0c-`.
pub(super) fn prefix() -> &'static str {
    static PREFIX: LazyLock<String> =
        LazyLock::new(|| of_machine(fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim()));
    &PREFIX
}

/// A part of the machine's name that people know it by, and a hash of the whole, so that machines with similar names differ.
fn of_machine(name: &str) -> String {
    let known: String = name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    format!(".osp-{known}-{:08x}-", fnv1a(name.as_bytes()) as u32)
}

/// The lock of a temporary file or folder, or nothing where the system has none.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock of what was just made at `path`; `None` if another process has removed it as a leftover meanwhile.
    pub fn of(path: &Path) -> Option<Self> {
        let Ok(file) = File::open(path) else { return path.exists().then_some(Self { _file: None }) };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            locked => path.exists().then_some(Self { _file: locked.is_ok().then_some(file) }),
        }
    }
}

/// Removes what killed processes of this machine left in a folder, once for each folder.
pub(super) fn sweep(folder: &Path) {
    static SWEPT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !swept.iter().any(|other| other == folder) {
        swept.push(folder.to_path_buf());
        remove_leftovers(folder);
    }
}

pub(super) fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(prefix()) && name.ends_with(ENDING));
        // The lock is held until the leftover is gone.
        let locked = ours.then(|| File::open(entry.path()).ok().filter(|file| file.try_lock().is_ok())).flatten();
        if locked.is_some() && entry.path().is_dir() {
            let _ = fs::remove_dir_all(entry.path());
        } else if locked.is_some() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staged::Staged;

    #[test]
    fn what_a_dead_process_left_is_removed_and_the_work_of_a_living_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let own = |name: &str| at(&format!("{}{name}{ENDING}", prefix()));
        fs::write(own("dead"), "half a video").unwrap();
        fs::create_dir(own("folder")).unwrap();
        fs::write(own("folder").join("frame"), "").unwrap();
        let others =
            [at(".osp-another0machine-x.part"), at(".osp-x"), at("video.part"), at(&format!("{}old", prefix()))];
        others.iter().for_each(|path| fs::write(path, "").unwrap());
        let living = [Staged::file(&at("a")).unwrap(), Staged::folder(&at("b"), |_| Ok(())).unwrap()];
        assert!(!own("dead").exists() && !own("folder").exists());
        remove_leftovers(home.path());
        assert!(living.iter().all(|staged| staged.path().exists()));
        assert!(others.iter().all(|path| path.exists()));
        let paths = living.each_ref().map(|staged| staged.path().to_path_buf());
        drop(living);
        assert!(paths.iter().all(|path| !path.exists()));
    }

    #[test]
    fn machines_with_similar_names_have_their_own() {
        let pods = ["a-long-deployment-of-many-pods-7x", "a-long-deployment-of-many-pods-7y"];
        for [a, b] in [pods, ["gpu-1-12", "gpu-11-2"], ["", "-"]] {
            assert_ne!(of_machine(a), of_machine(b));
        }
        assert!(of_machine("node7").starts_with(".osp-node7-"));
    }
}
