//! How a kernel is judged: its error against the f32 operation on 16-bit-exact inputs may be twice that of the f32
//! operation's own result rounded to 16 bits, plus a floor. Movement of data must be bit-equal.

use half::{bf16, f16};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::{Driver, Emulated};
use osp::cuda::{Cuda, Half};
use std::sync::{Arc, LazyLock};

pub use crate::ops::values::values;

/// What one step of rounding may be off where everything cancels, relative to the root of the mean square.
const FLOOR: f64 = 1e-6;

/// The two types, each under three orders of threads: plain, shuffled, and with single warps ahead.
pub fn devices() -> impl Iterator<Item = (Cuda<Emulated>, Half)> {
    [Half::F16, Half::Bf16]
        .into_iter()
        .flat_map(|half| [0, 1, 2].map(|seed| (Cuda::new(Arc::new(Emulated::new(seed)), half), half)))
}

/// `x` as it is after rounding to `half`.
pub fn rounded(x: &[f32], half: Half) -> Vec<f32> {
    match half {
        Half::F16 => x.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        Half::Bf16 => x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
    }
}

/// Values in [−1, 1) that `half` holds exactly.
pub fn half_values(seed: u64, len: usize, half: Half) -> Vec<f32> {
    rounded(&values(seed, len), half)
}

/// The elements of a buffer.
pub fn host<B: Backend>(backend: &B, buffer: &B::Buffer) -> Vec<f32> {
    use osp::backend::DeviceBuffer;
    let mut host = vec![f32::NAN; buffer.len()];
    backend.download(buffer, 0, &mut host).unwrap();
    host
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    found.iter().zip(expected).map(|(&found, &expected)| f64::from(found - expected).powi(2)).sum::<f64>().sqrt()
}

/// A kernel's result against the f32 result, by the policy above.
#[track_caller]
pub fn assert_half(found: &[f32], expected: &[f32], half: Half, case: &dyn std::fmt::Debug) {
    assert_eq!(found.len(), expected.len(), "{case:?}");
    let norm = distance(expected, &vec![0.0; expected.len()]);
    let allowed = 2.0 * distance(&rounded(expected, half), expected) + FLOOR * norm;
    let error = distance(found, expected);
    assert!(error <= allowed, "{case:?}, {half:?}: error {error:.3e}, allowed {allowed:.3e}, of {norm:.3e}");
    // The norm above could hide one bad element among many.
    let typical = norm / (expected.len() as f64).sqrt();
    let step = if half == Half::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 };
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = f64::from(found - expected).abs();
        let allowed = 4.0 * step * (typical + f64::from(expected).abs());
        assert!(error <= allowed, "{case:?}, {half:?}: element {i} is {found}, expected {expected}");
    }
}

/// What a body gives on one device and type, and on the CPU with the same inputs.
struct Outcome {
    half: Half,
    found: Vec<f32>,
    expected: Vec<f32>,
}

/// Runs a body on every emulated device, and on the GPU if there is one.
fn outcomes(body: &dyn Body) -> Vec<Outcome> {
    static GPU: LazyLock<Option<Arc<Driver>>> = LazyLock::new(|| Driver::open().ok().map(Arc::new));
    let outcome = |half, found| Outcome { half, found, expected: body.on_cpu(&Cpu::new(), half) };
    let emulated = devices().map(|(cuda, half)| outcome(half, body.on_emulator(&cuda, half)));
    let on_gpu = |gpu: &Arc<Driver>| {
        [Half::F16, Half::Bf16].map(|half| outcome(half, body.on_gpu(&Cuda::new(gpu.clone(), half), half)))
    };
    emulated.chain(GPU.iter().flat_map(on_gpu)).collect()
}

/// A body must agree with the CPU as [`assert_half`] says. It may upload only values that the device's type holds exactly.
pub fn against_the_cpu(case: &dyn std::fmt::Debug, body: &dyn Body) {
    for Outcome { half, found, expected } in outcomes(body) {
        assert_half(&found, &expected, half, case);
    }
}

/// A body that only moves values must give the CPU's bits.
pub fn exactly_the_cpu(case: &dyn std::fmt::Debug, body: &dyn Body) {
    for Outcome { half, found, expected } in outcomes(body) {
        assert_eq!(found.len(), expected.len(), "{case:?}");
        let first = found.iter().zip(&expected).position(|(found, expected)| found.to_bits() != expected.to_bits());
        assert_eq!(first, None, "{case:?}, {half:?}: the first element with other bits");
    }
}

/// Something to run on any backend. `body!` makes one of a struct.
pub trait Body {
    fn on_cpu(&self, backend: &Cpu, half: Half) -> Vec<f32>;
    fn on_emulator(&self, backend: &Cuda<Emulated>, half: Half) -> Vec<f32>;
    fn on_gpu(&self, backend: &Cuda<Driver>, half: Half) -> Vec<f32>;
}

/// Lets a struct whose method `run<B: Backend>(&self, &B, Half) -> Vec<f32>` is generic be a [`Body`].
macro_rules! body {
    ($type:ty) => {
        impl crate::kernels::policy::Body for $type {
            fn on_cpu(&self, backend: &osp::cpu::Cpu, half: osp::cuda::Half) -> Vec<f32> {
                self.run(backend, half)
            }
            fn on_emulator(
                &self,
                backend: &osp::cuda::Cuda<osp::cuda::device::Emulated>,
                half: osp::cuda::Half,
            ) -> Vec<f32> {
                self.run(backend, half)
            }
            fn on_gpu(&self, backend: &osp::cuda::Cuda<osp::cuda::device::Driver>, half: osp::cuda::Half) -> Vec<f32> {
                self.run(backend, half)
            }
        }
    };
}

pub(crate) use body;
