//! `osp plan`: what a request would take of a GPU, stage by stage, without one.

mod report;
mod svg;

use super::args::{SamplerArgs, TilingArgs};
use super::claims::Claims;
use super::console::Console;
use super::device::{DType, Limit, MemoryArgs, halves};
use super::output::check_file;
use super::subject::SubjectArgs;
use osp::checkpoint::Checkpoint;
use osp::cuda::device::Dry;
use osp::pipeline::{self, Captions, Planned, Request, Stage, Windowed};
use osp::profile::gpus::Gpu;
use osp::{Result, staged};
use report::Report;
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Rehearses the whole run on a device that executes nothing, and gives every buffer a place in one arena
per stage, as a run does before its first launch. Needs neither a GPU nor weights.

Examples:
  osp plan --preset v1.1.0-221x512x512 --memory 3GiB --gpu h100
  osp plan --preset v1.1.0 --frames 1 --svg arena.svg
  osp plan --preset v1.1.0 --encode --size 256x256 --frames 129 --no-tiling
  osp plan --model models/Open-Sora-Plan-v1.1.0 --transformer 65x512x512 --json";

/// Plans the memory of a request: what each stage would take of a GPU, and what it would do
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
    /// Plan the encoding of a clip of this size instead
    #[arg(long, conflicts_with_all = ["tokens", "steps", "guidance", "sampler"])]
    encode: bool,
    /// Precision of activations and weights [default: f16, and bf16 for the text encoder]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DType>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// GPU whose data sheet bounds the time, such as h100, a100 or rtx4090
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
    /// Also draw the arenas over time
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    tiles: TilingArgs,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let gpu = args.gpu.as_deref().map(Gpu::named).transpose()?;
    args.check()?;
    let (model, checkpoint) = args.subject.without_weights(console)?;
    let request = args.request(&checkpoint)?;
    let limit = match args.memory.memory {
        Limit::Auto => None,
        Limit::Bytes(bytes) => Some(bytes),
    };
    let devices = Planned::within(Arc::new(Dry::new()), halves(args.dtype), limit);
    let (tokens, stages) = if args.encode {
        let size = [request.frames, request.height, request.width];
        let (pixels, clip) = (vec![0; 3 * size.iter().product::<usize>()], Windowed { size, tiling: request.tiling });
        (None, vec![(Stage::Encode, pipeline::plan_encode(&devices, &checkpoint, &pixels, clip)?)])
    } else {
        let tokens = args.subject.tokens(&checkpoint)?;
        let captions = [Captions::counted(tokens, request.guidance)];
        let plans = pipeline::plan(&devices, &checkpoint, std::slice::from_ref(&request), &captions)?;
        let stages = [(Stage::Text, plans.text), (Stage::Denoise, plans.denoise), (Stage::Decode, plans.decode)];
        (Some(tokens), stages.into())
    };
    let report = Report { model, request, tokens, limit, gpu, stages };
    if let Some(path) = &args.svg {
        staged::write_file(path, report.svg().as_bytes())?;
    }
    if console.json() { console.json_result(&report.json()) } else { console.result(report.text()) }
}

impl Args {
    /// Everything that can be wrong before a model is opened.
    fn check(&self) -> Result<()> {
        self.subject.check()?;
        self.tiles.tiling()?;
        let Some(path) = &self.svg else { return Ok(()) };
        check_file(path, "svg")?;
        Claims::new(self.subject.files()).writes(path).check()
    }

    fn request(&self, checkpoint: &Checkpoint) -> Result<Request> {
        let defaults = &checkpoint.defaults;
        let [frames, height, width] = self.subject.size.or(defaults);
        let (sampler, steps, guidance) = self.sampler.or(defaults);
        let request = Request {
            prompt: "plan".into(),
            negative_prompt: String::new(),
            clean_caption: false,
            frames,
            height,
            width,
            sampler,
            steps,
            guidance,
            seed: 0,
            tiling: self.tiles.tiling()?,
        };
        request.validate()?;
        Ok(request)
    }
}
