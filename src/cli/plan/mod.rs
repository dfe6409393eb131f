//! `osp plan`: what a request would take of a GPU, stage by stage, without one.

mod report;
mod svg;

use super::args::{ModelArgs, PartArgs, SizeArgs, TilingArgs};
use super::console::Console;
use super::device::{DType, Limit, MemoryArgs, halves};
use super::model;
use super::output::{check_file, write_file};
use super::profile::TOKENS;
use osp::checkpoint::{Checkpoint, Need, WeightSource};
use osp::cuda::device::Dry;
use osp::pipeline::{self, Captions, Devices, Planned, Request, Stage, StagePlan, Windowed};
use osp::profile::gpus::Gpu;
use osp::sampler::Kind;
use osp::{Error, Result, preset};
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
    model: ModelArgs,
    /// A published model by name instead of a folder: v1.1.0, v1.1.0-65x512x512 or v1.1.0-221x512x512
    #[arg(long, value_name = "NAME", conflicts_with_all = ["text_encoder", "transformer"])]
    preset: Option<String>,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    size: SizeArgs,
    /// Tokens of the caption [default: 120, or the most that the model takes]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Steps of the sampler [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Guidance scale; 1 is off [default: the model's]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: Option<f32>,
    /// Sampler [default: the model's]
    #[arg(long, value_name = "NAME")]
    sampler: Option<Kind>,
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
    let (model, checkpoint) = args.without_weights(console)?;
    let request = args.request(&checkpoint)?;
    let limit = match args.memory.memory {
        Limit::Auto => None,
        Limit::Bytes(bytes) => Some(bytes),
    };
    let devices = Planned::within(Arc::new(Dry::new()), halves(args.dtype), limit);
    let (tokens, stages) = if args.encode {
        (None, vec![(Stage::Encode, encoding(&devices, &checkpoint, &request)?)])
    } else {
        let tokens = args.tokens(&checkpoint)?;
        let captions = [Captions::counted(tokens, request.guidance)];
        let plans = pipeline::plan(&devices, &checkpoint, std::slice::from_ref(&request), &captions)?;
        let stages = [(Stage::Text, plans.text), (Stage::Denoise, plans.denoise), (Stage::Decode, plans.decode)];
        (Some(tokens), stages.into())
    };
    let report = Report { model, request, tokens, limit, gpu, stages };
    if let Some(path) = &args.svg {
        write_file(path, report.svg().as_bytes())?;
    }
    if console.json() { console.json_result(&report.json()) } else { console.result(report.text()) }
}

/// The encoder's plan for a clip of the request's size.
fn encoding(devices: &Planned<Dry>, checkpoint: &Checkpoint, request: &Request) -> Result<StagePlan> {
    let size = [request.frames, request.height, request.width];
    let shapes = checkpoint.shapes();
    let pixels = vec![0; 3 * size.iter().product::<usize>()];
    devices.plan(Stage::Encode, &|backend, savings, observer| {
        let clip = Windowed { size, tiling: request.tiling };
        pipeline::encode(backend, &shapes, &pixels, clip, savings, None, observer).map(drop)
    })
}

impl Args {
    /// Everything that can be wrong before a model is opened.
    fn check(&self) -> Result<()> {
        // A model that only the environment names gives way.
        let environment = std::env::var_os("OSP_MODEL");
        let named = self.model.model.as_deref().filter(|folder| environment.as_deref() != Some(folder.as_os_str()));
        if self.preset.is_some() && named.is_some() {
            return Err(Error::Usage("--preset and --model name two models; give one".into()));
        }
        if self.tokens == Some(0) {
            return Err(Error::Usage("a caption has at least one token: give --tokens 1 or more".into()));
        }
        self.tiles.tiling()?;
        self.svg.as_deref().map_or(Ok(()), |path| check_file(path, "svg"))
    }

    /// The model's name, and its configs without weights.
    fn without_weights(&self, console: &Console) -> Result<(String, Checkpoint)> {
        if let Some(name) = &self.preset {
            return Ok((name.clone(), preset::open(name, self.size.frames)?));
        }
        let shapes = ModelArgs { model: self.model.model.clone(), weights: WeightSource::Shapes };
        let model = model::open(&shapes, &self.parts, Need::Everything, console)?;
        Ok((model.folder.display().to_string(), model.checkpoint))
    }

    fn request(&self, checkpoint: &Checkpoint) -> Result<Request> {
        let defaults = &checkpoint.defaults;
        let [frames, height, width] = self.size.or(defaults);
        let request = Request {
            prompt: "plan".into(),
            negative_prompt: String::new(),
            clean_caption: false,
            frames,
            height,
            width,
            sampler: self.sampler.unwrap_or(defaults.sampler),
            steps: self.steps.unwrap_or(defaults.steps),
            guidance: self.guidance.unwrap_or(defaults.guidance),
            seed: 0,
            tiling: self.tiles.tiling()?,
        };
        request.validate()?;
        Ok(request)
    }

    fn tokens(&self, checkpoint: &Checkpoint) -> Result<usize> {
        let most = checkpoint.transformer.as_ref().map_or(TOKENS, |part| part.config.model_max_length);
        let tokens = self.tokens.unwrap_or(TOKENS.min(most));
        if tokens > most {
            return Err(Error::Usage(format!("--tokens {tokens} is more than the {most} that the model takes")));
        }
        Ok(tokens)
    }
}
