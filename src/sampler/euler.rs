//! Euler's method for the probability flow of Karras et al. 2022, and its ancestral variant.
//!
//! Samples are scaled so that x = x₀ + σ·ε with σ = √((1−ᾱ)/ᾱ); the model sees x / √(σ²+1). In this scaling
//! dx/dσ = ε, so a step from σ to σ' is x' = x + (σ'−σ)·ε. The ancestral variant is DDPM's step in this scaling: it
//! steps down to σ_down, then adds fresh noise: x' = x + (σ_down−σ)·ε + σ_up·noise, where σ_up² = σ'²·(σ²−σ'²)/σ² and
//! σ_down² = σ'²−σ_up². Both end at σ = 0.

use super::Sampler;
use super::betas::{Steps, Training, even};
use super::schedule::Slot::{Noise, Prediction, Sample};
use super::schedule::{Call, Schedule, Update};

/// Euler's method.
pub(super) struct EulerDiscrete;

impl Sampler for EulerDiscrete {
    fn compile(&self, steps: Steps) -> Schedule {
        compile(steps, |t, from, to| Call::new(t, [Update::new(Sample, &[(Sample, 1.0), (Prediction, to - from)])]))
    }
}

/// Euler's method with ancestral noise. The last draw has the factor 0.
pub(super) struct EulerAncestralDiscrete;

impl Sampler for EulerAncestralDiscrete {
    fn compile(&self, steps: Steps) -> Schedule {
        compile(steps, |t, from, to| {
            let Ancestral { down, up } = Ancestral::between(from, to);
            let step = Update::new(Sample, &[(Sample, 1.0), (Prediction, down - from), (Noise, up)]);
            Call { draws_noise: true, ..Call::new(t, [step]) }
        })
    }
}

/// A schedule of `call(timestep, σ, σ')` at even timesteps.
fn compile(steps: Steps, call: impl Fn(f32, f32, f32) -> Call) -> Schedule {
    let timesteps = even(steps);
    let sigmas = Training::standard().sigmas(&timesteps, 0.0);
    let calls = timesteps.iter().zip(sigmas.windows(2));
    let calls = calls.map(|(&t, pair)| call(t, pair[0], pair[1]).scaled(pair[0]));
    Schedule::new(sigmas[0], 0, calls.collect())
}

impl Call {
    /// This call, with its input scaled for a sample of noise level `sigma`.
    pub(super) fn scaled(self, sigma: f32) -> Self {
        Self { input_scale: 1.0 / (sigma * sigma + 1.0).sqrt(), ..self }
    }
}

/// How a step from σ to σ' is split.
pub(super) struct Ancestral {
    /// The noise level to step down to.
    pub(super) down: f32,
    /// The fresh noise that leads back up to σ'.
    pub(super) up: f32,
}

impl Ancestral {
    /// The split of the step from `from` to `to`.
    pub(super) fn between(from: f32, to: f32) -> Self {
        let (from, to) = (from * from, to * to);
        let up = (to * (from - to) / from).sqrt();
        // σ_down is σ'²/σ, but the original computes this difference. For σ' ≪ σ it loses digits, and so do the
        // original's samples. It must not round below zero.
        Self { down: (to - up * up).max(0.0).sqrt(), up }
    }
}
