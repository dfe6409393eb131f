//! `conv3d` at sizes of the VAE, in FLOP/s of the plain formula, beside the `gemm` crate at as many FLOPs.
//!
//! Copies in front of the first frame, enlargement and borders save FLOPs that the plain formula counts, so a video of one
//! frame can go beyond the processor's peak.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::conv3d::{Conv3d, ConvExtras};
use osp::weights::Tensor;
use std::time::Duration;

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect()
}

/// c [m, n] = a [m, k] · b [k, n] by the `gemm` crate on all threads.
fn reference([m, k, n]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n);
    let [k_stride, n_stride] = [k as isize, n as isize];
    let threads = gemm::Parallelism::Rayon(0);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: the matrices lie in their slices.
    unsafe {
        gemm::gemm(
            m, n, k, c, 1, n_stride, false, a, 1, k_stride, b, 1, n_stride, 0.0, 1.0, false, false, false, threads,
        );
    }
}

fn conv3d(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv3d");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let up = Conv3d { upsample: true, ..Conv3d::new(1, 64, 64, 256, 256, [1, 3, 3]) };
    for (name, op) in [
        ("64-64_3x3x3_17x64x64", Conv3d::new(17, 64, 64, 64, 64, [3, 3, 3])),
        ("128-128_3x3x3_1x256x256", Conv3d::new(1, 256, 256, 128, 128, [3, 3, 3])),
        ("128-128_3x3x3_5x64x64", Conv3d::new(5, 64, 64, 128, 128, [3, 3, 3])),
        ("512-512_3x3x3_1x64x64", Conv3d::new(1, 64, 64, 512, 512, [3, 3, 3])),
        ("512-512_3x3x3_5x16x16", Conv3d::new(5, 16, 16, 512, 512, [3, 3, 3])),
        ("128-3_3x3x3_5x128x128", Conv3d::new(5, 128, 128, 128, 3, [3, 3, 3])),
        ("3-128_3x3x3_5x128x128", Conv3d::new(5, 128, 128, 3, 128, [3, 3, 3])),
        ("upsample_256-256_1x3x3_1x64x64", up),
    ] {
        let cpu = Cpu::new();
        let x = cpu.upload(&values(op.frames * op.height * op.width * op.cin)).unwrap();
        let [kt, kh, kw] = op.kernel;
        let weight = Tensor::from_f32(&[op.cout, kt, kh, kw, op.cin], &values(op.cout * kt * kh * kw * op.cin));
        let weight = cpu.weight(vec![weight]).unwrap();
        let mut out = cpu.alloc(op.out_shape().iter().product()).unwrap();
        group.throughput(Throughput::Elements(op.flops()));
        group.bench_function(format!("{name}/osp"), |bencher| {
            bencher.iter(|| cpu.conv3d(&op, &x, &weight, ConvExtras::default(), &mut out).unwrap());
        });
    }
    let [m, k, n] = [17 * 64 * 64, 27 * 64, 64];
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
    group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
    group.bench_function("64-64_3x3x3_17x64x64/gemm", |bencher| bencher.iter(|| reference([m, k, n], &a, &b, &mut c)));
    group.finish();
}

criterion_group!(benches, conv3d);
criterion_main!(benches);
