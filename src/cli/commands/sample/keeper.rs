//! Keeps where each video stands, so that an interrupted run can go on.

use super::jobs::Job;
use super::place::path;
use super::preview::Previews;
use crate::cli::console::Console;
use crate::cli::interrupt;
use osp::engine::{Observer, Reached, RunState, SavedSettings, Settings, Stage, StagePlan, Warning};
use osp::state::{Origin, Progress, State};
use osp::{Error, Result, room, staged};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A latent that took longer is kept while it is decoded, so that nothing but its frames is lost when the run is ended at once.
const DEAR: Duration = Duration::from_secs(20);

/// How often a state is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    /// After every N calls of the model, and after each window of the decoder.
    Calls(usize),
    /// At the first chance after so much time.
    Time(Duration),
}

/// Reads `N` or `Nmin`.
pub fn every(text: &str) -> Result<Every> {
    let minutes = text.strip_suffix("min").map(|number| number.trim().parse::<f64>().ok());
    let every = match (text.parse::<usize>(), minutes) {
        (Ok(calls), _) if calls > 0 => Some(Every::Calls(calls)),
        (_, Some(Some(minutes))) if minutes > 0.0 => Duration::try_from_secs_f64(60.0 * minutes).ok().map(Every::Time),
        _ => None,
    };
    every.ok_or_else(|| Error::Usage("expected a number of calls such as 10, or minutes such as 5min".into()))
}

/// When states are kept, and what they note.
pub struct Keeping {
    pub every: Option<Every>,
    /// Options for a run that goes on.
    pub notes: BTreeMap<String, String>,
    /// Whether the same command goes on from the states, as it does with a list in a file.
    pub again: bool,
}

impl Keeping {
    /// Whether a state is due, if the last was written at `last`; `after` says whether N calls are complete.
    fn due(&self, last: Instant, after: impl Fn(usize) -> bool) -> bool {
        match self.every {
            Some(Every::Calls(calls)) => after(calls),
            Some(Every::Time(time)) => last.elapsed() >= time,
            None => false,
        }
    }
}

/// Keeps the states of a run's videos. A reference to it is the run's [`Observer`], and passes everything else on to the
/// console and to the previews.
pub struct Keeper<'a> {
    jobs: &'a [&'a Job],
    console: &'a Console,
    keeping: &'a Keeping,
    previews: Option<&'a Previews<'a>>,
    origin: &'a Origin,
    kept: Mutex<Kept>,
    /// Whether the transformer runs, which stops only when a state is kept.
    sampling: AtomicBool,
    /// Whether the user wants to stop, and the state for it was asked for.
    stopping: AtomicBool,
}

struct Kept {
    videos: Vec<Video>,
    /// The video whose latent is made.
    current: usize,
    /// When the last state was written.
    last: Instant,
    /// When the work on that video began.
    begun: Instant,
}

/// What is known of a video.
struct Video {
    /// Without frames.
    progress: Progress,
    /// Whether a frame is decoded.
    decoding: bool,
    /// All frames that are decoded, if there is room for them.
    frames: Option<Spool>,
    /// Whether its file holds all of this.
    saved: bool,
    /// Bytes of frames in its file.
    written: usize,
    /// Whether its file is this run's, or that from which this run goes on.
    owned: bool,
    /// Where the state of another run is that was in the way.
    aside: Option<PathBuf>,
    complete: bool,
}

impl Video {
    fn of(job: &Job) -> Self {
        let progress = job.from().map_or(Progress::Begun, |(_, state)| match &state.progress {
            Progress::Decoding { latent, .. } => Progress::Decoding { latent: latent.clone(), frames: Vec::new() },
            other => other.clone(),
        });
        let from = job.from().map(|(from, _)| from);
        let places = [from, path(&job.output).as_ref()].map(|place| fs::canonicalize(place?).ok());
        let owned = places[0].is_some() && places[0] == places[1];
        let (saved, written) = (from.is_some(), job.earlier_frames().len());
        Self { progress, decoding: false, frames: None, saved, written, owned, aside: None, complete: false }
    }
}

impl<'a> Keeper<'a> {
    /// The keeper of the videos of `jobs`.
    pub fn new(
        jobs: &'a [&'a Job],
        origin: &'a Origin,
        keeping: &'a Keeping,
        previews: Option<&'a Previews<'a>>,
        console: &'a Console,
    ) -> Self {
        let videos = jobs.iter().map(|job| Video::of(job)).collect();
        let kept = Mutex::new(Kept { videos, current: 0, last: Instant::now(), begun: Instant::now() });
        let [sampling, stopping] = [(); 2].map(|()| AtomicBool::new(false));
        let keeper = Self { jobs, console, keeping, previews, origin, kept, sampling, stopping };
        if !keeping.again {
            keeper.tell_of_older_states();
        }
        keeper
    }

    /// The latent of a video is made next, from where its job says now.
    pub fn begin_video(&self, video: usize) {
        self.jobs[video].announce(self.console);
        let mut kept = self.kept();
        (kept.videos[video], kept.current, kept.begun) = (Video::of(self.jobs[video]), video, Instant::now());
    }

    /// Forgets a video that cannot be made. From now on its state, if it has one, is that of whoever makes it.
    pub fn give_up(&self, video: usize) {
        let of_video = &mut self.kept().videos[video];
        (of_video.progress, of_video.frames, of_video.complete) = (Progress::Begun, None, true);
    }

    fn tell_of_older_states(&self) {
        let new = self.jobs.iter().filter(|job| job.from().is_none());
        for path in new.filter_map(|job| path(&job.output)).filter(|path| path.exists()) {
            let command = resume_command(&path);
            self.console.note(&format!("an earlier run was interrupted; this one begins anew, {command} goes on"));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while the states are locked")
    }

    /// Adds a decoded frame of a video, and keeps the state if a window ends with it.
    pub fn decoded(&self, video: usize, rgb: &[u8]) {
        let mut kept = self.kept();
        let job = &self.jobs[video];
        let Some(path) = path(&job.output) else { return };
        let of_video = &mut kept.videos[video];
        if !std::mem::replace(&mut of_video.decoding, true) {
            let all = (job.settings.frames * job.settings.frame_bytes()) as u64;
            of_video.frames = Spool::beside(&path, all).and_then(|spool| spool.with(job.earlier_frames()));
        }
        of_video.frames = of_video.frames.take().and_then(|spool| spool.with(rgb));
        of_video.saved = false;
        let bytes = of_video.frames.as_ref().map_or(0, |spool| spool.bytes);
        let window = bytes > 0 && job.whole_windows(bytes) == bytes;
        if window && self.keeping.due(kept.last, |_| true) {
            self.save(&mut kept, video);
        }
    }

    /// Removes the state of a video whose output is in place. That of another run is put aside, because it would replace this output.
    pub fn complete(&self, video: usize) {
        let job = &self.jobs[video];
        let of_video = &mut self.kept().videos[video];
        (of_video.complete, of_video.frames) = (true, None);
        // Nobody knows whether a reader took all of stdout.
        let Some(place) = path(&job.output) else { return };
        let ours = of_video.owned || is_of(&place, job);
        if !ours && place.exists() {
            self.put_aside(&place);
        }
        let done = of_video.aside.take().filter(|path| is_of(path, job));
        let states = ours.then_some(place).into_iter().chain(done).chain(job.from().map(|(path, _)| path.clone()));
        states.for_each(|path| staged::remove_file(&path));
    }

    /// Keeps the states of all videos that are not complete, for a run that ends early with `error`, and says how to go on. The
    /// latents of a model that is at fault itself are not kept.
    pub fn keep_all(&self, error: &Error) {
        use Error::{Device, Interrupted, Io, Launch, Media, OutOfMemory};
        if !matches!(error, Interrupted | Device(_) | Launch { .. } | Io { .. } | Media { .. } | OutOfMemory { .. }) {
            return;
        }
        let mut kept = self.kept();
        for (video, job) in self.jobs.iter().enumerate() {
            let Some(path) = path(&job.output) else { continue };
            let begun = !matches!(kept.videos[video].progress, Progress::Begun);
            // A stop before the first call of several videos leaves nothing to keep.
            let alone = self.jobs.len() == 1 && !self.keeping.again && interrupt::requested();
            if kept.videos[video].complete || !begun && !alone {
                continue;
            }
            if kept.videos[video].saved || self.save(&mut kept, video) {
                let place = job.from().map_or(&path, |(from, _)| if path.exists() { &path } else { from });
                let stands = self.stands(&kept.videos[video], video);
                self.console.note(&match self.keeping.again {
                    true => format!("{} stopped {stands}; the same command goes on", job.output.display()),
                    false => format!("stopped {stands}; to go on: {}", resume_command(place)),
                });
            }
        }
    }

    /// Where the state of a video stands, in words.
    fn stands(&self, of_video: &Video, video: usize) -> String {
        let job = &self.jobs[video];
        of_video.progress.stands(&job.settings, of_video.written / job.settings.frame_bytes())
    }

    /// Gives the state of another run a name that is free, because the work in it may be wanted. Returns the name.
    fn put_aside(&self, path: &Path) -> Option<PathBuf> {
        let named = |number: usize| path.with_extension(format!("earlier-{number}.state"));
        let free = (1..1000).map(named).find(|place| !place.exists());
        let free = free.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists));
        let moved = free.and_then(|place| fs::rename(path, &place).map(|()| place));
        match &moved {
            Ok(place) => {
                let place = place.display();
                self.console
                    .note(&format!("the state of the earlier run is now {place}; to go on from it, name an output"));
            }
            Err(error) => self
                .console
                .warning(&format!("{} is the state of another run, and cannot be renamed: {error}", path.display())),
        }
        moved.ok()
    }

    /// Writes the state of a video; a failure is a warning. Returns whether it is written.
    fn save(&self, kept: &mut Kept, video: usize) -> bool {
        let job = &self.jobs[video];
        let Some(path) = path(&job.output) else { return false };
        let of_video = &mut kept.videos[video];
        if !of_video.owned && path.exists() {
            let Some(place) = self.put_aside(&path) else {
                self.console.warning("the state of this run is not kept");
                return false;
            };
            of_video.aside = Some(place);
        }
        let spooled = of_video.frames.as_mut().and_then(|spool| spool.read(job.whole_windows(spool.bytes)));
        let Some(decoded) = no_fewer(spooled, job.earlier_frames(), of_video.written) else { return true };
        let mut progress = std::mem::replace(&mut of_video.progress, Progress::Begun);
        if let Progress::Decoding { frames, .. } = &mut progress {
            *frames = decoded;
        }
        let (settings, origin) = (job.settings.clone(), self.origin.clone());
        let notes = self.keeping.notes.clone().into_iter().chain(job.notes()).collect();
        let mut state = State { settings, origin, notes, progress };
        let written = state.write(&path);
        if written.is_ok() {
            of_video.written = state.frames().len();
        }
        if let Progress::Decoding { frames, .. } = &mut state.progress {
            *frames = Vec::new();
        }
        (of_video.progress, of_video.saved) = (state.progress, written.is_ok());
        of_video.owned |= written.is_ok();
        kept.last = Instant::now();
        if let Err(error) = &written {
            self.console.warning(&format!("the state is not kept: {error}"));
        }
        written.is_ok()
    }
}

/// The frames of a new state: those of this run, else those of the earlier one. `None` if the file has more than that: there was memory
/// for them before, and there is none now.
fn no_fewer(decoded: Option<Vec<u8>>, earlier: &[u8], written: usize) -> Option<Vec<u8>> {
    let frames = decoded.unwrap_or_else(|| earlier.to_vec());
    (frames.len() >= written).then_some(frames)
}

/// Whether a file is the state of a job's video, as far as the request says.
pub fn is_of(path: &Path, job: &Job) -> bool {
    let request = |settings: &Settings| serde_json::to_string(&SavedSettings::from(settings)).ok();
    State::read(path).is_ok_and(|state| request(&state.settings) == request(&job.settings))
}

/// How to go on from a state, quoted for a shell.
fn resume_command(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "._-/+".contains(c));
    if plain {
        format!("osp sample --resume {text}")
    } else {
        format!("osp sample --resume '{}'", text.replace('\'', r"'\''"))
    }
}

impl Observer for &Keeper<'_> {
    fn planned(&mut self, stage: Stage, plan: &StagePlan) {
        (&mut &*self.console).planned(stage, plan);
    }

    fn begin(&mut self, stage: Stage, units: u64) {
        let mut kept = self.kept();
        let sampling = stage == Stage::Denoise;
        self.sampling.store(sampling, Ordering::Relaxed);
        if sampling && self.keeping.every.is_some() {
            let current = kept.current;
            self.save(&mut kept, current);
        }
        drop(kept);
        (&mut &*self.console).begin(stage, units);
    }

    fn advance(&mut self, units: u64) {
        (&mut &*self.console).advance(units);
    }

    fn end(&mut self) {
        (&mut &*self.console).end();
    }

    fn warn(&mut self, warning: &Warning) {
        (&mut &*self.console).warn(warning);
    }

    fn wants_preview(&mut self, step: usize, steps: usize) -> bool {
        self.previews.is_some_and(|previews| previews.are_due(step, steps))
    }

    fn preview(&mut self, _: usize, latent: &[f32]) {
        if let Some(previews) = self.previews {
            let current = self.kept().current;
            let job = self.jobs[current];
            previews.show(job.preview.as_deref(), latent, job.settings.latent_size());
        }
    }

    fn wants_state(&mut self, at: Reached) -> bool {
        // Behind the last call, the latent is kept instead.
        if at.done == at.calls {
            return false;
        }
        if interrupt::requested() {
            self.stopping.store(true, Ordering::Relaxed);
            return true;
        }
        self.keeping.due(self.kept().last, |calls| at.done.is_multiple_of(calls))
    }

    fn reached(&mut self, at: Reached, run: &RunState, draft: &[f32]) {
        let mut kept = self.kept();
        let progress = Progress::Sampling { run: run.clone(), draft: draft.to_vec() };
        let of_video = &mut kept.videos[at.video];
        (of_video.progress, of_video.saved) = (progress, false);
        self.save(&mut kept, at.video);
    }

    fn denoised(&mut self, video: usize, latent: &[f32]) {
        let mut kept = self.kept();
        let of_video = &mut kept.videos[video];
        of_video.progress = Progress::Decoding { latent: latent.to_vec(), frames: Vec::new() };
        of_video.saved = false;
        if self.keeping.every.is_some() || kept.begun.elapsed() > DEAR {
            self.save(&mut kept, video);
        }
    }

    fn cancelled(&mut self) -> bool {
        // Without the mutex: while a state of the decoder is written, the device gets its next window.
        if self.sampling.load(Ordering::Relaxed) {
            self.stopping.load(Ordering::Relaxed)
        } else {
            interrupt::requested()
        }
    }
}

/// Frames in a file without a name, which disappears with the process.
struct Spool {
    file: File,
    bytes: u64,
}

impl Spool {
    /// An empty one for `all` bytes on the disk of `path`. A run can do without, so it is `None` if that would leave less room for the
    /// output than the frames themselves take.
    fn beside(path: &Path, all: u64) -> Option<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if room::on_disk(folder).is_some_and(|free| free < all.saturating_mul(2)) {
            return None;
        }
        Some(Self { file: tempfile::tempfile_in(folder).ok()?, bytes: 0 })
    }

    /// The frames with more behind them.
    fn with(mut self, rgb: &[u8]) -> Option<Self> {
        self.file.write_all(rgb).ok()?;
        self.bytes += rgb.len() as u64;
        Some(self)
    }

    /// The first `bytes` bytes; `None` if there is no memory for them and for a file of them.
    fn read(&mut self, bytes: u64) -> Option<Vec<u8>> {
        room::check("state", 0, bytes.saturating_mul(2)).ok()?;
        let (mut frames, bytes) = (Vec::new(), usize::try_from(bytes).ok()?);
        frames.try_reserve_exact(bytes).ok()?;
        frames.resize(bytes, 0);
        self.file.rewind().ok()?;
        self.file.read_exact(&mut frames).ok()?;
        self.file.seek(std::io::SeekFrom::End(0)).ok()?;
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_calls_or_minutes() {
        assert_eq!(every("10").unwrap(), Every::Calls(10));
        assert_eq!(every("5min").unwrap(), Every::Time(Duration::from_secs(300)));
        assert_eq!(every("0.5 min").unwrap(), Every::Time(Duration::from_secs(30)));
        for wrong in ["", "0", "-1", "0min", "min", "5m", "infmin", "nanmin", "1e30min", "ten"] {
            assert!(every(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn frames_are_kept_where_the_disk_has_room_for_them_and_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let spool = |all| Spool::beside(&folder.path().join("a.mp4"), all);
        // Other systems do not say how much room there is.
        assert!(!cfg!(unix) || spool(u64::MAX / 2).is_none());
        let mut spool = spool(6).unwrap().with(b"abc").unwrap().with(b"def").unwrap();
        assert_eq!(spool.read(4).unwrap(), b"abcd");
        assert!(spool.read(u64::MAX).is_none());
    }

    #[test]
    fn a_state_with_more_frames_is_not_replaced() {
        assert_eq!(no_fewer(Some(vec![1, 2]), &[1], 1), Some(vec![1, 2]));
        assert_eq!(no_fewer(None, &[1], 1), Some(vec![1]));
        assert_eq!(no_fewer(None, &[1], 2), None);
        assert_eq!(no_fewer(None, &[], 0), Some(Vec::new()));
    }

    #[test]
    fn a_name_that_a_shell_would_split_is_quoted() {
        assert_eq!(resume_command(Path::new("a/b-1.mp4.state")), "osp sample --resume a/b-1.mp4.state");
        assert_eq!(resume_command(Path::new("it's.state")), r"osp sample --resume 'it'\''s.state'");
    }
}
