//! Temporal resampling, in bytes moved.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::resample::{RegroupFrames, TimeAverage, TimeDouble};

fn resample(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "resample");
    let cpu = Cpu::new();
    let (frames, positions, channels) = (9, 64 * 64, 256);
    let frame_len = positions * channels;
    let x = cpu.upload(&values(frames * frame_len)).unwrap();

    let op = TimeAverage { frames, frame_len };
    let mut out = cpu.alloc(op.out_frames() * frame_len).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("time_average", |bencher| bencher.iter(|| cpu.time_average(&op, &x, &mut out).unwrap()));

    let op = TimeDouble { frames, frame_len };
    let mut out = cpu.alloc(op.out_frames() * frame_len).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("time_double", |bencher| bencher.iter(|| cpu.time_double(&op, &x, &mut out).unwrap()));

    let op = RegroupFrames { frames, positions, channels, inverse: false };
    let mut out = cpu.alloc(x.len()).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("regroup_frames", |bencher| bencher.iter(|| cpu.regroup_frames(&op, &x, &mut out).unwrap()));
}

criterion_group!(benches, resample);
criterion_main!(benches);
