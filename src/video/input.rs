//! Opens inputs. Readers of formats seek, so the content of a pipe goes into a temporary file first.

use super::y4m;
use crate::error::{Error, Result};
use crate::reading::{STDIN, is_stdin};
use std::env;
use std::fs::{File, FileType};
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// An open file or pipe.
pub(super) struct Input {
    path: PathBuf,
    file: File,
    /// The first bytes, which identify the format.
    head: Vec<u8>,
    place: Place,
}

/// Where the bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a file that other processes can open by its name.
    Named,
    /// In a file that only this process can open.
    Unnamed,
    /// In a pipe, from which the head has been read.
    Pipe,
}

impl Input {
    /// Opens `path`; `-` is stdin.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or read, [`Error::Media`] if it is empty or a device.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if is_stdin(path) { Path::new(STDIN) } else { path };
        let mut file = File::open(path).map_err(Error::io("cannot open", path))?;
        let kind = file.metadata().map_err(Error::io("cannot open", path))?.file_type();
        if is_device(kind) {
            return Err(Error::media(path, "is a device, not a video, image or folder"));
        }
        // /dev and /proc name a process's open files. In another process the same path is another file.
        let own = path.starts_with("/dev") || path.starts_with("/proc");
        let place = match (kind.is_file(), own) {
            (false, _) => Place::Pipe,
            (true, true) => Place::Unnamed,
            (true, false) => Place::Named,
        };
        let mut head = Vec::new();
        Read::take(&mut file, y4m::MAX_LINE).read_to_end(&mut head).map_err(Error::io("cannot read", path))?;
        if head.is_empty() {
            return Err(Error::media(path, "is empty: 0 bytes"));
        }
        Ok(Self { path: path.to_path_buf(), file, head, place })
    }

    /// The path, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether another process can open [`Self::path`].
    pub fn is_named(&self) -> bool {
        self.place == Place::Named
    }

    /// All bytes, in order. The first reads return the head only.
    pub fn stream(&self) -> Result<impl Read + use<>> {
        Ok(Cursor::new(self.head.clone()).chain(self.handle()?))
    }

    /// The file, at its beginning. All handles share one position. A pipe is first copied into a temporary file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, or the disk has no room for the content of a pipe.
    pub fn file(&mut self) -> Result<File> {
        if self.place == Place::Pipe {
            let folder = env::temp_dir();
            let failed = || Error::io("cannot copy the pipe's content into TMPDIR,", &folder);
            let mut kept = tempfile::tempfile_in(&folder).map_err(failed())?;
            kept.write_all(&self.head).map_err(failed())?;
            io::copy(&mut self.file, &mut kept).map_err(failed())?;
            (self.file, self.place) = (kept, Place::Unnamed);
        }
        let mut file = self.handle()?;
        file.rewind().map_err(Error::io("cannot read", &self.path))?;
        Ok(file)
    }

    fn handle(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::io("cannot read", &self.path))
    }
}

#[cfg(unix)]
fn is_device(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_kind: FileType) -> bool {
    false
}
