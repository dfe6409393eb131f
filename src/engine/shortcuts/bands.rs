//! Low spatial frequencies of a latent, on the host.

use rayon::prelude::*;
use std::f64::consts::TAU;

/// The share of the shorter side's length below which a frequency is low: a fifth, as in FasterCache. There the low frequencies
/// lie in a disc, here in a square, so that rows and columns are filtered one after the other.
const LOW: usize = 5;

/// Keeps the low frequencies of the frames of a latent.
pub(super) struct LowPass {
    /// Rows, columns and channels of a frame.
    frame: [usize; 3],
    /// Matrices for the columns of a frame, and for its rows.
    down: Vec<f32>,
    across: Vec<f32>,
}

impl LowPass {
    /// For frames of these rows, columns and channels.
    pub fn new(frame: [usize; 3]) -> Self {
        let [height, width, _] = frame;
        let most = height.min(width) / LOW;
        Self { frame, down: matrix(height, most), across: matrix(width, most) }
    }

    /// The part of `values [T, height, width, channels]` that varies slowly in space.
    pub fn of(&self, values: &[f32]) -> Vec<f32> {
        let [_, width, channels] = self.frame;
        let frame_len = self.frame.iter().product();
        let mut low = vec![0.0; values.len()];
        let frames = low.par_chunks_exact_mut(frame_len).zip(values.par_chunks_exact(frame_len));
        // A rehearsal has zeros, and many calls.
        frames.filter(|(_, frame)| frame.iter().any(|&value| value != 0.0)).for_each(|(out, frame)| {
            let mut filtered = vec![0.0; frame_len];
            for (row, out) in frame.chunks_exact(width * channels).zip(filtered.chunks_exact_mut(width * channels)) {
                apply(&self.across, row, channels, out);
            }
            apply(&self.down, &filtered, width * channels, out);
        });
        low
    }
}

/// The matrix that keeps the frequencies up to `most` of a line of `len` values: (1 + 2·Σ cos(2πk(i−j)/len)) / len.
fn matrix(len: usize, most: usize) -> Vec<f32> {
    // A frequency of half the length is its own mirror image.
    let weight = |k: usize| if 2 * k == len { 1.0 } else { 2.0 };
    let wave = |k: usize, distance: usize| weight(k) * (TAU * (k * distance % len) as f64 / len as f64).cos();
    let at = |distance: usize| (1.0 + (1..=most.min(len / 2)).map(|k| wave(k, distance)).sum::<f64>()) / len as f64;
    let by_distance: Vec<f32> = (0..len).map(|distance| at(distance) as f32).collect();
    (0..len * len).map(|index| by_distance[(index / len).abs_diff(index % len)]).collect()
}

/// `out [len, inner] = matrix [len, len] · x [len, inner]`.
fn apply(matrix: &[f32], x: &[f32], inner: usize, out: &mut [f32]) {
    let len = x.len() / inner;
    for (factors, out) in matrix.chunks_exact(len).zip(out.chunks_exact_mut(inner)) {
        for (factor, values) in factors.iter().zip(x.chunks_exact(inner)) {
            out.iter_mut().zip(values).for_each(|(out, value)| *out += factor * value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave of `down` and `across` periods in 10 rows and 15 columns, in the second of two channels.
    fn wave([down, across]: [usize; 2]) -> Vec<f32> {
        let value = |index: usize| {
            let (channel, column, row) = (index % 2, index / 2 % 15, index / 30 % 10);
            let phase = (down * row) as f64 / 10.0 + (across * column) as f64 / 15.0;
            if channel == 1 { (TAU * phase).sin() as f32 + 0.5 } else { 0.25 }
        };
        (0..2 * 10 * 15 * 2).map(value).collect()
    }

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn slow_waves_pass_and_fast_ones_leave_their_mean() {
        let low = |values: &[f32]| LowPass::new([10, 15, 2]).of(values);
        for slow in [[0, 0], [1, 0], [2, 2], [0, 2]] {
            assert!(near(&low(&wave(slow)), &wave(slow)), "{slow:?}");
        }
        let mean: Vec<f32> = (0..600).map(|index| if index % 2 == 1 { 0.5 } else { 0.25 }).collect();
        // Half a period a row is a sine of zeros.
        for fast in [[3, 0], [0, 3], [5, 0], [4, 7]] {
            assert!(near(&low(&wave(fast)), &mean), "{fast:?}");
        }
    }

    #[test]
    fn tiny_frames_keep_their_mean() {
        assert!(near(&LowPass::new([2, 2, 1]).of(&[1.0, 3.0, 5.0, 7.0]), &[4.0; 4]));
        assert!(near(&LowPass::new([1, 1, 2]).of(&[1.0, 3.0]), &[1.0, 3.0]));
    }
}
