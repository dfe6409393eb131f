//! `linear` at the sizes of the models, in FLOP/s: on a GPU at the sizes of 65 and 221 frames of 512×512, on the CPU at
//! smaller sizes, beside the `gemm` crate.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::gemm::{Activation, Linear, LinearArgs};
use osp::tensor::Tensor;

/// Rows, input features and output features: LatteT2V-XL, T5-XXL, the timestep.
const CPU_SIZES: [[usize; 3]; 6] = [
    [2048, 1152, 4608],
    [1024, 4608, 1152],
    [1024, 1152, 3456],
    [1024, 1152, 1152],
    [300, 4096, 4096],
    [1, 1152, 6912],
];
/// Two samples of 17 and of 56 latent frames, T5-XXL, the timestep, and a product at the device's best rate.
const GPU_SIZES: [[usize; 3]; 11] = [
    [34_816, 1152, 3456],
    [34_816, 1152, 1152],
    [34_816, 1152, 4608],
    [34_816, 4608, 1152],
    [114_688, 1152, 3456],
    [114_688, 1152, 1152],
    [114_688, 1152, 4608],
    [114_688, 4608, 1152],
    [300, 4096, 4096],
    [2, 1152, 6912],
    [8192, 8192, 8192],
];

/// c [m, n] = a [m, k] · b [n, k]ᵀ by the `gemm` crate on all threads.
fn reference([m, k, n]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= n * k && c.len() >= m * n);
    let [k_stride, n_stride] = [k as isize, n as isize];
    let threads = gemm::Parallelism::Rayon(0);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: with these strides, the matrices have the sizes that the assertion compares with their slices. c is
    // borrowed mutably, so it overlaps neither a nor b.
    unsafe {
        gemm::gemm(
            m, n, k, c, 1, n_stride, false, a, 1, k_stride, b, k_stride, 1, 0.0, 1.0, false, false, false, threads,
        );
    }
}

fn ours<B: Target>(criterion: &mut Criterion, backend: &B, sizes: &[[usize; 3]]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "linear");
    for &[m, k, n] in sizes {
        // The first layer of a feed-forward has its activation fused.
        let activation = if n == 4 * k { Activation::GeluTanh } else { Activation::None };
        let op = Linear::new(m, k, n).activation(activation);
        let x = backend.upload(&values(m * k)).unwrap();
        let weight = backend.weight(vec![Tensor::from_f32(&[n, k], &values(n * k))]).unwrap();
        let mut out = backend.alloc(m * n).unwrap();
        bench(&mut group, backend, &ceiling, &format!("{m}x{k}x{n}/osp"), Work::Flops(op.flops()), || {
            backend.linear(&op, LinearArgs::new(&x, &weight, &mut out)).unwrap();
        });
    }
}

fn theirs(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "linear");
    for [m, k, n] in CPU_SIZES {
        let (x, weight, mut c) = (values(m * k), values(n * k), vec![0.0; m * n]);
        group.throughput(Throughput::Elements(Linear::new(m, k, n).flops()));
        group.bench_function(format!("{m}x{k}x{n}/gemm"), |bencher| {
            bencher.iter(|| reference([m, k, n], &x, &weight, &mut c));
        });
    }
}

fn linear(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => ours(criterion, &gpu, &GPU_SIZES),
        None => {
            ours(criterion, &Cpu::new(), &CPU_SIZES);
            theirs(criterion);
        }
    }
}

criterion_group!(benches, linear);
criterion_main!(benches);
