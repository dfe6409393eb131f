//! `osp compare`: measures how similar two clips are.

mod axis;
mod svg;

use crate::cli::args::frames;
use crate::cli::claims::Claims;
use crate::cli::clip::check_max_frames;
use crate::cli::console::Console;
use crate::cli::output::check_file;
use crate::cli::quality::{Quality, table};
use crate::cli::record::lossy;
use osp::reading::is_stdin;
use osp::video::metrics::{Motion, psnr, ssim};
use osp::video::{Clip, ReadOptions, Reader};
use osp::{Error, Result, staged};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::{Path, PathBuf};
use svg::Picture;

const EXAMPLES: &str = "\
Examples:
  osp compare holiday.mp4 again.mp4
  osp compare holiday.mp4 again.mp4 --max-frames 65 --svg compared.svg
  ffmpeg -i holiday.webm -f yuv4mpegpipe - | osp compare holiday.mp4 - --json

PSNR (dB) and SSIM are those of osp reconstruct. The warp error says how far frames are from the \
frames before them, moved as in A: the mean squared error, with values of 0 to 1, of blocks of 8x8 \
pixels that move by up to 7 pixels. If that of B is larger, B flickers, or moves in another way.

Clips are never resized: both must have the same size and the same number of frames.";

/// Measures how similar two videos or images are
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Video, image, or folder of images; - for stdin
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The clip to compare with it, of the same size and length; - for stdin
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Read at most the first N frames of both
    #[arg(long, value_name = "N", value_parser = frames)]
    max_frames: Option<usize>,
    /// Also draw both measures over the frames, and the worst frame of both with its differences
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// The record.
#[derive(Serialize, JsonSchema)]
struct Comparison<'a> {
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    a: &'a PathBuf,
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    b: &'a PathBuf,
    frames: usize,
    height: usize,
    width: usize,
    /// Frames per second of A and of B.
    fps: [f64; 2],
    psnr: Quality,
    ssim: Quality,
    /// The index of the frame with the lowest PSNR; of several, the first.
    worst_frame: usize,
    warp_error: WarpErrors,
}

/// The warp error of each clip along the motion of A; `null` for clips of one frame.
#[derive(Serialize, JsonSchema)]
struct WarpErrors {
    a: Option<f64>,
    b: Option<f64>,
}

/// The form of the record.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Comparison::json_schema(schemas)
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    args.check()?;
    let [a, b] = args.read(console)?;
    let comparison = args.compare(&a, &b)?;
    if let Some(path) = &args.svg {
        let names = [&*args.a, &*args.b].map(name);
        let Comparison { psnr, ssim, worst_frame, .. } = &comparison;
        let picture = Picture { names, clips: [&a, &b], psnr, ssim, worst: *worst_frame };
        staged::write_file(path, picture.draw()?.as_bytes())?;
    }
    if console.json() { console.json_result(&comparison) } else { console.result(comparison.text()) }
}

impl Args {
    /// Checks what can be checked before the inputs are opened.
    fn check(&self) -> Result<()> {
        check_max_frames(self.max_frames)?;
        if [&self.a, &self.b].iter().all(|path| is_stdin(path)) {
            return Err(Error::Usage(
                "A and B are both -, but stdin holds one clip: name a file for one of them".into(),
            ));
        }
        let Some(path) = &self.svg else { return Ok(()) };
        check_file(path, "svg")?;
        Claims::new(Vec::new()).reads(&self.a).reads(&self.b).writes(path).check()
    }

    /// Reads both clips. Their sizes are compared before any frame is read.
    fn read(&self, console: &Console) -> Result<[Clip; 2]> {
        let options = ReadOptions { max_frames: self.max_frames, ..ReadOptions::default() };
        let (a, b) = (Reader::open(&self.a, &options)?, Reader::open(&self.b, &options)?);
        let ([tall, wide], [height, width]) = ([a.info().height, a.info().width], [b.info().height, b.info().width]);
        if [tall, wide] != [height, width] {
            let problem = format!(
                "has frames of {height}x{width} pixels, expected {tall}x{wide} as in {}; clips are not resized to be \
                 compared: scale or crop one of them first",
                self.a.display()
            );
            return Err(Error::media(&self.b, problem));
        }
        let (a, b) = (read(a, &self.a, console)?, read(b, &self.b, console)?);
        if a.frames != b.frames {
            let (found, expected, fewer) = (b.frames, a.frames, a.frames.min(b.frames));
            let problem = format!(
                "{found} frames of {height}x{width} were read, expected {expected} as from {}; --max-frames {fewer} \
                 compares the first {fewer} of both",
                self.a.display()
            );
            return Err(Error::media(&self.b, problem));
        }
        if a.fps != b.fps {
            console.note(&format!(
                "{} has {} frames/s and {} has {}: frames are compared in order, whatever their times",
                self.a.display(),
                a.fps,
                self.b.display(),
                b.fps
            ));
        }
        Ok([a, b])
    }

    fn compare(&self, a: &Clip, b: &Clip) -> Result<Comparison<'_>> {
        let (psnr, ssim): (Quality, Quality) = (psnr(a, b)?.into(), ssim(a, b)?.into());
        let motion = Motion::of(a);
        Ok(Comparison {
            a: &self.a,
            b: &self.b,
            frames: a.frames,
            height: a.height,
            width: a.width,
            fps: [a.fps.as_f64(), b.fps.as_f64()],
            worst_frame: worst(&psnr.frames),
            warp_error: WarpErrors { a: motion.warp_error(a)?, b: motion.warp_error(b)? },
            psnr,
            ssim,
        })
    }
}

impl Comparison<'_> {
    /// The table of frames, and a line with the warp error of each clip.
    fn text(&self) -> String {
        let line = |error: Option<f64>, path: &Path, motion: &str| {
            let error = error.map_or("none".to_owned(), |error| format!("{error:.2e}"));
            format!("warp error  {error:>7}  {}{motion}", path.display())
        };
        let along = if self.warp_error.b.is_some() { " along the motion of A" } else { ": one frame" };
        let lines = [
            table(&self.psnr, &self.ssim),
            line(self.warp_error.a, self.a, &format!(" (A){along}")),
            line(self.warp_error.b, self.b, &format!(" (B){along}")),
        ];
        lines.join("\n")
    }
}

/// Reads all frames, and prints what the reader has to say about them.
fn read(mut reader: Reader, path: &Path, console: &Console) -> Result<Clip> {
    let clip = reader.clip()?;
    reader.notices().iter().for_each(|notice| console.warning(&format!("{}: {notice}", path.display())));
    Ok(clip)
}

/// The index of the lowest value; of several, the first.
fn worst(frames: &[f64]) -> usize {
    (0..frames.len()).min_by(|&a, &b| frames[a].total_cmp(&frames[b])).unwrap_or(0)
}

/// The name of an input for the picture.
fn name(path: &Path) -> String {
    if is_stdin(path) {
        return "stdin".to_owned();
    }
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_frame_is_the_first_of_equals() {
        let infinite = f64::INFINITY;
        assert_eq!(worst(&[infinite, 30.0, 20.0, 20.0, infinite]), 2);
        assert_eq!(worst(&[infinite, infinite]), 0);
    }

    #[test]
    fn names_in_the_picture_are_short() {
        assert_eq!(name(Path::new("a/b.mp4")), "b.mp4");
        assert_eq!(name(Path::new("frames/")), "frames");
        assert_eq!(name(Path::new("-")), "stdin");
        assert_eq!(name(Path::new("..")), "..");
    }
}
