//! Heun's method for the probability flow (Karras et al. 2022, algorithm 1): two calls a step, one for the last step.
//!
//! In the scaling of [`euler`](super::euler), with ε predicted at (x, σ), the first call steps to x₁ = x + (σ'−σ)·ε as
//! Euler does. The second predicts ε' at (x₁, σ') and takes the step again with the mean of both:
//! x' = x + (σ'−σ)·(ε + ε')/2. The last step, to σ = 0, is Euler's.

use super::Sampler;
use super::betas::{Steps, Training, even};
use super::schedule::Slot::{History, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// The sample after half a step, x + (σ'−σ)·ε/2: the second call needs nothing else of the first.
const HALFWAY: Slot = History(0);

/// Heun's method.
pub(super) struct HeunDiscrete;

impl Sampler for HeunDiscrete {
    fn compile(&self, steps: Steps) -> Schedule {
        let timesteps = even(steps);
        let sigmas = Training::gentle().sigmas(&timesteps, 0.0);
        let mut calls = Vec::with_capacity(2 * steps.made - 1);
        for (index, &t) in timesteps.iter().enumerate() {
            let (from, to) = (sigmas[index], sigmas[index + 1]);
            let halfway = Update::new(HALFWAY, &[(Sample, 1.0), (Prediction, (to - from) / 2.0)]);
            let whole = Update::new(Sample, &[(Sample, 1.0), (Prediction, to - from)]);
            let Some(&next) = timesteps.get(index + 1) else {
                calls.push(Call::new(t, [whole]).scaled(from));
                break;
            };
            calls.push(Call::new(t, [halfway, whole]).scaled(from));
            let again = Update::new(Sample, &[(HALFWAY, 1.0), (Prediction, (to - from) / 2.0)]);
            calls.push(Call::new(next, [again]).scaled(to));
        }
        Schedule::new(sigmas[0], 1, calls)
    }
}
