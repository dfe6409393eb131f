//! `kernels/norm.cu`: the kernels by warps, by blocks and the ragged ones, with means far from zero.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::{half_values, rounded};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
enum Norm {
    Ada { samples: usize, gap: usize },
    Layer,
    Rms,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    norm: Norm,
    rows: usize,
    channels: usize,
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let &Self { norm, rows, channels } = self;
        let mut x = half_values(1, rows * channels, half);
        for (row, x) in x.chunks_exact_mut(channels).enumerate() {
            x.iter_mut().for_each(|value| *value += (row % 7) as f32 - 3.0);
        }
        let x = backend.upload(&rounded(&x, half))?;
        let mut out = backend.alloc(rows * channels)?;
        let vector = |seed| {
            let tensor = Tensor::from_f32(&[channels], &half_values(seed, channels, half));
            backend.weight(vec![tensor])
        };
        match norm {
            Norm::Ada { samples, gap } => {
                let op = AdaLayerNorm {
                    rows,
                    channels,
                    eps: 1e-6,
                    rows_per_modulation: rows / samples,
                    modulation_stride: 3 * channels + gap,
                    shift: gap,
                    scale: 2 * channels,
                };
                let modulation = backend.upload(&half_values(2, samples * op.modulation_stride, half))?;
                backend.ada_layer_norm(&op, AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut out })?;
            }
            Norm::Layer => {
                let op = LayerNorm { rows, channels, eps: 1e-5 };
                let (weight, bias) = (vector(3)?, vector(4)?);
                backend.layer_norm(&op, LayerNormArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })?;
            }
            Norm::Rms => {
                let op = RmsNorm { rows, channels, eps: 1e-6 };
                backend.rms_norm(&op, RmsNormArgs { x: &x, weight: &vector(3)?, out: &mut out })?;
            }
        }
        host(backend, &out)
    }
}

fn check(trial: &mut Trial, norm: Norm, sizes: &[(usize, usize)]) -> Result<()> {
    for &(rows, channels) in sizes {
        let case = Case { norm, rows, channels };
        trial.against_the_cpu(&case)?;
    }
    Ok(())
}

/// Sizes for each kernel; fewer rows than a block takes, and more.
const SIZES: [(usize, usize); 9] =
    [(1, 8), (9, 144), (17, 1152), (3, 1280), (2, 1288), (3, 4096), (1, 8192), (5, 7), (2, 1153)];

fn layer_norm_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(trial, Norm::Layer, &SIZES)
}

fn rms_norm_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(trial, Norm::Rms, &SIZES)
}

fn ada_layer_norm_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(trial, Norm::Ada { samples: 1, gap: 8 }, &SIZES)?;
    check(trial, Norm::Ada { samples: 2, gap: 0 }, &[(18, 1152), (4, 4096), (6, 45)])?;
    check(trial, Norm::Ada { samples: 3, gap: 5 }, &[(9, 1152), (3, 2304)])
}

/// The tokens of 17 frames, and of a caption.
pub(super) fn work() -> Vec<Work> {
    vec![
        Work::of(
            "17,408 tokens of 1,152, modulated",
            Case { norm: Norm::Ada { samples: 1, gap: 0 }, rows: 17_408, channels: 1152 },
        ),
        Work::of("120 tokens of 4,096, RMS", Case { norm: Norm::Rms, rows: 120, channels: 4096 }),
    ]
}

checks! {
    layer_norm_agrees_with_the_cpu,
    rms_norm_agrees_with_the_cpu,
    ada_layer_norm_agrees_with_the_cpu,
}
