//! `kernels/norm.cu`: rows by warps, by blocks and ragged, with means far from zero.

use super::policy::{against_the_cpu, body, half_values, host, rounded};
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::norm::{AdaLayerNorm, LayerNorm, RmsNorm};
use osp::weights::Tensor;

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

impl Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let &Self { norm, rows, channels } = self;
        let mut x = half_values(1, rows * channels, half);
        for (row, x) in x.chunks_exact_mut(channels).enumerate() {
            x.iter_mut().for_each(|value| *value += (row % 7) as f32 - 3.0);
        }
        let x = backend.upload(&rounded(&x, half)).unwrap();
        let mut out = backend.alloc(rows * channels).unwrap();
        let vector = |seed| {
            let tensor = Tensor::from_f32(&[channels], &half_values(seed, channels, half));
            backend.weight(vec![tensor]).unwrap()
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
                let modulation = backend.upload(&half_values(2, samples * op.modulation_stride, half)).unwrap();
                backend.ada_layer_norm(&op, &x, &modulation, &mut out).unwrap();
            }
            Norm::Layer => {
                let op = LayerNorm { rows, channels, eps: 1e-5 };
                backend.layer_norm(&op, &x, &vector(3), &vector(4), &mut out).unwrap();
            }
            Norm::Rms => {
                let op = RmsNorm { rows, channels, eps: 1e-6 };
                backend.rms_norm(&op, &x, &vector(3), &mut out).unwrap();
            }
        }
        host(backend, &out)
    }
}

body!(Case);

fn check(norm: Norm, sizes: &[(usize, usize)]) {
    for &(rows, channels) in sizes {
        let case = Case { norm, rows, channels };
        against_the_cpu(&case, &case);
    }
}

/// By warp, by block, ragged; fewer rows than a block takes, and more.
const SIZES: [(usize, usize); 9] =
    [(1, 8), (9, 144), (17, 1152), (3, 1280), (2, 1288), (3, 4096), (1, 8192), (5, 7), (2, 1153)];

#[test]
fn layer_norm_agrees_with_the_cpu() {
    check(Norm::Layer, &SIZES);
}

#[test]
fn rms_norm_agrees_with_the_cpu() {
    check(Norm::Rms, &SIZES);
}

#[test]
fn ada_layer_norm_agrees_with_the_cpu() {
    check(Norm::Ada { samples: 1, gap: 8 }, &SIZES);
    check(Norm::Ada { samples: 2, gap: 0 }, &[(18, 1152), (4, 4096), (6, 45)]);
    check(Norm::Ada { samples: 3, gap: 5 }, &[(9, 1152), (3, 2304)]);
}
