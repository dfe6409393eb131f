//! Files that arrive piece by piece: a download resumes where it stopped, and a file gets its name when it is whole.

use super::http::{Answer, Attempt, Failure, Hub, SLOWEST};
use super::list::{File, Hash};
use crate::cli::interrupt;
use crate::cli::lock::is_at;
use crate::cli::transfer::Transfer;
use osp::{Error, Result};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use ureq::http::StatusCode;

/// A download fails after this number of attempts in a row that bring too little.
const ATTEMPTS: u32 = 4;
/// An attempt that brings fewer bytes has brought too little.
const LITTLE: u64 = 512;

/// A partly downloaded file, whose lock this process holds, and the hash of its bytes.
struct Partial {
    path: PathBuf,
    file: fs::File,
    length: u64,
    context: Context,
}

/// The name of `target` until it is whole.
fn partial_path(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".partial");
    path.into()
}

impl File {
    /// Downloads the file from `url` of the hub to `target`. Until it is complete and its hash is right, its name is
    /// `target.partial`; a later call resumes it.
    pub fn fetch(&self, hub: &Hub, url: &str, target: &Path, transfer: &Transfer<'_>) -> Result<()> {
        let mut partial = loop {
            if self.is_at(target)? {
                return transfer.advance(self.size);
            }
            if let Some(partial) = Partial::open(target, self)? {
                break partial;
            }
        };
        transfer.advance(partial.length)?;
        // A hub may take back what it has sent, so only what exceeds the most so far counts.
        let (mut attempts, mut most) = (0, partial.length);
        while partial.length < self.size {
            let since = Instant::now();
            let problem = match partial.fetch(self, hub, url, transfer) {
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Cut(problem)) if partial.length < self.size => problem,
                Ok(()) | Err(Failure::Cut(_)) => break,
            };
            let enough = LITTLE.max(SLOWEST * since.elapsed().as_secs());
            attempts = if partial.length >= most + enough { 0 } else { attempts + 1 };
            most = most.max(partial.length);
            if attempts == ATTEMPTS {
                let (length, size) = (partial.length, self.size);
                let problem = format!("{problem}; {length} of {size} bytes are downloaded: run it again to resume");
                return Err(hub.fault(url, problem));
            }
            // 0.1 s, 0.4 s, 1.6 s and 6.4 s, unless the user has another patience.
            pause(hub.silence / 300 * (1 << (2 * attempts)))?;
        }
        partial.finish(self, target)
    }

    /// The bytes that are still to be downloaded to `target`, as far as lengths tell.
    pub fn missing(&self, target: &Path) -> u64 {
        let length = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|found| found.len());
        match length(target) {
            Some(length) if length == self.size => 0,
            _ => self.size.saturating_sub(length(&partial_path(target)).unwrap_or(0)),
        }
    }

    /// Whether the complete file is already at `target`.
    fn is_at(&self, target: &Path) -> Result<bool> {
        if fs::metadata(target).is_ok_and(|found| found.is_file() && found.len() == self.size) {
            let mut file = fs::File::open(target).map_err(Error::io("cannot read", target))?;
            let mut context = self.hash.context(self.size);
            absorb(&mut file, target, &mut context)?;
            return Ok(self.hash.is(context));
        }
        Ok(false)
    }
}

impl Partial {
    /// Opens or creates the partial file beside `target`, and locks it. `None`: another process has just given it its name.
    fn open(target: &Path, file: &File) -> Result<Option<Self>> {
        let path = partial_path(target);
        let folder = target.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(Error::io("cannot make the folder", folder))?;
        let fault = || Error::io("cannot write", &path);
        let mut opened = open_own(&path).map_err(fault())?;
        match opened.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(fault()(io::Error::other("another process is downloading it")));
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        if !is_at(&opened, &path) {
            return Ok(None);
        }
        let mut context = file.hash.context(file.size);
        let length = absorb(&mut opened, &path, &mut context)?;
        let mut partial = Self { path, file: opened, length, context };
        if length > file.size {
            partial.restart(file)?;
        }
        Ok(Some(partial))
    }

    fn restart(&mut self, file: &File) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.rewind());
        cut.map_err(Error::io("cannot write", &self.path))?;
        (self.length, self.context) = (0, file.hash.context(file.size));
        Ok(())
    }

    /// One attempt to download the rest.
    fn fetch(&mut self, file: &File, hub: &Hub, url: &str, transfer: &Transfer<'_>) -> Attempt<()> {
        let mut answer = hub.request(url, self.length)?;
        match answer.status {
            StatusCode::RANGE_NOT_SATISFIABLE => {
                transfer.retreat(self.length);
                self.restart(file).map_err(Failure::Final)?;
                return Err(Failure::Cut("the hub has no such range".into()));
            }
            StatusCode::PARTIAL_CONTENT if !is_range(&answer, self.length, file.size) => {
                return Err(Failure::Final(hub.fault(url, "the hub sends another range than requested")));
            }
            StatusCode::PARTIAL_CONTENT => {}
            // A server may ignore the requested range and send the whole file.
            _ => {
                transfer.retreat(self.length);
                self.restart(file).map_err(Failure::Final)?;
            }
        }
        while let Some(piece) = answer.piece()? {
            if self.length + piece.len() as u64 > file.size {
                let problem = format!("the file is longer than the {} bytes that the hub lists", file.size);
                return Err(Failure::Final(hub.fault(url, problem)));
            }
            let written = self.file.write_all(&piece).map_err(Error::io("cannot write", &self.path));
            written.map_err(Failure::Final)?;
            self.context.update(&piece);
            self.length += piece.len() as u64;
            transfer.advance(piece.len() as u64).map_err(Failure::Final)?;
        }
        if self.length < file.size { Err(Failure::Cut("the connection was cut".into())) } else { Ok(()) }
    }

    /// Checks the hash and gives the file its final name.
    fn finish(self, file: &File, target: &Path) -> Result<()> {
        if !file.hash.is(self.context) {
            fs::remove_file(&self.path).map_err(Error::io("cannot remove", &self.path))?;
            let problem = "has another hash than the hub lists: the damaged download was deleted; run it again";
            return Err(Error::weight(target, "", problem));
        }
        self.file.sync_all().map_err(Error::io("cannot write", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("cannot write", target))
    }
}

/// Opens or creates a regular file that can be written. Others can foresee its name, so it may not be a link.
fn open_own(path: &Path) -> io::Result<fs::File> {
    let strange =
        |what: &str| io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, expected a file: remove it"));
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => return Err(strange("a link")),
        Ok(found) if !found.is_file() => return Err(strange("not a file")),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Others may put a link or a pipe there at the last moment.
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    }
    let file = options.open(path)?;
    let facts = file.metadata()?;
    match () {
        () if !facts.is_file() => Err(strange("not a file")),
        () if names(&facts) > 1 => Err(strange("a file that has another name, too")),
        () => Ok(file),
    }
}

/// How many names a file has.
#[cfg(unix)]
fn names(facts: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(facts)
}

#[cfg(not(unix))]
fn names(_: &fs::Metadata) -> u64 {
    1
}

/// Waits, unless the user wants to stop.
fn pause(time: Duration) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < time {
        interrupt::check()?;
        sleep(Duration::from_millis(20).min(time));
    }
    interrupt::check()
}

/// Whether a partial answer has the bytes from `start` on of a file of `size` bytes.
fn is_range(answer: &Answer, start: u64, size: u64) -> bool {
    let range = answer.range.as_deref().and_then(|range| range.strip_prefix("bytes "));
    let Some((from, whole)) = range.and_then(|range| range.split_once('/')) else { return false };
    let begins = from.split_once('-').is_some_and(|(from, _)| from.parse() == Ok(start));
    begins && (whole == "*" || whole.parse() == Ok(size))
}

/// Adds the bytes of the file at `path` to a hash, and returns their number.
fn absorb(file: &mut fs::File, path: &Path, context: &mut Context) -> Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        interrupt::check()?;
        match file.read(&mut buffer).map_err(Error::io("cannot read", path))? {
            0 => return Ok(length),
            count => {
                context.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

impl Hash {
    /// A hash before the first byte, for a file of `size` bytes.
    fn context(&self, size: u64) -> Context {
        match self {
            Self::Sha256(_) => Context::new(&SHA256),
            Self::GitBlob(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                context
            }
        }
    }

    fn is(&self, context: Context) -> bool {
        let found: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let (Self::Sha256(expected) | Self::GitBlob(expected)) = self;
        found == *expected
    }
}
