//! A folder that appears whole or not at all.

use osp::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{Builder, TempDir};

/// Whether this program writes files of such names into such folders, and may therefore replace them.
pub type Ours = fn(&str) -> bool;

/// Fails if a folder cannot be put where `target` is: there is one and `force` does not allow to replace it, it holds
/// what is not `ours`, it is the folder of the `source` or around it, or nothing can be written beside it.
pub fn check(target: &Path, force: bool, ours: Ours, source: &Path) -> Result<()> {
    let usage = |problem: String| Err(Error::Usage(format!("output {} {problem}", target.display())));
    if target.as_os_str().is_empty() {
        return usage("has no name; name a folder".into());
    }
    if target.exists() {
        let real = |path: &Path| fs::canonicalize(path).map_err(Error::io("cannot read", path));
        if real(source)?.starts_with(real(target)?) {
            return usage("is where the weights are read from; choose another".into());
        }
        if !target.is_dir() {
            return usage("is a file; name a folder".into());
        }
        if !force && fs::read_dir(target).map_err(Error::io("cannot list", target))?.next().is_some() {
            return usage("is there already; choose another, or replace it with --force".into());
        }
        if let Some(other) = stranger(target, ours)? {
            return usage(format!("holds {}, which would be lost; choose another", other.display()));
        }
    }
    // The only sure way to know whether something can be written there is to do it.
    beside(target).map(drop)
}

/// A file or folder below `folder` that is not ours.
fn stranger(folder: &Path, ours: Ours) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).map_err(Error::io("cannot list", folder))? {
        let path = entry.map_err(Error::io("cannot list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Not through links: what they lead to stays.
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = stranger(&path, ours)? {
                return Ok(Some(found));
            }
        } else if !ours(&name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// An empty folder beside `target`, which is removed with all that is in it unless it becomes `target`.
pub fn beside(target: &Path) -> Result<TempDir> {
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(Error::Usage(format!("output {}: there is no folder {}", target.display(), parent.display())));
    }
    let mut builder = Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new folder has; the default is the owner alone.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.prefix(".osp-").tempdir_in(parent).map_err(Error::io("cannot write into", parent))
}

/// Puts `folder` where `target` is. An older one is moved aside first and removed last.
pub fn replace(folder: TempDir, target: &Path) -> Result<()> {
    let failed = || Error::io("cannot replace", target);
    if target.exists() {
        let aside = beside(target)?;
        let old = aside.path().join("old");
        fs::rename(target, &old).map_err(failed())?;
        fs::rename(folder.path(), target).inspect_err(|_| drop(fs::rename(&old, target))).map_err(failed())?;
    } else {
        fs::rename(folder.path(), target).map_err(failed())?;
    }
    // It has moved: there is nothing left to remove.
    let _moved = folder.keep();
    Ok(())
}
