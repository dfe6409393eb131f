//! `osp sample`: videos from prompts.

use super::args::{ModelArgs, PartArgs, SamplerArgs, SizeArgs, TilingArgs, seed};
use super::console::Console;
use super::device::{DeviceArgs, MemoryArgs};
use super::latent::Latent;
use super::model;
use super::output::{check_file, marked, record_path, slug};
use super::record::{Origin, Record, Tiles};
use osp::checkpoint::{Defaults, Need};
use osp::pipeline::{FrameSink, Outcome, Request, StageMemory, TextCache};
use osp::sampler::{Kind, validate_steps};
use osp::video::{Clip, Format, FrameRate, VideoInfo, Writer, check_writable, resize, sheet, write_clip};
use osp::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
Samplers:
  DDIM, EulerDiscrete, DDPM, DPMSolverMultistep, DPMSolverSinglestep, PNDM, HeunDiscrete,
  EulerAncestralDiscrete, DEISMultistep, KDPM2AncestralDiscrete

Outputs:
  The ending of -o decides: .mp4 (H.264), .gif, .y4m, .png (one frame), or no ending for a folder of PNGs.
  Beside each output a .json records the prompt, the seed, the weights and the time taken.
  An output of the same name is replaced, but only when the run has succeeded.
  With several prompts, out.mp4 becomes out-000.mp4, out-001.mp4, …, and out-grid.mp4 shows all.

Examples:
  osp sample \"a red circle moving to the right\"
  osp sample \"a red circle\" --seed 1,2,3,4 -o circle.mp4
  osp sample --prompts prompts.txt --steps 50 --guidance 5 -o out/clip.gif
  osp sample \"a quiet lake\" --model models/Open-Sora-Plan-v1.1.0 --text-encoder models/t5-v1_1-xxl \\
      --transformer 65x512x512 --size 512x512 --frames 65 -o lake.mp4";

/// Samples videos (or, with --frames 1, images) from prompts
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the video should show; each PROMPT makes one video
    #[arg(value_name = "PROMPT", conflicts_with = "prompts")]
    prompt: Vec<String>,
    /// Text file with one prompt on each line; blank lines are skipped
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// What the videos should not show
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    negative_prompt: String,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
    /// Seed of the noise, the same for all prompts; or several: one for each prompt, or several videos of one prompt
    #[arg(long, value_name = "SEED[,SEED…]", value_delimiter = ',', default_value = "0", value_parser = seed)]
    #[arg(allow_hyphen_values = true)]
    seed: Vec<u64>,
    /// Frames per second of the output
    #[arg(long, value_name = "RATE", default_value = "24")]
    fps: FrameRate,
    /// Take prompts as they are, but for lower case, instead of removing links, markup and odd characters
    #[arg(long)]
    no_clean_caption: bool,
    /// Encode every prompt anew, instead of looking first among the text embeddings of earlier runs
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    tiles: TilingArgs,
    /// Also write the latent, for `osp decode`
    #[arg(long, value_name = "FILE.safetensors")]
    save_latent: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Output; its ending decides the format [default: the prompt and the seed as a name, .mp4 or .png]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// One video to make.
struct Job {
    request: Request,
    output: PathBuf,
    latent: Option<PathBuf>,
}

/// All videos to make.
struct Plan {
    jobs: Vec<Job>,
    /// Where all of them are shown side by side.
    grid: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let captions = captions(args)?;
    // With stand-ins for what only the model knows, all that is wrong with the arguments is found before it is opened.
    Plan::new(args, &captions, &stand_ins(), args.sampler.names_one())?;
    let device = args.device.open_tried(console)?;
    let limit = device.limit(&args.memory)?;
    let model = model::open(&args.model, &args.parts, Need::Sampling, console)?;
    let plan = Plan::new(args, &captions, &model.checkpoint.defaults, true)?;

    let requests: Vec<Request> = plan.jobs.iter().map(|job| job.request.clone()).collect();
    let mut sink = Sink::new(&plan, args.fps, Origin::new(&model, device.name()), console);
    let cache = if args.no_cache { None } else { TextCache::of_user() };
    device.sample(limit, &model.checkpoint, &requests, cache.as_ref(), console, &mut sink)?;
    sink.write_grid()
}

/// Defaults that no argument is wrong with.
fn stand_ins() -> Defaults {
    Defaults { frames: 1, height: 16, width: 16, sampler: Kind::Ddim, steps: 50, guidance: 1.0, notice: None }
}

/// The prompts and the seed of each.
fn captions(args: &Args) -> Result<Vec<(String, u64)>> {
    let prompts = match &args.prompts {
        Some(path) => read_prompts(path)?,
        None if args.prompt.is_empty() => {
            return Err(Error::Usage("there is no prompt: osp sample \"what to show\", or --prompts FILE".into()));
        }
        None => args.prompt.clone(),
    };
    let count = prompts.len().max(args.seed.len());
    if [prompts.len(), args.seed.len()].iter().any(|&len| len != 1 && len != count) {
        return Err(Error::Usage(format!(
            "there are {} prompts and {} seeds: give one seed, or one for each prompt",
            prompts.len(),
            args.seed.len()
        )));
    }
    Ok(prompts.into_iter().cycle().zip(args.seed.iter().copied().cycle()).take(count).collect())
}

/// The lines of a file that are not blank.
fn read_prompts(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    // Line ends are those of any system, the carriage returns of old ones among them.
    let lines = text.trim_start_matches('\u{feff}').split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let prompts: Vec<String> = lines.map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::Usage(format!("{} holds no prompts: write one on each line", path.display())));
    }
    Ok(prompts)
}

impl Plan {
    /// Settles what the arguments leave open by `defaults`, and checks everything that can be checked without work: the steps
    /// only if the sampler is known.
    fn new(args: &Args, captions: &[(String, u64)], defaults: &Defaults, sampler_is_known: bool) -> Result<Self> {
        let tiling = args.tiles.tiling()?;
        let [frames, height, width] = args.size.or(defaults);
        let (sampler, steps, guidance) = args.sampler.or(defaults);
        validate_steps(steps)?;
        let steps = if sampler_is_known { steps } else { defaults.steps };
        let output = args.output.clone().unwrap_or_else(|| default_output(captions, frames));
        let several = captions.len() > 1;
        let numbered =
            |path: &Path, index: usize| if several { marked(path, &format!("{index:03}")) } else { path.to_path_buf() };
        let job = |(index, (prompt, seed)): (usize, &(String, u64))| Job {
            request: Request {
                prompt: prompt.clone(),
                negative_prompt: args.negative_prompt.clone(),
                clean_caption: !args.no_clean_caption,
                frames,
                height,
                width,
                sampler,
                steps,
                guidance,
                seed: *seed,
                tiling,
            },
            output: numbered(&output, index),
            latent: args.save_latent.as_ref().map(|path| numbered(path, index)),
        };
        let jobs: Vec<Job> = captions.iter().enumerate().map(job).collect();
        jobs.iter().try_for_each(|job| job.check(args.fps))?;
        let grid = several.then(|| marked(&output, "grid"));
        grid.as_deref().map_or(Ok(()), check_writable)?;
        Ok(Self { jobs, grid })
    }
}

/// A name that tells what is in the file.
fn default_output(captions: &[(String, u64)], frames: usize) -> PathBuf {
    let ending = if frames == 1 { "png" } else { "mp4" };
    match captions {
        [(prompt, seed)] => format!("{}-seed{seed}.{ending}", slug(prompt)).into(),
        _ => format!("samples.{ending}").into(),
    }
}

impl Job {
    fn check(&self, fps: FrameRate) -> Result<()> {
        self.request.validate()?;
        // Started and dropped: whatever hinders the writer should be known before the work, not after it.
        self.writer(fps)?;
        check_file(&record_path(&self.output), "json")?;
        self.latent.as_deref().map_or(Ok(()), |path| check_file(path, "safetensors"))
    }

    fn info(&self, fps: FrameRate) -> VideoInfo {
        VideoInfo { width: self.request.width, height: self.request.height, fps }
    }

    fn writer(&self, fps: FrameRate) -> Result<Writer> {
        let format = Format::from_path(&self.output)?;
        Writer::create(&self.output, format, self.info(fps), Some(self.request.frames))
    }
}

/// Writes frames as they come, and keeps them if there is to be a grid.
struct Sink<'a> {
    plan: &'a Plan,
    fps: FrameRate,
    origin: Origin,
    console: &'a Console,
    start: Instant,
    writer: Option<Writer>,
    pixels: Vec<u8>,
    clips: Vec<Clip>,
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
    latent: Option<&'a Path>,
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
    shows: Vec<&'a Path>,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
}

impl<'a> Sink<'a> {
    fn new(plan: &'a Plan, fps: FrameRate, origin: Origin, console: &'a Console) -> Self {
        Self { plan, fps, origin, console, start: Instant::now(), writer: None, pixels: Vec::new(), clips: Vec::new() }
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
            fps: self.fps.as_f64(),
            tiles: request.tiling.map(Tiles::from),
            latent: job.latent.as_deref(),
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
    fn write_grid(&self) -> Result<()> {
        let Some(path) = &self.plan.grid else { return Ok(()) };
        let sheet = sheet::contact_sheet(&self.clips, GAP)?;
        write_clip(path, &sheet)?;
        let facts = GridFacts {
            shows: self.plan.jobs.iter().map(|job| &*job.output).collect(),
            frames: sheet.frames,
            height: sheet.height,
            width: sheet.width,
            fps: self.fps.as_f64(),
        };
        let record = Record::new(path, facts, &self.origin);
        record.save()?;
        record.print(self.console)
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
        if self.plan.grid.is_some() {
            let clip = Clip::new(job.info(self.fps), std::mem::take(&mut self.pixels))?;
            self.clips.push(thumbnail(clip, self.plan.jobs.len())?);
        }
        let record = Record::new(&job.output, self.facts(job, outcome), &self.origin);
        record.save()?;
        record.print(self.console)
    }
}

/// Pixels between the clips of a grid.
const GAP: usize = 4;
/// About how many pixels wide and high a grid gets at most: what players and encoders are at ease with.
const GRID: usize = 2048;

/// `clip` as it is shown in a grid of `count`: smaller, if they are many or large.
fn thumbnail(clip: Clip, count: usize) -> Result<Clip> {
    let columns = (1..=count).find(|side| side * side >= count).unwrap_or(1);
    let shrink = (columns * clip.height.max(clip.width)).div_ceil(GRID);
    if shrink == 1 {
        return Ok(clip);
    }
    // H.264 needs even sides.
    let side = |pixels: usize| (pixels / shrink).next_multiple_of(2).max(2);
    resize::cover(&clip, side(clip.height), side(clip.width), resize::Filter::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_sampler() {
        for kind in Kind::ALL {
            assert!(EXAMPLES.contains(kind.name()), "{kind}");
        }
    }

    #[test]
    fn thumbnails_shrink_only_as_far_as_the_grid_needs() {
        let size = |side, count| {
            let info = VideoInfo { height: side, width: side, fps: FrameRate::default() };
            let thumbnail = thumbnail(Clip::new(info, vec![7; info.frame_bytes()]).unwrap(), count).unwrap();
            (thumbnail.height, thumbnail.width)
        };
        assert_eq!(size(512, 16), (512, 512));
        assert_eq!(size(512, 17), (256, 256));
        assert_eq!(size(16, 100), (16, 16));
    }
}
