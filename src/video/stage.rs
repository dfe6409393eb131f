//! Outputs appear whole or not at all: they are written under a temporary name beside the target and renamed.

use super::format::{check_folder, parent};
use crate::error::{Error, Result};
use std::fs::{self, File, Permissions};
use std::io;
use std::path::Path;
use tempfile::{Builder, NamedTempFile, TempDir};

/// An output that is being written. Dropped, it is removed.
pub(super) enum Staged {
    File(NamedTempFile),
    Folder(TempDir),
}

impl Staged {
    /// A temporary file beside `target`.
    pub fn file(target: &Path) -> Result<Self> {
        let mut builder = Builder::new();
        builder.prefix(".osp-").suffix(".part");
        if let Some(permissions) = open_to_umask(0o666) {
            builder.permissions(permissions);
        }
        builder.tempfile_in(parent(target)).map(Self::File).map_err(Error::io("cannot write", target))
    }

    /// A temporary folder beside `target`.
    pub fn folder(target: &Path) -> Result<Self> {
        folder_beside(target).map(Self::Folder).map_err(Error::io("cannot write", target))
    }

    /// Where it is being written.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// A handle to write the file through.
    pub fn open(&self) -> io::Result<File> {
        File::options().write(true).open(self.path())
    }

    /// Moves it to `target`, replacing what is there. Finished work is never thrown away: if it cannot be moved it stays
    /// under the temporary name, which the error tells.
    pub fn commit(self, target: &Path) -> Result<()> {
        let (kept, problem) = match self {
            Self::File(file) => match file.persist(target) {
                Ok(_) => return Ok(()),
                Err(failed) => (failed.file.keep().map(|(_, path)| path), failed.error.to_string()),
            },
            Self::Folder(folder) => match replace_folder(folder.path(), target) {
                Ok(()) => {
                    // It has moved: there is nothing left to remove.
                    let _moved = folder.keep();
                    return Ok(());
                }
                Err(failed) => (Ok(folder.keep()), failed.to_string()),
            },
        };
        let place = kept.map_or_else(|lost| lost.to_string(), |path| format!("it is at {}", path.display()));
        Err(Error::media(target, format!("finished, but cannot be moved into place: {problem}; {place}")))
    }
}

/// Fails if no file can be made in `folder`. The only sure way to know is to make one.
pub(super) fn probe(folder: &Path) -> Result<()> {
    Builder::new().prefix(".osp-").tempfile_in(folder).map(drop).map_err(Error::io("cannot write into", folder))
}

/// Puts `staged` where `target` is; earlier frames there are moved aside first and deleted last.
fn replace_folder(staged: &Path, target: &Path) -> Result<()> {
    check_folder(target)?;
    let failed = || Error::io("cannot replace", target);
    if !target.exists() {
        return fs::rename(staged, target).map_err(failed());
    }
    let aside = folder_beside(target).map_err(failed())?;
    let old = aside.path().join("old");
    fs::rename(target, &old).map_err(failed())?;
    fs::rename(staged, target).inspect_err(|_| drop(fs::rename(&old, target))).map_err(failed())
}

fn folder_beside(target: &Path) -> io::Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix(".osp-");
    if let Some(permissions) = open_to_umask(0o777) {
        builder.permissions(permissions);
    }
    builder.tempdir_in(parent(target))
}

/// Temporary files are private by default; an output has the rights of any new file.
#[cfg(unix)]
fn open_to_umask(mode: u32) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn open_to_umask(_mode: u32) -> Option<Permissions> {
    None
}
