//! `group_norm` with and without SiLU, in bytes moved, at levels of the VAE's decoder; on a GPU at the levels of a
//! 65×256×256 window, and also with known moments, because a convolution writes them.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::groupnorm::{GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use osp::tensor::Tensor;

/// Groups of every norm of the model.
const GROUPS: usize = 32;

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
        let whole = Statistics { frames, positions, channels, groups: GROUPS, eps: 1e-6, per_frame: false };
        let moments_op = whole.moments(frames);
        let mut moments = backend.alloc_moments(&moments_op).unwrap();
        let mut statistics = backend.alloc_statistics(&whole).unwrap();
        backend.group_moments(&moments_op, MomentsArgs { x: &x, moments: &mut moments }).unwrap();
        for &(silu, moments_known) in variants {
            let at = 0;
            let op = GroupNorm {
                frames,
                positions,
                channels,
                groups: GROUPS,
                silu,
                x_frame: at,
                out_frame: at,
                video_frame: at,
            };
            let silu = if silu { " silu" } else { "" };
            let known = if moments_known { ", moments known" } else { "" };
            let name = format!("{frames}x{side}x{side}x{channels}{silu}{known}");
            let moved = if moments_known { 0 } else { moments_op.bytes(B::ELEMENT) };
            let work = Work::Bytes(moved + whole.bytes() + op.bytes(B::ELEMENT));
            bench(&mut group, backend, &ceiling, &name, work, || {
                if !moments_known {
                    backend.group_moments(&moments_op, MomentsArgs { x: &x, moments: &mut moments }).unwrap();
                }
                let args = StatisticsArgs { stretches: &[(&moments, frames)], statistics: &mut statistics };
                backend.group_statistics(&whole, args).unwrap();
                let (weight, bias) = (&weight, &bias);
                let args = GroupNormArgs { x: &x, statistics: &statistics, weight, bias, out: &mut out };
                backend.group_norm(&op, args).unwrap();
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
