//! What a sampler costs besides its model: `combine` over states, and drawing noise. Sizes are the latents of 221 frames
//! of 512×512, 4×56×64×64.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::sampler::{Combine, MAX_TERMS};
use osp::sampler::TorchRng;

const LEN: usize = 4 * 56 * 64 * 64;

fn combine(c: &mut Criterion) {
    let backend = Cpu::new();
    let states: Vec<_> = (0..MAX_TERMS).map(|i| backend.upload(&vec![i as f32; LEN]).unwrap()).collect();
    let mut out = backend.alloc(LEN).unwrap();
    let coefficients = [0.5; MAX_TERMS];
    let mut group = c.benchmark_group("combine");
    for terms in [1, 2, 3, 5, MAX_TERMS] {
        let op = Combine { len: LEN, coefficients: &coefficients[..terms], clamp: None };
        let inputs: Vec<_> = states[..terms].iter().collect();
        group.throughput(Throughput::Bytes(op.bytes()));
        group.bench_with_input(BenchmarkId::from_parameter(terms), &op, |b, op| {
            b.iter(|| backend.combine(op, &inputs, &mut out).unwrap());
        });
    }
}

fn noise(c: &mut Criterion) {
    let mut group = c.benchmark_group("noise");
    group.throughput(Throughput::Bytes(4 * LEN as u64));
    let mut rng = TorchRng::new(42);
    group.bench_function("randn", |b| b.iter(|| rng.randn(LEN)));
}

criterion_group!(benches, combine, noise);
criterion_main!(benches);
