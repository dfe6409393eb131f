//! Opening what is read. Formats seek, so what comes through a pipe is put into a temporary file first.

use super::y4m;
use crate::error::{Error, Result};
use std::env;
use std::fs::{File, FileType};
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A file or a pipe that is open.
pub(super) struct Input {
    path: PathBuf,
    file: File,
    /// The first bytes, which tell the format.
    head: Vec<u8>,
    place: Place,
}

/// Where the rest of the bytes is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a file that others can open by its name.
    Named,
    /// In a file that is only open here.
    Unnamed,
    /// In a pipe, of which the head has been taken.
    Pipe,
}

impl Input {
    /// Opens `path`; `-` is stdin.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or read, [`Error::Media`] if it is empty or a device.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path == Path::new("-") { Path::new(STDIN) } else { path };
        let mut file = File::open(path).map_err(Error::io("cannot open", path))?;
        let kind = file.metadata().map_err(Error::io("cannot open", path))?.file_type();
        if is_device(kind) {
            return Err(Error::media(path, "is a device, not a video, image or folder"));
        }
        // The system's names for what a process has open mean something else in another process.
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

    /// What errors call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether [`Self::path`] is of use to another process.
    pub fn is_named(&self) -> bool {
        self.place == Place::Named
    }

    /// All bytes, one after the other. The head is read first and alone.
    pub fn stream(&self) -> Result<impl Read + use<>> {
        Ok(Cursor::new(self.head.clone()).chain(self.handle()?))
    }

    /// The file from its beginning; all handles move together. A pipe is emptied first.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, or there is no room for what comes through a pipe.
    pub fn file(&mut self) -> Result<File> {
        if self.place == Place::Pipe {
            let folder = env::temp_dir();
            let failed = || Error::io("cannot keep what comes through a pipe in TMPDIR,", &folder);
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

/// The name of stdin, here and in a program that is started.
pub(super) const STDIN: &str = "/dev/stdin";

#[cfg(unix)]
fn is_device(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_kind: FileType) -> bool {
    false
}
