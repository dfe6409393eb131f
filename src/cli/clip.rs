//! Reads the clip to encode, cut to a number of frames and a size that the VAE can encode.

use super::args::{frames, seed};
use super::console::Console;
use super::interrupt;
use super::size::Size;
use osp::model::vae::Factors;
use osp::reading::is_stdin;
use osp::video::{Clip, Gathering, ReadOptions, Reader, VideoInfo, resize};
use osp::{Error, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Options that choose the clip.
#[derive(clap::Args)]
pub struct InputArgs {
    /// Video, image, or folder of images; - for stdin
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Read at most the first N frames; the largest 4k+1 of them are used
    #[arg(long, value_name = "N", value_parser = frames)]
    max_frames: Option<usize>,
    /// Resize to cover these rows and columns, multiples of 8 (in an edit of 16), and cut out the middle [default: the input's
    /// size, cut to such multiples]
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// With --size: only cut out the middle, do not resize
    #[arg(long, requires = "size")]
    crop: bool,
}

/// A clip of a size that a model takes, and how frames of the input became it.
pub struct Cut {
    pub clip: Clip,
    pub fit: Fit,
    /// Size and rate of the input.
    pub from: VideoInfo,
}

/// Options for the latent: the mean of the encoder's distribution, or a sample.
#[derive(clap::Args)]
pub struct Posterior {
    /// Use the mean of the encoder's distribution instead of a sample
    #[arg(long, conflicts_with = "seed")]
    mean: bool,
    /// Seed of the noise of the sample [default: 0]
    #[arg(long, value_name = "SEED", value_parser = seed)]
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
        check_max_frames(self.max_frames)
    }

    /// The options by name, for a later run in any folder.
    pub fn noted(&self) -> Vec<(&'static str, String)> {
        let size = self.size.map(|Size { height, width }| format!("{height}x{width}"));
        let frames = self.max_frames.map(|frames| frames.to_string());
        let crop = self.crop.then(String::new);
        let input = [("input", noted_path(&self.input)), ("max_frames", frames), ("input_size", size), ("crop", crop)];
        input.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The options that an earlier run noted; `None` if it noted no input.
    pub fn of_notes(noted: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            input: noted("input")?.into(),
            max_frames: noted("max_frames").and_then(|text| text.parse().ok()),
            size: noted("input_size").and_then(|text| text.parse().ok()),
            crop: noted("crop").is_some(),
        })
    }

    /// Reads the clip and cuts it to a size that a VAE with these factors can encode.
    pub fn read(&self, factors: Factors, console: &Console) -> Result<Clip> {
        self.cut(factors, factors.space, console).map(|cut| cut.clip)
    }

    /// Reads the clip and cuts it to whole latents in time, and to sides in multiples of `step`. Each frame is cut when it is
    /// read, because all uncut frames together may need far more memory.
    pub fn cut(&self, factors: Factors, step: usize, console: &Console) -> Result<Cut> {
        self.size.map_or(Ok(()), |size| size.check(step))?;
        interrupt::while_reading(|| self.cut_whole(factors, step, console))
    }

    fn cut_whole(&self, factors: Factors, step: usize, console: &Console) -> Result<Cut> {
        let options = ReadOptions { max_frames: self.max_frames, ..ReadOptions::default() };
        let mut reader = Reader::open(&self.input, &options)?;
        let fit = self.fit(reader.info(), step, console)?;
        let mut gathering = Gathering::new(&self.input, fit.to(reader.info()));
        let mut waiting = Vec::new();
        let most = BATCH_BYTES.div_ceil(reader.info().frame_bytes());
        loop {
            waiting.extend(reader.by_ref().take(most).collect::<Result<Vec<_>>>()?);
            if waiting.is_empty() {
                break;
            }
            let cut: Vec<Vec<u8>> = waiting.par_drain(..).map(|frame| fit.apply(frame)).collect();
            cut.iter().try_for_each(|frame| gathering.push(frame))?;
        }
        reader.notices().iter().for_each(|notice| console.warning(&format!("{}: {notice}", self.input.display())));
        let found = gathering.frames();
        let frames = if found == 0 { 0 } else { factors.fewer_frames(found) };
        if frames != found {
            console.warning(&format!("using {frames} of {found} frames: the model needs {}k+1 frames", factors.time));
        }
        Ok(Cut { clip: gathering.clip(frames)?, fit, from: reader.info() })
    }

    /// How frames of `from` become the requested size or, without `--size`, a size in multiples of `step`.
    fn fit(&self, from: VideoInfo, step: usize, console: &Console) -> Result<Fit> {
        let VideoInfo { height, width, .. } = from;
        let fault = |text: String| Err(Error::media(&self.input, text));
        match self.size {
            Some(size) if !self.crop => {
                resize::Cover::new(from, size.height, size.width, resize::Filter::default()).map(Fit::Cover)
            }
            Some(size) if size.height > height || size.width > width => fault(format!(
                "has {height}x{width} pixels, less than the {}x{} to cut out; omit --crop to resize",
                size.height, size.width
            )),
            Some(size) => Ok(Fit::Cut { from, size }),
            None => {
                let size = Size { height: floor(height, step), width: floor(width, step) };
                if size.height == 0 || size.width == 0 {
                    return fault(format!(
                        "has {height}x{width} pixels, expected at least {step}x{step}; use --size to enlarge it"
                    ));
                }
                if (size.height, size.width) != (height, width) {
                    let (rows, columns) = (size.height, size.width);
                    console.warning(&format!("using the middle {rows}x{columns} of {height}x{width} pixels"));
                }
                Ok(Fit::Cut { from, size })
            }
        }
    }
}

/// A path for a later run in any folder; stdin stays stdin.
pub fn noted_path(path: &Path) -> Option<String> {
    let whole = if is_stdin(path) { path.to_path_buf() } else { std::path::absolute(path).ok()? };
    whole.into_os_string().into_string().ok()
}

/// Fails if the largest number of frames is 0.
pub fn check_max_frames(most: Option<usize>) -> Result<()> {
    if most == Some(0) {
        return Err(Error::Usage("--max-frames 0 reads no frames: give at least 1".into()));
    }
    Ok(())
}

/// Bytes of frames that are cut in parallel.
const BATCH_BYTES: usize = 1 << 26;

/// How a frame becomes the wanted size.
pub enum Fit {
    /// Resize, then cut out the middle.
    Cover(resize::Cover),
    /// Cut out the middle. Frames must be large enough.
    Cut { from: VideoInfo, size: Size },
}

impl Fit {
    /// Size and rate of the results for frames of `from`.
    fn to(&self, from: VideoInfo) -> VideoInfo {
        let [height, width] = match self {
            Self::Cover(cover) => cover.size(),
            Self::Cut { size, .. } => [size.height, size.width],
        };
        VideoInfo { height, width, ..from }
    }

    /// A frame of the wanted size.
    pub fn apply(&self, frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Cover(cover) => cover.apply(frame),
            Self::Cut { from, size } => resize::cut_middle(frame, [from.height, from.width], [size.height, size.width]),
        }
    }
}

impl Size {
    /// Checks that both sides are multiples of `step`.
    fn check(self, step: usize) -> Result<()> {
        let Self { height, width } = self;
        let (tall, wide) = (nearest(height, step), nearest(width, step));
        if (tall, wide) == (height, width) {
            return Ok(());
        }
        Err(Error::Usage(format!("size {height}x{width} is not in multiples of {step}; the nearest is {tall}x{wide}")))
    }
}

/// The multiple of `step` below or at `side`.
fn floor(side: usize, step: usize) -> usize {
    side / step * step
}

/// The multiple of `step` nearest to `side`, but not 0.
fn nearest(side: usize, step: usize) -> usize {
    floor(side.saturating_add(step / 2), step).max(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_sizes_are_multiples_of_8_and_not_0() {
        assert_eq!([0, 3, 8, 11, 12, 500].map(|side| nearest(side, 8)), [8, 8, 8, 8, 16, 504]);
    }
}
