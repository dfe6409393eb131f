//! Guidance from a difference of its branches that an earlier call of the model evaluated.
//!
//! With ε_u the branch of the negative prompt and ε_c that of the prompt, an evaluation of both leaves Δ = ε_u − ε_c, split into
//! its low and high spatial frequencies. A later call evaluates ε_c alone and takes ε_u = ε_c + w_low·Δ_low + w_high·Δ_high. The
//! weights make up for how the difference grows: in the noisy half of the timesteps its low frequencies, then its high ones.

use super::bands::LowPass;
use crate::backend::Backend;
use crate::engine::transfer::{copy, host};
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// The weight of the frequencies that grow, as in FasterCache.
const GROWTH: f32 = 1.2;
/// The timestep below which the high frequencies grow.
const HALF: f32 = 500.0;

/// A difference of the branches, and the calls that took it in place of their own.
pub(super) type Known = (usize, Vec<f32>);

/// The difference of the branches that was evaluated last.
pub(super) struct Difference<B: Backend> {
    /// Calls of the model that an evaluation may serve, its own among them.
    calls: usize,
    low_pass: LowPass,
    /// Low and high frequencies.
    bands: [B::Buffer; 2],
    known: Option<Known>,
}

impl<B: Backend> Difference<B> {
    /// What an earlier run knew, if it knew anything. `frame`: rows, columns and channels of each of the `frames`.
    pub fn new(backend: &B, calls: usize, frames: usize, frame: [usize; 3], known: Option<&Known>) -> Result<Self> {
        let len = frames * frame.iter().product::<usize>();
        let bands = [backend.alloc_f32(len)?, backend.alloc_f32(len)?];
        let mut difference = Self { calls, low_pass: LowPass::new(frame), bands, known: None };
        known.map_or(Ok(()), |known| difference.set(backend, known.clone()))?;
        Ok(difference)
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
        let mut difference = host(backend, unconditional)?;
        let conditional = host(backend, conditional)?;
        difference.iter_mut().zip(conditional).for_each(|(a, b)| *a -= b);
        self.set(backend, (0, difference))
    }

    fn set(&mut self, backend: &B, known: Known) -> Result<()> {
        let low = self.low_pass.of(&known.1);
        let high: Vec<f32> = known.1.iter().zip(&low).map(|(all, low)| all - low).collect();
        for (band, values) in self.bands.iter_mut().zip([low, high]) {
            copy(backend, &backend.upload_f32(&values)?, band)?;
        }
        self.known = Some(known);
        Ok(())
    }

    /// What a later run needs.
    pub fn known(&self) -> Option<&Known> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    /// The guided prediction for ε_c = 3 and a difference of four values in a line, at a timestep, with a scale of 5.
    fn guided(difference: [f32; 4], timestep: f32) -> Vec<f32> {
        let backend = Cpu::new();
        let conditional = backend.upload_f32(&[3.0; 4]).unwrap();
        let unconditional = backend.upload_f32(&difference.map(|value| 3.0 + value)).unwrap();
        let mut kept = Difference::new(&backend, 3, 1, [1, 4, 1], None).unwrap();
        assert!(!kept.serves());
        kept.keep(&backend, &unconditional, &conditional).unwrap();
        let mut out = backend.alloc_f32(4).unwrap();
        assert!(kept.serves());
        kept.guide(&backend, 5.0, timestep, &conditional, &mut out).unwrap();
        assert!(kept.serves() && !kept.serves(), "it serves two calls behind its own");
        host(&backend, &out).unwrap()
    }

    #[test]
    fn each_half_of_the_timesteps_lets_other_frequencies_grow() {
        // ε_u + 5·(ε_c − ε_u) = 3 − 4·Δ, and Δ grows by 1.2.
        let near = |a: &[f32], b: [f32; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&guided([0.5; 4], 900.0), [3.0 - 4.0 * 0.6; 4]));
        assert!(near(&guided([0.5; 4], 100.0), [3.0 - 4.0 * 0.5; 4]));
        let fast = [0.5, -0.5, 0.5, -0.5];
        assert!(near(&guided(fast, 900.0), fast.map(|value| 3.0 - 4.0 * value)));
        assert!(near(&guided(fast, 100.0), fast.map(|value| 3.0 - 4.0 * 1.2 * value)));
    }
}
