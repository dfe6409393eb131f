//! Contact sheets, which show several clips in one, and strips: frames of a clip in one image, for texts without
//! videos.

use super::{Clip, VideoInfo};
use crate::error::{Error, Result};

/// Colour of the gaps.
const BACKGROUND: u8 = 0;

/// Puts `clips`, all of one size, into a grid, `gap` pixels apart. The grid is as close to a square as their number
/// allows. The sheet has the length of the longest clip and the rate of the first; shorter clips hold their last frame.
/// One-frame clips make a one-frame sheet.
///
/// # Errors
/// [`Error::Usage`] for no clips, [`Error::Shape`] for clips of different sizes.
pub fn contact_sheet(clips: &[Clip], gap: usize) -> Result<Clip> {
    let Some(first) = clips.first() else { return Err(Error::Usage("a contact sheet needs at least one clip".into())) };
    if let Some(odd) = clips.iter().find(|clip| (clip.height, clip.width) != (first.height, first.width)) {
        return Err(Error::Shape {
            op: "contact sheet",
            argument: "clips",
            expected: format!("{}x{} frames like the first", first.height, first.width),
            found: format!("{}x{}", odd.height, odd.width),
        });
    }
    let columns = columns(clips.len());
    let frames = clips.iter().map(|clip| clip.frames).max().unwrap_or(1);
    let cells = |time: usize| clips.iter().map(move |clip| clip.frame(time.min(clip.frames - 1)));
    let sheet = (0..frames).flat_map(|time| grid(cells(time), first.info(), columns, gap));
    let pixels: Vec<u8> = sheet.collect();
    Clip::new(size(first.info(), clips.len(), gap), pixels)
}

/// The number of columns of a contact sheet of `count` clips.
pub fn columns(count: usize) -> usize {
    (1..=count).find(|side| side * side >= count).unwrap_or(1)
}

/// Size and rate of the contact sheet of `count` clips like `cell`, `gap` pixels apart.
pub fn size(cell: VideoInfo, count: usize, gap: usize) -> VideoInfo {
    let columns = columns(count);
    let (width, height) = grid_size(cell, columns, count.div_ceil(columns), gap);
    VideoInfo { width, height, fps: cell.fps }
}

/// `count` frames of `clip`, evenly spaced from the first to the last, in a row, `gap` pixels apart: a one-frame clip.
///
/// # Errors
/// [`Error::Usage`] for no frames.
pub fn strip(clip: &Clip, count: usize, gap: usize) -> Result<Clip> {
    tiled(&spaced(clip, count)?, count, gap)
}

/// `count` frames of `clip`, evenly spaced from the first to the last.
///
/// # Errors
/// [`Error::Usage`] for no frames.
pub fn spaced(clip: &Clip, count: usize) -> Result<Clip> {
    if count == 0 {
        return Err(Error::Usage("a strip needs at least one frame".into()));
    }
    let spaces = (count - 1).max(1);
    let frames = (0..count).flat_map(|index| clip.frame((index * (clip.frames - 1) + spaces / 2) / spaces));
    Clip::new(clip.info(), frames.copied().collect())
}

/// All frames of `clip` in rows of `columns`, `gap` pixels apart: a one-frame clip.
///
/// # Errors
/// [`Error::Usage`] for no columns.
pub fn tiled(clip: &Clip, columns: usize, gap: usize) -> Result<Clip> {
    if columns == 0 {
        return Err(Error::Usage("a sheet needs at least one column".into()));
    }
    let pixels = grid(clip.iter(), clip.info(), columns, gap);
    let (width, height) = grid_size(clip.info(), columns, clip.frames.div_ceil(columns), gap);
    Clip::new(VideoInfo { width, height, fps: clip.fps }, pixels)
}

/// (width, height) of a grid.
fn grid_size(cell: VideoInfo, columns: usize, rows: usize, gap: usize) -> (usize, usize) {
    (columns * (cell.width + gap) - gap, rows * (cell.height + gap) - gap)
}

fn grid<'a>(cells: impl ExactSizeIterator<Item = &'a [u8]>, cell: VideoInfo, columns: usize, gap: usize) -> Vec<u8> {
    let (width, height) = grid_size(cell, columns, cells.len().div_ceil(columns), gap);
    let mut pixels = vec![BACKGROUND; width * height * 3];
    for (index, frame) in cells.enumerate() {
        let (top, left) = (index / columns * (cell.height + gap), index % columns * (cell.width + gap));
        for (row, line) in frame.chunks_exact(cell.width * 3).enumerate() {
            let at = ((top + row) * width + left) * 3;
            pixels[at..at + line.len()].copy_from_slice(line);
        }
    }
    pixels
}
