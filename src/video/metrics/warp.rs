//! Warp error: how far the frames of a clip are from being their neighbours, moved.
//!
//! A clip that flickers differs from frame to frame by more than its motion. [`Motion`] is estimated by block matching:
//! a block of a frame comes from the place of the frame before that is most similar to it.

use super::psnr::squares;
use super::same_shape;
use crate::error::Result;
use crate::video::Clip;
use rayon::prelude::*;
use std::ops::Range;

/// Rows and columns of pixels of a block.
const SIDE: usize = 8;
/// The farthest that a block moves between two frames, in rows and in columns of pixels.
const REACH: i8 = 7;
/// Bytes of a pixel.
const RGB: usize = 3;

/// The warp error of a clip along its own motion: see [`Motion::warp_error`]. `None` for a clip of one frame.
pub fn warp_error(clip: &Clip) -> Option<f64> {
    Motion::of(clip).mean_error(clip)
}

/// The warp error of `clip` along the motion of `motion_of`: see [`Motion::warp_error`]. `None` for clips of one frame.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the clips differ in size or number of frames.
pub fn warp_error_along(motion_of: &Clip, clip: &Clip) -> Result<Option<f64>> {
    same_shape("warp error", motion_of, clip)?;
    Ok(Motion::of(motion_of).mean_error(clip))
}

/// A displacement, in rows and columns of pixels: from a block to where it was in the frame before.
type Displacement = [i8; 2];

/// How the blocks of a clip move from each frame to the next.
pub struct Motion<'a> {
    clip: &'a Clip,
    /// `[frames - 1, blocks]`, blocks in the order of [`blocks`].
    displacements: Vec<Vec<Displacement>>,
}

impl<'a> Motion<'a> {
    /// Estimates the motion of `clip`. Blocks are 8×8 pixels, cut at the right and lower edge of a frame. They come from
    /// up to 7 rows and columns away, from inside the frame: from where the sum of absolute differences over R, G and B is
    /// least, and of equal sums from the least distance. A frame of 512×512 takes up to 177 million differences of bytes.
    pub fn of(clip: &'a Clip) -> Self {
        let size = [clip.height, clip.width];
        let order = nearest_first();
        let of_pair = |time: usize| {
            let pair = Pair { before: clip.frame(time), after: clip.frame(time + 1), width: clip.width };
            blocks(size).map(|block| pair.most_similar(&block, size, &order)).collect()
        };
        Self { clip, displacements: (0..clip.frames - 1).into_par_iter().map(of_pair).collect() }
    }

    /// The warp error of `clip` along this motion. For an edit of a clip, that is the motion of its source: an edit that
    /// keeps the motion has an error about as low as that of the source itself.
    ///
    /// The mean over pairs of neighbouring frames of the mean squared error between a frame and the frame before, moved,
    /// with values of 0…1 (E_warp of Lai et al. 2018, "Learning Blind Video Temporal Consistency"). 0 if nothing but
    /// motion changes the clip. `None` for a clip of one frame, which has no pair.
    ///
    /// It differs from the paper in two points, so compare it with itself only. The motion comes from block matching, not
    /// from a learned optical flow. And every pixel counts: no mask leaves out what the frame before did not show.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the clip differs in size or number of frames from that of the motion.
    pub fn warp_error(&self, clip: &Clip) -> Result<Option<f64>> {
        same_shape("warp error", self.clip, clip)?;
        Ok(self.mean_error(clip))
    }

    /// [`Self::warp_error`] of a clip of the same shape. All frames have equally many values, so the mean of their means
    /// is the mean of all values.
    fn mean_error(&self, clip: &Clip) -> Option<f64> {
        let of_pair = |(time, displacements): (usize, &Vec<Displacement>)| -> u64 {
            let pair = Pair { before: clip.frame(time), after: clip.frame(time + 1), width: clip.width };
            let moved = blocks([clip.height, clip.width]).zip(displacements);
            moved.map(|(block, &by)| pair.squares(&block, by)).sum()
        };
        let squares: u64 = self.displacements.par_iter().enumerate().map(of_pair).sum();
        let values = self.displacements.len() * clip.info().frame_bytes();
        (values > 0).then(|| squares as f64 / values as f64 / 255f64.powi(2))
    }
}

/// All displacements, the least first.
fn nearest_first() -> Vec<Displacement> {
    let mut all: Vec<_> = (-REACH..=REACH).flat_map(|down| (-REACH..=REACH).map(move |right| [down, right])).collect();
    all.sort_by_key(|[down, right]| down * down + right * right);
    all
}

/// The rows and columns of a frame that move together.
struct Block {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// The blocks of a frame.
fn blocks([height, width]: [usize; 2]) -> impl Iterator<Item = Block> {
    let cut = |start: usize, side: usize| start..(start + SIDE).min(side);
    (0..height).step_by(SIDE).flat_map(move |top| {
        (0..width).step_by(SIDE).map(move |left| Block { rows: cut(top, height), columns: cut(left, width) })
    })
}

impl Block {
    /// Whether the block lies inside a frame of this size after the displacement.
    fn stays_inside(&self, [down, right]: Displacement, [height, width]: [usize; 2]) -> bool {
        let inside = |range: &Range<usize>, by: i8, side: usize| {
            let moved = |at: usize| at.checked_add_signed(by.into());
            moved(range.start).is_some() && moved(range.end).is_some_and(|end| end <= side)
        };
        inside(&self.rows, down, height) && inside(&self.columns, right, width)
    }
}

/// Two neighbouring frames, `[H, W, 3]`.
struct Pair<'a> {
    before: &'a [u8],
    after: &'a [u8],
    width: usize,
}

impl Pair<'_> {
    /// The displacement to the place in the frame before that is most similar to the block.
    fn most_similar(&self, block: &Block, size: [usize; 2], order: &[Displacement]) -> Displacement {
        let (mut least, mut found) = (u32::MAX, [0, 0]);
        for &by in order.iter().filter(|&&by| block.stays_inside(by, size)) {
            let mut sum = 0;
            for (before, after) in self.rows(block, by) {
                sum += difference(before, after);
                // The rows that follow cannot make it less.
                if sum >= least {
                    break;
                }
            }
            if sum < least {
                (least, found) = (sum, by);
            }
        }
        found
    }

    /// The squared error of the block, if it comes from this displacement.
    fn squares(&self, block: &Block, by: Displacement) -> u64 {
        self.rows(block, by).map(|(before, after)| squares(before, after)).sum()
    }

    /// The rows of the block: each as it was at the displacement, and as it is.
    fn rows(&self, block: &Block, [down, right]: Displacement) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (columns, width) = (block.columns.clone(), self.width);
        block.rows.clone().map(move |row| {
            let bytes = |row: usize, column: usize| {
                let start = (row * width + column) * RGB;
                start..start + columns.len() * RGB
            };
            let (was, column) = (row.strict_add_signed(down.into()), columns.start.strict_add_signed(right.into()));
            (&self.before[bytes(was, column)], &self.after[bytes(row, columns.start)])
        })
    }
}

/// The sum of the absolute differences.
fn difference(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum()
}
