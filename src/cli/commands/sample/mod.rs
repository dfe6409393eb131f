//! `osp sample`: samples videos from prompts.

pub mod dry_run;
mod jobs;
mod keeper;
mod list;
mod making;
mod material;
mod place;
mod preview;
mod prompts;
mod shard;
pub mod videos;

use crate::cli::args::{ComponentArgs, ModelArgs, SamplerArgs, ShortcutArgs, SizeArgs, TilingArgs, seed, span};
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::footage::Grid;
use crate::cli::model;
use crate::cli::output::check_stdout;
use clap::builder::{OsStringValueParser, TypedValueParser};
use jobs::JobList;
use keeper::{Every, Keeping, every};
use making::Making;
pub use material::Material;
use osp::checkpoint::{Defaults, Need};
use osp::engine::{Spans, TextCache};
use osp::reading::is_stdin;
use osp::state::{Origin, State};
use osp::video::FrameRate;
use osp::{Engine, Error, Model, Result};
use preview::{Previews, Shown, shown};
use prompts::Asked;
use shard::Shard;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Samplers:
  DDIM, EulerDiscrete, DDPM, DPMSolverMultistep, DPMSolverSinglestep, PNDM, HeunDiscrete,
  EulerAncestralDiscrete, DEISMultistep, KDPM2AncestralDiscrete

Outputs:
  The ending of -o decides: .mp4 (H.264), .gif, .y4m, .png (one frame), or no ending for a folder of PNGs. -o - prints Y4M to \
stdout when the video is complete, and writes no record.
  Each output gets a record (out.mp4.json, or frames.json for a folder) with the prompt, the seed, the weights and the time \
taken.
  An older output of the same name is replaced only when the run has succeeded.
  Ctrl-C stops after the current step or tile, and leaves out.mp4.state, from which --resume goes on with the same bits.
  --preview p.png shows up to eight frames of the video as the model imagines it so far, in coarse pixels.
  With several prompts, out.mp4 becomes out-000.mp4, out-001.mp4, …, and out-grid.mp4 shows all of them (at most 64).

Lists:
  An object of a .jsonl file has \"prompt\" and, where it differs from the options, \"negative_prompt\", \"seed\", \"frames\", \
\"size\" (as \"512x512\"), \"steps\", \"guidance\", \"sampler\" and \"output\".
  A video whose output and record say the same request and weights is not made again. One that cannot be made is \
reported, and the others are made; the exit code is then 1. After a stop, the same command goes on.
  Several processes may share a list, with --shard or without: out.mp4.lock says who makes out.mp4.

Examples:
  osp sample \"a red circle moving to the right\"
  osp sample \"a red circle\" --seed 1,2,3,4 -o circle.mp4
  osp sample --resume circle.mp4.state
  osp sample --like circle.mp4 --seed 5 -o other.mp4
  osp sample --prompts prompts.txt --steps 50 --guidance 5 -o out/clip.gif
  srun osp sample --prompts videos.jsonl --shard auto
  osp sample \"a quiet lake\" --model models/Open-Sora-Plan-v1.1.0 --text-encoder models/t5-v1_1-xxl \\
      --transformer 65x512x512 --size 512x512 --frames 65 -o lake.mp4";

/// Samples videos (or, with --frames 1, images) from prompts
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    size: SizeArgs,
    /// Image that the first frame shows, resized to cover the video; the rest follows it
    #[arg(long, value_name = "IMAGE")]
    init_image: Option<PathBuf>,
    /// Go on from a state that an interrupted run left beside its output; the rest of the request is in it
    #[arg(long, value_name = "STATE", help_heading = RESUMING, conflicts_with_all = OF_REQUEST)]
    resume: Option<PathBuf>,
}

/// Options of every command that samples.
#[derive(clap::Args)]
pub struct RunArgs {
    /// What the video should show; each PROMPT makes one video
    #[arg(value_name = "PROMPT", conflicts_with = "prompts")]
    prompt: Vec<String>,
    /// List of videos: a text file with one prompt on each line, or, if its name ends in .jsonl, a JSON object on each line; - for
    /// either from stdin
    #[arg(long, value_name = "FILE", help_heading = LISTS)]
    prompts: Option<PathBuf>,
    /// Make every N-th video of the list, from the I-th on, as one of N processes; `auto` takes both numbers from the variables
    /// of a Slurm array, torchrun, MPI or srun
    #[arg(long, value_name = "I/N", help_heading = LISTS, requires = "prompts", conflicts_with = "prompt")]
    shard: Option<Shard>,
    /// Make every video of the list, also those whose output exists
    #[arg(long, help_heading = LISTS, requires = "prompts", conflicts_with = "prompt")]
    again: bool,
    /// What the videos should not show
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    components: ComponentArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
    #[command(flatten)]
    shortcuts: ShortcutArgs,
    /// Seed of the noise, for all prompts; or several seeds: one for each prompt, or several videos of one prompt [default: 0]
    #[arg(long, value_name = "SEED[,SEED…]", value_delimiter = ',', value_parser = seed)]
    #[arg(allow_hyphen_values = true)]
    seed: Vec<u64>,
    /// Frames per second of the output; a .gif plays at 50 at most [default: 24, in an edit the clip's]
    #[arg(long, value_name = "RATE")]
    fps: Option<FrameRate>,
    /// Only convert prompts to lower case; do not remove links, markup and unusual characters
    #[arg(long)]
    no_clean_caption: bool,
    /// Encode every prompt again; do not use or keep text embeddings, or the colours of previews, in the cache
    #[arg(long)]
    no_cache: bool,
    /// Frames that the transformer sees at once, 4k+1, or `all`; it makes a longer video in spans that overlap by a quarter
    /// [default: the length of the model's training videos]
    #[arg(long, value_name = "N|all", value_parser = span)]
    span: Option<Spans>,
    #[command(flatten)]
    tiles: TilingArgs,
    /// Repeat what this video of `osp sample` or `osp edit` says about itself, or a state; other options change it
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,
    /// Only check everything, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not put the prompt, the settings and fingerprints into the video
    #[arg(long)]
    no_metadata: bool,
    /// Also write the latent, for `osp decode`
    #[arg(long, value_name = "FILE.safetensors")]
    save_latent: Option<PathBuf>,
    /// Show the video while it is made, about ten times: in FILE.png, which each preview replaces, or as coloured characters in
    /// the terminal
    #[arg(long, value_name = "FILE.png|terminal", value_parser = OsStringValueParser::new().try_map(shown))]
    preview: Option<Shown>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Keep a state beside the output, OUTPUT.state, every N calls of the model, or every N minutes with `Nmin`, and after
    /// windows of the decoder; it is removed when the video is complete
    #[arg(long, value_name = "N|Nmin", help_heading = RESUMING, value_parser = every)]
    checkpoint_every: Option<Every>,
    /// Output; its ending decides the format [default: the prompt and the seed as a name, samples for several prompts; .mp4 or .png]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

const LISTS: &str = "Lists";
const RESUMING: &str = "Interruptions";

/// The options that a state decides, and a dry run, which says what a request would do.
const OF_REQUEST: [&str; 22] = [
    "cache",
    "guidance_reuse",
    "guidance_interval",
    "dry_run",
    "init_image",
    "span",
    "prompt",
    "prompts",
    "like",
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
    let run = &args.run;
    if let Some(path) = &args.resume {
        run.check(console)?;
        return resume(run, path, console);
    }
    let reads: Vec<PathBuf> = args.init_image.iter().cloned().collect();
    make(run, &args.size, &reads, || Material::image(args.init_image.as_deref(), console), console)
}

/// Makes the videos that are asked for, in a size that the options or the material say, for which the files of `reads` are read.
pub fn make<'a>(
    args: &'a RunArgs,
    size: &'a SizeArgs,
    reads: &[PathBuf],
    material: impl FnOnce() -> Result<Material<'a>>,
    console: &Console,
) -> Result<()> {
    args.check(console)?;
    let of_stdin = reads.iter().chain(&args.prompts).chain(&args.like).filter(|file| is_stdin(file));
    if of_stdin.count() > 1 {
        return Err(Error::Usage("- is given twice, and stdin holds one file: name the others".into()));
    }
    let asked = Asked::of(args, size, material()?)?;
    JobList::new(args, &asked, None)?;
    let engine = args.engine(&args.device, console)?;
    let model = model::open(&args.model, &args.components, Need::Sampling, console)?;
    let Defaults { factors, patch, .. } = model.defaults;
    asked.material.open(Grid { factors, patch }, console)?;
    asked.compare(&model, console);
    let plan = JobList::new(args, &asked, Some(&model.defaults))?;
    let ours = |number| args.shard.is_none_or(|shard| shard.has(number));
    if args.dry_run {
        let list = args.prompts.is_some();
        return dry_run::run(&engine, &model, &plan, ours, (list, args.again || !list), console);
    }
    let keeping = args.keeping(&args.device, &args.model, &args.components, &plan);
    let previews = args.previews(&engine, &model, console)?;
    let making = Making::new(&engine, &model, &plan, &keeping, previews.as_ref(), console)?;
    if args.prompts.is_some() { making.list(ours, args.again) } else { making.all() }
}

/// Goes on from a state.
fn resume(args: &RunArgs, path: &Path, console: &Console) -> Result<()> {
    let mut state = State::read(path)?;
    material::find_moved(path, &mut state.notes);
    let notes = state.notes.clone();
    let noted = |name: &str| notes.get(name).cloned();
    let footage = material::again(path, &state.settings, &noted, console)?;
    let plan = JobList::resumed(args, path, state, footage)?;
    let (_, state) = plan.jobs[0].from().expect("it was just read");
    let (chosen, components) = model::or_noted(&args.model, &args.components, noted);
    let device = args.device.or_noted(noted);
    let engine = args.engine(&device, console)?;
    let model = model::open(&chosen, &components, Need::Sampling, console)?;
    state.check_origin(path, &Origin::of(&engine, &model)?)?;
    let keeping = args.keeping(&device, &chosen, &components, &plan);
    let previews = args.previews(&engine, &model, console)?;
    Making::new(&engine, &model, &plan, &keeping, previews.as_ref(), console)?.all()
}

impl RunArgs {
    /// The prompts that were typed.
    pub fn prompts(&self) -> impl Iterator<Item = &String> {
        self.prompt.iter()
    }

    /// Checks what needs no file.
    fn check(&self, console: &Console) -> Result<()> {
        self.preview.as_ref().map_or(Ok(()), |shown| shown.check(console))?;
        self.output.as_deref().map_or(Ok(()), |output| check_stdout(output, console))
    }

    /// The engine on `device`, with the cache of texts.
    fn engine(&self, device: &DeviceArgs, console: &Console) -> Result<Engine> {
        let engine = match self.dry_run {
            true => self.memory.limited(device.open(console)?)?,
            false => device.open_tried(&self.memory, console)?,
        };
        Ok(match TextCache::of_user() {
            Some(cache) if !self.no_cache => engine.text_cache(cache),
            _ => engine,
        })
    }

    /// The previews, if they are asked for. A quiet run prints none.
    fn previews<'a>(&self, engine: &Engine, model: &Model, console: &'a Console) -> Result<Option<Previews<'a>>> {
        let asked = self.preview.as_ref().filter(|shown| **shown != Shown::Terminal || !console.quiet());
        asked.map(|_| Previews::new(engine, model, !self.no_cache, console)).transpose()
    }

    /// When states are kept, with the options that a run needs to go on from one.
    fn keeping(&self, device: &DeviceArgs, model: &ModelArgs, components: &ComponentArgs, plan: &JobList) -> Keeping {
        let noted = device.noted().into_iter().chain(model::noted(model, components));
        let noted = noted.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let notes = noted.chain(plan.noted.clone()).collect();
        Keeping { every: self.checkpoint_every, notes, again: self.prompts.is_some() }
    }
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
