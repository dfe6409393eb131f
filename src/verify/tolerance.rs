//! The tolerances: how much a device may differ from the original.
//!
//! Golden data holds the relative error of a bf16 run of PyTorch for each case. A bf16 device may have twice that
//! error. An f16 device has three more bits of mantissa, and may have half of it. In f32, plain code has errors near
//! 5e-7 for the transformer and 8e-6 for the VAE. The bounds allow another order of summation, but not a wrong formula.

/// Precision of the checked device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The CPU backend.
    F32,
    /// Half precision in memory.
    F16,
    /// bfloat16 in memory.
    Bf16,
}

/// Relative L2 error of the transformer and T5 in f32.
pub(super) const TRANSFORMER: f64 = 1e-5;
/// Relative L2 error of the VAE in f32.
pub(super) const VAE: f64 = 3e-5;
/// Relative L2 error of the pipeline's latents in f32.
pub(super) const PIPELINE: f64 = 1e-4;
/// Relative L2 error of sampler trajectories, whose state is f32 on every device.
pub(super) const TRAJECTORY: f64 = 1e-4;
/// Absolute error of noise.
pub(super) const NOISE: f64 = 1e-6;
/// Absolute difference of timesteps that come from an interpolation.
pub(super) const TIMESTEP: f32 = 1e-2;
/// Largest difference of a byte of a frame in f32.
pub(super) const BYTE_STEP: f64 = 1.0;
/// Largest share of bytes that may differ in f32.
pub(super) const BYTES_OFF: f64 = 0.005;
/// Decibels by which the PSNR of a 16-bit device may be below PyTorch's in bf16.
pub(super) const PSNR_MARGIN: f64 = 3.0;

impl Precision {
    /// The allowed relative error, if f32 may have `f32_error` and PyTorch in bf16 has `torch_bf16_error`.
    pub(super) fn relative(self, f32_error: f64, torch_bf16_error: f64) -> f64 {
        match self {
            Self::F32 => f32_error,
            Self::F16 => 0.5 * torch_bf16_error,
            Self::Bf16 => 2.0 * torch_bf16_error,
        }
    }
}
