//! `osp edit`: samples videos that begin with a clip.

use super::sample::{Material, RunArgs, make};
use crate::cli::args::SizeArgs;
use crate::cli::clip::InputArgs;
use crate::cli::console::Console;
use crate::cli::footage::{ChangeArgs, MethodArgs};
use osp::reading::is_stdin;
use osp::{Error, Result};
use std::path::Path;

const EXAMPLES: &str = "\
The clip is encoded, gets noise, and is denoised with the prompt. --strength says how much noise: with 1 nothing of the clip \
remains but what is held; near 0 nothing changes. Outside of a mask the video has the clip's pixels, until its format encodes \
them.

--method inversion looks for the noise from which the sampler would make the clip; --method delta moves the clip along the \
difference of what the model predicts for two prompts. Both must know what the clip shows: --source says it. docs/editing.md has the \
equations and compares the ways to edit.

Outputs, lists, states and records are those of osp sample; osp sample --resume goes on with an edit, too.

Examples:
  osp edit circle.mp4 \"a blue square moving to the right\" --strength 0.6 -o square.mp4
  osp edit street.mp4 \"a red bus\" --mask 40,120,200,160@0-64 -o bus.mp4
  osp edit street.mp4 \"a street in the rain\" --mask sky.png --feather 12 --seed 1,2,3
  osp edit walk.mp4 \"a man in a green coat\" --first-frame green.png -o green.mp4
  osp edit walk.mp4 \"a robot walking\" --method delta --source \"a man walking\" -o robot.mp4
  osp edit photo.jpg \"an oil painting of a lake\" --strength 0.4 -o painting.png";

/// Edits a video or an image: samples it anew from itself with noise, as prompts say
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// How much may change: the share of the sampler's steps that are made, above 0 [default: 0.5; with the method noise, from 0.7 on little remains of the clip, with 1 nothing]
    #[arg(long, value_name = "SHARE", value_parser = strength)]
    strength: Option<f32>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Reads a share of the steps.
fn strength(text: &str) -> Result<f32> {
    match text.parse::<f32>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(Error::Usage("expected a share above 0 and at most 1, such as 0.5".into())),
    }
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    args.input.check()?;
    let input = &args.input.input;
    let is_there = input.exists() || is_stdin(input);
    if let Some(clip) = args.run.prompts().find(|prompt| !is_there && Path::new(prompt).is_file()) {
        let input = input.to_string_lossy();
        return Err(Error::Usage(format!(
            "there is no file {input:?}; the input comes first: osp edit {clip:?} {input:?}"
        )));
    }
    let reads = [vec![input.clone()], args.change.reads()].concat();
    let material = || Ok(Material::clip(&args.input, &args.change, (args.strength, &args.method)));
    make(&args.run, &SizeArgs::default(), &reads, material, console)
}
