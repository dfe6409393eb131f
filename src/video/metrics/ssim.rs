//! Structural similarity.

use super::{Scores, same_shape};
use crate::error::Result;
use crate::video::Clip;
use rayon::prelude::*;
use std::collections::VecDeque;

/// Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004): windows of 11×11 with Gaussian weights, σ = 1.5,
/// K₁ = 0.01, K₂ = 0.03, only windows inside the frame; the mean over R, G and B. The overall value is the mean over
/// frames. In frames of less than 11 pixels, the window has the largest odd size that fits. 1 for equal frames.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the clips differ in size or number of frames.
pub fn ssim(a: &Clip, b: &Clip) -> Result<Scores> {
    same_shape("ssim", a, b)?;
    let size = [a.height, a.width];
    let frame =
        |index| (0..3).map(|channel| ssim_plane(a.frame(index), b.frame(index), channel, size)).sum::<f64>() / 3.0;
    let frames: Vec<f64> = (0..a.frames).into_par_iter().map(frame).collect();
    let overall = frames.iter().sum::<f64>() / a.frames as f64;
    Ok(Scores { frames, overall })
}

const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// (K₁·255)² and (K₂·255)².
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;

/// Gaussian weights of the window along a side of `size` pixels; their sum is 1.
fn window(size: usize) -> Vec<f64> {
    let taps = size.min(WINDOW).next_multiple_of(2) - 1;
    let centre = (taps / 2) as f64;
    let weights: Vec<f64> =
        (0..taps).map(|tap| (-(tap as f64 - centre).powi(2) / (2.0 * SIGMA * SIGMA)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The mean over all windows of one channel. The Gaussian is separable: a row of windows is summed down its columns
/// first, then along the row. Both sums work on whole rows, which the compiler turns into vector instructions.
fn ssim_plane(a: &[u8], b: &[u8], channel: usize, [height, width]: [usize; 2]) -> f64 {
    let (down, along) = (window(height), window(width));
    let line = |row: usize| {
        let row = row * width * 3..(row + 1) * width * 3;
        moments(&a[row.clone()], &b[row], channel)
    };
    let (rows, columns) = (height + 1 - down.len(), width + 1 - along.len());
    let mut lines: VecDeque<Vec<f64>> = (0..down.len() - 1).map(line).collect();
    let (mut sums, mut windows) = (vec![0.0; width * MOMENTS], vec![0.0; columns * MOMENTS]);
    let mut total = 0.0;
    for last in down.len() - 1..height {
        lines.push_back(line(last));
        sums.fill(0.0);
        lines.iter().zip(&down).for_each(|(line, &weight)| add_scaled(&mut sums, line, weight));
        windows.fill(0.0);
        for (tap, &weight) in along.iter().enumerate() {
            add_scaled(&mut windows, &sums[tap * MOMENTS..], weight);
        }
        total += windows.chunks_exact(MOMENTS).map(similarity).sum::<f64>();
        lines.pop_front();
    }
    total / (rows * columns) as f64
}

/// The number of means over a window: of a, b, a² + b² (only the sum of the variances is needed) and ab.
const MOMENTS: usize = 4;

/// The moments of each pixel of a row.
fn moments(a: &[u8], b: &[u8], channel: usize) -> Vec<f64> {
    let pixels = a.chunks_exact(3).zip(b.chunks_exact(3));
    let of = |(a, b): (&[u8], &[u8])| {
        let (a, b) = (f64::from(a[channel]), f64::from(b[channel]));
        [a, b, a * a + b * b, a * b]
    };
    pixels.flat_map(of).collect()
}

fn add_scaled(sums: &mut [f64], values: &[f64], weight: f64) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// SSIM of one window, from its mean moments.
fn similarity(moments: &[f64]) -> f64 {
    let &[a, b, squares, product] = moments else { unreachable!("windows have four moments") };
    let means = a * a + b * b;
    (2.0 * a * b + C1) * (2.0 * (product - a * b) + C2) / ((means + C1) * (squares - means + C2))
}
