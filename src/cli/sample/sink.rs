//! Frames as they come from the pipeline, to files with their records.

use super::jobs::{GAP, Grid, Job, Plan};
use crate::cli::console::Console;
use crate::cli::latent::Latent;
use crate::cli::record::{Origin, Record, Tiles};
use osp::Result;
use osp::pipeline::{FrameSink, Outcome, Request, StageMemory};
use osp::video::{Clip, FrameRate, Writer, resize, sheet, write_clip};
use serde::Serialize;
use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

/// Writes frames as they come, and keeps them if there is to be a grid.
pub struct Sink<'a> {
    plan: &'a Plan,
    /// Of the latents, which any format may be made of,
    fps: FrameRate,
    /// and of the videos.
    plays: FrameRate,
    origin: Origin,
    console: &'a Console,
    start: Instant,
    writer: Option<Writer>,
    pixels: Vec<u8>,
    clips: Vec<Clip>,
    /// Whether results could be printed.
    printed: Result<()>,
}

/// What the record of a video says.
#[derive(Serialize)]
struct Facts<'a> {
    prompt: &'a str,
    cleaned_prompt: &'a str,
    text_cached: bool,
    negative_prompt: &'a str,
    clean_caption: bool,
    seed: u64,
    sampler: &'static str,
    steps: usize,
    model_calls: usize,
    guidance: f32,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
    tiles: Option<Tiles>,
    latent: Option<Cow<'a, str>>,
    memory: &'a [StageMemory],
    seconds: Seconds,
}

#[derive(Serialize)]
struct Seconds {
    text: f64,
    denoise: f64,
    decode: f64,
    /// Since the run began; with several prompts, all of them so far.
    since_start: f64,
}

/// What the record of a grid says.
#[derive(Serialize)]
struct GridFacts<'a> {
    shows: Vec<Cow<'a, str>>,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
}

impl<'a> Sink<'a> {
    /// For the videos of `plan`, made for `fps` and playing at `plays`.
    pub fn new(plan: &'a Plan, [fps, plays]: [FrameRate; 2], origin: Origin, console: &'a Console) -> Self {
        Self {
            plan,
            fps,
            plays,
            origin,
            console,
            start: Instant::now(),
            writer: None,
            pixels: Vec::new(),
            clips: Vec::new(),
            printed: Ok(()),
        }
    }

    fn facts<'b>(&self, job: &'b Job, outcome: &'b Outcome) -> Facts<'b> {
        let request = &job.request;
        Facts {
            prompt: &request.prompt,
            cleaned_prompt: &outcome.cleaned_prompt,
            text_cached: outcome.text_cached,
            negative_prompt: &request.negative_prompt,
            clean_caption: request.clean_caption,
            seed: request.seed,
            sampler: request.sampler.name(),
            steps: request.steps,
            model_calls: outcome.model_calls,
            guidance: request.guidance,
            frames: request.frames,
            height: request.height,
            width: request.width,
            fps: self.plays.as_f64(),
            tiles: request.tiling.map(Tiles::from),
            latent: job.latent.as_deref().map(Path::to_string_lossy),
            memory: &outcome.memory,
            seconds: Seconds {
                text: outcome.timings.text,
                denoise: outcome.timings.denoise,
                decode: outcome.timings.decode,
                since_start: self.start.elapsed().as_secs_f64(),
            },
        }
    }
}

impl Sink<'_> {
    /// Shows all videos side by side, if there are several.
    ///
    /// # Errors
    /// Also if a result could not be printed, which is no reason to stop before all videos are made.
    pub fn finish(mut self) -> Result<()> {
        self.write_grid()?;
        self.printed
    }

    fn write_grid(&mut self) -> Result<()> {
        let Some(Grid { path, .. }) = &self.plan.grid else { return Ok(()) };
        let sheet = sheet::contact_sheet(&self.clips, GAP)?;
        write_clip(path, &sheet)?;
        let facts = GridFacts {
            shows: self.plan.jobs.iter().map(|job| job.output.to_string_lossy()).collect(),
            frames: sheet.frames,
            height: sheet.height,
            width: sheet.width,
            fps: self.plays.as_f64(),
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

impl FrameSink for Sink<'_> {
    fn begin(&mut self, index: usize, _: &Request) -> Result<()> {
        self.writer = Some(self.plan.jobs[index].writer(self.fps)?);
        Ok(())
    }

    fn frame(&mut self, rgb: &[u8]) -> Result<()> {
        if self.plan.grid.is_some() {
            self.pixels.extend_from_slice(rgb);
        }
        self.writer.as_mut().expect("frames come after `begin`").push(rgb)
    }

    fn end(&mut self, index: usize, outcome: &Outcome) -> Result<()> {
        let job = &self.plan.jobs[index];
        self.writer.take().expect("`end` comes after `begin`").finish()?;
        if let Some(path) = &job.latent {
            let Request { frames, height, width, .. } = job.request;
            Latent::of(outcome.latent.clone(), [frames, height, width], self.fps).write(path)?;
        }
        if let Some(Grid { cell: [height, width], .. }) = self.plan.grid {
            let clip = Clip::new(job.info(self.fps), std::mem::take(&mut self.pixels))?;
            let shown = (clip.height, clip.width) == (height, width);
            let small = |clip: Clip| resize::cover(&clip, height, width, resize::Filter::default());
            self.clips.push(if shown { clip } else { small(clip)? });
        }
        let record = Record::new(&job.output, self.facts(job, outcome), &self.origin);
        record.save()?;
        let printed = record.print(self.console);
        self.note(printed);
        Ok(())
    }
}
