//! `osp profile`: what one piece of each stage costs, kernel by kernel.

mod report;

use super::args::{self, TilingArgs};
use super::claims::Claims;
use super::console::Console;
use super::device::{Chosen, DeviceArgs, Kernels};
use super::interrupt;
use super::output::check_file;
use super::subject::SubjectArgs;
use osp::backend::Backend;
use osp::checkpoint::Checkpoint;
use osp::cuda::device::Dry;
use osp::model::vae::tiling::Tiling;
use osp::pipeline::{Observer, Stage};
use osp::profile::gpus::Gpu;
use osp::profile::{Counted, Measure, Profiler, Recorder, window};
use osp::{Error, Result, staged};
use report::{Memory, Report, StageReport, Times};
use std::path::PathBuf;
use std::sync::Arc;

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
    let report = if args.device.is("dry") {
        let (model, checkpoint) = args.subject.without_weights(console)?;
        dry(args, &Job::new(args, &model, &checkpoint)?, gpu, console)?
    } else {
        let chosen = args.device.open(console)?;
        let (model, checkpoint) = args.subject.with_weights(console)?;
        execute(chosen, &Job::new(args, &model, &checkpoint)?, gpu, console)?
    };
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
        if self.repeat.is_some() && (dry || self.device.is("emulated")) {
            return usage("there is nothing to time: --repeat needs a GPU or a CPU");
        }
        if gpu.is_some() && self.device.is("cpu") {
            return usage("--gpu bounds kernels, and --device cpu runs none; use --device dry");
        }
        if let Some(path) = &self.trace {
            if dry && gpu.is_none() || self.device.is("emulated") && gpu.is_none() {
                return usage(
                    "there are no times to draw: --trace needs a GPU or a CPU to measure, or --gpu for bounds",
                );
            }
            check_file(path, "json")?;
            Claims::new(self.subject.files()).writes(path).check()?;
        }
        self.subject.check()?;
        self.tiles.tiling().map(drop)
    }
}

/// What is profiled.
struct Job<'a> {
    model: &'a str,
    checkpoint: &'a Checkpoint,
    /// Frames, rows and columns of pixels.
    size: [usize; 3],
    tokens: usize,
    /// Latent frames, rows and columns of a window of the VAE, and how many windows the request has.
    window: ([usize; 3], usize),
    /// Runs of which times are medians.
    repeat: Option<u16>,
}

impl<'a> Job<'a> {
    fn new(args: &Args, model: &'a str, checkpoint: &'a Checkpoint) -> Result<Self> {
        let defaults = &checkpoint.defaults;
        let size = args.subject.size.or(defaults);
        let tokens = args.subject.tokens(checkpoint)?;
        let vae = &checkpoint.vae.as_ref().expect("everything was opened").config;
        let tiling: Option<Tiling> = args.tiles.tiling()?;
        let window = window(vae, args::latent_size(size), tiling)?;
        Ok(Self { model, checkpoint, size, tokens, window, repeat: args.repeat })
    }

    fn report(&self, device: String, times: Times, gpu: Option<&'static Gpu>, stages: Vec<StageReport>) -> Report {
        Report { model: self.model.to_owned(), device, size: self.size, tokens: self.tokens, times, gpu, stages }
    }

    /// What is measured on a device that has times to tell.
    fn measure<'b>(&self, synchronize: &'b dyn Fn() -> Result<()>) -> Measure<'b> {
        self.repeat.map_or(Measure::Once, |repeat| Measure::Medians { repeat: repeat.into(), synchronize })
    }

    /// Runs the stages, each on its own backend.
    fn stages<B: Backend>(
        &self,
        profiler: &Profiler<'_>,
        [text, denoise, decode]: [&B; 3],
    ) -> Result<Vec<StageReport>> {
        let part = self.checkpoint.text_encoder.as_ref().expect("everything was opened");
        let tokens = self.tokens;
        let what = format!("one caption of {tokens} tokens");
        let mut stages = vec![StageReport::new("text", what, profiler.text(text, part, tokens)?)];

        let part = self.checkpoint.transformer.as_ref().expect("everything was opened");
        let [frames, height, width] = self.size;
        let what = format!("one step with guidance at {frames}x{height}x{width}");
        stages.push(StageReport::new("denoise", what, profiler.denoise(denoise, part, self.size, tokens)?));

        let ([frames, rows, columns], count) = self.window;
        let which = if count == 1 { "the only window".into() } else { format!("one of {count} windows") };
        let what = format!("{which}: {frames}x{rows}x{columns} latents");
        stages.push(StageReport::new("decode", what, profiler.decode(decode, self.checkpoint, self.window.0)?));
        Ok(stages)
    }
}

/// Runs on a device that executes.
fn execute(chosen: Chosen, job: &Job<'_>, gpu: Option<&'static Gpu>, console: &Console) -> Result<Report> {
    let (recorder, device) = (Recorder::default(), chosen.name());
    fn profiler<'a>(recorder: &'a Recorder, measure: Measure<'a>, observer: &'a Console) -> Profiler<'a> {
        Profiler { recorder, measure, observer }
    }
    match chosen {
        Chosen::Cpu(_) if gpu.is_some() => {
            Err(Error::Usage("--gpu bounds kernels, and there is no GPU to run any; use --device dry".into()))
        }
        Chosen::Cpu(cpu) => {
            let cpu = Counted::new(cpu, recorder.clone(), size_of::<f32>() as u64);
            let stages = job.stages(&profiler(&recorder, job.measure(&|| Ok(())), console), [&cpu; 3])?;
            Ok(job.report(device, Times::Cpu, None, stages))
        }
        Chosen::Emulated(kernels) => {
            let kernels = kernels.profiled(&recorder);
            let profiler = profiler(&recorder, Measure::Counts, console);
            let stages = job.stages(&profiler, backends(&[kernels.text(), kernels.video()]))?;
            Ok(job.report(device, Times::None, gpu, stages))
        }
        Chosen::Gpu { kernels, card } => {
            let gpu = gpu.or_else(|| Gpu::of_driver(&card));
            let kernels = kernels.profiled(&recorder);
            let backends = [kernels.text(), kernels.video()];
            let synchronize = || backends[0].device().synchronize();
            let stages =
                job.stages(&profiler(&recorder, job.measure(&synchronize), console), self::backends(&backends))?;
            Ok(job.report(device, Times::Gpu, gpu, stages))
        }
    }
}

/// The backend of each stage: the text encoder has a precision of its own.
fn backends<B>([text, video]: &[B; 2]) -> [&B; 3] {
    [text, video, video]
}

/// Runs on devices that only count, one for each stage, as each stage's memory is its own.
fn dry(args: &Args, job: &Job<'_>, gpu: Option<&'static Gpu>, console: &Console) -> Result<Report> {
    let recorder = Recorder::default();
    let devices = [(); 3].map(|()| Arc::new(Dry::new()));
    let kernels: [Kernels; 3] = devices.each_ref().map(|dry| args.device.kernels(dry.clone()).profiled(&recorder));
    let [text, denoise, decode] = &kernels;
    let profiler = Profiler { recorder: &recorder, measure: Measure::Counts, observer: &Silent(console) };
    let backends = [text.text(), denoise.video(), decode.video()];
    let mut stages = job.stages(&profiler, backends.each_ref())?;
    for (stage, dry) in stages.iter_mut().zip(devices) {
        stage.memory = Some(Memory { peak_bytes: dry.peak_bytes(), allocations: dry.allocations() });
    }
    Ok(job.report(backends[0].device().name(), Times::None, gpu, stages))
}

/// Shows no progress, whose times would say nothing.
struct Silent<'a>(&'a Console);

impl Observer for Silent<'_> {
    fn begin(&self, _: Stage, _: u64) {}

    fn advance(&self, _: u64) {}

    fn end(&self) {}

    fn warn(&self, text: &str) {
        self.0.warning(text);
    }

    fn interrupted(&self) -> bool {
        interrupt::requested()
    }
}
