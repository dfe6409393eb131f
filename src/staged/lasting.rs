//! Writes files to the disk, so that they outlast a failure of power.

use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Writes all of a file to the disk.
pub(super) fn file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        // The file system has no such call: macOS says so of network drives.
        Err(problem) if matches!(problem.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(()),
        done => done,
    }
}

/// Writes the files of a folder and of the folders in it to the disk, and then their names. There may be thousands, and a disk orders
/// what comes at the same time.
pub(super) fn folder(folder: &Path) -> io::Result<()> {
    let paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.par_iter().try_for_each(|path| match path.is_dir() {
        true => self::folder(path),
        // Some systems ask for the right to write. A copy of a write-protected file has none.
        false => file(&File::options().write(true).open(path).or_else(|_| File::open(path))?),
    })?;
    names(folder);
    Ok(())
}

/// Writes the names in a folder to the disk. Not every system can do that.
pub(super) fn names(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
