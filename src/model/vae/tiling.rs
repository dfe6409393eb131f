//! Temporal rollback tiling: cuts a clip into windows and tiles.
//!
//! In time, each window begins with the last frame of the window before, and drops this frame from its output, because a causal
//! window treats its first frame as an image. In space, tiles overlap and are cross-faded. GroupNorm takes the statistics of one
//! tile of a window, so results depend on the windows. They are exactly the original's.

use super::{Factors, MOST_SIDE};
use crate::error::{Error, Result};
use std::ops::Range;

/// Sizes of the windows, in pixels and frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    /// Side of a tile in pixels.
    pub sample_size: usize,
    /// Frames of a window, 4k + 1.
    pub sample_frames: usize,
    /// Share of a tile's side that overlaps with the next.
    pub overlap: f64,
}

impl Default for Tiling {
    /// 65 frames of 256×256, a quarter overlapping, as the original.
    fn default() -> Self {
        Self { sample_size: 256, sample_frames: 65, overlap: 0.25 }
    }
}

/// One axis's window in latents and in pixels (or frames).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub latent: usize,
    pub sample: usize,
}

impl Tiling {
    /// Checks that windows are whole numbers of latents.
    ///
    /// # Errors
    /// [`Error::Usage`] names the value that does not fit, and a value that does.
    pub fn validate(&self, factors: Factors) -> Result<()> {
        let usage = |text: String| Err(Error::Usage(text));
        let Self { sample_size, sample_frames, overlap } = *self;
        let Factors { space, time, .. } = factors;
        if sample_size.max(sample_frames) > MOST_SIDE {
            return usage(format!(
                "tiles of {sample_frames} frames of {sample_size}x{sample_size} pixels; at most {MOST_SIDE}"
            ));
        }
        if sample_size == 0 || !sample_size.is_multiple_of(space) {
            return usage(format!("tile size {sample_size} is not a multiple of {space} pixels"));
        }
        if sample_frames <= time || !factors.takes_frames(sample_frames) {
            let below = factors.fewer_frames(sample_frames.max(time + 1));
            let above = below + time;
            return usage(format!(
                "tile frames {sample_frames} is not {time}k+1 with k ≥ 1; the nearest are {below} and {above}"
            ));
        }
        if !(0.0..1.0).contains(&overlap) {
            return usage(format!("tile overlap {overlap} is not at least 0 and below 1"));
        }
        let step = (sample_size / space) as f64 * (1.0 - overlap);
        if step < 1.0 || (step - step.round()).abs() > 1e-9 {
            let latents = sample_size / space;
            return usage(format!(
                "tile overlap {overlap} of {latents} latents is not a whole number of them; use a multiple of 1/{latents}"
            ));
        }
        Ok(())
    }

    /// Side of a tile.
    pub(super) fn space(&self, factor: usize) -> Sizes {
        Sizes { latent: self.sample_size / factor, sample: self.sample_size }
    }

    /// Length of a window.
    pub(super) fn time(&self, factor: usize) -> Sizes {
        Sizes { latent: (self.sample_frames - 1) / factor + 1, sample: self.sample_frames }
    }

    /// Part of a side of `window` that overlaps.
    pub(super) fn blend(&self, window: usize) -> usize {
        (window as f64 * self.overlap).round() as usize
    }

    /// Whether a clip needs more than one window along any axis.
    pub fn applies(&self, latent: [usize; 3], factors: Factors) -> bool {
        let space = self.space(factors.space).latent;
        latent[0] > self.time(factors.time).latent || latent[1] > space || latent[2] > space
    }
}

/// The frames of a clip that are complete when each window in time of its latent, of this size, is decoded.
pub(crate) fn window_ends(latent: [usize; 3], tiling: Option<Tiling>, factors: Factors) -> Vec<usize> {
    let tiling = tiling.filter(|tiling| tiling.applies(latent, factors));
    let windows = tiling.map(|tiling| time_windows(latent[0], tiling.time(factors.time).latent));
    let ends = windows.map_or(vec![latent[0]], |windows| windows.iter().map(|window| window.end).collect());
    ends.into_iter().map(|end| factors.frames(end)).collect()
}

/// Cuts `len` frames into windows of `window` frames; each begins with the last frame of the window before.
pub(super) fn time_windows(len: usize, window: usize) -> Vec<Range<usize>> {
    let step = window - 1;
    let starts: Vec<usize> = (0..len).step_by(step).collect();
    let mut windows: Vec<_> = starts.windows(2).map(|pair| pair[0]..(pair[1] + 1).min(len)).collect();
    if windows.last().is_none_or(|last| last.end < len) {
        windows.push(starts[starts.len() - 1]..len);
    }
    windows
}

/// Cuts a side of `len` into tiles of `window`; each starts `window − blend` after the one before.
pub(super) fn space_tiles(len: usize, window: usize, blend: usize) -> Vec<Range<usize>> {
    (0..len).step_by(window - blend).map(|start| start..(start + window).min(len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_the_published_lengths() {
        assert_eq!(time_windows(56, 17), [0..17, 16..33, 32..49, 48..56]);
        assert_eq!(time_windows(18, 17), [0..17, 16..18]);
        for fits in [1, 16, 17] {
            assert_eq!(time_windows(fits, 17), std::slice::from_ref(&(0..fits)));
        }
    }

    #[test]
    fn windows_end_with_frames_of_the_clip() {
        let ends = |latent, tiling| window_ends(latent, tiling, Factors::PUBLISHED);
        assert_eq!(ends([56, 64, 64], Some(Tiling::default())), [65, 129, 193, 221]);
        assert_eq!(ends([56, 64, 64], None), [221]);
        assert_eq!(ends([1, 32, 32], Some(Tiling::default())), [1]);
    }

    #[test]
    fn a_side_that_fits_still_gives_two_tiles() {
        assert_eq!(space_tiles(32, 32, 8), [0..32, 24..32]);
        assert_eq!(space_tiles(64, 32, 8), [0..32, 24..56, 48..64]);
    }

    #[test]
    fn refuses_windows_that_are_not_whole_latents() {
        let tiling = |sample_size, sample_frames, overlap| {
            Tiling { sample_size, sample_frames, overlap }.validate(Factors::PUBLISHED)
        };
        assert!(tiling(256, 65, 0.25).is_ok());
        assert!(tiling(32, 9, 0.5).is_ok());
        assert!(tiling(250, 65, 0.25).is_err());
        assert!(tiling(256, 64, 0.25).is_err());
        assert!(tiling(256, 1, 0.25).is_err());
        assert!(tiling(256, 65, 0.3).is_err());
        assert!(tiling(256, 65, 1.0).is_err());
        assert!(tiling(256, 65, f64::NAN).is_err());
    }
}
