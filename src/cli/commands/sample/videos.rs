//! Writes frames from the engine to files, each with its record.

use super::jobs::{GAP, Grid, Job, JobList};
use super::keeper::Keeper;
use crate::cli::console::Console;
use crate::cli::made::Made;
use crate::cli::record::{self, Origin, Record, Tiles};
use osp::engine::{Batch, Edit, Outcome, Shortcuts, StageMemory};
use osp::staged::Staged;
use osp::video::{Clip, Format, is_stdout, resize, sheet, write_clip};
use osp::{Engine, Model, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Makes the videos, and keeps copies for the grid, if there is one.
pub struct Videos<'a> {
    plan: &'a JobList,
    model: &'a Model,
    origin: Origin,
    console: &'a Console,
    start: Instant,
    /// Videos with their numbers in the list, for the grid.
    clips: Vec<(usize, Clip)>,
    /// The first failure to print a result.
    printed: Result<()>,
}

/// The record's entries about a video.
#[derive(Serialize, JsonSchema)]
struct Facts<'a> {
    /// Of the request and the weights.
    fingerprint: String,
    prompt: &'a str,
    cleaned_prompt: &'a str,
    text_cached: bool,
    negative_prompt: &'a str,
    clean_caption: bool,
    seed: u64,
    /// Whether a state of an earlier run was its beginning; `seconds` are this run's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
    /// What makes it an edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<&'a Edit>,
    /// The files of the edit and how they are read, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    footage: &'a BTreeMap<String, String>,
    sampler: &'static str,
    steps: usize,
    model_calls: usize,
    /// Evaluations of the transformer in this run, each of one branch of guidance.
    evaluations: usize,
    /// Ways to make fewer of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortcuts: Option<&'a Shortcuts>,
    guidance: f32,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
    tiles: Option<Tiles>,
    /// Of the video's file, or of the frames in its folder; `null` for stdout.
    bytes: Option<u64>,
    latent: Option<Cow<'a, str>>,
    memory: &'a [StageMemory],
    seconds: Seconds,
}

#[derive(Serialize, JsonSchema)]
struct Seconds {
    text: f64,
    /// For an edit, of all videos of its clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    encode: Option<f64>,
    denoise: f64,
    decode: f64,
    /// Seconds since the run began; with several prompts, this includes earlier ones.
    since_start: f64,
}

/// The record's entries about a grid.
#[derive(Serialize, JsonSchema)]
struct GridFacts<'a> {
    shows: Vec<Cow<'a, str>>,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
}

/// The forms of the records of a video and of a grid.
pub fn schemas(schemas: &mut SchemaGenerator) -> [Schema; 2] {
    [Record::<Facts<'_>>::json_schema(schemas), Record::<GridFacts<'_>>::json_schema(schemas)]
}

impl<'a> Videos<'a> {
    /// The videos of `plan`, made by `engine` with `model`.
    pub fn new(plan: &'a JobList, engine: &Engine, model: &'a Model, console: &'a Console) -> Self {
        let origin = Origin::new(model, engine.name());
        Self { plan, model, origin, console, start: Instant::now(), clips: Vec::new(), printed: Ok(()) }
    }

    /// Makes `video` of `batch`, which is `job`, and writes it.
    ///
    /// # Errors
    /// The batch's and the writer's. [`Self::finish`] reports a result that cannot be printed.
    pub fn make(&mut self, job: &Job, video: usize, batch: &mut Batch<'_>, keeper: &Keeper<'_>) -> Result<()> {
        let mut writer = match job.describes {
            true => job.writer()?.described(&Made::new(&job.settings, self.model)?.text())?,
            false => job.writer()?,
        };
        job.announce(self.console);
        let (earlier, keeps) = (job.earlier_frames(), self.plan.grid.is_some());
        let mut pixels = if keeps { earlier.to_vec() } else { Vec::new() };
        earlier.chunks_exact(job.settings.frame_bytes()).try_for_each(|rgb| writer.push(rgb))?;
        let outcome = batch.decode(video, &mut &*keeper, &mut |rgb| {
            if keeps {
                pixels.extend_from_slice(rgb);
            }
            writer.push(rgb)?;
            keeper.decoded(video, rgb);
            Ok(())
        })?;
        self.show(job, pixels)?;
        let latent = job.latent.as_ref().map(|path| outcome.latent.written(path)).transpose()?;
        let video_file = writer.written()?;
        let record = Record::new(&job.output, self.facts(job, &outcome, video_file.path())?, &self.origin);
        let record_file = record.written()?;
        // Everything is on the disk. Only now do files get the names of older ones. A record never vouches for another video: the video
        // says what it is or, if it cannot, its older record goes first.
        if !job.says_what_it_is() {
            record::remove(&job.output);
        }
        video_file.commit()?;
        latent.map_or(Ok(()), Staged::commit)?;
        record_file.map_or(Ok(()), Staged::commit)?;
        keeper.complete(video);
        let printed = record.print(self.console);
        self.note(printed);
        Ok(())
    }

    /// Keeps a video for the grid, in the size of a cell.
    fn show(&mut self, job: &Job, pixels: Vec<u8>) -> Result<()> {
        let Some(Grid { cell: [height, width], .. }) = self.plan.grid else { return Ok(()) };
        let clip = Clip::new(job.info(), pixels)?;
        let shown = (clip.height, clip.width) == (height, width);
        let small = |clip: Clip| resize::cover(&clip, height, width, resize::Filter::default());
        self.clips.push((job.number, if shown { clip } else { small(clip)? }));
        Ok(())
    }

    /// The facts of a video whose bytes are at `file`.
    fn facts<'b>(&'b self, job: &'b Job, outcome: &'b Outcome, file: &Path) -> Result<Facts<'b>> {
        let settings = &outcome.settings;
        Ok(Facts {
            fingerprint: settings.fingerprint(self.model)?,
            prompt: &settings.prompt,
            cleaned_prompt: &outcome.cleaned_prompt,
            text_cached: outcome.text_cached,
            negative_prompt: &settings.negative_prompt,
            clean_caption: settings.clean_caption,
            seed: settings.seed,
            resumed: job.from().is_some(),
            edit: settings.edit.as_ref(),
            footage: &self.plan.noted,
            sampler: settings.sampler.name(),
            steps: settings.steps,
            model_calls: outcome.model_calls,
            evaluations: outcome.evaluations,
            shortcuts: Some(&settings.shortcuts).filter(|shortcuts| !shortcuts.is_empty()),
            guidance: settings.guidance,
            frames: settings.frames,
            height: settings.height,
            width: settings.width,
            fps: Format::from_path(&job.output)?.rate(settings.fps).as_f64(),
            tiles: settings.tiling.map(Tiles::from),
            bytes: if is_stdout(&job.output) { None } else { record::size(file) },
            latent: job.latent.as_deref().map(Path::to_string_lossy),
            memory: &outcome.memory,
            seconds: Seconds {
                text: outcome.timings.text,
                encode: settings.edit.as_ref().map(|_| outcome.timings.encode),
                denoise: outcome.timings.denoise,
                decode: outcome.timings.decode,
                since_start: self.start.elapsed().as_secs_f64(),
            },
        })
    }
}

impl Videos<'_> {
    /// Writes the grid of all videos, if there is one and this run made all of them.
    ///
    /// # Errors
    /// The writer's; the first failure to print a result, which does not stop the run before all videos are made.
    pub fn finish(mut self) -> Result<()> {
        self.write_grid()?;
        self.printed
    }

    fn write_grid(&mut self) -> Result<()> {
        let Some(Grid { path, .. }) = &self.plan.grid else { return Ok(()) };
        if self.clips.len() < self.plan.jobs.len() {
            return Ok(());
        }
        // They may have been made in another order.
        self.clips.sort_by_key(|(number, _)| *number);
        let clips: Vec<Clip> = self.clips.drain(..).map(|(_, clip)| clip).collect();
        let sheet = sheet::contact_sheet(&clips, GAP)?;
        write_clip(path, &sheet)?;
        let facts = GridFacts {
            shows: self.plan.jobs.iter().map(|job| job.output.to_string_lossy()).collect(),
            frames: sheet.frames,
            height: sheet.height,
            width: sheet.width,
            fps: Format::from_path(path)?.rate(sheet.fps).as_f64(),
        };
        let record = Record::new(path, facts, &self.origin);
        record.save()?;
        let printed = record.print(self.console);
        self.note(printed);
        Ok(())
    }

    /// Keeps the first failure.
    fn note(&mut self, printed: Result<()>) {
        if self.printed.is_ok() {
            self.printed = printed;
        }
    }
}
