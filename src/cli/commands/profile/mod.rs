//! `osp profile`: what one piece of each stage costs, kernel by kernel.

mod predicted;
mod report;
mod roofline;

use crate::cli::args::{TilingArgs, count};
use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::device::DeviceArgs;
use crate::cli::output::check_file;
use crate::cli::subject::SubjectArgs;
use crate::cli::{hints, interrupt};
use osp::engine::Warning;
use osp::profile::Subject;
use osp::profile::gpus::Gpu;
use osp::profile::predict::Chip;
use osp::{Error, Observer, Result, staged};
use predicted::Predicting;
use report::Report;
use std::num::NonZeroU16;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Runs T5 over one caption, one step of the sampler with guidance, and the VAE's decoder over one \
window, and adds up the calls of each kernel: FLOPs and bytes as the kernels count them and, with \
--device cuda, the time of each call by itself; with --device cpu, wall-clock times of operations. \
With --repeat N each time is a median of N, on a GPU with cold caches, and each piece is also run as \
a whole: what it takes by the host's clock beyond the sum of its calls are gaps between them.

Beside the devices of other commands there is `dry`, which executes nothing and needs no weights:
it counts and, with --gpu, bounds times by what a data sheet promises. --predict adds what a model \
of tiles, caches and instructions expects of an H100 or H200. Nothing of that is measured.

Examples:
  osp profile --device cpu --frames 5
  osp profile --device cuda --model models/Open-Sora-Plan-v1.1.0 --transformer 65x512x512 \\
      --text-encoder models/t5-v1_1-xxl --trace trace.json
  osp profile --device cuda --preset v1.1.0-65x512x512 --weights synthetic:1 --repeat 5
  osp profile --device dry --preset v1.1.0 --size 512x512 --frames 221 --gpu h100
  osp profile --device dry --preset v1.1.0 --size 512x512 --frames 221 --gpu h100 --kernels sm90 \\
      --predict --roofline roofline.svg";

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
    #[arg(long, value_name = "N", value_parser = count::<NonZeroU16>)]
    repeat: Option<NonZeroU16>,
    /// Also predict the times on an H100 or H200, of each kernel, of a step and of the whole decode. Measured times are
    /// held against them
    #[arg(long)]
    predict: bool,
    /// Also draw the kernels of each stage below the roofs of the GPU's data sheet: hollow circles are predicted, full
    /// ones measured
    #[arg(long, value_name = "FILE.svg")]
    roofline: Option<PathBuf>,
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
    let asked = args.gpu.as_deref().map(Gpu::named).transpose()?;
    args.check(asked)?;
    let dry = args.device.is("dry");
    let engine = if dry { args.device.dry()? } else { args.device.open(console)? };
    if asked.is_some() && !dry && engine.device().is_none() {
        return Err(Error::Usage("--gpu bounds kernels, and there is no GPU to run any; use --device dry".into()));
    }
    let gpu = asked.or_else(|| engine.card().and_then(Gpu::of_driver));
    let chip = args.chip(gpu)?;
    let model = if dry { args.subject.without_weights(console)? } else { args.subject.with_weights(console)? };
    let subject = Subject {
        size: args.subject.size.or(&model.defaults),
        tokens: args.subject.tokens(&model)?,
        tiling: args.tiles.tiling(),
        repeat: args.repeat.map(|times| times.get().into()),
    };
    let mut silent = Silent(console);
    let profile = if dry {
        engine.profile(&model, &subject, &mut silent)?
    } else {
        engine.profile(&model, &subject, &mut &*console)?
    };
    let count = |chip| Ok(Predicting { chip, decode: engine.count_decode(&model, &subject, &mut silent)? });
    let predicting = chip.map(count).transpose()?;
    let running = args.device.running(&engine);
    let report = Report { model: model.place.display().to_string(), subject, running, gpu, profile, predicting };
    args.write(&report)?;
    if console.json() { console.json_result(&report.json()) } else { console.result(report.text()) }
}

impl Args {
    /// Everything that can be wrong before a model is opened.
    fn check(&self, gpu: Option<&Gpu>) -> Result<()> {
        let usage = |text: &str| Err(Error::Usage(text.into()));
        let counts = self.device.is("dry") || self.device.emulates();
        if self.repeat.is_some() && counts {
            return usage("there is nothing to time: --repeat needs a GPU or a CPU");
        }
        if gpu.is_some() && self.device.is("cpu") {
            return usage("--gpu bounds kernels, and --device cpu runs none; use --device dry");
        }
        if self.trace.is_some() && counts && gpu.is_none() {
            return usage("there are no times to draw: --trace needs a GPU or a CPU to measure, or --gpu for bounds");
        }
        if self.predict && counts && gpu.is_none() {
            return usage("there is no GPU whose speed to predict: --predict needs --gpu, such as h100");
        }
        if (self.predict || self.roofline.is_some()) && self.device.is("cpu") {
            return usage(
                "--predict and --roofline are about a GPU's kernels, and --device cpu runs none; use --device dry",
            );
        }
        if self.roofline.is_some() && counts && !self.predict {
            return usage("there are no times to draw: --roofline needs a GPU to measure, or --predict with --gpu");
        }
        let files = [(&self.trace, "json"), (&self.roofline, "svg")];
        let outputs = || files.iter().filter_map(|(path, ending)| Some((path.as_deref()?, *ending)));
        outputs().try_for_each(|(path, ending)| check_file(path, ending))?;
        let claims = Claims::new(self.subject.files());
        outputs().fold(claims, |claims, (path, _)| claims.writes(path)).check()?;
        self.subject.check()
    }

    /// The chip to predict, if the user wants predictions; the GPU must be known for a picture, too.
    fn chip(&self, gpu: Option<&Gpu>) -> Result<Option<Chip>> {
        match gpu {
            Some(gpu) => self.predict.then(|| Chip::of(gpu)).transpose(),
            None if self.predict || self.roofline.is_some() => Err(Error::Usage(
                "--predict and --roofline need a GPU whose data sheet is known; name one with --gpu, such as h100"
                    .into(),
            )),
            None => Ok(None),
        }
    }

    /// Writes the files that the user wants.
    fn write(&self, report: &Report) -> Result<()> {
        if let Some((path, gpu)) = self.roofline.as_ref().zip(report.gpu) {
            staged::write_file(path, report.roofline(gpu).as_bytes())?;
        }
        if let Some(path) = &self.trace {
            staged::write_file(path, report.trace().to_string().as_bytes())?;
        }
        Ok(())
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
