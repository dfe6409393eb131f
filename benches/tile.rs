//! Boxes of a decoded 9×256×256 window, in bytes moved; on a GPU of a 65×256×256 window. 65 frames of 512×512 have 9
//! such windows, 221 frames have 36.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};

fn run<B: Target>(criterion: &mut Criterion, backend: &B, frames: usize) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "tile");
    let size = [frames, 256, 256];
    let len = size.iter().product::<usize>() * 3;
    let x = backend.upload(&values(len)).unwrap();
    let mut out = backend.upload(&values(len)).unwrap();

    let whole = BoxAt::whole(size);
    let to = BoxAt { origin: [0, 64, 64], ..whole };
    let op = CopyBox { extent: [frames, 192, 192], channels: 3, from: whole, to };
    bench(&mut group, backend, &ceiling, "copy_box", Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.copy_box(&op, CopyBoxArgs { x: &x, out: &mut out }).unwrap();
    });

    for axis in [BlendAxis::Rows, BlendAxis::Columns] {
        let op = BlendBox { neighbour: size, tile: size, channels: 3, axis, blend: 64 };
        let name = format!("blend_box {axis:?}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.blend_box(&op, BlendBoxArgs { neighbour: &x, tile: &mut out }).unwrap();
        });
    }
}

fn tile(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, 65),
        None => run(criterion, &Cpu::new(), 9),
    }
}

criterion_group!(benches, tile);
criterion_main!(benches);
