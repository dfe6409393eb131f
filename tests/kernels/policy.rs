//! How a kernel is judged: its error against the f32 operation on 16-bit-exact inputs may be twice that of the f32
//! operation's own result rounded to 16 bits, plus a floor. Movement of data must be bit-equal.

use half::{bf16, f16};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::Emulated;
use osp::cuda::{Cuda, Half};
use std::sync::Arc;

pub use crate::ops::values::values;

/// What one step of rounding may be off where everything cancels, relative to the root of the mean square.
const FLOOR: f64 = 1e-6;

/// The two types, each under two orders of threads.
pub fn devices() -> impl Iterator<Item = (Cuda<Emulated>, Half)> {
    [Half::F16, Half::Bf16]
        .into_iter()
        .flat_map(|half| [0, 0x5EED].map(|seed| (Cuda::new(Arc::new(Emulated::new(seed)), half), half)))
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

/// Runs one body on the CPU and on every emulated device.
///
/// `body` gets a backend and returns the output; it must upload only values that the device's type holds exactly, which
/// `half` says.
pub fn against_the_cpu(case: &dyn std::fmt::Debug, body: &dyn Body) {
    for (cuda, half) in devices() {
        let expected = body.on_cpu(&Cpu::new(), half);
        let found = body.on_cuda(&cuda, half);
        assert_half(&found, &expected, half, case);
    }
}

/// A body that is generic over backends. `impl_body!` makes one of a function.
pub trait Body {
    fn on_cpu(&self, backend: &Cpu, half: Half) -> Vec<f32>;
    fn on_cuda(&self, backend: &Cuda<Emulated>, half: Half) -> Vec<f32>;
}

/// Lets a struct whose method `run<B: Backend>(&self, &B, Half) -> Vec<f32>` is generic be a [`Body`].
macro_rules! body {
    ($type:ty) => {
        impl crate::kernels::policy::Body for $type {
            fn on_cpu(&self, backend: &osp::cpu::Cpu, half: osp::cuda::Half) -> Vec<f32> {
                self.run(backend, half)
            }
            fn on_cuda(
                &self,
                backend: &osp::cuda::Cuda<osp::cuda::device::Emulated>,
                half: osp::cuda::Half,
            ) -> Vec<f32> {
                self.run(backend, half)
            }
        }
    };
}

pub(crate) use body;
