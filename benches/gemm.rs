//! `linear` at the sizes of LatteT2V-XL, in FLOP/s, beside the `gemm` crate at the same sizes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::gemm::Linear;
use osp::weights::Tensor;
use std::time::Duration;

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect()
}

/// c [m, n] = a [m, k] · b [n, k]ᵀ by the `gemm` crate on all threads.
fn reference([m, k, n]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= n * k && c.len() >= m * n);
    let [k_stride, n_stride] = [k as isize, n as isize];
    let threads = gemm::Parallelism::Rayon(0);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: the matrices lie in their slices.
    unsafe {
        gemm::gemm(
            m, n, k, c, 1, n_stride, false, a, 1, k_stride, b, k_stride, 1, 0.0, 1.0, false, false, false, threads,
        );
    }
}

fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let sizes = [
        [2048, 1152, 4608],
        [1024, 4608, 1152],
        [1024, 1152, 3456],
        [1024, 1152, 1152],
        [300, 4096, 4096],
        [1, 1152, 6912],
    ];
    for [m, k, n] in sizes {
        let (cpu, op) = (Cpu::new(), Linear::new(m, k, n));
        let (x, weight) = (values(m * k), values(n * k));
        let device_x = cpu.upload(&x).unwrap();
        let device_weight = cpu.weight(vec![Tensor::from_f32(&[n, k], &weight)]).unwrap();
        let mut out = cpu.alloc(m * n).unwrap();
        let mut c = vec![0.0; m * n];
        group.throughput(Throughput::Elements(op.flops()));
        group.bench_function(format!("{m}x{k}x{n}/osp"), |bencher| {
            bencher.iter(|| cpu.linear(&op, &device_x, &device_weight, None, None, &mut out).unwrap());
        });
        group.bench_function(format!("{m}x{k}x{n}/gemm"), |bencher| {
            bencher.iter(|| reference([m, k, n], &x, &weight, &mut c));
        });
    }
    group.finish();
}

criterion_group!(benches, linear);
criterion_main!(benches);
