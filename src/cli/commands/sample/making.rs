//! Makes videos: those of the command line together, or those of a list one by one, beside other processes.

use super::jobs::{Job, JobList, Refused};
use super::keeper::{Keeper, Keeping};
use super::place;
use super::preview::Previews;
use super::videos::Videos;
use crate::cli::console::Console;
use crate::cli::interrupt;
use crate::cli::lock::{Lock, Owner, Taken, Watch, take};
use crate::cli::output::playable;
use osp::engine::{Batch, Shortcuts, Task};
use osp::state::{Origin, State};
use osp::video::Format;
use osp::{Engine, Error, Model, Result};

/// Videos whose texts are encoded together. Their embeddings are in memory until the last of them is made.
const TOGETHER: usize = 64;

/// Makes the videos of a plan.
pub struct Making<'a> {
    engine: &'a Engine,
    model: &'a Model,
    plan: &'a JobList,
    keeping: &'a Keeping,
    previews: Option<&'a Previews<'a>>,
    console: &'a Console,
    origin: Origin,
    videos: Videos<'a>,
    count: Count,
    /// Whether to make what is there.
    again: bool,
}

/// What became of the videos of a list.
#[derive(Default)]
struct Count {
    made: usize,
    /// Those whose output exists.
    there: usize,
    failed: usize,
}

/// A job, with its lock if it is taken already.
type Held<'a> = (&'a Job, Option<Lock>);

/// What a process finds when it wants to make a video of a list.
enum Found<'a> {
    /// It is ours; stdout has no lock.
    Ours(Option<Lock>),
    /// Its output exists.
    There,
    Elsewhere(Elsewhere<'a>),
}

/// A video that another process makes.
struct Elsewhere<'a> {
    job: &'a Job,
    owner: Owner,
    /// If that process may be dead.
    watch: Option<Watch>,
}

impl<'a> Making<'a> {
    /// Nothing is made yet.
    pub fn new(
        engine: &'a Engine,
        model: &'a Model,
        plan: &'a JobList,
        keeping: &'a Keeping,
        previews: Option<&'a Previews<'a>>,
        console: &'a Console,
    ) -> Result<Self> {
        let mut formats = Vec::new();
        for Job { output, settings, .. } in &plan.jobs {
            let format = Format::from_path(output)?;
            if !formats.contains(&format) {
                playable(output, settings.fps, console)?;
                formats.push(format);
            }
        }
        let useless = |Job { settings, .. }: &Job| {
            let Shortcuts { guidance_reuse, guidance_interval, .. } = &settings.shortcuts;
            settings.guidance <= 1.0 && (guidance_reuse.is_some() || guidance_interval.is_some())
        };
        if plan.jobs.iter().any(useless) {
            console.note("--guidance-reuse and --guidance-interval change nothing without guidance, which is off at 1");
        }
        let (origin, videos) = (Origin::of(engine, model)?, Videos::new(plan, engine, model, console));
        Ok(Self {
            engine,
            model,
            plan,
            keeping,
            previews,
            console,
            origin,
            videos,
            count: Count::default(),
            again: false,
        })
    }

    /// Makes all videos. The first failure ends the run; what is complete of the videos is kept in states beside the outputs.
    pub fn all(mut self) -> Result<()> {
        let jobs: Vec<&Job> = self.plan.jobs.iter().collect();
        let (origin, keeping) = (self.origin.clone(), self.keeping);
        let keeper = Keeper::new(&jobs, &origin, keeping, self.previews, self.console);
        let made = || {
            let tasks: Vec<Task> = jobs.iter().map(|job| job.task()).collect();
            let mut batch = self.engine.resume(self.model, &tasks, &mut &keeper)?;
            let videos: Vec<usize> = (0..jobs.len()).collect();
            for group in videos.chunks(batch.group()) {
                for &video in group {
                    keeper.begin_video(video);
                    batch.denoise(video, &mut &keeper)?;
                }
                group.iter().try_for_each(|&video| self.videos.make(jobs[video], video, &mut batch, &keeper))?;
            }
            self.videos.finish()?;
            self.console.summarise();
            Ok(())
        };
        made().inspect_err(|error| keeper.keep_all(error))
    }

    /// Makes the videos of a list that are `ours`, by their index, and not there; with `again` also those that are. One that
    /// cannot be made does not end the run.
    ///
    /// # Errors
    /// [`Error::Failed`] at the end if a video is not made; at once what would also stop the other videos, such as a full disk.
    pub fn list(mut self, ours: impl Fn(usize) -> bool, again: bool) -> Result<()> {
        self.again = again;
        for Refused { place, error, .. } in self.plan.refused.iter().filter(|refused| ours(refused.number)) {
            self.failed(place, error);
        }
        let mut open: Vec<&Job> = self.plan.jobs.iter().filter(|job| ours(job.number)).collect();
        let all = open.len() + self.count.failed;
        if !again {
            open.retain(|job| !job.is_there(self.model));
            self.count.there = all - self.count.failed - open.len();
        }
        let mut elsewhere = Vec::new();
        for together in open.chunks(TOGETHER) {
            self.batch(together.iter().map(|job| (*job, None)).collect(), &mut elsewhere)?;
        }
        let (mut held, mut left) = (Vec::new(), Vec::new());
        for Elsewhere { job, watch, owner } in elsewhere {
            // By now the owner may have made it, or died.
            let dead = watch.is_some_and(|watch| !watch.lives(&interrupt::requested));
            interrupt::check()?;
            match self.find(job, dead.then_some(&owner))? {
                Found::Ours(lock) => held.push((job, lock)),
                Found::There => self.count.there += 1,
                Found::Elsewhere(elsewhere) => left.push(elsewhere),
            }
        }
        while !held.is_empty() {
            self.batch(held.drain(..held.len().min(TOGETHER)).collect(), &mut left)?;
        }
        self.finish(all, &left)
    }

    /// Says what became of the list.
    fn finish(self, all: usize, left: &[Elsewhere<'_>]) -> Result<()> {
        let Self { videos, plan, count: Count { made, there, failed }, console, .. } = self;
        videos.finish()?;
        console.summarise();
        for Elsewhere { job, owner, .. } in left {
            console.note(&format!("{} is left to {owner}", job.output.display()));
        }
        if let Some(grid) = plan.grid.as_ref().filter(|grid| made < all && (made > 0 || !grid.path.exists())) {
            let mend = if failed + left.len() == 0 { "; with --again it makes all" } else { "" };
            let grid = grid.path.display();
            console.note(&format!("{grid} is not written: this run made {made} of its {all} videos{mend}"));
        }
        let others = [(there, "were there"), (failed, "failed"), (left.len(), "left to others")];
        let others: String = others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect();
        console.note(&format!("{made} of {all} videos made{others}"));
        match failed {
            0 => Ok(()),
            _ => Err(Error::Failed(format!("{failed} of {all} videos could not be made"))),
        }
    }

    /// Makes videos whose texts are encoded together. Those that other processes make are added to `elsewhere`.
    fn batch(&mut self, jobs: Vec<Held<'a>>, elsewhere: &mut Vec<Elsewhere<'a>>) -> Result<()> {
        let (jobs, mut locks): (Vec<&'a Job>, Vec<Option<Lock>>) = jobs.into_iter().unzip();
        let (origin, keeping) = (self.origin.clone(), self.keeping);
        let keeper = Keeper::new(&jobs, &origin, keeping, self.previews, self.console);
        let tasks: Vec<Task> = jobs.iter().map(|job| job.task()).collect();
        let mut batch = match self.engine.resume(self.model, &tasks, &mut &keeper) {
            Ok(batch) => batch,
            // None can be made, each for its own reason.
            Err(error) if is_of_one_video(&error) && jobs.len() > 1 => {
                return jobs.into_iter().zip(locks).try_for_each(|held| self.batch(vec![held], elsewhere));
            }
            Err(error) => return self.survived(jobs[0], Err(error)).map(drop),
        };
        let videos: Vec<usize> = (0..jobs.len()).collect();
        for group in videos.chunks(batch.group()) {
            // The locks stay until the states are kept.
            self.group(group, &jobs, &mut locks, &mut batch, &keeper, elsewhere)
                .inspect_err(|error| keeper.keep_all(error))?;
        }
        Ok(())
    }

    /// Makes some videos of a batch: all latents first.
    fn group(
        &mut self,
        group: &[usize],
        jobs: &[&'a Job],
        locks: &mut [Option<Lock>],
        batch: &mut Batch<'_>,
        keeper: &Keeper<'_>,
        elsewhere: &mut Vec<Elsewhere<'a>>,
    ) -> Result<()> {
        let mut latents = Vec::new();
        for &video in group {
            interrupt::check()?;
            let job = jobs[video];
            let found = if locks[video].is_some() { Found::Ours(locks[video].take()) } else { self.find(job, None)? };
            match found {
                Found::There => self.count.there += 1,
                Found::Elsewhere(found) => elsewhere.push(found),
                Found::Ours(lock) => {
                    locks[video] = lock;
                    let begun = self.pick_up(job, video, batch);
                    keeper.begin_video(video);
                    if self.survived(job, begun.and_then(|()| batch.denoise(video, &mut &*keeper)))? {
                        latents.push(video);
                    } else {
                        keeper.give_up(video);
                        locks[video] = None;
                    }
                }
            }
        }
        for video in latents {
            let made = self.videos.make(jobs[video], video, batch, keeper);
            match self.survived(jobs[video], made)? {
                true => self.count.made += 1,
                false => keeper.give_up(video),
            }
            locks[video] = None;
        }
        Ok(())
    }

    /// Lets a video go on from the state beside its output, if that is one of the same request and program.
    fn pick_up(&self, job: &Job, video: usize, batch: &mut Batch<'_>) -> Result<()> {
        let Some(path) = place::path(&job.output).filter(|path| path.exists()) else { return Ok(()) };
        let state = State::read(&path).and_then(|state| {
            state.check_origin(&path, &self.origin)?;
            let same = state.settings.fingerprint(self.model)? == job.settings.fingerprint(self.model)?;
            if same { Ok(state) } else { Err(Error::media(&path, "is the state of another request")) }
        });
        match state {
            Ok(state) => {
                job.go_on(path, state);
                batch.begin_at(video, job.task().start)?;
            }
            Err(error) => self.console.note(&format!("{} begins anew: {error}", job.output.display())),
        }
        Ok(())
    }

    /// Tries to take a job. `dead`: this owner on another machine was watched, and has died.
    fn find(&self, job: &'a Job, dead: Option<&Owner>) -> Result<Found<'a>> {
        let Some(path) = place::lock(&job.output) else { return Ok(Found::Ours(None)) };
        let elsewhere = |owner: Owner, watch| Found::Elsewhere(Elsewhere { job, owner, watch });
        let lock = match take(&path, dead)? {
            Taken::Ours(lock, None) => lock,
            Taken::Ours(lock, Some(owner)) => {
                self.console.note(&format!("{} was left by {owner}, which has died", job.output.display()));
                lock
            }
            Taken::Alive(owner) => return Ok(elsewhere(owner, None)),
            Taken::Unsure(owner, watch) => return Ok(elsewhere(owner, Some(watch))),
        };
        Ok(if !self.again && job.is_there(self.model) { Found::There } else { Found::Ours(Some(lock)) })
    }

    /// Whether a step of a video succeeded. A failure of this video alone is reported.
    fn survived(&mut self, job: &Job, step: Result<()>) -> Result<bool> {
        match step {
            Ok(()) => Ok(true),
            Err(error) if is_of_one_video(&error) => {
                self.failed(&job.place, &error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&mut self, place: &str, error: &Error) {
        self.console.failed(place, error);
        self.count.failed += 1;
    }
}

/// Whether other videos may succeed in spite of this error.
fn is_of_one_video(error: &Error) -> bool {
    use Error::{Config, NotFinite, OutOfMemory, Shape, Unsupported, Usage, Weight};
    matches!(
        error,
        Usage(_)
            | Unsupported(_)
            | Shape { .. }
            | Weight { .. }
            | Config { .. }
            | NotFinite { .. }
            | OutOfMemory { .. }
    )
}
