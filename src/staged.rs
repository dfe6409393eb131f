//! Outputs appear whole or not at all: they are written under a temporary name beside the target, then renamed.

mod folders;
mod lasting;
#[cfg(unix)]
mod leftovers;
mod stale;

/// Other systems have no signal handler, so nothing needs the list of temporary files.
#[cfg(not(unix))]
mod leftovers {
    pub struct Known;

    impl Known {
        pub fn new(_: &std::path::Path) -> Self {
            Self
        }

        pub fn none() -> Self {
            Self
        }
    }

    pub fn remove_all() {}
}

pub use leftovers::{Known, remove_all};

use crate::error::{Error, Result};
use stale::{ENDING, Lock, prefix, sweep};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile, TempDir};

/// Fails if the existing folder must not be replaced.
pub type Check = fn(&Path) -> Result<()>;

/// An output that is being written. Dropping it removes it.
pub struct Staged {
    /// The output's path, as the user named it.
    named: PathBuf,
    /// The output's path with links followed.
    target: PathBuf,
    work: Work,
    // Dropped last, after the temporary file or folder is gone.
    _known: Known,
    _lock: Option<Lock>,
}

enum Work {
    File(NamedTempFile),
    Folder(TempDir, Check),
    /// A file without a name, for stdout.
    Stdout(File),
}

impl Staged {
    /// A temporary file beside `target`. If `target` is a link, the file that it leads to is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is not writable, [`Error::Usage`] if links form a circle.
    pub fn file(target: &Path) -> Result<Self> {
        Self::new(target, |folder| named(ENDING, 0o666).tempfile_in(folder).map(Work::File))
    }

    /// A temporary folder beside `target`, which may be a link. A folder that is at the target when the work is done
    /// must pass `check`.
    ///
    /// # Errors
    /// As for [`Self::file`].
    pub fn folder(target: &Path, check: Check) -> Result<Self> {
        Self::new(target, |folder| Ok(Work::Folder(named(ENDING, 0o777).tempdir_in(folder)?, check)))
    }

    /// A temporary file that is copied to stdout when it is complete.
    ///
    /// # Errors
    /// [`Error::Io`] if the temporary file cannot be made.
    pub fn stdout() -> Result<Self> {
        let failed = Error::io("cannot make a temporary file in TMPDIR,", std::env::temp_dir());
        let work = Work::Stdout(tempfile::tempfile().map_err(failed)?);
        Ok(Self { named: STDOUT.into(), target: STDOUT.into(), _known: Known::none(), _lock: None, work })
    }

    fn new(named: &Path, make: impl Fn(&Path) -> io::Result<Work>) -> Result<Self> {
        let target = destination(named)?;
        let folder = parent(&target);
        sweep(&folder);
        loop {
            let work = make(&folder).map_err(Error::io("cannot write", named))?;
            if let Some(lock) = Lock::of(work.path()) {
                let _known = Known::new(work.path());
                return Ok(Self { named: named.to_path_buf(), target, _known, _lock: Some(lock), work });
            }
        }
    }

    /// The temporary path; for stdout, the name that errors use.
    pub fn path(&self) -> &Path {
        self.work.path()
    }

    /// A handle to write the file through.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn open(&self) -> Result<File> {
        let opened = match &self.work {
            Work::File(file) => file.reopen(),
            Work::Folder(folder, _) => File::open(folder.path()),
            Work::Stdout(file) => file.try_clone(),
        };
        opened.map_err(Error::io("cannot write", &self.named))
    }

    /// The output, all of which is on the disk now and outlasts a failure of power. Only then may it replace an older one.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk does not take it. Some file systems say only now that they are full.
    pub fn lasting(self) -> Result<Self> {
        let done = match &self.work {
            Work::File(file) => lasting::file(file.as_file()),
            Work::Folder(folder, _) => lasting::folder(folder.path()),
            Work::Stdout(_) => Ok(()),
        };
        done.map_err(Error::io("cannot write", &self.named)).map(|()| self)
    }

    /// Moves the output to its target and replaces what is there. Finished work is never thrown away: an output that
    /// cannot be moved stays beside its target, under a name that the error gives.
    ///
    /// # Errors
    /// [`Error::Media`] if it cannot be moved, [`Error::Io`] if stdout fails.
    pub fn commit(self) -> Result<()> {
        let moved = match self.work {
            Work::File(file) => match file.persist(&self.target) {
                Ok(_) => Ok(()),
                Err(failed) => Err((failed.file.keep().map(|(_, path)| path), failed.error.to_string())),
            },
            Work::Folder(folder, check) => match folders::replace(folder.path(), &self.target, check) {
                // An older folder is now under the temporary name.
                Ok(()) => Ok(()),
                Err(failed) => Err((Ok(folder.keep()), failed.to_string())),
            },
            Work::Stdout(file) => return to_stdout(file),
        };
        let Err((kept, problem)) = moved else {
            lasting::names(&parent(&self.target));
            return Ok(());
        };
        let named = |path| format!("it is at {}", no_leftover(path, &self.target).display());
        let place = kept.map_or_else(|lost| lost.to_string(), named);
        Err(Error::media(&self.named, format!("finished, but cannot be moved into place: {problem}; {place}")))
    }
}

/// Gives finished work a name that no later run takes for a leftover, such as `out.kept-x7Ga2P.mp4` for the target `out.mp4`, and returns it.
fn no_leftover(work: PathBuf, target: &Path) -> PathBuf {
    let part = |path: Option<&OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let random = part(work.file_stem()).rsplit('-').next().unwrap_or_default().to_owned();
    let mut seen = target.with_file_name(format!("{}.kept-{random}", part(target.file_stem())));
    if let Some(ending) = target.extension() {
        seen.as_mut_os_string().push(".");
        seen.as_mut_os_string().push(ending);
    }
    // That name may be too long.
    let mut names = [seen, work.with_extension("kept")].into_iter();
    let taken = |name: &PathBuf| !name.exists() && fs::rename(&work, name).is_ok();
    names.find(taken).unwrap_or(work)
}

impl Work {
    fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Folder(folder, _) => folder.path(),
            Self::Stdout(_) => Path::new(STDOUT),
        }
    }
}

/// The name of stdout in errors.
const STDOUT: &str = "stdout";

/// Copies all of `file` to stdout. A reader that closes the pipe early is not a failure.
fn to_stdout(mut file: File) -> Result<()> {
    let mut out = io::stdout().lock();
    let sent = file.rewind().and_then(|()| io::copy(&mut file, &mut out)).and_then(|_| out.flush());
    match sent {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::io("cannot write to", STDOUT)),
    }
}

/// Writes `bytes` to `path`. An older file is replaced only when all bytes are on the disk.
///
/// # Errors
/// [`Error::Io`] if they cannot be written; those of [`Staged::commit`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    written(path, bytes)?.commit()
}

/// A file of `bytes` that [`Staged::commit`] puts to `path`.
///
/// # Errors
/// [`Error::Io`] if they cannot be written.
pub fn written(path: &Path, bytes: &[u8]) -> Result<Staged> {
    let staged = Staged::file(path)?;
    staged.open()?.write_all(bytes).map_err(Error::io("cannot write", path))?;
    staged.lasting()
}

/// Removes a file that [`write_file`] wrote. It need not exist.
pub fn remove_file(path: &Path) {
    if let Ok(target) = destination(path) {
        let _ = fs::remove_file(target);
    }
}

/// Writes `bytes` to the file `name` of a cache's `folder`, and creates the folder if it is missing. No reader ever
/// sees half of the file, and only its owner may read it. A file that cannot be put there is deleted: the program can
/// make it again.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be made or is not writable.
pub fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let full = || Error::io("cannot write to", folder);
    fs::create_dir_all(folder).map_err(full())?;
    sweep(folder);
    let (mut file, _lock) = loop {
        let file = named(ENDING, 0o600).tempfile_in(folder).map_err(full())?;
        if let Some(lock) = Lock::of(file.path()) {
            break (file, lock);
        }
    };
    let _known = Known::new(file.path());
    file.write_all(bytes).map_err(full())?;
    file.persist(folder.join(name)).map(drop).map_err(|failed| full()(failed.error))
}

/// Fails if no file can be written at `path`: its folder is missing or not writable, its name is too long, or something
/// other than a file is there.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Io`].
pub fn check_file(path: &Path) -> Result<()> {
    check_parent(path)?;
    if path.is_dir() {
        return Err(Error::Usage(format!("output {} is a folder; name a file in it", path.display())));
    }
    if path.exists() && !path.is_file() {
        let problem = "is not a regular file and cannot be replaced; choose another";
        return Err(Error::Usage(format!("output {} {problem}", path.display())));
    }
    Ok(())
}

/// Fails if the folder that `path` leads to is missing or not writable. The only sure test is to write a file there.
///
/// # Errors
/// [`Error::Usage`] if there is no such folder, [`Error::Io`] if it is not writable; those of [`destination`].
pub fn check_parent(path: &Path) -> Result<()> {
    let folder = parent(&destination(path)?);
    if !folder.is_dir() {
        return Err(Error::Usage(format!(
            "output {}: folder {} does not exist; create it or choose another",
            path.display(),
            folder.display()
        )));
    }
    tempfile::tempfile_in(&folder).map(drop).map_err(Error::io("cannot write into", folder))
}

/// Fails if the files of a folder cannot be removed, or are meant to stay: it is write-protected.
///
/// # Errors
/// [`Error::Io`].
pub fn check_removable(folder: &Path) -> Result<()> {
    let failed = || Error::io("cannot replace the files in", folder);
    // Root may remove them, and should not.
    if fs::metadata(folder).map_err(failed())?.permissions().readonly() {
        return Err(failed()(io::Error::new(io::ErrorKind::PermissionDenied, "it is write-protected")));
    }
    #[cfg(unix)]
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| failed()(error.into()))?;
    Ok(())
}

/// Whether `name` is of a file that desktop systems write into every folder they display; it can be deleted.
pub fn is_litter(name: &str) -> bool {
    matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini") || name.starts_with("._")
}

/// The folder in which `path` lies, `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The path that `path` leads to when links at its end are followed. It need not exist.
///
/// # Errors
/// [`Error::Usage`] if links form a circle or the name is too long, [`Error::Io`] if a link cannot be read.
pub fn destination(path: &Path) -> Result<PathBuf> {
    /// Linux follows at most 40 links, too.
    const LINKS: usize = 40;
    // Removes a separator at the end, which would follow the link.
    let mut place: PathBuf = path.components().collect();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_symlink() => {
                let to = fs::read_link(&place).map_err(Error::io("cannot follow", path))?;
                place = parent(&place).join(to);
            }
            Ok(_) => return Ok(place),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return Ok(place),
                io::ErrorKind::InvalidFilename => {
                    return Err(Error::Usage(format!(
                        "output {}: the name is too long; choose a shorter one",
                        path.display()
                    )));
                }
                _ => return Err(Error::io("cannot write", path)(error)),
            },
        }
    }
    Err(Error::Usage(format!("output {} is a link that leads in a circle", path.display())))
}

/// A builder of temporary files and folders. By default these are private; an output has the permissions of any new
/// file.
fn named(ending: &str, mode: u32) -> Builder<'static, '_> {
    let mut builder = Builder::new();
    builder.prefix(prefix()).suffix(ending);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_whole_and_replace_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_file(&folder.path().join("absent/record.json"), b"").is_err());
    }

    /// What is finished and has no place yet is not thrown away by a later run.
    #[test]
    fn work_that_cannot_be_moved_is_no_leftover() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let [file, folder] = [Staged::file(&at("a")).unwrap(), Staged::folder(&at("b"), |_| Ok(())).unwrap()];
        file.open().unwrap().write_all(b"a video").unwrap();
        fs::write(folder.path().join("frame"), "a frame").unwrap();
        // What is there now can be replaced by neither.
        fs::create_dir(at("a")).unwrap();
        fs::write(at("b"), "").unwrap();
        for (work, name, bytes) in [(file, "", "a video"), (folder, "frame", "a frame")] {
            let problem = work.lasting().unwrap().commit().unwrap_err().to_string();
            let place = PathBuf::from(problem.split_once("it is at ").unwrap().1);
            assert!(place.file_name().unwrap().to_str().unwrap().contains(".kept-"), "{problem}");
            stale::remove_leftovers(home.path());
            let kept: PathBuf = place.join(name).components().collect();
            assert_eq!(fs::read_to_string(kept).unwrap(), bytes);
        }
    }

    #[test]
    fn a_cache_keeps_whole_files_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        for bytes in [b"one", b"two"] {
            keep(&folder, "entry", bytes).unwrap();
            assert_eq!(fs::read(folder.join("entry")).unwrap(), bytes);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(folder.join("entry")).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // A folder of that name cannot be replaced by a file.
        fs::create_dir(folder.join("taken")).unwrap();
        assert!(matches!(keep(&folder, "taken", b"three"), Err(Error::Io { .. })));
        assert!(keep(&folder.join("entry"), "below", b"four").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn a_panic_leaves_the_older_outputs_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        fs::write(&path, "old").unwrap();
        let result = std::panic::catch_unwind(|| {
            let staged = [Staged::file(&path).unwrap(), Staged::folder(&path, |_| Ok(())).unwrap()];
            fs::write(staged[1].path().join("frame"), "half").unwrap();
            panic!("a bug");
        });
        assert!(result.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn the_target_of_a_link_is_replaced_and_the_link_stays() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("disk")).unwrap();
        for (link, to) in [("a", "disk/a"), ("b", "a"), ("loop", "loop")] {
            symlink(to, at(link)).unwrap();
        }
        for bytes in [b"one", b"two"] {
            write_file(&at("b"), bytes).unwrap();
            assert_eq!(fs::read(at("disk/a")).unwrap(), bytes);
        }
        assert!(at("a").is_symlink() && at("b").is_symlink());
        assert!(matches!(write_file(&at("loop"), b""), Err(Error::Usage(_))));
    }
}
