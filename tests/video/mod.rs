/// Endings, outputs that appear whole or not at all, and refusals before any work.
mod output;

/// Each format reads back the written frames, exactly or nearly.
mod round_trip;

/// Descriptions: where each format keeps them, and what else changes.
mod descriptions;

/// Descriptions in damaged files, in files that claim too much, and of all kinds that other programs write.
mod hostile_descriptions;

/// Links, and files that desktop systems put into folders.
#[cfg(unix)]
mod links;

/// The frame rates that each format can hold.
mod rates;

/// Files of other programs: Y4M variants, B-frames, folders, other formats.
mod foreign;

/// The same frames, size and rate, whether this crate reads a clip or ffmpeg.
mod both_ways;

/// Images: orientation, transparency, animation, folders.
mod stills;

/// Files that cannot be read, and the reasons.
mod refused;

/// Pipes and stdin.
#[cfg(unix)]
mod pipes;

/// Empty, truncated and corrupted files are errors, never panics.
mod damage;

/// PSNR, SSIM and the warp error against their formulas.
mod metrics;

/// Resizing, contact sheets and strips.
mod layout;

use osp::video::{Clip, FrameRate, ReadOptions, VideoInfo, read_clip};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Options for reading without ffmpeg.
const ALONE: ReadOptions = ReadOptions { start: 0, max_frames: None, ffmpeg: false };

/// A smooth moving pattern, different in each channel.
fn smooth(frames: usize, height: usize, width: usize) -> Clip {
    let level = |time: usize, y: usize, x: usize, channel: usize| {
        let (time, y, x) = (time as f32 * 0.1, y as f32 / 40.0, x as f32 / 30.0);
        let phase = channel as f32;
        127.5 + 110.0 * (x + phase + time).sin() * (y - 0.5 * phase).cos()
    };
    from_fn(frames, height, width, |time, y, x, channel| level(time, y, x, channel) as u8)
}

/// Deterministic noise.
fn noise(frames: usize, height: usize, width: usize) -> Clip {
    let mut state = 1u32;
    from_fn(frames, height, width, |_, _, _, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
}

/// A clip of `level(time, y, x, channel)`.
fn from_fn(
    frames: usize,
    height: usize,
    width: usize,
    mut level: impl FnMut(usize, usize, usize, usize) -> u8,
) -> Clip {
    let mut pixels = Vec::with_capacity(frames * height * width * 3);
    for index in 0..frames * height * width * 3 {
        let (pixel, channel) = (index / 3, index % 3);
        pixels.push(level(pixel / width / height, pixel / width % height, pixel % width, channel));
    }
    Clip::new(VideoInfo { width, height, fps: FrameRate::default() }, pixels).expect("whole frames")
}

/// Largest difference of two bytes.
fn largest_difference(a: &Clip, b: &Clip) -> u8 {
    assert_eq!((a.frames, a.height, a.width), (b.frames, b.height, b.width));
    a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0)
}

/// The error of reading `path`, as users see it.
fn problem(path: &Path) -> String {
    read_clip(path, &ALONE).expect_err("this file cannot be read").to_string()
}

/// A file of `files/`.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/files").join(name)
}

/// Whether ffmpeg is installed. If not, a line on stderr says that a part of a test is skipped.
fn has_ffmpeg() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| run_ffmpeg(&["-version"], Path::new(".")));
    *FOUND
}

/// Runs ffmpeg in `folder`. False, with a line on stderr, if it is not installed or lacks a feature.
fn run_ffmpeg(args: &[&str], folder: &Path) -> bool {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y", "-nostdin"]).args(args).current_dir(folder).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("skipped: ffmpeg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(problem) => {
            eprintln!("skipped: ffmpeg {args:?}: {problem}");
            false
        }
    }
}
