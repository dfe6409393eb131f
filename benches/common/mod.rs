//! What the benches of single operations share: which device they run on, and how it is timed.
#![allow(dead_code, reason = "every bench includes this file, and uses what it needs")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::{Device, Driver};
use osp::cuda::{Cuda, Half};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A backend that benches run on.
pub trait Target: Backend {
    /// Bytes of an activation.
    const ELEMENT: u64;

    /// The time of `iterations` runs of `work`, each with cold caches where the device's are large.
    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration;
}

impl Target for Cpu {
    const ELEMENT: u64 = 4;

    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        let start = Instant::now();
        (0..iterations).for_each(|_| work());
        start.elapsed()
    }
}

/// More than any GPU's second-level cache.
const FLUSHED_ELEMENTS: usize = 128 << 20;

impl Target for Cuda<Driver> {
    const ELEMENT: u64 = 2;

    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        let (from, mut to) = (self.alloc(FLUSHED_ELEMENTS).unwrap(), self.alloc(FLUSHED_ELEMENTS).unwrap());
        let one = || {
            copy(self, FLUSHED_ELEMENTS, &from, &mut to);
            let mut launch = || {
                work();
                Ok(())
            };
            self.device().timed(&mut launch).unwrap()
        };
        std::iter::repeat_with(one).take(iterations as usize).sum()
    }
}

/// The GPU, where there is one and the kernels were compiled for it; `OSP_BENCH_DTYPE=bf16` chooses the other type.
pub fn gpu() -> Option<Cuda<Driver>> {
    let half = if std::env::var("OSP_BENCH_DTYPE").as_deref() == Ok("bf16") { Half::Bf16 } else { Half::F16 };
    let gpu = Driver::open().map(|driver| Cuda::new(Arc::new(driver), half));
    match &gpu {
        Ok(gpu) => println!("on {}", gpu.name()),
        Err(error) => println!("on the CPU: {error}"),
    }
    gpu.ok()
}

/// Copies `len` activations.
pub fn copy<B: Backend>(backend: &B, len: usize, from: &B::Buffer, to: &mut B::Buffer) {
    use osp::ops::tile::{BoxAt, CopyBox};
    let whole = BoxAt::whole([1; 3]);
    backend.copy_box(&CopyBox { extent: [1; 3], channels: len, from: whole, to: whole }, from, to).unwrap();
}

/// `frames` times the same frame of `frame_len` values: what is large is put together on the device.
pub fn video<B: Backend>(backend: &B, frames: usize, frame_len: usize) -> B::Buffer {
    use osp::ops::tile::{BoxAt, CopyBox};
    let frame = backend.upload(&values(frame_len)).unwrap();
    let mut video = backend.alloc(frames * frame_len).unwrap();
    for index in 0..frames {
        let to = BoxAt { size: [frames, 1, 1], origin: [index, 0, 0] };
        let op = CopyBox { extent: [1; 3], channels: frame_len, from: BoxAt::whole([1; 3]), to };
        backend.copy_box(&op, &frame, &mut video).unwrap();
    }
    video
}

/// A group of few and short measurements.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// Values in [−1, 1).
pub fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect()
}
