//! Resizes frames to a model's size.

use super::{Clip, VideoInfo};
use crate::error::{Error, Result};
use image::imageops;
use image::{ImageBuffer, Rgb};
use rayon::prelude::*;

/// How pixels are interpolated. When an image becomes smaller, every filter averages over the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Linear.
    Triangle,
    /// Cubic.
    #[default]
    CatmullRom,
    /// Sinc with a window of three: the sharpest, but it may ring.
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

/// Resizes frames one by one: keeps the aspect ratio, just covers the wanted size, and cuts out the middle.
#[derive(Clone, Copy, Debug)]
pub struct Cover {
    from: VideoInfo,
    /// Rows and columns before the cut.
    scaled: [usize; 2],
    /// Rows and columns after it.
    cut: [usize; 2],
    filter: Filter,
}

impl Cover {
    /// Resizes frames of the size of `from` to `height`×`width`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a side is 0 or a scaled side exceeds 65535.
    pub fn new(from: VideoInfo, height: usize, width: usize, filter: Filter) -> Result<Self> {
        let scale = f64::max(height as f64 / from.height as f64, width as f64 / from.width as f64);
        let scaled = |side: usize, least: usize| ((side as f64 * scale).round() as usize).max(least);
        let scaled = [scaled(from.height, height), scaled(from.width, width)];
        check(from, scaled, [height, width])?;
        Ok(Self { from, scaled, cut: [height, width], filter })
    }

    /// Rows and columns of the results.
    pub fn size(&self) -> [usize; 2] {
        self.cut
    }

    /// Resizes and cuts `frame`, `[H, W, 3]`, which has the size of `from`.
    pub fn apply(&self, frame: Vec<u8>) -> Vec<u8> {
        cut_middle(to_size(frame, self.from, self.scaled, self.filter), self.scaled, self.cut)
    }
}

/// Resizes every frame with [`Cover`].
///
/// # Errors
/// Those of [`Cover::new`].
pub fn cover(clip: &Clip, height: usize, width: usize, filter: Filter) -> Result<Clip> {
    let cover = Cover::new(clip.info(), height, width, filter)?;
    each_frame(clip, [height, width], |frame| cover.apply(frame))
}

/// Resizes so that the shorter side has `side` pixels; keeps the aspect ratio.
///
/// # Errors
/// [`Error::Usage`] if `side` is 0 or the longer side would exceed 65535.
pub fn shorter_side(clip: &Clip, side: usize, filter: Filter) -> Result<Clip> {
    let short = clip.height.min(clip.width);
    let scaled = |length: usize| ((length as f64 * side as f64 / short as f64).round() as usize).max(side);
    let size = [scaled(clip.height), scaled(clip.width)];
    check(clip.info(), size, size)?;
    each_frame(clip, size, |frame| to_size(frame, clip.info(), size, filter))
}

/// Every pixel as a square of `times` pixels a side, without a blur.
///
/// # Errors
/// [`Error::Usage`] if `times` is 0 or a side would exceed 65535.
pub fn repeat(clip: &Clip, times: usize) -> Result<Clip> {
    let size = [clip.height * times, clip.width * times];
    check(clip.info(), size, size)?;
    let row = |row: &[u8]| row.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)).collect::<Vec<u8>>();
    each_frame(clip, size, |frame| {
        frame.chunks_exact(clip.width * 3).flat_map(|pixels| row(pixels).repeat(times)).collect()
    })
}

/// The middle of `frame`, `[H, W, 3]`. `from` is its (height, width); `cut`, the result's, must not be larger.
pub fn cut_middle(frame: Vec<u8>, from: [usize; 2], cut: [usize; 2]) -> Vec<u8> {
    if from == cut {
        return frame;
    }
    let (top, left) = ((from[0] - cut[0]) / 2, (from[1] - cut[1]) / 2);
    let rows = frame.chunks_exact(from[1] * 3).skip(top).take(cut[0]);
    rows.flat_map(|row| &row[left * 3..(left + cut[1]) * 3]).copied().collect()
}

/// Fails if frames cannot be resized to `scaled` and cut to `cut`; both are (height, width).
fn check(from: VideoInfo, scaled: [usize; 2], cut: [usize; 2]) -> Result<()> {
    let [height, width] = scaled;
    if cut.contains(&0) || height.max(width) > usize::from(u16::MAX) {
        return Err(Error::Usage(format!("cannot resize {}x{} frames to {width}x{height}", from.width, from.height)));
    }
    Ok(())
}

fn each_frame(clip: &Clip, size: [usize; 2], change: impl Fn(Vec<u8>) -> Vec<u8> + Sync) -> Result<Clip> {
    let frames: Vec<_> = (0..clip.frames).into_par_iter().map(|index| change(clip.frame(index).to_vec())).collect();
    Clip::new(VideoInfo { height: size[0], width: size[1], fps: clip.fps }, frames.concat())
}

/// Resizes `frame`, which has the size of `from`, to (height, width).
pub(super) fn to_size(frame: Vec<u8>, from: VideoInfo, [height, width]: [usize; 2], filter: Filter) -> Vec<u8> {
    if (from.height, from.width) == (height, width) {
        return frame;
    }
    let image = ImageBuffer::<Rgb<u8>, _>::from_raw(from.width as u32, from.height as u32, frame);
    let image = image.expect("the frame has the size of `from`");
    imageops::resize(&image, width as u32, height as u32, filter.kind()).into_raw()
}
