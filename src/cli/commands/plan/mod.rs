//! `osp plan`: computes how much GPU memory each stage of a request needs, without a GPU.

mod report;
mod svg;

use crate::cli::args::{SamplerArgs, TilingArgs};
use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::device::{KernelArgs, MemoryArgs};
use crate::cli::output::check_file;
use crate::cli::subject::SubjectArgs;
use osp::engine::{Settings, Stage, Windowed};
use osp::profile::gpus::Gpu;
use osp::{Engine, Model, Request, Result, staged};
use report::{PlanRecord, Report};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Rehearses the whole run on a device that executes nothing, and gives every buffer an offset in the arena \
of its stage, as a run does before its first launch. Needs neither a GPU nor weights.

Examples:
  osp plan --preset v1.1.0-221x512x512 --memory 3GiB --gpu h100
  osp plan --preset v1.1.0 --frames 1 --svg arena.svg
  osp plan --preset v1.1.0 --encode --size 256x256 --frames 129 --no-tiling
  osp plan --model models/Open-Sora-Plan-v1.1.0 --transformer 65x512x512 --json";

/// Plans the memory of a request: how much GPU memory each stage needs, and what it computes
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
    #[command(flatten)]
    kernels: KernelArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// GPU whose data sheet gives a bound on the time, such as h100, a100 or rtx4090
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
    let model = args.subject.without_weights(console)?;
    let settings = args.settings(&model)?;
    let engine = args.memory.limited(args.kernels.asked(Engine::dry())?)?;
    let (tokens, stages) = if args.encode {
        let size = [settings.frames, settings.height, settings.width];
        let plan = engine.plan_encode(&model, Windowed { size, tiling: settings.tiling })?;
        (None, vec![(Stage::Encode, plan)])
    } else {
        let tokens = args.subject.tokens(&model)?;
        let plans = engine.plan(&model, &settings, tokens)?;
        (Some(tokens), plans.stages().into_iter().map(|(stage, plan)| (stage, plan.clone())).collect())
    };
    let model = model.place.display().to_string();
    let report = Report { model, settings, tokens, limit: engine.limit(), gpu, stages };
    if let Some(path) = &args.svg {
        staged::write_file(path, report.svg().as_bytes())?;
    }
    if console.json() { console.json_result(&report.record()) } else { console.result(report.text()) }
}

/// The form of the plan as JSON.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    PlanRecord::json_schema(schemas)
}

impl Args {
    /// Checks everything that can be checked before the model is opened.
    fn check(&self) -> Result<()> {
        self.subject.check()?;
        let Some(path) = &self.svg else { return Ok(()) };
        check_file(path, "svg")?;
        Claims::new(self.subject.files()).writes(path).check()
    }

    fn settings(&self, model: &Model) -> Result<Settings> {
        let request = Request::new("plan").clean_caption(false).tiling(self.tiles.tiling());
        self.sampler.of(self.subject.size.of(request)).settle(&model.defaults)
    }
}
