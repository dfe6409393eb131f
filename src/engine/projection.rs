//! Fits the projection of latents to colours ([`Projection`]) to a model's VAE, by least squares.
//!
//! The VAE encodes a few smooth images. Each position of their latents is a sample: its channels, and the mean colour of
//! its pixels.

use super::{Coding, Engine, Observer};
use crate::checkpoint::Model;
use crate::error::{Error, Relief, Result};
use crate::model::vae::Projection;
use crate::video::{Clip, FrameRate, VideoInfo};
use std::f32::consts::PI;
use std::ops::Range;

/// Rows and columns of positions of an image.
const SIDE: usize = 16;
/// For each image, the half waves of red, green and blue, down and across. Each colour is a cosine of its own, so an image holds
/// nearly all colours, and the images differ in how fast they change.
const IMAGES: [[[usize; 2]; 3]; 3] = [[[1, 0], [0, 1], [1, 1]], [[0, 2], [1, 1], [2, 0]], [[2, 3], [3, 0], [1, 2]]];
/// What is added to the channels' variances, relative to their mean: a channel that hardly varies gets hardly any weight.
const RIDGE: f64 = 1e-6;

impl Engine {
    /// Fits a projection to the model's VAE: its encoder runs on three images of 16×16 positions, which are three stages for the
    /// observer, and for a memory limit.
    ///
    /// # Errors
    /// Those of [`Engine::encode`].
    pub fn fit_projection(&self, model: &Model, observer: &mut dyn Observer) -> Result<Projection> {
        let factors = model.factors()?;
        let coding = Coding { tiling: None, seed: None };
        let (mut latents, mut colours) = (Vec::new(), Vec::new());
        for waves in &IMAGES {
            let clip = image(waves, SIDE * factors.space)?;
            latents.extend(self.encode(model, &clip, coding, observer).map_err(of_previews)?.0.values);
            colours.extend(means(&clip, factors.space));
        }
        Ok(least_squares(&latents, &colours, factors.channels))
    }
}

/// Only more memory helps the small images; the sizes that a user chooses do not.
fn of_previews(error: Error) -> Error {
    match error {
        Error::OutOfMemory { needed, free, .. } => {
            Error::OutOfMemory { stage: "previews".into(), needed, free, relief: Relief::Limit }
        }
        other => other,
    }
}

/// A square image of these waves.
fn image(waves: &[[usize; 2]; 3], side: usize) -> Result<Clip> {
    let wave = |count: usize, at: usize| (PI * count as f32 * (at as f32 + 0.5) / side as f32).cos();
    let pixel = |index: usize| {
        let (row, column) = (index / side, index % side);
        waves.map(|[down, across]| (127.5 + 127.5 * wave(down, row) * wave(across, column)).round() as u8)
    };
    let pixels = (0..side * side).flat_map(pixel).collect();
    Clip::new(VideoInfo { width: side, height: side, fps: FrameRate::default() }, pixels)
}

/// The mean colours, from 0 to 1, of squares of `space` pixels a side.
fn means(clip: &Clip, space: usize) -> Vec<[f32; 3]> {
    let (rows, columns) = (clip.height / space, clip.width / space);
    let mean = |index: usize| {
        let (top, left) = (index / columns * space, index % columns * space);
        let byte = |pixel: usize, colour: usize| {
            let (row, column) = (top + pixel / space, left + pixel % space);
            f32::from(clip.pixels[(row * clip.width + column) * 3 + colour])
        };
        let sum = |colour| (0..space * space).map(|pixel| byte(pixel, colour)).sum::<f32>();
        std::array::from_fn(|colour| sum(colour) / (255 * space * space) as f32)
    };
    (0..rows * columns).map(mean).collect()
}

/// The projection of latents `[N, channels]` with the least squared distance to `colours`. The means are taken off first, so the
/// ridge pulls the weights towards 0 and the bias towards the mean colour.
fn least_squares(latents: &[f32], colours: &[[f32; 3]], channels: usize) -> Projection {
    let count = colours.len() as f64;
    let (mut latent_mean, mut colour_mean) = (vec![0.0; channels], [0.0; 3]);
    for (position, colour) in latents.chunks_exact(channels).zip(colours) {
        position.iter().zip(&mut latent_mean).for_each(|(value, mean)| *mean += f64::from(*value) / count);
        colour.iter().zip(&mut colour_mean).for_each(|(value, mean)| *mean += f64::from(*value) / count);
    }
    let (mut squares, mut products) = (vec![0.0; channels * channels], vec![[0.0; 3]; channels]);
    for (position, colour) in latents.chunks_exact(channels).zip(colours) {
        let latent: Vec<f64> =
            position.iter().zip(&latent_mean).map(|(value, mean)| f64::from(*value) - mean).collect();
        let colour: [f64; 3] = std::array::from_fn(|i| f64::from(colour[i]) - colour_mean[i]);
        for (i, value) in latent.iter().enumerate() {
            (0..channels).for_each(|j| squares[i * channels + j] += value * latent[j]);
            (0..3).for_each(|j| products[i][j] += value * colour[j]);
        }
    }
    let weights = solve(squares, products);
    let bias =
        |i: usize| colour_mean[i] - weights.iter().zip(&latent_mean).map(|(row, mean)| row[i] * mean).sum::<f64>();
    Projection {
        weights: std::array::from_fn(|i| weights.iter().map(|row| row[i] as f32).collect()),
        bias: std::array::from_fn(|i| bias(i) as f32),
    }
}

/// Solves (A + ridge)·x = b for a symmetric A `[n, n]` without negative eigenvalues, by Cholesky's method. Zeros for A = 0.
fn solve(mut a: Vec<f64>, mut b: Vec<[f64; 3]>) -> Vec<[f64; 3]> {
    let n = b.len();
    let mean = (0..n).map(|i| a[i * n + i]).sum::<f64>() / n as f64;
    if mean <= 0.0 {
        return vec![[0.0; 3]; n];
    }
    (0..n).for_each(|i| a[i * n + i] += RIDGE * mean);
    // The lower triangle becomes L of A = L·Lᵀ.
    for j in 0..n {
        for i in j..n {
            let known: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - known;
            // Without rounding, the diagonal is at least the ridge.
            a[i * n + j] = if i == j { rest.max(RIDGE * RIDGE * mean).sqrt() } else { rest / a[j * n + j] };
        }
    }
    // First L·y = b, then Lᵀ·x = y.
    let next = |b: &[[f64; 3]], i: usize, known: Range<usize>| {
        let factor = |k: usize| a[i.max(k) * n + i.min(k)];
        std::array::from_fn(|c| (b[i][c] - known.clone().map(|k| factor(k) * b[k][c]).sum::<f64>()) / factor(i))
    };
    (0..n).for_each(|i| b[i] = next(&b, i, 0..i));
    (0..n).rev().for_each(|i| b[i] = next(&b, i, i + 1..n));
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::TorchRng;

    /// Latents of `count` positions, and the colours that `projection` gives them.
    fn samples(projection: &Projection, count: usize, seed: u64) -> (Vec<f32>, Vec<[f32; 3]>) {
        let channels = projection.weights[0].len();
        let latents = TorchRng::new(seed).randn(count * channels);
        let colour = |position: &[f32]| {
            std::array::from_fn(|i| {
                let weighted = projection.weights[i].iter().zip(position).map(|(weight, value)| weight * value);
                weighted.sum::<f32>() + projection.bias[i]
            })
        };
        let colours = latents.chunks_exact(channels).map(colour).collect();
        (latents, colours)
    }

    fn furthest(a: &Projection, b: &Projection) -> f32 {
        let values = |of: &Projection| of.weights.iter().flatten().chain(&of.bias).copied().collect::<Vec<_>>();
        values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_known_projection_is_found_again() {
        for channels in [1, 4, 16, 48] {
            let mut values = TorchRng::new(7).randn(3 * channels).into_iter();
            let weights = std::array::from_fn(|_| values.by_ref().take(channels).collect());
            let known = Projection { weights, bias: [0.5, -0.25, 1.0] };
            let (latents, colours) = samples(&known, 3 * SIDE * SIDE, 1);
            let found = least_squares(&latents, &colours, channels);
            assert!(furthest(&found, &known) < 1e-4, "{channels} channels: {found:?}");
        }
    }

    #[test]
    fn channels_that_tell_nothing_get_small_weights() {
        let known = Projection { weights: [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.5, 0.5]], bias: [0.25; 3] };
        let (latents, colours) = samples(&known, 256, 2);
        // The second channel twice, one that is always 3, and one of zeros.
        let more: Vec<f32> = latents.chunks_exact(2).flat_map(|pair| [pair[0], pair[1], pair[1], 3.0, 0.0]).collect();
        let found = least_squares(&more, &colours, 5);
        let expected = [vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![0.0, 0.5, 0.5, 0.0, 0.0], vec![0.5, 0.25, 0.25, 0.0, 0.0]];
        assert!(furthest(&found, &Projection { weights: expected, bias: [0.25; 3] }) < 1e-3, "{found:?}");
        // Nothing is known but the mean.
        let found = least_squares(&[2.0; 6], &[[0.0, 0.5, 1.0], [0.5; 3], [1.0, 0.5, 0.0]], 2);
        let grey = Projection { weights: std::array::from_fn(|_| vec![0.0; 2]), bias: [0.5; 3] };
        assert!(furthest(&found, &grey) < 1e-6, "{found:?}");
    }

    #[test]
    fn images_hold_many_colours_and_their_means_are_those_of_squares() {
        for waves in &IMAGES {
            let clip = image(waves, 2 * SIDE).unwrap();
            for colour in 0..3 {
                let bytes = clip.pixels.iter().skip(colour).step_by(3);
                assert!(*bytes.clone().min().unwrap() < 8 && *bytes.max().unwrap() > 247);
            }
        }
        let info = VideoInfo { width: 4, height: 2, fps: FrameRate::default() };
        let pixels = [[255, 0, 0], [255, 0, 51], [0; 3], [0; 3], [255, 0, 0], [255, 0, 51], [0; 3], [0, 102, 0]];
        let found = means(&Clip::new(info, pixels.concat()).unwrap(), 2);
        assert_eq!(found, [[1.0, 0.0, 0.1], [0.0, 0.1, 0.0]]);
    }
}
