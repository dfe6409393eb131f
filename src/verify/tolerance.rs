//! How far a device may be from the original: the one place that says so.
//!
//! Golden data names the relative error of PyTorch's own bf16 run of each case. A bf16 device may have twice that, an f16
//! device, with three more bits of mantissa, half of it. In f32 plain code lands near 5e-7 for the transformer and 8e-6
//! for the VAE; the bounds leave room for another order of summation, and none for a wrong formula.

/// Precision of the device that is checked.
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
/// Most that a byte of a frame may be off in f32.
pub(super) const BYTE_STEP: f64 = 1.0;
/// Share of bytes that may be off in f32.
pub(super) const BYTES_OFF: f64 = 0.005;
/// Decibels that a 16-bit device's frames may lie below PyTorch's bf16 frames.
pub(super) const PSNR_MARGIN: f64 = 3.0;

impl Precision {
    /// The relative error allowed where f32 may have `f32_error` and PyTorch's bf16 has `torch_bf16_error`.
    pub(super) fn relative(self, f32_error: f64, torch_bf16_error: f64) -> f64 {
        match self {
            Self::F32 => f32_error,
            Self::F16 => 0.5 * torch_bf16_error,
            Self::Bf16 => 2.0 * torch_bf16_error,
        }
    }
}
