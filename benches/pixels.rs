//! Conversion of bytes to pixels and of pixels to bytes for a 9×256×256 window, in bytes moved on the device; on a GPU
//! for a 65×512×512 window. 65 frames of 512×512 have one such window, 221 frames have four.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};

fn run<B: Target>(criterion: &mut Criterion, backend: &B, [frames, side]: [usize; 2]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "pixels");
    let len = frames * side * side * 3;
    let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let mut out = backend.alloc(len).unwrap();

    // The bytes come from the host.
    let op = FromBytes { len };
    bench(&mut group, backend, &ceiling, "from_bytes", Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.from_bytes(&op, FromBytesArgs { bytes: &bytes, out: &mut out }).unwrap();
    });

    // The bytes go to the host.
    let x = backend.upload(&values(len)).unwrap();
    let op = ToBytes { offset: 0, len };
    bench(&mut group, backend, &ceiling, "to_bytes", Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.to_bytes(&op, ToBytesArgs { x: &x }).unwrap().bytes().unwrap();
    });
}

fn pixels(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, [65, 512]),
        None => run(criterion, &Cpu::new(), [9, 256]),
    }
}

criterion_group!(benches, pixels);
criterion_main!(benches);
