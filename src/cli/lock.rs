//! Lock files: of several processes that share a list, one makes each video.
//!
//! A lock file holds its owner. The owner also holds the system's lock of the file, which ends with the process, so on one machine
//! a dead owner is known at once. Between machines that share a folder this lock may not exist. There the owner writes its file
//! again and again, and a file that nobody writes for a while has a dead owner. No clocks are compared.

use osp::reading;
use osp::staged::Known;
use osp::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often an owner writes its file.
const BEAT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };
/// After so long without a write, an owner on another machine is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a new file may be empty.
const EMPTY: Duration = Duration::from_millis(500);
/// How long a file may be there for whoever creates it, but not for whoever opens it: a link to nothing stays so.
const LOST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine's name.
    machine: String,
    /// This start of the machine; another start, or another machine, has another one.
    boot: String,
    process: u32,
    /// Seconds from 1970 to the moment at which it took the lock.
    since: u64,
}

impl Owner {
    fn this_process() -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
        let of_environment = || ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok());
        let machine = line("/proc/sys/kernel/hostname").or_else(of_environment).unwrap_or_else(|| "unknown".into());
        let boot = line("/proc/sys/kernel/random/boot_id").unwrap_or_else(|| machine.clone());
        Self { machine, boot, process: std::process::id(), since: seconds() }
    }
}

/// `process 12 on node7, for 3 min`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = match seconds().saturating_sub(self.since) {
            age @ 0..120 => format!("{age} s"),
            age @ 120..7200 => format!("{} min", age / 60),
            age => format!("{} h", age / 3600),
        };
        write!(f, "process {} on {}, for {age}", self.process, self.machine)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A lock that this process holds. Dropping it removes the file.
pub struct Lock {
    path: PathBuf,
    /// Holds the system's lock.
    file: File,
    /// Nothing any more when the file was lost to another process.
    known: Arc<Mutex<Option<Known>>>,
    /// Ends the thread that writes the file, when it is dropped.
    _beat: Sender<()>,
}

/// What came of a try to take a lock.
pub enum Taken {
    /// It is ours; an earlier owner has died.
    Ours(Lock, Option<Owner>),
    /// Its owner lives.
    Alive(Owner),
    /// Its owner is on another machine, and may be dead.
    Unsure(Owner, Watch),
}

/// The state of a lock file when it was looked at.
pub struct Watch {
    path: PathBuf,
    written: Option<SystemTime>,
    since: Instant,
}

impl Watch {
    /// Whether the owner has written the file, or removed it, since it was looked at.
    fn moved(&self) -> bool {
        written(&self.path) != self.written
    }

    /// Waits until it is sure whether the owner lives, or until `stop`.
    pub fn lives(&self, stop: &dyn Fn() -> bool) -> bool {
        while self.since.elapsed() < SILENCE {
            if self.moved() || stop() {
                return true;
            }
            thread::sleep(PAUSE);
        }
        self.moved()
    }
}

/// When a file was written last. A network file system asks its server anew for a file that is opened.
fn written(path: &Path) -> Option<SystemTime> {
    File::open(path).and_then(|file| file.metadata()?.modified()).ok()
}

/// Tries to take the lock at `path`. `dead`: this owner on another machine was watched, and has died.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn take(path: &Path, dead: Option<&Owner>) -> Result<Taken> {
    let failed = || Error::io("cannot lock", path);
    let (begin, mut died) = (Instant::now(), None);
    loop {
        match File::options().read(true).write(true).create_new(true).open(path) {
            Ok(file) => {
                if locked(&file) != Locked::Elsewhere && is_at(&file, path) {
                    return Ok(Taken::Ours(Lock::hold(file, path).map_err(failed())?, died));
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed()(error)),
        }
        // What follows finds the file, or it was removed and the loop begins again.
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && begin.elapsed() < LOST => continue,
            Err(error) => return Err(failed()(error)),
        };
        let watch = Watch::at(path);
        let owner = owner(&mut file);
        if owner.is_none() && begin.elapsed() < EMPTY {
            // Its owner is about to lock and to write it.
            thread::sleep(PAUSE);
            continue;
        }
        let (locked, ours) = (locked(&file), Owner::this_process());
        if !is_at(&file, path) {
            continue;
        }
        let here = |owner: &Owner| owner.boot == ours.boot;
        match (owner, locked) {
            (Some(owner), Locked::Elsewhere) => return Ok(Taken::Alive(owner)),
            (None, Locked::Elsewhere) => return Ok(Taken::Alive(Owner { process: 0, ..ours })),
            (Some(owner), Locked::Unknown) if here(&owner) && is_running(owner.process) => {
                return Ok(Taken::Alive(owner));
            }
            (Some(owner), _) if !here(&owner) && dead != Some(&owner) => return Ok(Taken::Unsure(owner, watch)),
            (owner, _) => died = owner.or(died),
        }
        // Its owner is dead, or died before it wrote its name. Should it live after all, it finds that its file is gone, and does not
        // take ours for its own.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
    }
}

impl Watch {
    fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), written: written(path), since: Instant::now() }
    }
}

/// Where the system's lock of a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// It is ours now.
    Here,
    /// Another process has it.
    Elsewhere,
    /// The file system has no locks.
    Unknown,
}

/// Tries to take the system's lock.
fn locked(file: &File) -> Locked {
    match file.try_lock() {
        Ok(()) => Locked::Here,
        Err(TryLockError::WouldBlock) => Locked::Elsewhere,
        Err(TryLockError::Error(_)) => Locked::Unknown,
    }
}

/// Whether a process of this machine is running, as far as the system says so.
fn is_running(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// The owner in a lock file; `None` if there is none yet.
fn owner(file: &mut File) -> Option<Owner> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(1 << 12).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether a file is a lock, with its owner or not yet.
pub fn is_lock(path: &Path) -> bool {
    let empty = || fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() == 0);
    empty() || reading::open(path).is_ok_and(|mut file| owner(&mut file).is_some())
}

/// Whether the file still has this path: an owner removes its file at the end.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |facts: fs::Metadata| (facts.dev(), facts.ino());
    let ids = [file.metadata(), fs::metadata(path)].map(|facts| facts.map(id).ok());
    ids[0].is_some() && ids[0] == ids[1]
}

#[cfg(not(unix))]
pub fn is_at(_: &File, path: &Path) -> bool {
    // A file that is open cannot be removed.
    path.exists()
}

/// Whether this path is another file's by now, or nobody's: the owner was slow, and was taken for dead. Of a file that cannot be looked at
/// nothing is known.
fn is_lost(file: &File, path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(_) => !is_at(file, path),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

impl Lock {
    /// Writes the owner into a new file whose lock is ours, now and from time to time.
    fn hold(file: File, path: &Path) -> std::io::Result<Self> {
        let known = Arc::new(Mutex::new(Some(Known::new(path))));
        let (beat, ended) = channel::<()>();
        let lock = Self { path: path.to_path_buf(), file, known, _beat: beat };
        let text = serde_json::to_string(&Owner::this_process()).expect("plain values have a JSON form") + "\n";
        (&lock.file).write_all(text.as_bytes())?;
        // A network file system keeps what is not synchronised to itself, for longer than others wait. What a file system refuses to
        // synchronise looks like the file of a dead owner, which costs work and breaks nothing.
        let _ = lock.file.sync_all();
        let beats = {
            let (file, path, known) = (lock.file.try_clone()?, lock.path.clone(), lock.known.clone());
            move || {
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT) {
                    if is_lost(&file, &path) {
                        // Nor is it removed when a signal ends the process.
                        known.lock().unwrap_or_else(PoisonError::into_inner).take();
                        break;
                    }
                    let _ = beat_once(&file, &text);
                }
            }
        };
        thread::Builder::new().spawn(beats)?;
        Ok(lock)
    }
}

/// Writes the owner again.
fn beat_once(mut file: &File, text: &str) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Another process may have taken it over from an owner that it thought dead.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.mp4.lock");
        (folder, path)
    }

    /// Writes a lock file of a process that does not hold the system's lock.
    fn left_behind(path: &Path, boot: &str) -> Owner {
        let owner = Owner { machine: "node7".into(), boot: boot.into(), process: 7, since: seconds() - 180 };
        fs::write(path, serde_json::to_string(&owner).unwrap()).unwrap();
        owner
    }

    #[test]
    fn a_lock_has_one_owner_and_no_file_when_it_is_given_back() {
        let (folder, path) = folder();
        let Taken::Ours(lock, None) = take(&path, None).unwrap() else { panic!("nobody has it") };
        let Taken::Alive(owner) = take(&path, Some(&Owner::this_process())).unwrap() else { panic!("it is taken") };
        assert_eq!(owner.process, std::process::id());
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(take(&path, None).unwrap(), Taken::Ours(_, None)));
        assert!(take(&folder.path().join("absent/a.lock"), None).is_err());
    }

    #[test]
    fn a_dead_owner_on_this_machine_is_known_at_once() {
        let (_folder, path) = folder();
        let dead = left_behind(&path, &Owner::this_process().boot);
        let Taken::Ours(_lock, Some(owner)) = take(&path, None).unwrap() else { panic!("its owner is dead") };
        assert_eq!(owner, dead);
        assert!(owner.to_string().starts_with("process 7 on node7, for 3 min"), "{owner}");
        // A process that died before it wrote its name.
        drop(_lock);
        fs::write(&path, "").unwrap();
        assert!(matches!(take(&path, None).unwrap(), Taken::Ours(_, None)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_runs_until_it_ends() {
        assert!(is_running(std::process::id()) && !is_running(u32::MAX));
    }

    #[test]
    fn an_owner_on_another_machine_lives_as_long_as_it_writes() {
        let (_folder, path) = folder();
        let owner = left_behind(&path, "another");
        let Taken::Unsure(found, watch) = take(&path, None).unwrap() else { panic!("it may live") };
        assert_eq!(found, owner);
        assert!(!watch.moved());
        let later = SystemTime::now() + Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(watch.lives(&|| false));
        // Nobody writes it any more.
        let Taken::Unsure(_, watch) = take(&path, None).unwrap() else { panic!("it may live") };
        let long_ago = Watch { since: watch.since.checked_sub(SILENCE).unwrap(), ..watch };
        assert!(!long_ago.lives(&|| false));
        // Another process has taken it meanwhile, so the owner who died is not this one.
        let next = left_behind(&path, "a third");
        assert!(matches!(take(&path, Some(&owner)).unwrap(), Taken::Unsure(found, _) if found == next));
        assert!(matches!(take(&path, Some(&next)).unwrap(), Taken::Ours(_, Some(found)) if found == next));
    }

    #[test]
    fn an_owner_that_was_taken_for_dead_leaves_the_file_of_the_next_one_alone() {
        let (_folder, path) = folder();
        let Taken::Ours(slow, None) = take(&path, None).unwrap() else { panic!("nobody has it") };
        let time = || slow.file.metadata().unwrap().modified().unwrap();
        let first = time();
        thread::sleep(3 * BEAT);
        assert!(time() > first, "it is written again and again");
        // What another machine does that does not see the system's lock.
        fs::remove_file(&path).unwrap();
        let next = left_behind(&path, "another");
        while slow.known.lock().unwrap().is_some() {
            thread::sleep(PAUSE);
        }
        let last = time();
        thread::sleep(3 * BEAT);
        assert_eq!(time(), last, "nobody looks at its file any more");
        drop(slow);
        assert_eq!(owner(&mut File::open(&path).unwrap()), Some(next));
    }

    #[test]
    fn a_file_that_is_taken_over_keeps_its_owner() {
        let (_folder, path) = folder();
        let dead = left_behind(&path, "another");
        let mut old = File::open(&path).unwrap();
        assert!(matches!(take(&path, Some(&dead)).unwrap(), Taken::Ours(_, Some(_))));
        assert_eq!(owner(&mut old), Some(dead), "a new file was made");
    }

    #[test]
    fn of_many_threads_one_has_the_lock() {
        let (_folder, path) = folder();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut had = 0;
            while had < 20 {
                let Taken::Ours(lock, _) = take(&path, None).unwrap() else { continue };
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                thread::yield_now();
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                drop(lock);
                had += 1;
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    }
}
