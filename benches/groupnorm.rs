//! `group_norm` with and without SiLU, in bytes moved, at levels of the VAE's decoder; on a GPU at those of a 65×256×256
//! window, and also with the moments known, as a convolution leaves them.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::groupnorm::GroupNorm;
use osp::weights::Tensor;

/// Frames, height and width, channels.
type Level = [usize; 3];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, levels: &[Level], variants: &[(bool, bool)]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "group_norm");
    for &[frames, side, channels] in levels {
        let (positions, len) = (side * side, frames * side * side * channels);
        let x = common::video(backend, frames, positions * channels);
        let mut out = backend.alloc(len).unwrap();
        let [weight, bias] =
            [(); 2].map(|()| backend.weight(vec![Tensor::from_f32(&[channels], &values(channels))]).unwrap());
        for &(silu, moments_known) in variants {
            let (groups, eps, per_frame) = (32, 1e-6, false);
            let op = GroupNorm { frames, positions, channels, groups, eps, per_frame, silu, moments_known };
            let mut moments = backend.alloc_moments(&op.moments()).unwrap();
            let unknown = GroupNorm { moments_known: false, ..op };
            backend.group_norm(&unknown, &x, &mut moments, &weight, &bias, &mut out).unwrap();
            let silu = if silu { " silu" } else { "" };
            let known = if moments_known { ", moments known" } else { "" };
            let name = format!("{frames}x{side}x{side}x{channels}{silu}{known}");
            bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
                backend.group_norm(&op, &x, &mut moments, &weight, &bias, &mut out).unwrap();
            });
        }
    }
}

fn group_norm(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => {
            let levels = [[65, 256, 128], [65, 256, 256], [65, 128, 256], [33, 64, 512], [17, 32, 512]];
            run(criterion, &gpu, &levels, &[(true, false), (true, true), (false, false)]);
        }
        None => {
            run(criterion, &Cpu::new(), &[[9, 128, 128], [5, 64, 256], [3, 32, 512]], &[(true, false), (false, false)])
        }
    }
}

criterion_group!(benches, group_norm);
criterion_main!(benches);
