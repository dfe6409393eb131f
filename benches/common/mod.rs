//! Shared code of the benches of single operations: the device, its timing, and the ceilings that results are compared
//! with.
#![allow(dead_code, reason = "every bench includes this file, and uses what it needs")]

mod cublaslt;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::{Device, Driver};
use osp::cuda::{Cuda, Half};
use osp::ops::gemm::{Linear, LinearArgs};
use osp::profile::gpus;
use osp::profile::{Profiled, Recorder, Timing};
use osp::tensor::Tensor;
use osp::weights::synthetic::splitmix64;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A backend that benches run on.
pub trait Target: Backend {
    /// Bytes of an activation.
    const ELEMENT: u64;
    /// Elements of the copy that measures the bandwidth. Caches are too small for them.
    const COPIED: usize;
    /// Rows, inner size and columns of the product that measures the arithmetic.
    const PRODUCT: usize;

    /// The time of `iterations` runs of `work`. A GPU evicts its caches before each run.
    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration;

    /// The maker's data sheet of the device, if it is known.
    fn data_sheet(&self) -> Option<&'static gpus::Gpu> {
        None
    }

    /// Operations per second of the maker's own product of matrices of [`Self::PRODUCT`]² `values`, if its library is
    /// installed.
    fn makers_product(&self, values: &[f32]) -> Option<f64> {
        let _ = values;
        None
    }
}

impl Target for Cpu {
    const ELEMENT: u64 = 4;
    const COPIED: usize = 32 << 20;
    const PRODUCT: usize = 1024;

    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        let start = Instant::now();
        (0..iterations).for_each(|_| work());
        start.elapsed()
    }
}

/// The GPU that [`gpu`] opened.
struct Opened {
    launches: Recorder,
    card: String,
    half: Half,
}

static OPENED: OnceLock<Opened> = OnceLock::new();

fn opened() -> &'static Opened {
    OPENED.get().expect("the GPU is open")
}

/// Kernels on a GPU. Each launch is timed separately.
impl Target for Cuda {
    const ELEMENT: u64 = 2;
    const COPIED: usize = 128 << 20;
    const PRODUCT: usize = 8192;

    /// The sum of its launches, without the host's copies.
    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        let recorder = &opened().launches;
        recorder.set_timing(Timing::Cold);
        recorder.take();
        (0..iterations).for_each(|_| work());
        recorder.set_timing(Timing::None);
        recorder.take().into_iter().filter_map(|record| record.time).sum()
    }

    fn data_sheet(&self) -> Option<&'static gpus::Gpu> {
        gpus::Gpu::of_driver(&opened().card)
    }

    fn makers_product(&self, values: &[f32]) -> Option<f64> {
        cublaslt::product(Self::PRODUCT, opened().half, values)
    }
}

/// The GPU, if there is one and the kernels were compiled for it. `OSP_BENCH_DTYPE=bf16` chooses bf16 instead of f16.
/// `OSP_BENCH_KERNELS=sm90` chooses the kernels for compute capability 9.0. `OSP_BENCH_DEVICE` chooses a device: with `cuda` a bench fails without a GPU, and with `cpu` it runs on the CPU.
pub fn gpu() -> Option<Cuda> {
    let half = if std::env::var("OSP_BENCH_DTYPE").as_deref() == Ok("bf16") { Half::Bf16 } else { Half::F16 };
    let device = std::env::var("OSP_BENCH_DEVICE").unwrap_or_else(|_| "auto".into());
    if device == "cpu" {
        println!("on the CPU, as OSP_BENCH_DEVICE asks");
        return None;
    }
    match Driver::open() {
        Ok(mut driver) => {
            if let Ok(name) = std::env::var("OSP_BENCH_KERNELS") {
                let variant = name.parse().unwrap_or_else(|error| panic!("OSP_BENCH_KERNELS is {name}: {error}"));
                driver.set_variant(variant).unwrap_or_else(|error| panic!("{error}"));
            }
            let card = driver.card().to_owned();
            let opened = OPENED.get_or_init(|| Opened { launches: Recorder::default(), card, half });
            let gpu = Cuda::new(Arc::new(Profiled::new(Arc::new(driver), opened.launches.clone())), half);
            println!("on {}", gpu.name());
            Some(gpu)
        }
        Err(error) if device == "auto" => {
            println!("on the CPU: {error}");
            None
        }
        Err(error) => panic!("OSP_BENCH_DEVICE is {device}: {error}"),
    }
}

/// Copies `len` activations.
pub fn copy<B: Backend>(backend: &B, len: usize, from: &B::Buffer, to: &mut B::Buffer) {
    use osp::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
    let whole = BoxAt::whole([1; 3]);
    let op = CopyBox { extent: [1; 3], channels: len, from: whole, to: whole };
    backend.copy_box(&op, CopyBoxArgs { x: from, out: to }).unwrap();
}

/// A video of `frames` equal frames of `frame_len` values. The device copies the frame, which is faster than an upload.
pub fn video<B: Backend>(backend: &B, frames: usize, frame_len: usize) -> B::Buffer {
    use osp::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
    let frame = backend.upload(&values(frame_len)).unwrap();
    let mut video = backend.alloc(frames * frame_len).unwrap();
    for index in 0..frames {
        let to = BoxAt { size: [frames, 1, 1], origin: [index, 0, 0] };
        let op = CopyBox { extent: [1; 3], channels: frame_len, from: BoxAt::whole([1; 3]), to };
        backend.copy_box(&op, CopyBoxArgs { x: &frame, out: &mut video }).unwrap();
    }
    video
}

/// The amount of work, in the unit of its bound.
#[derive(Clone, Copy)]
pub enum Work {
    /// Bytes moved.
    Bytes(u64),
    /// Floating-point operations.
    Flops(u64),
}

/// The best rates of the device in this run, in bytes and operations per second: of this program's copy and product, of
/// the maker's library, and of the data sheet. On a CPU, data in the caches moves faster than the copy, which exceeds
/// them.
pub struct Ceiling {
    copy: f64,
    product: f64,
    makers_product: Option<f64>,
    data_sheet: Option<&'static gpus::Gpu>,
}

impl Ceiling {
    /// Measures and prints the rates.
    pub fn measure<B: Target>(backend: &B) -> Self {
        let from = backend.alloc(B::COPIED).unwrap();
        let mut to = backend.alloc(B::COPIED).unwrap();
        let seconds = best(backend, &mut || copy(backend, B::COPIED, &from, &mut to));
        let copy = 2.0 * B::COPIED as f64 * B::ELEMENT as f64 / seconds;
        drop((from, to));

        let side = B::PRODUCT;
        let x = values(side * side);
        let makers_product = backend.makers_product(&x);
        let x = backend.upload(&x).unwrap();
        let weight = backend.weight(vec![Tensor::from_f32(&[side, side], &values(side * side))]).unwrap();
        let mut out = backend.alloc(side * side).unwrap();
        let op = Linear::new(side, side, side);
        let product = best(backend, &mut || {
            let args = LinearArgs::new(&x, &weight, &mut out);
            backend.linear(&op, args).unwrap();
        });
        let product = op.flops() as f64 / product;
        println!("ceilings: a copy moves {:.1} GB/s, a product does {:.3} TFLOP/s", copy / 1e9, product / 1e12);
        if let Some(product) = makers_product {
            println!("cuBLASLt: a product does {:.3} TFLOP/s", product / 1e12);
        }
        let data_sheet = backend.data_sheet();
        if let Some(gpus::Gpu { flops, bytes, origin, .. }) = data_sheet {
            println!("data sheet: {:.1} GB/s and {:.1} TFLOP/s ({origin})", bytes / 1e9, flops / 1e12);
        }
        Self { copy, product, makers_product, data_sheet }
    }

    /// A line with the share of the ceiling that `work` in `seconds` reaches.
    fn share(&self, work: Work, seconds: f64) -> String {
        let (amount, ceiling, name) = match work {
            Work::Bytes(bytes) => (bytes as f64, self.copy, "copy"),
            Work::Flops(flops) => (flops as f64, self.product, "product"),
        };
        let share = |ceiling: f64| format!("{:.0} %", 100.0 * amount / seconds / ceiling);
        let promised = self.data_sheet.map(|gpu| match work {
            Work::Bytes(_) => gpu.bytes,
            Work::Flops(_) => gpu.flops,
        });
        let library = self.makers_product.filter(|_| matches!(work, Work::Flops(_)));
        let others = [(library, "cuBLASLt"), (promised, "the data sheet")];
        let others = others.iter().filter_map(|&(ceiling, name)| Some(format!(", {} of {name}", share(ceiling?))));
        format!("{} of {name}{}", share(ceiling), others.collect::<String>())
    }
}

/// The seconds of the fastest of several runs, after a run to warm up.
fn best<B: Target>(backend: &B, work: &mut dyn FnMut()) -> f64 {
    const RUNS: usize = 5;
    backend.time(1, work);
    (0..RUNS).map(|_| backend.time(1, work).as_secs_f64()).fold(f64::INFINITY, f64::min)
}

/// Runs one bench. Prints criterion's lines, then the share of the ceiling that the best sample reached.
pub fn bench<B: Target>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    backend: &B,
    ceiling: &Ceiling,
    name: &str,
    work: Work,
    mut run: impl FnMut(),
) {
    group.throughput(match work {
        Work::Bytes(bytes) => Throughput::Bytes(bytes),
        Work::Flops(flops) => Throughput::Elements(flops),
    });
    let mut best = f64::INFINITY;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let time = backend.time(iterations, &mut run);
            best = best.min(time.as_secs_f64() / iterations as f64);
            time
        });
    });
    // It is infinite if the command line skipped this bench.
    if best.is_finite() {
        println!("{name}: {}", ceiling.share(work, best));
    }
}

/// A group with few and short measurements.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// Pseudo-random values in [−1, 1), different at each call. On repeated values a chip would run faster than on real
/// data.
pub fn values(len: usize) -> Vec<f32> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let key = CALLS.fetch_add(1, Ordering::Relaxed) << 40;
    let value = |i| (splitmix64(key, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..len as u64).into_par_iter().map(value).collect()
}
