//! `osp calibrate`: measures what caches of predictions need to know of a model.

use crate::cli::args::{ComponentArgs, ModelArgs, SamplerArgs, SizeArgs, seed};
use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::model;
use crate::cli::output::check_file;
use crate::cli::record::lossy;
use osp::checkpoint::{Calibration, Need};
use osp::engine::Fit;
use osp::{Model, Request, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Samples one video of each prompt, evaluates every step, and measures how the predictions follow from the model's inputs. \
--cache teacache and --cache magcache of osp sample need the result; for v1.1.0, that of teacache is built in.

Give prompts as the model will get them, and the sampler that will be used; docs/shortcuts.md says what is measured.

Examples:
  osp calibrate
  osp calibrate \"a quiet lake\" \"a dog runs over grass\" --model models/Open-Sora-Plan-v1.1.0 --transformer 65x512x512
  osp calibrate --sampler PNDM --steps 50 -o calibration.json";

/// Taken if no prompt is given.
const PROMPTS: [&str; 4] = [
    "a red circle moving to the right",
    "a quiet lake between mountains at sunset",
    "a dog runs over a green lawn, close view",
    "a street in the rain at night, seen from above",
];

/// Measures a model, once, for sample --cache
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Prompts of the videos to measure [default: four of different kinds]
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    components: ComponentArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
    #[command(flatten)]
    size: SizeArgs,
    /// Seed of the first video's noise; each video has the next one
    #[arg(long, value_name = "SEED", value_parser = seed, default_value = "0")]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// File to write; an older one is replaced when the run has succeeded [default: calibration.json in the folder of the
    /// transformer, where osp sample finds it]
    #[arg(short, long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

/// The result.
#[derive(Serialize, JsonSchema)]
struct Calibrated<'a> {
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    output: &'a Path,
    calibration: &'a Calibration,
    /// Pairs of steps that were measured.
    pairs: usize,
    /// Mean change of the prediction from one step to the next, relative.
    change: f64,
    /// Root-mean-square error of the polynomial's estimates of it.
    error: f64,
}

/// The form of the result.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Calibrated::json_schema(schemas)
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    args.output.as_deref().map_or(Ok(()), |path| check_file(path, "json"))?;
    let engine = args.device.open_tried(&args.memory, console)?;
    let model = model::open(&args.model, &args.components, Need::Sampling, console)?;
    let output = args.output(&model)?;
    let (calibration, fit) = engine.calibrate(&model, &args.requests(), &mut &*console)?;
    calibration.write(&output)?;
    let Fit { pairs, change, error } = fit;
    if console.json() {
        return console.json_result(&Calibrated { output: &output, calibration: &calibration, pairs, change, error });
    }
    console.note(&format!(
        "predictions change by {:.1} % from step to step; estimates from the inputs miss that by {:.1} % ({pairs} pairs)",
        100.0 * change,
        100.0 * error
    ));
    console.result(output.display())
}

impl Args {
    /// The file to write, which can be written and is no other file of the model.
    fn output(&self, model: &Model) -> Result<PathBuf> {
        let folder = &model.need_transformer()?.folder;
        let output = self.output.clone().unwrap_or_else(|| Calibration::path(folder));
        check_file(&output, "json")?;
        let mut others = model::files(&self.model, &self.components);
        others.retain(|file| *file != Calibration::path(folder));
        Claims::new(others).writes(&output).check()?;
        Ok(output)
    }

    fn requests(&self) -> Vec<Request> {
        let given = self.prompt.iter().map(String::as_str);
        let prompts: Vec<&str> = if self.prompt.is_empty() { PROMPTS.to_vec() } else { given.collect() };
        let request = |(index, prompt): (usize, &str)| {
            let request = Request::new(prompt).seed(self.seed.wrapping_add(index as u64));
            self.sampler.of(self.size.of(request))
        };
        prompts.into_iter().enumerate().map(request).collect()
    }
}
