//! Encodes a clip with the VAE, decodes it again, and prints the similarity.
//!
//! ```sh
//! cargo run --release --example encode -- holiday.mp4 latent.safetensors
//! ```
//!
//! Without a file it draws a clip: a square that moves over a gradient.

use osp::checkpoint::{Need, Opening};
use osp::engine::Coding;
use osp::video::{FrameRate, ReadOptions, VideoInfo, read_clip, resize};
use osp::{Clip, Engine, Quiet, Result};
use std::path::Path;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let input = args.next();
    let output = args.next().unwrap_or_else(|| "latent.safetensors".into());

    // Only the VAE is needed; the path of its folder would be enough.
    let model = Opening { need: Need::Vae, ..Opening::default() }.open("assets/demo")?;
    let engine = Engine::auto()?;
    let clip = match input {
        Some(path) => from_file(Path::new(&path))?,
        None => drawn()?,
    };

    // The mean of the encoder's distribution instead of a sample.
    let coding = Coding { seed: None, ..Coding::default() };
    let kept = engine.reconstruct(&model, &clip, coding, &mut Quiet)?;
    kept.latent.write(Path::new(&output))?;

    let [frames, rows, columns] = kept.latent.size;
    println!("{} frames of {}x{} pixels", clip.frames, clip.height, clip.width);
    println!("{frames} frames of {rows}x{columns} latents with 4 channels: {output}");
    println!("PSNR {:.1} dB, SSIM {:.3}", kept.psnr.overall, kept.ssim.overall);
    Ok(())
}

/// The first frames of a video, cut to a size that the VAE can encode: 4k + 1 frames, 64×64 pixels.
fn from_file(path: &Path) -> Result<Clip> {
    let clip = read_clip(path, &ReadOptions { max_frames: Some(33), ..ReadOptions::default() })?;
    let frames = (clip.frames - 1) / 4 * 4 + 1;
    let pixels = clip.iter().take(frames).flatten().copied().collect();
    let clip = Clip::new(clip.info(), pixels)?;
    resize::cover(&clip, 64, 64, resize::Filter::default())
}

/// Nine frames of a square that moves two pixels a frame.
fn drawn() -> Result<Clip> {
    let (side, frames) = (64, 9);
    let pixel = |t: usize, y: usize, x: usize| {
        let inside = (20..36).contains(&y) && (8 + 2 * t..24 + 2 * t).contains(&x);
        if inside { [220, 60, 40] } else { [x as u8, y as u8, 90] }
    };
    let positions = (0..frames).flat_map(|t| (0..side * side).map(move |i| (t, i / side, i % side)));
    let pixels = positions.flat_map(|(t, y, x)| pixel(t, y, x)).collect();
    Clip::new(VideoInfo { width: side, height: side, fps: FrameRate::default() }, pixels)
}
