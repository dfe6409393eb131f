//! `osp profile`: what one piece of each stage costs, kernel by kernel.

mod report;

use crate::cli::args::TilingArgs;
use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::device::DeviceArgs;
use crate::cli::output::check_file;
use crate::cli::subject::SubjectArgs;
use crate::cli::{hints, interrupt};
use osp::engine::Warning;
use osp::profile::Subject;
use osp::profile::gpus::Gpu;
use osp::{Error, Observer, Result, staged};
use report::Report;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Runs T5 over one caption, one step of the sampler with guidance, and the VAE's decoder over one
window, and adds up the calls of each kernel: FLOPs and bytes as the kernels count them and, with
--device cuda, the time of each call by itself; with --device cpu, wall-clock times of operations.
With --repeat N each time is a median of N, on a GPU with cold caches, and each piece is also run as
a whole: what it takes by the host's clock beyond the sum of its calls are gaps between them.

Beside the devices of other commands there is `dry`, which executes nothing and needs no weights:
it counts and, with --gpu, bounds times by what a data sheet promises.

Examples:
  osp profile --device cpu --frames 5
  osp profile --device cuda --model models/Open-Sora-Plan-v1.1.0 --transformer 65x512x512 \\
      --text-encoder models/t5-v1_1-xxl --trace trace.json
  osp profile --device cuda --preset v1.1.0-65x512x512 --weights synthetic:1 --repeat 5
  osp profile --device dry --preset v1.1.0 --size 512x512 --frames 221 --gpu h100";

/// Counts, and on a GPU times, what a request makes a device do, kernel by kernel
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// GPU whose data sheet bounds the kernels' times, such as h100, a100 or rtx4090 [default: the one in use, if it is
    /// known]
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
    /// Time everything N times and report medians [default: once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    repeat: Option<u16>,
    /// Also write a trace for Perfetto or Chrome
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    tiles: TilingArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let gpu = args.gpu.as_deref().map(Gpu::named).transpose()?;
    args.check(gpu)?;
    let (engine, model) = if args.device.is("dry") {
        (args.device.dry()?, args.subject.without_weights(console)?)
    } else {
        let engine = args.device.open(console)?;
        if gpu.is_some() && engine.device().is_none() {
            return Err(Error::Usage("--gpu bounds kernels, and there is no GPU to run any; use --device dry".into()));
        }
        (engine, args.subject.with_weights(console)?)
    };
    let subject = Subject {
        size: args.subject.size.or(&model.defaults),
        tokens: args.subject.tokens(&model)?,
        tiling: args.tiles.tiling(),
        repeat: args.repeat.map(usize::from),
    };
    let profile = if args.device.is("dry") {
        engine.profile(&model, &subject, &mut Silent(console))?
    } else {
        engine.profile(&model, &subject, &mut &*console)?
    };
    let gpu = gpu.or_else(|| engine.card().and_then(Gpu::of_driver));
    let running = args.device.running(&engine);
    let report = Report { model: model.place.display().to_string(), subject, running, gpu, profile };
    if let Some(path) = &args.trace {
        staged::write_file(path, report.trace().to_string().as_bytes())?;
    }
    if console.json() { console.json_result(&report.json()) } else { console.result(report.text()) }
}

impl Args {
    /// Everything that can be wrong before a model is opened.
    fn check(&self, gpu: Option<&Gpu>) -> Result<()> {
        let usage = |text: &str| Err(Error::Usage(text.into()));
        let dry = self.device.is("dry");
        if self.repeat.is_some() && (dry || self.device.emulates()) {
            return usage("there is nothing to time: --repeat needs a GPU or a CPU");
        }
        if gpu.is_some() && self.device.is("cpu") {
            return usage("--gpu bounds kernels, and --device cpu runs none; use --device dry");
        }
        if let Some(path) = &self.trace {
            if dry && gpu.is_none() || self.device.emulates() && gpu.is_none() {
                return usage(
                    "there are no times to draw: --trace needs a GPU or a CPU to measure, or --gpu for bounds",
                );
            }
            check_file(path, "json")?;
            Claims::new(self.subject.files()).writes(path).check()?;
        }
        self.subject.check()
    }
}

/// Shows no progress, whose times would say nothing.
struct Silent<'a>(&'a Console);

impl Observer for Silent<'_> {
    fn warn(&mut self, warning: &Warning) {
        self.0.warning(&hints::warning(warning));
    }

    fn cancelled(&mut self) -> bool {
        interrupt::requested()
    }
}
