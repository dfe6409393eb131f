//! Compressed keys and values, factor 2, in bytes moved: the tokens of 17×256×256 on the CPU, the tokens of two samples
//! of 221×512×512 on a GPU.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::conv3d::{DepthwiseConv, DepthwiseConvArgs};
use osp::tensor::Tensor;

const CHANNELS: usize = 1152;

fn run<B: Target>(criterion: &mut Criterion, backend: &B, frames: usize, side: usize) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "depthwise_conv");
    let (positions, factor, channels) = (side * side, 2, CHANNELS);
    let x = common::video(backend, frames, positions * channels);
    let parameter =
        |shape: &[usize]| backend.weight(vec![Tensor::from_f32(shape, &values(shape.iter().product()))]).unwrap();
    let bias = parameter(&[channels]);
    let space = DepthwiseConv::Space { outer: frames, height: side, width: side, channels, factor };
    let time = DepthwiseConv::Time { outer: 1, frames, positions, channels, factor };
    for (name, op, shape) in [("space", space, vec![channels, factor, factor]), ("time", time, vec![channels, factor])]
    {
        let outer = if name == "space" { frames } else { 1 };
        let weight = parameter(&shape);
        let mut out = backend.alloc(outer * op.out_tokens() * channels).unwrap();
        let name = format!("{name} {frames}x{side}x{side}x{channels}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            let args = DepthwiseConvArgs { x: &x, weight: &weight, bias: &bias, out: &mut out };
            backend.depthwise_conv(&op, args).unwrap();
        });
    }
}

fn depthwise(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, 112, 32),
        None => run(criterion, &Cpu::new(), 5, 16),
    }
}

criterion_group!(benches, depthwise);
criterion_main!(benches);
