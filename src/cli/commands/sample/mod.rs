//! `osp sample`: samples videos from prompts.

mod jobs;
mod keeper;
mod place;
mod videos;

use crate::cli::args::{ComponentArgs, ModelArgs, SamplerArgs, SizeArgs, TilingArgs, seed};
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::model;
use crate::cli::output::{check_stdout, playable};
use crate::cli::record::Origin;
use jobs::{Job, JobList};
use keeper::{Every, Keeper, Keeping, every};
use osp::checkpoint::Need;
use osp::engine::{Task, TextCache};
use osp::state::{self, State};
use osp::video::FrameRate;
use osp::{Engine, Error, Model, Result};
use std::path::{Path, PathBuf};
use videos::Videos;

const EXAMPLES: &str = "\
Samplers:
  DDIM, EulerDiscrete, DDPM, DPMSolverMultistep, DPMSolverSinglestep, PNDM, HeunDiscrete,
  EulerAncestralDiscrete, DEISMultistep, KDPM2AncestralDiscrete

Outputs:
  The ending of -o decides: .mp4 (H.264), .gif, .y4m, .png (one frame), or no ending for a folder of PNGs. -o - prints Y4M
  to stdout when the video is complete, and writes no record.
  Each output gets a record (out.mp4.json, or frames.json for a folder) with the prompt, the seed, the weights and the time
  taken.
  An older output of the same name is replaced only when the run has succeeded.
  Ctrl-C stops after the current step, and leaves out.mp4.state, from which --resume goes on with the same bits.
  With several prompts, out.mp4 becomes out-000.mp4, out-001.mp4, …, and out-grid.mp4 shows all of them.

Examples:
  osp sample \"a red circle moving to the right\"
  osp sample \"a red circle\" --seed 1,2,3,4 -o circle.mp4
  osp sample --resume circle.mp4.state
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
    components: ComponentArgs,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
    /// Seed of the noise, for all prompts; or several seeds: one for each prompt, or several videos of one prompt
    #[arg(long, value_name = "SEED[,SEED…]", value_delimiter = ',', default_value = "0", value_parser = seed)]
    #[arg(allow_hyphen_values = true)]
    seed: Vec<u64>,
    /// Frames per second of the output; a .gif plays at 50 at most
    #[arg(long, value_name = "RATE", default_value = "24")]
    fps: FrameRate,
    /// Only convert prompts to lower case; do not remove links, markup and unusual characters
    #[arg(long)]
    no_clean_caption: bool,
    /// Encode every prompt again; do not use or keep text embeddings in the cache
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
    /// Go on from a state that an interrupted run left beside its output; the rest of the request is in it
    #[arg(long, value_name = "STATE", help_heading = RESUMING, conflicts_with_all = OF_REQUEST)]
    resume: Option<PathBuf>,
    /// Keep a state beside the output, OUTPUT.state, every N calls of the model, or every N minutes with `Nmin`, and after
    /// windows of the decoder; it is removed when the video is complete
    #[arg(long, value_name = "N|Nmin", help_heading = RESUMING, value_parser = every)]
    checkpoint_every: Option<Every>,
    /// Output; its ending decides the format [default: the prompt and the seed as a name, .mp4 or .png]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

const RESUMING: &str = "Interruptions";

/// The options that a state decides.
const OF_REQUEST: [&str; 15] = [
    "prompt",
    "prompts",
    "negative_prompt",
    "frames",
    "size",
    "steps",
    "guidance",
    "sampler",
    "seed",
    "fps",
    "no_clean_caption",
    "no_tiling",
    "tile_size",
    "tile_frames",
    "tile_overlap",
];

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    if let Some(path) = &args.resume {
        return resume(args, path, console);
    }
    args.output.as_deref().map_or(Ok(()), |output| check_stdout(output, console))?;
    let captions = captions(args)?;
    JobList::new(args, &captions, None)?;
    let engine = args.engine(&args.device, console)?;
    let model = model::open(&args.model, &args.components, Need::Sampling, console)?;
    let plan = JobList::new(args, &captions, Some(&model.defaults))?;
    make(&engine, &model, &plan, args.keeping(&args.device, &args.model, &args.components), console)
}

/// Goes on from a state.
fn resume(args: &Args, path: &Path, console: &Console) -> Result<()> {
    args.output.as_deref().map_or(Ok(()), |output| check_stdout(output, console))?;
    let plan = JobList::resumed(args, path, State::read(path)?)?;
    let (_, state) = plan.jobs[0].from.as_ref().expect("it was just read");
    let noted = |name: &str| state.notes.get(name).cloned();
    let (chosen, components) = model::or_noted(&args.model, &args.components, noted);
    let device = args.device.or_noted(noted);
    let engine = args.engine(&device, console)?;
    let model = model::open(&chosen, &components, Need::Sampling, console)?;
    state.check_origin(path, &state::Origin::of(&engine, &model)?)?;
    make(&engine, &model, &plan, args.keeping(&device, &chosen, &components), console)
}

/// Makes the videos. If the run ends early, what is complete of them is kept in states beside the outputs.
fn make(engine: &Engine, model: &Model, plan: &JobList, keeping: Keeping, console: &Console) -> Result<()> {
    let plays = playable(&plan.jobs[0].output, plan.jobs[0].settings.fps, console)?;
    let origin = state::Origin::of(engine, model)?;
    let keeper = Keeper::new(plan, &origin, keeping, console);
    let tasks: Vec<Task> = plan.jobs.iter().map(Job::task).collect();
    let made = || {
        let mut videos = Videos::new(plan, plays, Origin::new(model, engine.name()), &keeper, console);
        let mut batch = engine.resume(model, &tasks, &mut &keeper)?;
        (0..plan.jobs.len()).try_for_each(|video| videos.make(video, &mut batch))?;
        videos.finish()
    };
    made().inspect_err(|error| keeper.keep_all(error))
}

impl Args {
    /// The engine on `device`, with the cache of texts.
    fn engine(&self, device: &DeviceArgs, console: &Console) -> Result<Engine> {
        let engine = device.open_tried(&self.memory, console)?;
        Ok(match TextCache::of_user() {
            Some(cache) if !self.no_cache => engine.text_cache(cache),
            _ => engine,
        })
    }

    /// When states are kept, with the options that a run needs to go on from one.
    fn keeping(&self, device: &DeviceArgs, model: &ModelArgs, components: &ComponentArgs) -> Keeping {
        let noted = device.noted().into_iter().chain(model::noted(model, components));
        let notes = noted.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Keeping { every: self.checkpoint_every, notes }
    }
}

/// The prompts, each with its seed.
fn captions(args: &Args) -> Result<Vec<(String, u64)>> {
    let prompts = match &args.prompts {
        Some(path) => read_prompts(path)?,
        None if args.prompt.is_empty() => {
            return Err(Error::Usage("no prompt is given: use osp sample \"what to show\", or --prompts FILE".into()));
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
    // Line ends of every system count, including the single carriage returns of old ones.
    let lines = text.trim_start_matches('\u{feff}').split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let prompts: Vec<String> = lines.map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::Usage(format!("{} holds no prompts: write one on each line", path.display())));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::sampler::SamplerKind;

    #[test]
    fn the_help_names_every_sampler() {
        for kind in SamplerKind::ALL {
            assert!(EXAMPLES.contains(kind.name()), "{kind}");
        }
    }
}
