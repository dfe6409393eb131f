//! `conv3d` at sizes of the VAE, in FLOP/s of the plain formula. A GPU computes layers of a window of 65×256×256 pixels
//! and the encoder's first layer. The CPU computes smaller ones, beside a product of the `gemm` crate with the same
//! FLOPs.
//!
//! Copies in front of the first frame and borders save FLOPs that the plain formula counts, so on the CPU a video of one
//! frame can exceed the processor's peak. An enlargement counts the four products of its folded weight, not nine.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use osp::tensor::Tensor;

/// c [m, n] = a [m, k] · b [k, n] by the `gemm` crate on all threads.
fn reference([m, k, n]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n);
    let [k_stride, n_stride] = [k as isize, n as isize];
    let threads = gemm::Parallelism::Rayon(0);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: with these strides, the matrices have the sizes that the assertion compares with their slices. c is
    // borrowed mutably, so it overlaps neither a nor b.
    unsafe {
        gemm::gemm(
            m, n, k, c, 1, n_stride, false, a, 1, k_stride, b, 1, n_stride, 0.0, 1.0, false, false, false, threads,
        );
    }
}

/// A plain convolution: frames, height, width; channels in and out; kernel.
fn plain([frames, height, width]: [usize; 3], [cin, cout]: [usize; 2], kernel: [usize; 3]) -> Conv3d {
    Conv3d::new(frames, height, width, cin, cout, kernel)
}

fn twice_size(op: Conv3d) -> Conv3d {
    Conv3d { upsample: true, ..op }
}

fn half_size(op: Conv3d) -> Conv3d {
    Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..op }
}

fn cpu_shapes() -> Vec<Conv3d> {
    vec![
        plain([17, 64, 64], [64, 64], [3, 3, 3]),
        plain([1, 256, 256], [128, 128], [3, 3, 3]),
        plain([5, 64, 64], [128, 128], [3, 3, 3]),
        plain([1, 64, 64], [512, 512], [3, 3, 3]),
        plain([5, 16, 16], [512, 512], [3, 3, 3]),
        plain([5, 128, 128], [128, 3], [3, 3, 3]),
        plain([5, 128, 128], [3, 128], [3, 3, 3]),
        twice_size(plain([1, 64, 64], [256, 256], [1, 3, 3])),
    ]
}

fn gpu_shapes() -> Vec<Conv3d> {
    vec![
        // The decoder, from its last level to its first.
        plain([65, 256, 256], [128, 128], [3, 3, 3]),
        plain([65, 256, 256], [256, 128], [3, 3, 3]),
        plain([65, 128, 128], [256, 256], [3, 3, 3]),
        plain([33, 64, 64], [512, 512], [3, 3, 3]),
        plain([17, 32, 32], [512, 512], [3, 3, 3]),
        twice_size(plain([65, 128, 128], [256, 256], [1, 3, 3])),
        twice_size(plain([33, 64, 64], [512, 512], [1, 3, 3])),
        twice_size(plain([17, 32, 32], [512, 512], [1, 3, 3])),
        plain([17, 32, 32], [4, 512], [3, 3, 3]),
        plain([65, 256, 256], [128, 3], [3, 3, 3]),
        // The encoder.
        half_size(plain([65, 256, 256], [128, 128], [1, 3, 3])),
        plain([17, 32, 32], [512, 8], [3, 3, 3]),
        plain([129, 256, 256], [3, 128], [1, 3, 3]),
        plain([257, 256, 256], [3, 128], [1, 3, 3]),
        plain([513, 256, 256], [3, 128], [1, 3, 3]),
    ]
}

/// A name such as "128-128 3x3x3 65x256x256", with a word for a change of size.
fn name(op: &Conv3d) -> String {
    let [kt, kh, kw] = op.kernel;
    let rest = match (op.upsample, op.stride[1]) {
        (true, _) => " twice",
        (false, 2) => " half",
        _ => "",
    };
    format!("{}-{} {kt}x{kh}x{kw} {}x{}x{}{rest}", op.cin, op.cout, op.frames, op.height, op.width)
}

fn ours<B: Target>(criterion: &mut Criterion, backend: &B, shapes: &[Conv3d]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "conv3d");
    for op in shapes {
        // Like most layers, with a bias and with moments for a GroupNorm of 32 groups.
        let op = Conv3d { moment_groups: if op.cout.is_multiple_of(32) { 32 } else { 0 }, ..*op };
        let x = common::video(backend, op.frames, op.height * op.width * op.cin);
        let shape = op.weight_shape();
        let weight = Tensor::from_f32(&shape, &values(shape.iter().product()));
        let weight = backend.weight(vec![weight]).unwrap();
        let bias = backend.weight(vec![Tensor::from_f32(&[op.cout], &values(op.cout))]).unwrap();
        let mut out = backend.alloc(op.out_shape().iter().product()).unwrap();
        let mut moments =
            (op.moment_groups > 0).then(|| backend.alloc_moments(&op.moments(op.out_shape()[0])).unwrap());
        bench(&mut group, backend, &ceiling, &format!("{}/osp", name(&op)), Work::Flops(op.flops()), || {
            let args = ConvArgs::new(&x, &weight, &mut out);
            backend.conv3d(&op, ConvArgs { bias: Some(&bias), moments: moments.as_mut(), ..args }).unwrap();
        });
    }
}

fn theirs(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "conv3d");
    let [m, k, n] = [17 * 64 * 64, 27 * 64, 64];
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
    group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
    group.bench_function("64-64 3x3x3 17x64x64/gemm", |bencher| bencher.iter(|| reference([m, k, n], &a, &b, &mut c)));
}

fn conv3d(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => ours(criterion, &gpu, &gpu_shapes()),
        None => {
            ours(criterion, &Cpu::new(), &cpu_shapes());
            theirs(criterion);
        }
    }
}

criterion_group!(benches, conv3d);
criterion_main!(benches);
