//! Resizing frames to a model's size.

use super::{Clip, VideoInfo};
use crate::error::{Error, Result};
use image::imageops;
use image::{ImageBuffer, Rgb};
use rayon::prelude::*;

/// How pixels are interpolated; all of them average over the source when making smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Linear.
    Triangle,
    /// Cubic.
    #[default]
    CatmullRom,
    /// Sinc with a window of three: sharpest, may ring.
    Lanczos3,
}

impl Filter {
    fn kind(self) -> imageops::FilterType {
        match self {
            Self::Triangle => imageops::FilterType::Triangle,
            Self::CatmullRom => imageops::FilterType::CatmullRom,
            Self::Lanczos3 => imageops::FilterType::Lanczos3,
        }
    }
}

/// Resizes so that `height`×`width` is just covered, keeping proportions, and cuts out the middle.
///
/// # Errors
/// [`Error::Usage`] if a side is 0 or a scaled side is beyond 65535.
pub fn cover(clip: &Clip, height: usize, width: usize, filter: Filter) -> Result<Clip> {
    let scale = f64::max(height as f64 / clip.height as f64, width as f64 / clip.width as f64);
    let scaled = |side: usize, least: usize| ((side as f64 * scale).round() as usize).max(least);
    let (tall, wide) = (scaled(clip.height, height), scaled(clip.width, width));
    let (top, left) = ((tall - height) / 2, (wide - width) / 2);
    each_frame(clip, [tall, wide], [height, width], filter, |pixels| {
        let rows = pixels.chunks_exact(wide * 3).skip(top).take(height);
        rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect()
    })
}

/// Resizes so that the shorter side has `side` pixels, keeping proportions.
///
/// # Errors
/// [`Error::Usage`] if `side` is 0 or the longer side gets beyond 65535.
pub fn shorter_side(clip: &Clip, side: usize, filter: Filter) -> Result<Clip> {
    let short = clip.height.min(clip.width);
    let scaled = |length: usize| ((length as f64 * side as f64 / short as f64).round() as usize).max(side);
    let size = [scaled(clip.height), scaled(clip.width)];
    each_frame(clip, size, size, filter, |pixels| pixels)
}

/// Resizes every frame to `scaled` and lets `crop` make it `cropped`; both are (height, width).
fn each_frame(
    clip: &Clip,
    scaled: [usize; 2],
    cropped: [usize; 2],
    filter: Filter,
    crop: impl Fn(Vec<u8>) -> Vec<u8> + Sync,
) -> Result<Clip> {
    let [height, width] = scaled;
    if cropped.contains(&0) || height.max(width) > usize::from(u16::MAX) {
        return Err(Error::Usage(format!("cannot resize {}x{} frames to {width}x{height}", clip.width, clip.height)));
    }
    let frames: Vec<_> =
        (0..clip.frames).into_par_iter().map(|index| crop(resize(clip, index, scaled, filter))).collect();
    Clip::new(VideoInfo { height: cropped[0], width: cropped[1], fps: clip.fps }, frames.concat())
}

fn resize(clip: &Clip, index: usize, [height, width]: [usize; 2], filter: Filter) -> Vec<u8> {
    let frame = clip.frame(index);
    if (clip.height, clip.width) == (height, width) {
        return frame.to_vec();
    }
    let image = ImageBuffer::<Rgb<u8>, _>::from_raw(clip.width as u32, clip.height as u32, frame);
    let image = image.expect("a clip's frames have its size");
    imageops::resize(&image, width as u32, height as u32, filter.kind()).into_raw()
}
