//! Temporal resampling, in bytes moved; on a GPU at levels of the VAE's decoder in a 65×256×256 window.

mod common;

use common::{Ceiling, Target, Work, bench};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::resample::{RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs};

fn run<B: Target>(criterion: &mut Criterion, backend: &B, [frames, side, channels]: [usize; 3]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "resample");
    let positions = side * side;
    let frame_len = positions * channels;
    let x = common::video(backend, frames, frame_len);
    let size = format!("{frames}x{side}x{side}x{channels}");

    let op = TimeAverage { frames, frame_len };
    let mut out = backend.alloc(op.out_frames() * frame_len).unwrap();
    bench(&mut group, backend, &ceiling, &format!("time_average {size}"), Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.time_average(&op, TimeAverageArgs { x: &x, out: &mut out }).unwrap();
    });

    let op = TimeDouble { frames, frame_len };
    let mut out = backend.alloc(op.out_frames() * frame_len).unwrap();
    bench(&mut group, backend, &ceiling, &format!("time_double {size}"), Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.time_double(&op, TimeDoubleArgs { x: &x, out: &mut out }).unwrap();
    });

    let op = RegroupFrames { frames, positions, channels, inverse: false };
    let len = frames * frame_len;
    let mut out = backend.alloc(len).unwrap();
    bench(&mut group, backend, &ceiling, &format!("regroup_frames {size}"), Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.regroup_frames(&op, RegroupFramesArgs { x: &x, out: &mut out }).unwrap();
    });
}

fn resample(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => {
            for level in [[33, 64, 512], [17, 32, 512]] {
                run(criterion, &gpu, level);
            }
        }
        None => run(criterion, &Cpu::new(), [9, 64, 256]),
    }
}

criterion_group!(benches, resample);
criterion_main!(benches);
