//! Masks as the user gives them: a rectangle, an image or a video.

use crate::cli::clip::{Cut, noted_path};
use crate::cli::console::Console;
use crate::cli::interrupt;
use osp::video::{Mask, ReadOptions, Reader};
use osp::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A mask.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskArg {
    /// An image, for all frames, or a video.
    File(PathBuf),
    Rectangle(Rectangle),
}

/// Pixels of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// First and last frame.
    frames: Option<[usize; 2]>,
}

/// Reads `X,Y,W,H`, `X,Y,W,H@FROM-TO` or the name of a file.
pub fn parse(text: OsString) -> Result<MaskArg> {
    let words = text.to_str();
    let like_numbers =
        words.is_some_and(|text| text.contains(',') && text.chars().all(|c| "0123456789,@- ".contains(c)));
    match words.and_then(Rectangle::parse) {
        Some(rectangle) => rectangle.map(MaskArg::Rectangle),
        None if like_numbers && !Path::new(&text).exists() => {
            Err(Error::Usage("expected X,Y,W,H such as 10,20,64,64, or the name of a file".into()))
        }
        None => Ok(MaskArg::File(text.into())),
    }
}

impl Rectangle {
    /// `None` if the text is not four numbers.
    fn parse(text: &str) -> Option<Result<Self>> {
        let (sides, frames) = match text.split_once('@') {
            Some((sides, frames)) => (sides, Some(frames)),
            None => (text, None),
        };
        let numbers: Option<Vec<usize>> = sides.split(',').map(|number| number.trim().parse().ok()).collect();
        let [left, top, width, height] = numbers?.try_into().ok()?;
        let ends = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            Some([from.trim().parse().ok()?, to.trim().parse().ok()?])
        };
        let wrong = |text: &str| Err(Error::Usage(text.to_owned()));
        let frames = match frames.map(ends) {
            None => None,
            Some(Some([from, to])) if from <= to => Some([from, to]),
            Some(_) => return Some(wrong("expected the first and the last frame behind @, such as 10,20,64,64@0-16")),
        };
        if width == 0 || height == 0 {
            return Some(wrong("the rectangle has no pixels; expected X,Y,W,H such as 10,20,64,64"));
        }
        Some(Ok(Self { left, top, width, height, frames }))
    }

    /// Fails unless it lies in a clip of `frames` frames like the input's.
    fn check(self, cut: &Cut) -> Result<()> {
        let Self { left, top, width, height, frames } = self;
        let (rows, columns) = (cut.from.height, cut.from.width);
        let inside = |start: usize, len: usize, side: usize| start.checked_add(len).is_some_and(|end| end <= side);
        if !inside(left, width, columns) || !inside(top, height, rows) {
            return Err(Error::Usage(format!(
                "the mask {width}x{height} (width x height) at {left},{top} reaches beyond the input, which is {columns} pixels wide and {rows} high"
            )));
        }
        match frames {
            Some([from, to]) if to >= cut.clip.frames => Err(Error::Usage(format!(
                "the mask is for the frames {from} to {to}, and the last frame of the clip is {}",
                cut.clip.frames - 1
            ))),
            _ => Ok(()),
        }
    }

    /// A frame of the input, white in the rectangle.
    fn draw(self, cut: &Cut) -> Vec<u8> {
        let columns = cut.from.width;
        let white = |index: usize| {
            let (row, column) = (index / columns, index % columns);
            (self.top..self.top + self.height).contains(&row) && (self.left..self.left + self.width).contains(&column)
        };
        (0..cut.from.height * columns).flat_map(|index| [if white(index) { 255 } else { 0 }; 3]).collect()
    }
}

impl MaskArg {
    /// The file that is read.
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    /// The option's value, for a later run in any folder.
    pub fn noted(&self) -> Option<String> {
        match self {
            Self::File(path) => noted_path(path),
            Self::Rectangle(Rectangle { left, top, width, height, frames }) => {
                let frames = frames.map_or_else(String::new, |[from, to]| format!("@{from}-{to}"));
                Some(format!("{left},{top},{width},{height}{frames}"))
            }
        }
    }

    /// The mask of a clip, cut as the clip was.
    pub fn read(&self, cut: &Cut, feather: usize, console: &Console) -> Result<Mask> {
        let inside = match self {
            Self::File(path) => interrupt::while_reading(|| read_file(path, cut, console))?,
            Self::Rectangle(rectangle) => {
                rectangle.check(cut)?;
                let shown = white(cut.fit.apply(rectangle.draw(cut)));
                let hidden = vec![false; shown.len()];
                let [from, to] = rectangle.frames.unwrap_or([0, cut.clip.frames]);
                let frames =
                    (0..cut.clip.frames).map(|frame| if (from..=to).contains(&frame) { &shown } else { &hidden });
                frames.flatten().copied().collect()
            }
        };
        let mask = Mask::new([cut.clip.frames, cut.clip.height, cut.clip.width], &inside, feather);
        if mask.keeps_all() {
            return Err(Error::Usage("the mask selects no pixel of the clip, so nothing would change".into()));
        }
        Ok(mask)
    }
}

/// The white pixels of a file's frames; an image counts for all frames of the clip.
fn read_file(path: &Path, cut: &Cut, console: &Console) -> Result<Vec<bool>> {
    let frames = cut.clip.frames;
    let mut reader = Reader::open(path, &ReadOptions { max_frames: Some(frames + 1), ..ReadOptions::default() })?;
    let (found, input) = (reader.info(), cut.from);
    let sides = [found.height, found.width];
    let as_input = sides == [input.height, input.width];
    if !as_input && sides != [cut.clip.height, cut.clip.width] {
        return Err(Error::media(
            path,
            format!(
                "has {}x{} pixels; expected a mask of the input's size, {}x{}",
                found.height, found.width, input.height, input.width
            ),
        ));
    }
    let mut inside = Vec::new();
    for frame in reader.by_ref() {
        let frame = frame?;
        inside.push(white(if as_input { cut.fit.apply(frame) } else { frame }));
    }
    reader.notices().iter().for_each(|notice| console.warning(&format!("{}: {notice}", path.display())));
    if inside.len() > frames {
        inside.truncate(frames);
        console.note(&format!(
            "{}: has more frames than the {frames} of the clip; the others are left out",
            path.display()
        ));
    }
    match inside.len() {
        1 => Ok(inside.iter().cycle().take(frames).flatten().copied().collect()),
        count if count == frames => Ok(inside.concat()),
        count => Err(Error::media(
            path,
            format!("has {count} frames, and a mask must be an image or have the clip's {frames} frames"),
        )),
    }
}

/// Which pixels `[H, W, 3]` are lighter than the middle grey.
fn white(rgb: Vec<u8>) -> Vec<bool> {
    rgb.chunks_exact(3).map(|pixel| pixel.iter().map(|&value| u32::from(value)).sum::<u32>() >= 3 * 128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_a_rectangle_or_a_file() {
        let rectangle =
            |left, top, width, height, frames| MaskArg::Rectangle(Rectangle { left, top, width, height, frames });
        let parsed = |text: &str| parse(text.into()).unwrap();
        assert_eq!(parsed("1,2,3,4"), rectangle(1, 2, 3, 4, None));
        assert_eq!(parsed("0, 0, 64, 64@0-16"), rectangle(0, 0, 64, 64, Some([0, 16])));
        assert_eq!(parsed("1,2,3,4@5"), rectangle(1, 2, 3, 4, Some([5, 5])));
        for file in ["mask.png", "a@b.png", "1,2,3.png", "12"] {
            assert_eq!(parsed(file), MaskArg::File(file.into()));
        }
        for wrong in ["1,2,3", "1,2,3,4,5", "1,2,3,-4", "1,2,0,4", "1,2,3,0", "1,2,3,4@", "1,2,3,4@5-4", "1,2,3,4@x"] {
            assert!(parse(wrong.into()).is_err(), "{wrong}");
        }
        for text in ["1,2,3,4", "1,2,3,4@5-6"] {
            assert_eq!(parsed(text).noted().unwrap(), text);
        }
    }
}
