//! Reading the clip that is to be encoded: as many frames and pixels of it as the VAE takes.

use super::args::{SPATIAL_FACTOR, Size, TEMPORAL_FACTOR, frames, seed, size};
use super::console::Console;
use super::interrupt;
use osp::video::{Clip, ReadOptions, Reader, VideoInfo, resize};
use osp::{Error, Result};
use std::path::PathBuf;

/// Which clip.
#[derive(clap::Args)]
pub struct InputArgs {
    /// Video, image, or folder of images
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Take at most the first N frames; of these, 4k+1 are used
    #[arg(long, value_name = "N", value_parser = frames)]
    max_frames: Option<usize>,
    /// Resize to cover this many rows and columns, multiples of 8, and cut out the middle [default: the input's own size,
    /// cut to multiples of 8]
    #[arg(long, value_name = "HxW", value_parser = size)]
    size: Option<Size>,
    /// With --size: only cut out the middle, do not resize
    #[arg(long, requires = "size")]
    crop: bool,
}

/// What is taken of the encoder's distribution.
#[derive(clap::Args)]
pub struct Posterior {
    /// Take the mean of the encoder's distribution instead of a sample
    #[arg(long, conflicts_with = "seed")]
    mean: bool,
    /// Seed of the noise of the sample [default: 0]
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    seed: Option<u64>,
}

impl Posterior {
    /// The seed; `None` for the mean.
    pub fn seed(&self) -> Option<u64> {
        if self.mean { None } else { Some(self.seed.unwrap_or(0)) }
    }
}

impl InputArgs {
    /// Checks what can be checked before the input is opened.
    pub fn check(&self) -> Result<()> {
        if self.max_frames == Some(0) {
            return Err(Error::Usage("--max-frames 0 leaves no frames: give at least 1".into()));
        }
        let Some(Size { height, width }) = self.size else { return Ok(()) };
        let (tall, wide) = (nearest(height), nearest(width));
        if (tall, wide) != (height, width) {
            return Err(Error::Usage(format!(
                "size {height}x{width} is not in multiples of {SPATIAL_FACTOR}; the nearest is {tall}x{wide}"
            )));
        }
        Ok(())
    }

    /// Reads the clip and cuts it to what the VAE takes.
    pub fn read(&self, console: &Console) -> Result<Clip> {
        let options = ReadOptions { max_frames: self.max_frames, ..ReadOptions::default() };
        let reader = Reader::open(&self.input, &options)?;
        let info = reader.info();
        let mut pixels = Vec::new();
        for frame in reader {
            interrupt::check()?;
            pixels.extend_from_slice(&frame?);
        }
        let found = pixels.len() / info.frame_bytes().max(1);
        if found == 0 {
            return Err(Error::media(&self.input, "has no frames"));
        }
        let frames = (found - 1) / TEMPORAL_FACTOR * TEMPORAL_FACTOR + 1;
        if frames != found {
            console.warning(&format!("using {frames} of {found} frames: the model takes {TEMPORAL_FACTOR}k+1"));
            pixels.truncate(frames * info.frame_bytes());
        }
        self.fit(Clip::new(info, pixels)?, console)
    }

    /// Brings the clip to the size asked for, or to multiples of 8.
    fn fit(&self, clip: Clip, console: &Console) -> Result<Clip> {
        let (height, width) = (clip.height, clip.width);
        let fault = |text: String| Err(Error::media(&self.input, text));
        match self.size {
            Some(size) if !self.crop => resize::cover(&clip, size.height, size.width, resize::Filter::default()),
            Some(size) if size.height > height || size.width > width => fault(format!(
                "has {height}x{width} pixels, less than the {}x{} to cut out; leave out --crop to resize",
                size.height, size.width
            )),
            Some(size) => Ok(cut_middle(clip, size)),
            None => {
                let size = Size { height: floor(height), width: floor(width) };
                if size.height == 0 || size.width == 0 {
                    let least = SPATIAL_FACTOR;
                    return fault(format!("has {height}x{width} pixels, the least is {least}x{least}; use --size"));
                }
                if (size.height, size.width) != (height, width) {
                    let (rows, columns) = (size.height, size.width);
                    console.warning(&format!("using the middle {rows}x{columns} of {height}x{width} pixels"));
                }
                Ok(cut_middle(clip, size))
            }
        }
    }
}

/// The multiple of 8 below or at `side`.
fn floor(side: usize) -> usize {
    side / SPATIAL_FACTOR * SPATIAL_FACTOR
}

/// The multiple of 8 nearest to `side`, but not 0.
fn nearest(side: usize) -> usize {
    floor(side.saturating_add(SPATIAL_FACTOR / 2)).max(SPATIAL_FACTOR)
}

/// The middle of every frame; `size` must fit in.
fn cut_middle(clip: Clip, size: Size) -> Clip {
    if (clip.height, clip.width) == (size.height, size.width) {
        return clip;
    }
    let (top, left) = ((clip.height - size.height) / 2, (clip.width - size.width) / 2);
    let row_bytes = clip.width * 3;
    let columns = left * 3..(left + size.width) * 3;
    let rows = clip.iter().flat_map(|frame| frame.chunks_exact(row_bytes).skip(top).take(size.height));
    let pixels: Vec<u8> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
    let info = VideoInfo { height: size.height, width: size.width, fps: clip.fps };
    Clip::new(info, pixels).expect("every frame gives the same number of pixels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::video::FrameRate;

    #[test]
    fn nearest_sizes_are_multiples_of_8_and_not_0() {
        assert_eq!([0, 3, 8, 11, 12, 500].map(nearest), [8, 8, 8, 8, 16, 504]);
    }

    #[test]
    fn the_middle_is_cut_out_of_every_frame() {
        let info = VideoInfo { height: 4, width: 3, fps: FrameRate::default() };
        let pixels = (0..2 * 4 * 3).flat_map(|i| [i; 3]).collect();
        let cut = cut_middle(Clip::new(info, pixels).unwrap(), Size { height: 2, width: 1 });
        let values: Vec<u8> = cut.pixels.chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!((cut.frames, cut.height, cut.width), (2, 2, 1));
        assert_eq!(values, [4, 7, 16, 19]);
    }
}
