//! The clip of an edit on the device, for the sampler.

use super::original::Original;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs, Hold};
use crate::sampler::{SamplerKind, SamplerRun};

/// How much of the clean latent and of the noise a sample holds: x = signal·x₀ + noise·ε.
pub(super) type Level = (f32, f32);

/// The level of a latent without noise.
pub(super) const CLEAN: Level = (1.0, 0.0);

/// The latent x₀ of an edit's clip, and the noise ε that it gets: the run's first draw, at every level the same. An inversion finds
/// other noise, which the sampler keeps.
pub(super) struct Held<B: Backend> {
    original: B::Buffer,
    noise: B::Buffer,
    /// How much of each value is held, if some are.
    weights: Option<B::Buffer>,
}

impl<B: Backend> Held<B> {
    /// Uploads them; `noise` is `[T, H, W, C]`.
    pub fn new(backend: &B, original: &Original, noise: &[f32]) -> Result<Self> {
        Ok(Self {
            original: backend.upload_f32(&original.latent)?,
            noise: backend.upload_f32(noise)?,
            weights: original.weights.as_deref().map(|weights| backend.upload_f32(weights)).transpose()?,
        })
    }

    /// The latent at a level.
    pub fn at(&self, backend: &B, (signal, noise): Level) -> Result<B::Buffer> {
        let len = self.original.len();
        let mut sample = backend.alloc_f32(len)?;
        let op = Combine { len, coefficients: &[signal, noise], clamp: None };
        backend.combine(&op, CombineArgs { inputs: &[&self.original, &self.noise], out: &mut sample })?;
        Ok(sample)
    }

    /// The latent x₀.
    pub fn original(&self) -> &B::Buffer {
        &self.original
    }

    /// Puts the latent back where it is held, before the next call. An inversion inverts the whole clip.
    pub fn hold_before_call(&self, run: &mut SamplerRun<'_, B>, sampler: SamplerKind) -> Result<()> {
        match run.call() {
            _ if run.edited().is_some() => self.hold(run, CLEAN),
            Some(call) if !call.source => self.hold(run, sampler.signal_and_noise(call)),
            _ => Ok(()),
        }
    }

    /// Puts the latent at a level back into what becomes the result, where it is held.
    pub fn hold(&self, run: &mut SamplerRun<'_, B>, (signal, noise_level): Level) -> Result<()> {
        let Some(weights) = &self.weights else { return Ok(()) };
        let op = Hold { len: self.original.len(), signal, noise_level };
        run.hold(&op, [&self.original, &self.noise, weights])
    }
}
