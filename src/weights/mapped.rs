//! Mapped weight files: pages are read when touched, and dropped when the system needs the memory.

use crate::error::{Error, Result};
use crate::reading;
use crate::tensor::{Bytes, FileRange};
use memmap2::Mmap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// A file and its map. The length of the file must not change.
#[derive(Debug)]
pub(super) struct Mapped {
    path: PathBuf,
    file: File,
    map: Arc<Mmap>,
}

impl Mapped {
    /// Maps `path`, which an index or a folder lists.
    pub fn open(path: &Path) -> Result<Self> {
        let file = reading::open(path)
            .map_err(|error| missing(path).unwrap_or_else(|| Error::io("cannot open", path)(error)))?;
        let size = file.metadata().map_err(Error::io("cannot read", path))?.len();
        if size < 8 {
            return Err(Error::weight(path, "", format!("holds no weights: it has {size} bytes; download it again")));
        }
        // SAFETY: the map is read only, and this program writes its outputs under other names, so only another process
        // can change the bytes. If one truncates the file while it is mapped, reads fault. `bytes` detects a length
        // that has already changed. A change between this check and the read is the accepted risk of every program that
        // maps its inputs.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("cannot map", path))?;
        if map.starts_with(b"version https://git-lfs") {
            let problem = "is a pointer of Git LFS, not the file itself; fetch the file with `git lfs pull`";
            return Err(Error::weight(path, "", problem));
        }
        Ok(Self { path: path.to_path_buf(), file, map: Arc::new(map) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length and time of change, in nanoseconds since 1970.
    pub fn stamp(&self) -> (u64, u128) {
        let time = self.file.metadata().and_then(|facts| facts.modified()).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        (self.map.len() as u64, since.map_or(0, |since| since.as_nanos()))
    }

    /// The whole file, for its headers.
    pub fn all(&self) -> &[u8] {
        &self.map
    }

    /// A range of the file, which its table of tensors names. Fails if the length of the file has changed.
    pub fn bytes(&self, range: Range<usize>) -> Result<Bytes> {
        let length = self.file.metadata().map_err(Error::io("cannot read", &self.path))?.len();
        if length != self.map.len() as u64 {
            let problem = format!(
                "had {} bytes when it was opened and has {length} now: another program is writing to it; wait, and start again",
                self.map.len()
            );
            return Err(Error::weight(&self.path, "", problem));
        }
        Ok(Bytes::Mapped(FileRange::new(self.map.clone(), range)))
    }
}

/// The error for a missing file or a link to nothing, as an interrupted download leaves it in a cache.
fn missing(path: &Path) -> Option<Error> {
    let problem = match std::fs::read_link(path) {
        Ok(target) if !path.exists() => {
            format!(
                "is a link to {}, which is missing: the download is incomplete; download it again",
                target.display()
            )
        }
        _ if !path.exists() => "is missing; download it".to_owned(),
        _ => return None,
    };
    Some(Error::weight(path, "", problem))
}
