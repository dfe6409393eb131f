//! `osp decode`: decodes a latent file to a video.

use crate::cli::args::{ComponentArgs, ModelArgs, TilingArgs};
use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::interrupt;
use crate::cli::model;
use crate::cli::output::{check_stdout, playable};
use crate::cli::record::{Origin, Record, Tiles, lossy};
use osp::checkpoint::Need;
use osp::engine::{Coding, StageMemory};
use osp::video::{Format, FrameRate, VideoInfo, Writer, check_writable};
use osp::{Latent, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp sample \"a red circle\" --save-latent circle.safetensors -o circle.mp4
  osp decode circle.safetensors -o circle.gif --fps 12";

/// Decodes a latent file to a video or an image
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Latent file, from `osp encode` or `osp sample --save-latent`, or the state of a stopped run, which shows a draft; - for stdin
    #[arg(value_name = "LATENT.safetensors")]
    latent: PathBuf,
    /// Output: .mp4, .gif, .y4m, .png (one frame), no ending for a folder of PNGs, or - for Y4M to stdout; an older one
    /// is replaced when the run has succeeded
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Frames per second of the output; a .gif plays at 50 at most [default: the latent file's, or 24]
    #[arg(long, value_name = "RATE")]
    fps: Option<FrameRate>,
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
    latent: &'a PathBuf,
    frames: usize,
    height: usize,
    width: usize,
    fps: f64,
    tiles: Option<Tiles>,
    memory: StageMemory,
}

/// The form of the record.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Record::<Facts<'_>>::json_schema(schemas)
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    check_stdout(&args.output, console)?;
    check_writable(&args.output)?;
    let model_files = model::files(&args.model, &ComponentArgs::default());
    Claims::new(model_files).reads(&args.latent).writes(&args.output).check()?;
    let tiling = args.tiles.tiling();
    let engine = args.device.open_tried(&args.memory, console)?;
    let latent = interrupt::while_reading(|| Latent::read(&args.latent))?;
    let model = model::open(&args.model, &ComponentArgs::default(), Need::Vae, console)?;
    let [frames, height, width] = latent.clip_size(model.factors()?)?;
    let fps = playable(&args.output, args.fps.or(latent.fps).unwrap_or_default(), console)?;
    let info = VideoInfo { width, height, fps };
    let mut writer = Writer::create(&args.output, Format::from_path(&args.output)?, info, Some(frames))?;

    let coding = Coding { tiling, ..Coding::default() };
    let memory = engine.decode_frames(&model, &latent, coding, &mut &*console, &mut |rgb| writer.push(rgb))?;
    writer.finish()?;

    let (fps, tiles) = (fps.as_f64(), tiling.map(Tiles::from));
    let facts = Facts { latent: &args.latent, frames, height, width, fps, tiles, memory };
    Record::new(&args.output, facts, &Origin::new(&model, engine.name())).print(console)?;
    console.summarise();
    Ok(())
}
