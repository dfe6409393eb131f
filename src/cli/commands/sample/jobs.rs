//! The videos to make, settled and checked before any work.

use super::list::Wish;
use super::preview::Shown;
use super::prompts::Asked;
use super::{Material, RunArgs, material, place};
use crate::cli::args::SizeArgs;
use crate::cli::claims::Claims;
use crate::cli::clip::noted_path;
use crate::cli::console::Console;
use crate::cli::events::Event;
use crate::cli::made::Made;
use crate::cli::model;
use crate::cli::output::{check_file, marked, slug};
use crate::cli::record;
use crate::cli::size::Size;
use osp::checkpoint::{Calibrated, Defaults};
use osp::engine::{Footage, Settings, Shortcuts, Spans, Task};
use osp::model::vae::Factors;
use osp::sampler::{SamplerKind, validate_steps};
use osp::state::State;
use osp::video::{Format, VideoInfo, Writer, description, is_frame, is_stdout, sheet};
use osp::{Error, Model, Request, Result, staged};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Names of options in the notes of a state.
const SAVE_LATENT: &str = "save_latent";
const NO_METADATA: &str = "no_metadata";

/// Where a state says that the latent goes. A state may be a stranger's, so it chooses no place but beside the output.
fn noted_latent(state: &State, output: &Path) -> Result<Option<PathBuf>> {
    let Some(latent) = state.notes.get(SAVE_LATENT).map(PathBuf::from) else { return Ok(None) };
    let folders =
        [latent.as_path(), output].map(|path| std::path::absolute(path).ok()?.parent().map(Path::to_path_buf));
    if folders[0].is_some() && folders[0] == folders[1] && latent.extension() == Some("safetensors".as_ref()) {
        return Ok(Some(latent));
    }
    Err(Error::Usage(format!(
        "the run was to save its latent in {}; say so again with --save-latent",
        latent.display()
    )))
}

/// One video to make.
pub struct Job {
    /// Its index in the list.
    pub number: usize,
    /// Where it is asked for, for messages.
    pub place: String,
    pub settings: Settings,
    /// The pixels of an edit.
    footage: Option<Arc<Footage>>,
    pub output: PathBuf,
    pub latent: Option<PathBuf>,
    /// Whether the video says how it was made.
    pub describes: bool,
    /// The file that shows its previews.
    pub preview: Option<PathBuf>,
    /// The state of an earlier run that this one goes on from.
    from: OnceLock<(PathBuf, State)>,
}

/// Placeholders for the model's defaults, to validate arguments before the model is opened.
const PLACEHOLDERS: Defaults = Defaults {
    frames: 1,
    height: 16,
    width: 16,
    sampler: SamplerKind::Ddim,
    steps: 50,
    guidance: 1.0,
    factors: Factors::ANY_SIZE,
    patch: 1,
    notice: None,
    calibration: Calibrated::Nothing,
};

/// All videos to make.
pub struct JobList {
    pub jobs: Vec<Job>,
    /// Videos of a list in a file that cannot be made.
    pub refused: Vec<Refused>,
    /// The grid, if there are several videos.
    pub grid: Option<Grid>,
    /// The files of an edit and how they are read, by name.
    pub noted: BTreeMap<String, String>,
    /// The files that are read.
    reads: Vec<PathBuf>,
}

/// A video that cannot be made.
pub struct Refused {
    /// Its index in the list.
    pub number: usize,
    /// Where it is asked for.
    pub place: String,
    pub error: Error,
}

/// A video that shows all videos side by side.
pub struct Grid {
    pub path: PathBuf,
    /// Rows and columns of pixels of each video in the grid.
    pub cell: [usize; 2],
    /// Size and rate of the grid.
    pub info: VideoInfo,
}

impl JobList {
    /// Completes the wishes with the options and the model's defaults, and checks everything that can be checked without work.
    /// Before the model is opened, `defaults` is `None`: placeholders accept everything that some model may allow. A video of a
    /// list in a file fails alone, unless all do.
    pub fn new(args: &RunArgs, asked: &Asked<'_>, defaults: Option<&Defaults>) -> Result<Self> {
        let wishes = &asked.wishes;
        let settled: Vec<Result<Settled>> = wishes.iter().map(|wish| args.settle(wish, asked, defaults)).collect();
        let frames = settled.iter().flatten().next().map(|(settings, _)| settings.frames);
        let several = wishes.len() > 1;
        let output = args.output.clone().unwrap_or_else(|| default_output(wishes, frames));
        if several && is_stdout(&output) {
            return Err(only_one_on_stdout());
        }
        let numbered =
            |path: &Path, index: usize| if several { marked(path, &format!("{index:03}")) } else { path.to_path_buf() };
        let (mut jobs, mut refused) = (Vec::<Job>::new(), Vec::<Refused>::new());
        for (number, (wish, settings)) in wishes.iter().zip(settled).enumerate() {
            let output = wish.output.clone().unwrap_or_else(|| numbered(&output, number));
            let place = match (&args.prompts, wish.line) {
                (Some(list), Some(line)) => format!("{}, line {line}", list.display()),
                _ => output.display().to_string(),
            };
            if wish.output.as_deref().is_some_and(is_stdout) {
                return Err(Error::Usage(format!("{place}: output -: a line names a file; only -o - prints a video")));
            }
            match settings {
                Ok((settings, footage)) => {
                    let job = Job {
                        number,
                        place: place.clone(),
                        settings,
                        footage,
                        output,
                        latent: args.save_latent.as_ref().map(|path| numbered(path, number)),
                        describes: !args.no_metadata,
                        preview: args.preview_file().map(|path| numbered(path, number)),
                        from: OnceLock::new(),
                    };
                    match job.check() {
                        Err(error) if args.prompts.is_some() => refused.push(Refused { number, place, error }),
                        checked => checked.map(|()| jobs.push(job))?,
                    }
                }
                Err(error) if args.prompts.is_none() => return Err(error),
                Err(error) => refused.push(Refused { number, place, error }),
            }
        }
        if jobs.is_empty() {
            let Refused { place, error, .. } = refused.swap_remove(0);
            return Err(with_line(&place, error));
        }
        let alike = jobs.iter().all(|job| job.frame_size() == jobs[0].frame_size());
        let all = refused.is_empty() && args.shard.is_none() && jobs.len() <= MOST_SHOWN;
        let grid = (several && alike && all).then(|| Grid::new(marked(&output, "grid"), jobs[0].info(), jobs.len()));
        let reads = args.prompts.iter().chain(&args.like).cloned().chain(asked.material.reads()).collect();
        let plan = Self { jobs, refused, grid, noted: asked.material.noted(), reads };
        plan.check(args)?;
        Ok(plan)
    }

    /// The video whose state is in the file `path`; an edit with its pixels.
    pub fn resumed(args: &RunArgs, path: &Path, state: State, footage: Option<Arc<Footage>>) -> Result<Self> {
        let unnamed =
            || Error::Usage(format!("{}: this name does not say where the video goes; add -o", path.display()));
        let beside = || place::output_of(path).ok_or_else(unnamed);
        let output = args.output.clone().map_or_else(beside, Ok)?;
        let (noted, mut reads) = material::noted_in(&state.notes);
        // Behind the work, a state is removed wherever it lies. The one beside the output is the output's own.
        let places = [place::path(&output), Some(path.to_path_buf())].map(|place| fs::canonicalize(place?).ok());
        if places[0] != places[1] {
            reads.push(path.to_path_buf());
        }
        let latent = args.save_latent.clone().map_or_else(|| noted_latent(&state, &output), |path| Ok(Some(path)))?;
        let job = Job {
            number: 0,
            place: output.display().to_string(),
            settings: state.settings.clone(),
            footage,
            output,
            latent,
            describes: !args.no_metadata && !state.notes.contains_key(NO_METADATA),
            preview: args.preview_file().map(Path::to_path_buf),
            from: OnceLock::from((path.to_path_buf(), state)),
        };
        job.check()?;
        let plan = Self { jobs: vec![job], refused: Vec::new(), grid: None, noted, reads };
        plan.check(args)?;
        Ok(plan)
    }

    /// Fails now, before the work, if an output cannot be written.
    fn check(&self, args: &RunArgs) -> Result<()> {
        if self.jobs.iter().any(|job| is_stdout(&job.output)) {
            if self.jobs.len() + self.refused.len() > 1 {
                return Err(only_one_on_stdout());
            }
            if args.checkpoint_every.is_some() {
                return Err(Error::Usage(
                    "--checkpoint-every keeps a state beside the output, and -o - has no place; name a file".into(),
                ));
            }
        }
        let mut claims = Claims::new(model::files(&args.model, &args.components));
        for input in &self.reads {
            claims = claims.reads(input);
        }
        let mut lines = BTreeMap::new();
        for job in &self.jobs {
            if let Some(line) = lines.insert(&job.output, &job.place).filter(|_| args.prompts.is_some()) {
                let (place, output) = (&job.place, job.output.display());
                let other = if line == place { "another seed" } else { line };
                return Err(Error::Usage(format!(
                    "{place}: output {output} is also that of {other}; choose another name"
                )));
            }
            claims = written(claims, &job.output);
            claims = place::lock(&job.output).iter().fold(claims, |claims, path| claims.writes(path));
            claims = job.latent.iter().chain(&job.preview).fold(claims, |claims, path| claims.writes(path));
        }
        if let Some(Grid { path, info, .. }) = &self.grid {
            Writer::create(path, Format::from_path(path)?, *info, Some(self.jobs[0].settings.frames))?;
            record::check(path)?;
            claims = written(claims, path);
        }
        claims.check()
    }
}

/// The error with the line of the list that asks for what is wrong.
fn with_line(line: &str, error: Error) -> Error {
    match error {
        Error::Usage(problem) => Error::Usage(format!("{line}: {problem}")),
        Error::Io { .. } if error.exit_code() == 1 => Error::Failed(format!("{line}: {error}")),
        other => other,
    }
}

fn only_one_on_stdout() -> Error {
    Error::Usage("-o - can print only one video, but several are requested; name a file".into())
}

/// Adds `output`, its record and its state to the outputs.
fn written(claims: Claims, output: &Path) -> Claims {
    match place::path(output) {
        Some(state) => claims.writes(output).writes(&record::path(output)).writes(&state),
        None => claims,
    }
}

/// A name that describes the content.
fn default_output(wishes: &[Wish], frames: Option<usize>) -> PathBuf {
    let ending = if frames == Some(1) { "png" } else { "mp4" };
    match wishes {
        [Wish { prompt, seed, .. }] => format!("{}-seed{}.{ending}", slug(prompt), seed.unwrap_or(0)).into(),
        _ => format!("samples.{ending}").into(),
    }
}

/// The settings of a video, and the pixels that it begins with.
type Settled = (Settings, Option<Arc<Footage>>);

impl RunArgs {
    /// The settings of a wish. Before the model is known they are placeholders that only check.
    fn settle(&self, wish: &Wish, asked: &Asked<'_>, defaults: Option<&Defaults>) -> Result<Settled> {
        let Asked { size, material, like, .. } = asked;
        let like = like.as_ref();
        if matches!(material, Material::Clip(_)) && (wish.frames.is_some() || wish.size.is_some()) {
            return Err(Error::Usage("the clip decides the frames and the size of an edit; leave them out".into()));
        }
        if let (Material::Noise, Some(edit)) = (material, like.and_then(|like| like.edit.as_ref())) {
            let problem = match edit.clip.is_some() {
                true => "the other video is an edit: name what it begins with, as in osp edit INPUT",
                false => "the other video begins with an image: name it with --init-image",
            };
            return Err(Error::Usage(problem.into()));
        }
        let mut request = Request { edit: None, ..self.request(wish, size, like) };
        if matches!(material, Material::Clip(_)) {
            (request.frames, request.size) = (None, None);
        }
        let Some(defaults) = defaults else {
            return Ok((known(request)?.settle(&PLACEHOLDERS)?, None));
        };
        let sides = request.size.unwrap_or([defaults.height, defaults.width]);
        let Some(footage) = material.footage(sides)? else { return Ok((request.settle(defaults)?, None)) };
        let edit = material.edits(request, &footage, like)?;
        let edit = Request { fps: self.fps.unwrap_or(edit.fps), ..edit };
        Ok((edit.settle(defaults)?, Some(footage)))
    }

    /// The file that shows previews.
    fn preview_file(&self) -> Option<&Path> {
        if let Some(Shown::File(path)) = &self.preview { Some(path) } else { None }
    }

    /// The request for this video: what the list says, else the options, else the video of `like`.
    fn request(&self, wish: &Wish, size: &SizeArgs, like: Option<&Settings>) -> Request {
        let like = like.map_or_else(|| Request::new(""), Request::from);
        let given = self.tiles.given();
        let request = Request {
            prompt: wish.prompt.clone(),
            negative_prompt: wish
                .negative_prompt
                .as_ref()
                .or(self.negative_prompt.as_ref())
                .unwrap_or(&like.negative_prompt)
                .clone(),
            clean_caption: like.clean_caption && !self.no_clean_caption,
            seed: wish.seed.unwrap_or(like.seed),
            fps: self.fps.unwrap_or(like.fps),
            tiling: if given { self.tiles.tiling() } else { like.tiling },
            ..like
        };
        // Another length than that of the video that is repeated has its own spans.
        let resized = wish.frames.is_some() || size.frames.is_some();
        let spans = self.span.unwrap_or(if resized { Spans::Trained } else { request.spans });
        let options = self.sampler.of(size.of(Request::new("")));
        Request {
            frames: wish.frames.or(options.frames).or(request.frames),
            size: wish.size.map(|Size { height, width }| [height, width]).or(options.size).or(request.size),
            steps: wish.steps.or(options.steps).or(request.steps),
            guidance: wish.guidance.or(options.guidance).or(request.guidance),
            sampler: wish.sampler.or(options.sampler).or(request.sampler),
            spans,
            shortcuts: self.shortcuts.or(request.shortcuts.clone()),
            ..request
        }
    }
}

/// What of a request can be checked before the model is opened. Only the model knows its default sampler, so without a sampler the
/// number of steps is checked loosely. The model also has the coefficients of caches.
fn known(request: Request) -> Result<Request> {
    request.steps.map_or(Ok(()), validate_steps)?;
    let steps = request.steps.filter(|_| request.sampler.is_some());
    let shortcuts = Shortcuts { cache: None, ..request.shortcuts };
    Ok(Request { steps, tiling: None, shortcuts, ..request })
}

impl Job {
    /// What the engine makes.
    pub fn task(&self) -> Task {
        let task = self.from().map_or_else(|| Task::from(self.settings.clone()), |(_, state)| state.task());
        task.of_footage(self.footage.clone())
    }

    /// Says in an event that the stages that follow are those of this video.
    pub fn announce(&self, console: &Console) {
        console.event(&Event::Video { number: self.number, output: &self.output.to_string_lossy() });
    }

    /// Whether its outputs exist, made of the same request and weights.
    pub fn is_there(&self, model: &Model) -> bool {
        let fingerprint = self.settings.fingerprint(model);
        fingerprint.is_ok_and(|fingerprint| record::is_of(&self.output, &fingerprint) && self.agrees(&fingerprint))
            && self.latent.as_ref().is_none_or(|latent| fs::metadata(latent).is_ok_and(|file| file.len() > 0))
    }

    /// Whether the output says that it has this fingerprint. One that cannot say so must at least hold something.
    fn agrees(&self, fingerprint: &str) -> bool {
        let made = description(&self.output).ok().flatten().as_deref().and_then(Made::parse);
        let all = match fs::read_dir(&self.output) {
            Ok(files) => files.flatten().filter(|file| is_frame(&file.file_name())).count() == self.settings.frames,
            Err(_) => fs::metadata(&self.output).is_ok_and(|file| file.len() > 0),
        };
        all && made.map_or(!self.says_what_it_is(), |made| made.fingerprint == fingerprint)
    }

    /// Whether the video holds its request and its fingerprint.
    pub fn says_what_it_is(&self) -> bool {
        self.describes && Format::from_path(&self.output).is_ok_and(|format| format != Format::Y4m)
    }

    /// Its own options, for a run that goes on from its state.
    pub fn notes(&self) -> impl Iterator<Item = (String, String)> {
        let latent = self.latent.as_deref().and_then(noted_path).map(|path| (SAVE_LATENT, path));
        let describes = (!self.describes).then(|| (NO_METADATA, "true".to_owned()));
        latent.into_iter().chain(describes).map(|(name, value)| (name.to_owned(), value))
    }

    /// The state of an earlier run that this one goes on from, and its file.
    pub fn from(&self) -> Option<&(PathBuf, State)> {
        self.from.get()
    }

    /// Goes on from the state in the file `path`.
    pub fn go_on(&self, path: PathBuf, state: State) {
        // A job is taken up once.
        let _ = self.from.set((path, state));
    }

    /// Frames, rows and columns.
    fn frame_size(&self) -> [usize; 3] {
        [self.settings.frames, self.settings.height, self.settings.width]
    }

    /// Frames of an earlier run, `height·width·3` bytes each.
    pub fn earlier_frames(&self) -> &[u8] {
        self.from().map_or(&[], |(_, state)| state.frames())
    }

    /// The bytes of whole windows of the decoder among the first `bytes` of the frames. The last window completes the video,
    /// so it does not count.
    pub fn whole_windows(&self, bytes: u64) -> u64 {
        let ends = self.settings.window_ends();
        let inner = ends[..ends.len() - 1].iter().map(|end| (end * self.settings.frame_bytes()) as u64);
        inner.filter(|&end| end <= bytes).max().unwrap_or(0)
    }

    fn check(&self) -> Result<()> {
        // Starting a writer checks the output; the writer is dropped.
        self.writer()?;
        record::check(&self.output)?;
        place::check(&self.output)?;
        self.preview.as_deref().map_or(Ok(()), staged::check_file)?;
        self.latent.as_deref().map_or(Ok(()), |path| check_file(path, "safetensors"))
    }

    /// Size and rate of the video.
    pub fn info(&self) -> VideoInfo {
        let Settings { height, width, fps, .. } = self.settings;
        VideoInfo { width, height, fps }
    }

    /// A writer of the video.
    pub fn writer(&self) -> Result<Writer> {
        let format = Format::from_path(&self.output)?;
        Writer::create(&self.output, format, self.info(), Some(self.settings.frames))
    }
}

/// The most clips of a grid, which are in memory until it is written.
const MOST_SHOWN: usize = 64;
/// Pixels between the clips of a grid.
pub const GAP: usize = 4;
/// Clips shrink until the grid has at most this many rows and columns of pixels, which every format holds.
const GRID: usize = 2160;
/// The least rows and columns of a shrunk clip, which are also an MP4's least.
const LEAST: usize = 16;

impl Grid {
    /// A grid of `count` clips like `clip`. Many or large clips are shrunk.
    fn new(path: PathBuf, clip: VideoInfo, count: usize) -> Self {
        let columns = sheet::columns(count);
        // H.264 needs even sides.
        let side = |pixels: usize, shrink| match shrink {
            1 => pixels,
            _ => (pixels / shrink).next_multiple_of(2).max(LEAST.min(pixels)),
        };
        let longest = clip.height.max(clip.width);
        let fits = |shrink: &usize| columns * (side(longest, *shrink) + GAP) <= GRID;
        let shrink = (1..=longest).find(fits).unwrap_or(longest);
        let cell = [clip.height, clip.width].map(|pixels| side(pixels, shrink));
        let info = sheet::size(VideoInfo { height: cell[0], width: cell[1], ..clip }, count, GAP);
        Self { path, cell, info }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::video::FrameRate;

    #[test]
    fn thumbnails_shrink_only_as_far_as_the_grid_needs() {
        let cell = |height, width, count| {
            Grid::new("grid.mp4".into(), VideoInfo { height, width, fps: FrameRate::default() }, count).cell
        };
        assert_eq!(cell(512, 512, 16), [512, 512]);
        assert_eq!(cell(512, 512, 17), [256, 256]);
        assert_eq!(cell(16, 16, 100), [16, 16]);
        assert_eq!(cell(16, 2048, 2), [16, 1024]);
    }
}
