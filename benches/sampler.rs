//! The cost of a sampler without its model: `combine` over f32 states and over predictions, `hold`, and drawing noise on
//! the host. Sizes are the latents of 65 and of 221 frames of 512×512.

mod common;

use common::{Ceiling, Target, Work, bench};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs, MAX_TERMS};
use osp::sampler::{TorchRng, guide};

const LENS: [usize; 2] = [4 * 17 * 64 * 64, 4 * 56 * 64 * 64];

fn combine<B: Target>(criterion: &mut Criterion, backend: &B, ceiling: &Ceiling) {
    let mut group = common::group(criterion, "combine");
    for len in LENS {
        let states: Vec<_> = (0..MAX_TERMS).map(|i| backend.upload_f32(&vec![i as f32; len]).unwrap()).collect();
        let mut out = backend.alloc_f32(len).unwrap();
        for terms in [1, 2, 3, 5, MAX_TERMS] {
            let op = Combine { len, coefficients: &[0.5; MAX_TERMS][..terms], clamp: None };
            let inputs: Vec<_> = states[..terms].iter().collect();
            let name = format!("{terms} states of {len}");
            bench(&mut group, backend, ceiling, &name, Work::Bytes(op.bytes()), || {
                backend.combine(&op, CombineArgs { inputs: &inputs, out: &mut out }).unwrap();
            });
        }
        let [without, with] = [0.25, 0.75].map(|value| backend.upload(&vec![value; len]).unwrap());
        let bytes = len as u64 * (2 * B::ELEMENT + 4);
        bench(&mut group, backend, ceiling, &format!("guidance over {len}"), Work::Bytes(bytes), || {
            guide(backend, 7.5, &without, &with, &mut out).unwrap();
        });
    }
}

fn hold<B: Target>(criterion: &mut Criterion, backend: &B, ceiling: &Ceiling) {
    let mut group = common::group(criterion, "hold");
    for len in LENS {
        let [original, noise, weight, mut sample] =
            [0.25, -0.75, 0.5, 1.0].map(|value| backend.upload_f32(&vec![value; len]).unwrap());
        let op = Hold { len, signal: 0.8, noise_level: 0.6 };
        bench(&mut group, backend, ceiling, &format!("a mask over {len}"), Work::Bytes(op.bytes()), || {
            let args = HoldArgs { original: &original, noise: &noise, weight: &weight, sample: &mut sample };
            backend.hold(&op, args).unwrap();
        });
    }
}

fn run<B: Target>(criterion: &mut Criterion, backend: &B) {
    let ceiling = Ceiling::measure(backend);
    combine(criterion, backend, &ceiling);
    hold(criterion, backend, &ceiling);
}

fn states(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu),
        None => run(criterion, &Cpu::new()),
    }
}

fn noise(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "noise");
    let [_, len] = LENS;
    group.throughput(Throughput::Bytes(4 * len as u64));
    let mut rng = TorchRng::new(42);
    group.bench_function("randn", |bencher| bencher.iter(|| rng.randn(len)));
}

criterion_group!(benches, states, noise);
criterion_main!(benches);
