//! `osp reconstruct`: measures how well the VAE keeps a clip.

use crate::cli::args::{ComponentArgs, ModelArgs, TilingArgs};
use crate::cli::claims::Claims;
use crate::cli::clip::{InputArgs, Posterior};
use crate::cli::console::Console;
use crate::cli::device::{DeviceArgs, MemoryArgs};
use crate::cli::model;
use crate::cli::output::{check_stdout, playable};
use crate::cli::quality::{Quality, table};
use crate::cli::record::{Origin, Record, Tiles, lossy};
use osp::Result;
use osp::checkpoint::Need;
use osp::engine::{Coding, StageMemory};
use osp::video::{Format, Writer, check_writable, is_stdout};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp reconstruct holiday.mp4 -o again.mp4
  osp reconstruct holiday.mp4 -o again.gif --max-frames 65 --size 256x256
  osp reconstruct photo.jpg -o again.png --mean --json

PSNR (dB) and SSIM compare the decoded frames, before they are written, with the cut or resized input.";

/// Encodes and decodes a video or an image, and measures how similar the result is
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Output: .mp4, .gif, .y4m, .png (one frame), no ending for a folder of PNGs, or - for Y4M to stdout; an older one
    /// is replaced when the run has succeeded
    #[arg(short, long, value_name = "PATH")]
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
    seed: Option<u64>,
    tiles: Option<Tiles>,
    memory: [StageMemory; 2],
    psnr: Quality,
    ssim: Quality,
}

/// The form of the record.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Record::<Facts<'_>>::json_schema(schemas)
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    check_stdout(&args.output, console)?;
    check_writable(&args.output)?;
    args.input.check()?;
    let model_files = model::files(&args.model, &ComponentArgs::default());
    Claims::new(model_files).reads(&args.input.input).writes(&args.output).check()?;
    let tiling = args.tiles.tiling();
    let engine = args.device.open_tried(&args.memory, console)?;
    let model = model::open(&args.model, &ComponentArgs::default(), Need::Vae, console)?;
    let clip = args.input.read(model.factors()?, console)?;
    let fps = playable(&args.output, clip.fps, console)?.as_f64();
    let mut writer = Writer::create(&args.output, Format::from_path(&args.output)?, clip.info(), Some(clip.frames))?;

    let coding = Coding { tiling, seed: args.posterior.seed() };
    let again = engine.reconstruct(&model, &clip, coding, &mut &*console)?;
    again.clip.iter().try_for_each(|frame| writer.push(frame))?;
    writer.finish()?;

    let (psnr, ssim) = (again.psnr.into(), again.ssim.into());
    if !console.json() && !is_stdout(&args.output) {
        console.result(table(&psnr, &ssim))?;
    }
    let facts = Facts {
        input: &args.input.input,
        frames: clip.frames,
        height: clip.height,
        width: clip.width,
        fps,
        seed: coding.seed,
        tiles: tiling.map(Tiles::from),
        memory: again.memory,
        psnr,
        ssim,
    };
    Record::new(&args.output, facts, &Origin::new(&model, engine.name())).print(console)?;
    console.summarise();
    Ok(())
}
