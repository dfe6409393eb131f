//! Guidance from a difference of its branches that an earlier call of the model evaluated.
//!
//! With ε_u the branch of the negative prompt and ε_c that of the prompt, an evaluation of both leaves Δ = ε_u − ε_c, split into
//! its low and high spatial frequencies. A later call evaluates ε_c alone and takes ε_u = ε_c + w_low·Δ_low + w_high·Δ_high. The
//! weights make up for how the difference grows: in the noisy half of the timesteps its low frequencies, then its high ones.

use super::bands;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// The weight of the frequencies that grow, as in FasterCache.
const GROWTH: f32 = 1.2;
/// The timestep below which the high frequencies grow.
const HALF: f32 = 500.0;

/// The difference of the branches that was evaluated last.
pub(super) struct Difference<B: Backend> {
    /// Calls of the model that an evaluation may serve, its own among them.
    calls: usize,
    /// Rows, columns and channels of a latent frame.
    frame: [usize; 3],
    /// Low and high frequencies.
    bands: [B::Buffer; 2],
    /// Calls that it has served, and its values on the host; `None` if nothing is known.
    known: Option<(usize, Vec<f32>)>,
}

impl<B: Backend> Difference<B> {
    /// Nothing is known yet.
    pub fn new(backend: &B, calls: usize, frames: usize, frame: [usize; 3]) -> Result<Self> {
        let len = frames * frame.iter().product::<usize>();
        Ok(Self { calls, frame, bands: [backend.alloc_f32(len)?, backend.alloc_f32(len)?], known: None })
    }

    /// Whether the next call may use it; counts the call.
    pub fn serves(&mut self) -> bool {
        let calls = self.calls;
        self.known =
            self.known.take().map(|(served, values)| (served + 1, values)).filter(|(served, _)| *served < calls);
        self.known.is_some()
    }

    /// Forgets it.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Keeps the difference of two branches. The host waits for the device.
    pub fn keep(&mut self, backend: &B, unconditional: &B::Buffer, conditional: &B::Buffer) -> Result<()> {
        let [mut difference, mut other] = [unconditional, conditional].map(|branch| vec![0.0; branch.len()]);
        backend.download(unconditional, 0, &mut difference)?;
        backend.download(conditional, 0, &mut other)?;
        difference.iter_mut().zip(other).for_each(|(a, b)| *a -= b);
        self.set(backend, (0, difference))
    }

    /// Keeps a difference that has served so many calls.
    pub fn set(&mut self, backend: &B, (served, difference): (usize, Vec<f32>)) -> Result<()> {
        let [height, width, channels] = self.frame;
        let low = bands::low(&difference, [height, width], channels);
        let high: Vec<f32> = difference.iter().zip(&low).map(|(all, low)| all - low).collect();
        for (band, values) in self.bands.iter_mut().zip([low, high]) {
            let values = backend.upload_f32(&values)?;
            let copy = Combine { len: values.len(), coefficients: &[1.0], clamp: None };
            backend.combine(&copy, CombineArgs { inputs: &[&values], out: band })?;
        }
        self.known = Some((served, difference));
        Ok(())
    }

    /// The calls that it has served, and its values.
    pub fn known(&self) -> Option<&(usize, Vec<f32>)> {
        self.known.as_ref()
    }

    /// The guided prediction: ε_u + scale·(ε_c − ε_u).
    pub fn guide(
        &self,
        backend: &B,
        scale: f32,
        timestep: f32,
        conditional: &B::Buffer,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let weights = if timestep > HALF { [GROWTH, 1.0] } else { [1.0, GROWTH] };
        let [low, high] = weights.map(|weight| (1.0 - scale) * weight);
        let op = Combine { len: out.len(), coefficients: &[1.0, low, high], clamp: None };
        let inputs = [conditional, &self.bands[0], &self.bands[1]];
        backend.combine(&op, CombineArgs { inputs: &inputs, out })
    }
}
