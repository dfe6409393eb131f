//! The pixels that edits begin with: a clip with a mask and a first frame, or only an image.

mod mask;
mod method;

use super::args::{count, frames};
use super::clip::{Cut, InputArgs, noted_path};
use super::console::Console;
use super::interrupt;
use clap::builder::{OsStringValueParser, TypedValueParser};
use mask::MaskArg;
pub use method::MethodArgs;
use osp::engine::{Footage, Settings};
use osp::model::vae::Factors;
use osp::video::{Clip, ReadOptions, Reader, resize};
use osp::{Error, Result};
use std::path::{Path, PathBuf};

/// Options that say what of a clip may change.
#[derive(clap::Args)]
pub struct ChangeArgs {
    /// Where the clip may change: the white part of an image or a video of its size, or a rectangle of its pixels, from its left
    /// and its top, as in 16,8,32,32; with @FROM-TO or @FRAME only in these frames, from 0 on
    #[arg(long, value_name = "FILE|X,Y,W,H[@FROM-TO]", value_parser = OsStringValueParser::new().try_map(mask::parse))]
    mask: Option<MaskArg>,
    /// With --mask: pixels inside of the mask over which the change fades in [default: 4]
    #[arg(long, value_name = "PX", requires = "mask", value_parser = count::<u16>)]
    feather: Option<u16>,
    /// Image that takes the place of the clip's first frame; the rest follows it
    #[arg(long, value_name = "IMAGE")]
    first_frame: Option<PathBuf>,
    /// Keep the whole clip, and add this many frames behind it, a multiple of 4
    #[arg(long, value_name = "N", value_parser = frames, conflicts_with_all = ["mask", "first_frame", "strength", "method", "source"])]
    extend: Option<usize>,
}

/// The feather of a mask, in pixels, if none is given.
const FEATHER: u16 = 4;

/// What a clip's size must be a multiple of.
#[derive(Clone, Copy)]
pub struct Grid {
    pub factors: Factors,
    /// Latents a side of the transformer's tokens.
    pub patch: usize,
}

impl Grid {
    /// The grid of a request that is settled.
    pub fn of(settings: &Settings) -> Self {
        Self { factors: settings.factors, patch: settings.patch }
    }
}

impl ChangeArgs {
    /// The files that are read.
    pub fn reads(&self) -> Vec<PathBuf> {
        let mask = self.mask.as_ref().and_then(MaskArg::file);
        mask.into_iter().chain(self.first_frame.as_deref()).map(Path::to_path_buf).collect()
    }

    /// Whether frames are added behind the clip.
    pub fn extends(&self) -> bool {
        self.extend.is_some()
    }

    /// The options by name, for a later run in any folder.
    pub fn noted(&self) -> Vec<(&'static str, String)> {
        let mask = self.mask.as_ref().and_then(MaskArg::noted);
        let feather = mask.as_ref().map(|_| self.feather.unwrap_or(FEATHER).to_string());
        let first = self.first_frame.as_deref().and_then(noted_path);
        let extend = self.extend.map(|frames| frames.to_string());
        let all = [("mask", mask), ("feather", feather), ("first_frame", first), ("extend", extend)];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The options that an earlier run noted.
    pub fn of_notes(noted: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        Ok(Self {
            mask: noted("mask").map(|text| mask::parse(text.into())).transpose()?,
            feather: noted("feather").and_then(|text| text.parse().ok()),
            first_frame: noted("first_frame").map(PathBuf::from),
            extend: noted("extend").and_then(|text| text.parse().ok()),
        })
    }

    /// Reads the clip, the mask and the first frame.
    pub fn read(&self, input: &InputArgs, grid: Grid, console: &Console) -> Result<Footage> {
        let cut = input.cut(grid.factors, grid.factors.space * grid.patch, console)?;
        let mask = self.mask.as_ref().map(|mask| mask.read(&cut, self.feather.unwrap_or(FEATHER).into(), console));
        let mask = mask.transpose()?;
        let first = self.first_frame.as_ref().map(|path| first_frame(path, &cut, console)).transpose()?;
        let mut footage = Footage::clip(cut.clip);
        if let Some(mask) = mask {
            footage = footage.mask(mask)?;
        }
        if let Some(first) = first {
            footage = footage.first_frame(first)?;
        }
        if let Some(frames) = self.extend {
            footage = footage.extend(frames)?;
        }
        Ok(footage)
    }
}

/// An image in the size of a clip: cut as the clip's frames are if it has the input's size, else resized to cover.
fn first_frame(path: &Path, cut: &Cut, console: &Console) -> Result<Clip> {
    let image = image(path, console)?;
    let (found, expected) = ([image.height, image.width], [cut.from.height, cut.from.width]);
    if found == expected {
        return Clip::new(cut.clip.info(), cut.fit.apply(image.pixels));
    }
    covering(path, &image, [cut.clip.height, cut.clip.width], console)
}

/// An image, resized to cover these rows and columns if it has others.
pub fn covering(path: &Path, image: &Clip, [height, width]: [usize; 2], console: &Console) -> Result<Clip> {
    if [image.height, image.width] == [height, width] {
        return Ok(image.clone());
    }
    let (rows, columns) = (image.height, image.width);
    console.note(&format!("{}: resized from {rows}x{columns} to cover {height}x{width}", path.display()));
    resize::cover(image, height, width, resize::Filter::default())
}

/// Reads an image.
pub fn image(path: &Path, console: &Console) -> Result<Clip> {
    let (reader, frames) = interrupt::while_reading(|| {
        let mut reader = Reader::open(path, &ReadOptions { max_frames: Some(2), ..ReadOptions::default() })?;
        let frames = reader.by_ref().collect::<Result<Vec<_>>>()?;
        Ok((reader, frames))
    })?;
    reader.notices().iter().for_each(|notice| console.warning(&format!("{}: {notice}", path.display())));
    match <[Vec<u8>; 1]>::try_from(frames) {
        Ok([pixels]) => Clip::new(reader.info(), pixels),
        Err(frames) if frames.is_empty() => Err(Error::media(path, "has no frames")),
        Err(_) => Err(Error::media(path, "has several frames; expected an image")),
    }
}
