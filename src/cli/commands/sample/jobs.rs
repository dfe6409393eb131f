//! The videos to make, settled and checked before any work.

use super::{Args, place};
use crate::cli::claims::Claims;
use crate::cli::model;
use crate::cli::output::{check_file, marked, slug};
use crate::cli::record;
use osp::checkpoint::Defaults;
use osp::engine::{Settings, Task};
use osp::model::vae::Factors;
use osp::sampler::SamplerKind;
use osp::state::State;
use osp::video::{Format, VideoInfo, Writer, is_stdout, sheet};
use osp::{Error, Request, Result};
use std::path::{Path, PathBuf};

/// One video to make.
pub struct Job {
    pub settings: Settings,
    pub output: PathBuf,
    pub latent: Option<PathBuf>,
    /// The state of an earlier run that this one goes on from.
    pub from: Option<(PathBuf, State)>,
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
};

/// All videos to make.
pub struct JobList {
    pub jobs: Vec<Job>,
    /// The grid, if there are several videos.
    pub grid: Option<Grid>,
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
    /// Completes the arguments with the model's defaults, and checks everything that can be checked without work.
    /// Before the model is opened, `defaults` is `None`: placeholders accept everything that some model may allow.
    pub fn new(args: &Args, captions: &[(String, u64)], defaults: Option<&Defaults>) -> Result<Self> {
        let settle = |(prompt, seed): &(String, u64)| match defaults {
            Some(defaults) => args.request(prompt, *seed).settle(defaults),
            None => args.known_request(prompt, *seed)?.settle(&PLACEHOLDERS),
        };
        let settings: Vec<Settings> = captions.iter().map(settle).collect::<Result<_>>()?;
        let Settings { frames, height, width, fps, .. } = settings[0];
        let output = args.output.clone().unwrap_or_else(|| default_output(captions, frames));
        let several = captions.len() > 1;
        if several && is_stdout(&output) {
            return Err(Error::Usage("-o - can print only one video, but several are requested; name a file".into()));
        }
        let numbered =
            |path: &Path, index: usize| if several { marked(path, &format!("{index:03}")) } else { path.to_path_buf() };
        let job = |(index, settings): (usize, Settings)| Job {
            settings,
            output: numbered(&output, index),
            latent: args.save_latent.as_ref().map(|path| numbered(path, index)),
            from: None,
        };
        let jobs: Vec<Job> = settings.into_iter().enumerate().map(job).collect();
        let grid =
            several.then(|| Grid::new(marked(&output, "grid"), VideoInfo { width, height, fps }, captions.len()));
        let plan = Self { jobs, grid };
        plan.check(args, frames)?;
        Ok(plan)
    }

    /// The video whose state is in the file `path`.
    pub fn resumed(args: &Args, path: &Path, state: State) -> Result<Self> {
        let unnamed =
            || Error::Usage(format!("{}: this name does not say where the video goes; add -o", path.display()));
        let beside = || place::output_of(path).ok_or_else(unnamed);
        let output = args.output.clone().map_or_else(beside, Ok)?;
        let (settings, latent) = (state.settings.clone(), args.save_latent.clone());
        let frames = settings.frames;
        let plan =
            Self { jobs: vec![Job { settings, output, latent, from: Some((path.to_path_buf(), state)) }], grid: None };
        plan.check(args, frames)?;
        Ok(plan)
    }

    /// Fails now, before the work, if an output of `frames` frames cannot be written.
    fn check(&self, args: &Args, frames: usize) -> Result<()> {
        if args.checkpoint_every.is_some() && is_stdout(&self.jobs[0].output) {
            return Err(Error::Usage(
                "--checkpoint-every keeps a state beside the output, and -o - has no place; name a file".into(),
            ));
        }
        let mut claims = Claims::new(model::files(&args.model, &args.components));
        if let Some(prompts) = &args.prompts {
            claims = claims.reads(prompts);
        }
        for job in &self.jobs {
            job.check()?;
            place::check(&job.output)?;
            claims = written(claims, &job.output);
            claims = job.latent.iter().fold(claims, |claims, path| claims.writes(path));
        }
        if let Some(Grid { path, info, .. }) = &self.grid {
            Writer::create(path, Format::from_path(path)?, *info, Some(frames))?;
            record::check(path)?;
            claims = written(claims, path);
        }
        claims.check()
    }
}

/// Adds `output`, its record and its state to the outputs.
fn written(claims: Claims, output: &Path) -> Claims {
    match place::path(output) {
        Some(state) => claims.writes(output).writes(&record::path(output)).writes(&state),
        None => claims,
    }
}

/// A name that describes the content.
fn default_output(captions: &[(String, u64)], frames: usize) -> PathBuf {
    let ending = if frames == 1 { "png" } else { "mp4" };
    match captions {
        [(prompt, seed)] => format!("{}-seed{seed}.{ending}", slug(prompt)).into(),
        _ => format!("samples.{ending}").into(),
    }
}

impl Args {
    /// The request for this prompt and seed.
    fn request(&self, prompt: &str, seed: u64) -> Request {
        let request = Request {
            negative_prompt: self.negative_prompt.clone(),
            clean_caption: !self.no_clean_caption,
            seed,
            fps: self.fps,
            tiling: self.tiles.tiling(),
            ..Request::new(prompt)
        };
        self.sampler.of(self.size.of(request))
    }

    /// As [`Self::request`], with only what can be checked before the model is opened.
    fn known_request(&self, prompt: &str, seed: u64) -> Result<Request> {
        self.sampler.of_known(self.request(prompt, seed).tiling(None))
    }
}

impl Job {
    /// What the engine makes.
    pub fn task(&self) -> Task {
        self.from.as_ref().map_or_else(|| Task::from(self.settings.clone()), |(_, state)| state.task())
    }

    /// Frames of an earlier run, `height·width·3` bytes each.
    pub fn earlier_frames(&self) -> &[u8] {
        self.from.as_ref().map_or(&[], |(_, state)| state.frames())
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
