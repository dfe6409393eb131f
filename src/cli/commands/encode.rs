//! `osp encode`: encodes a clip to a latent file.

use crate::cli::args::{ComponentArgs, ModelArgs, TilingArgs};
use crate::cli::claims::Claims;
use crate::cli::clip::{InputArgs, Posterior};
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::model;
use crate::cli::output::check_file;
use crate::cli::record::{Origin, Record, Tiles, lossy};
use osp::Result;
use osp::checkpoint::Need;
use osp::engine::{Coding, StageMemory};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp encode clip.mp4 -o clip.safetensors
  osp encode photo.jpg --size 256x256 --mean -o photo.safetensors

The latent file is safetensors with one f32 tensor `latent` [1, 4, T, H, W], multiplied by 0.18215; `osp decode` reads it.";

/// Encodes a video or an image to a latent file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Latent file to write; an older one is replaced when the run has succeeded
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    posterior: Posterior,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    tiles: TilingArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// The record's entries.
#[derive(Serialize, JsonSchema)]
struct Facts<'a> {
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    input: &'a PathBuf,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
    latent: [usize; 3],
    seed: Option<u64>,
    tiles: Option<Tiles>,
    memory: StageMemory,
}

/// The form of the record.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Record::<Facts<'_>>::json_schema(schemas)
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    check_file(&args.output, "safetensors")?;
    args.input.check()?;
    let model_files = model::files(&args.model, &ComponentArgs::default());
    Claims::new(model_files).reads(&args.input.input).writes(&args.output).check()?;
    let tiling = args.tiles.tiling();
    let engine = args.device.open_tried(&args.memory, console)?;
    let model = model::open(&args.model, &ComponentArgs::default(), Need::Vae, console)?;
    let clip = args.input.read(model.factors()?, console)?;

    let coding = Coding { tiling, seed: args.posterior.seed() };
    let (latent, memory) = engine.encode(&model, &clip, coding, &mut &*console)?;
    latent.write(&args.output)?;

    let facts = Facts {
        input: &args.input.input,
        frames: clip.frames,
        height: clip.height,
        width: clip.width,
        fps: clip.fps.as_f64(),
        latent: latent.size,
        seed: coding.seed,
        tiles: tiling.map(Tiles::from),
        memory,
    };
    Record::new(&args.output, facts, &Origin::new(&model, engine.name())).print(console)?;
    console.summarise();
    Ok(())
}
