//! `osp encode`: a clip to a latent file.

use super::args::{ModelArgs, PartArgs, TilingArgs};
use super::claims::Claims;
use super::clip::{InputArgs, Posterior};
use super::console::Console;
use super::device::{DeviceArgs, MemoryArgs};
use super::latent::Latent;
use super::model;
use super::output::check_file;
use super::record::{Origin, Record, Tiles, lossy};
use osp::Result;
use osp::checkpoint::Need;
use osp::pipeline::{StageMemory, Windowed};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp encode clip.mp4 -o clip.safetensors
  osp encode photo.jpg --size 256x256 --mean -o photo.safetensors

The latent file holds one f32 tensor `latent` [1, 4, T, H, W], times 0.18215, in safetensors; `osp decode` reads it.";

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

#[derive(Serialize)]
struct Facts<'a> {
    #[serde(serialize_with = "lossy")]
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

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    check_file(&args.output, "safetensors")?;
    args.input.check()?;
    let model_files = model::files(&args.model, &PartArgs::default());
    Claims::new(model_files).reads(&args.input.input).writes(&args.output).check()?;
    let tiling = args.tiles.tiling()?;
    let device = args.device.open_tried(console)?;
    let limit = device.limit(&args.memory)?;
    let model = model::open(&args.model, &PartArgs::default(), Need::Vae, console)?;
    let clip = args.input.read(console)?;

    let (size, seed) = ([clip.frames, clip.height, clip.width], args.posterior.seed());
    let (values, memory) =
        device.encode(limit, &model.checkpoint, &clip.pixels, Windowed { size, tiling }, seed, console)?;
    let latent = Latent::of(values, size, clip.fps);
    latent.write(&args.output)?;

    let [frames, height, width] = size;
    let (fps, tiles) = (clip.fps.as_f64(), tiling.map(Tiles::from));
    let facts =
        Facts { input: &args.input.input, frames, height, width, fps, latent: latent.size, seed, tiles, memory };
    Record::new(&args.output, facts, &Origin::new(&model, device.name())).print(console)
}
