//! Peak signal-to-noise ratio.

use super::{Scores, same_shape};
use crate::error::{Error, Result};
use crate::video::Clip;
use rayon::prelude::*;

/// Peak signal-to-noise ratio in dB, 10·log₁₀(255² / mean squared error), with the error over all pixels and channels.
/// The overall value uses the error over all frames, so it is not the mean of the frames' ratios. Infinite for equal
/// frames.
///
/// # Errors
/// [`Error::Shape`] if the clips differ in size or number of frames.
pub fn psnr(a: &Clip, b: &Clip) -> Result<Scores> {
    same_shape("psnr", a, b)?;
    let bytes = a.info().frame_bytes();
    Ok(scores(a.frames, |frame| SquaredError { squares: squares(a.frame(frame), b.frame(frame)), values: bytes }))
}

/// As [`psnr`], with the error over the selected pixels only: `selected` is `[frames, height, width]`. NaN for a frame
/// without a selected pixel; such a frame adds nothing to the overall value.
///
/// # Errors
/// [`Error::Shape`] if the clips differ in size or number of frames, or the selection is not one value for each pixel.
pub fn psnr_where(a: &Clip, b: &Clip, selected: &[bool]) -> Result<Scores> {
    same_shape("psnr", a, b)?;
    let pixels = a.height * a.width;
    if selected.len() != a.frames * pixels {
        return Err(Error::Shape {
            op: "psnr",
            argument: "selection",
            expected: format!("{}x{}x{} values, one for each pixel", a.frames, a.height, a.width),
            found: format!("{} values", selected.len()),
        });
    }
    Ok(scores(a.frames, |frame| {
        let pairs = a.frame(frame).chunks_exact(3).zip(b.frame(frame).chunks_exact(3));
        let pairs = pairs.zip(&selected[frame * pixels..]).filter(|(_, selected)| **selected);
        pairs.fold(SquaredError::default(), |sum, ((a, b), _)| SquaredError {
            squares: sum.squares + squares(a, b),
            values: sum.values + 3,
        })
    }))
}

/// The sum of the squared errors of some values, in levels of 0…255.
#[derive(Clone, Copy, Default)]
struct SquaredError {
    squares: u64,
    values: usize,
}

impl SquaredError {
    /// The ratio in dB. Neither error nor values give 0 / 0, which is NaN.
    fn decibels(self) -> f64 {
        10.0 * (255f64.powi(2) * self.values as f64 / self.squares as f64).log10()
    }
}

fn scores(frames: usize, error: impl Fn(usize) -> SquaredError + Send + Sync) -> Scores {
    let errors: Vec<SquaredError> = (0..frames).into_par_iter().map(error).collect();
    let all = SquaredError {
        squares: errors.iter().map(|error| error.squares).sum(),
        values: errors.iter().map(|error| error.values).sum(),
    };
    Scores { frames: errors.iter().map(|error| error.decibels()).collect(), overall: all.decibels() }
}

/// The sum of the squared differences.
pub(super) fn squares(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum()
}
