//! The distance of two tensors, in bytes read: the transformer's tokens for 65 frames of 512×512, on a GPU also for 221.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::distance::{Distance, DistanceArgs};

/// Latent frames of 65 and of 221 frames.
const LATENT_FRAMES: [usize; 2] = [17, 56];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, latent_frames: &[usize]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "distance");
    for frames in latent_frames {
        let op = Distance { len: frames * 32 * 32 * 1152 };
        let name = format!("{frames}x32x32 tokens of 1152");
        let [a, b] = [(); 2].map(|()| backend.upload(&values(op.len)).unwrap());
        // The sums go to the host.
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.distance(&op, DistanceArgs { a: &a, b: &b }).unwrap().bytes().unwrap();
        });
    }
}

fn distance(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &LATENT_FRAMES),
        None => run(criterion, &Cpu::new(), &LATENT_FRAMES[..1]),
    }
}

criterion_group!(benches, distance);
criterion_main!(benches);
