//! The check for NaN and infinities, in bytes read: a step's prediction for 65 and for 221 frames of 512×512, and a
//! decoded 9×256×256 window; on a GPU a 65×256×256 window.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::finite::{Finite, FiniteArgs};

const PREDICTIONS: [usize; 2] = [4 * 17 * 64 * 64, 4 * 56 * 64 * 64];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, frames: usize) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "finite");
    let mut measure = |name: String, x: &B::Buffer, len: usize, element: u64| {
        let op = Finite { offset: 0, len };
        // The counts go to the host.
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(element)), || {
            backend.finite(&op, FiniteArgs { x }).unwrap().bytes().unwrap();
        });
    };
    for len in PREDICTIONS {
        measure(format!("prediction of {len}"), &backend.upload_f32(&values(len)).unwrap(), len, 4);
    }
    let len = frames * 256 * 256 * 3;
    measure(format!("window of {frames}x256x256"), &backend.upload(&values(len)).unwrap(), len, B::ELEMENT);
}

fn finite(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, 65),
        None => run(criterion, &Cpu::new(), 9),
    }
}

criterion_group!(benches, finite);
criterion_main!(benches);
