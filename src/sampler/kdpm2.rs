//! DPM-Solver-2 (Lu et al. 2022, "DPM-Solver", algorithm 1) with ancestral noise: two calls a step, one for the last
//! step.
//!
//! In the scaling of [`euler`](super::euler) and with its σ_down and σ_up, the first call steps to the geometric middle
//! of the step down, σ_mid = √(σ·σ_down): x₁ = x + (σ_mid−σ)·ε. The second predicts ε' there and takes the whole step
//! with it: x' = x + (σ_down−σ)·ε' + σ_up·noise. The last step, to σ = 0, is Euler's. Every call draws noise; only the
//! second call of a step uses it. (Since σ_down = σ'²/σ, the middle is σ', up to rounding.)

use super::Sampler;
use super::betas::{Steps, Training, even};
use super::euler::Ancestral;
use super::schedule::Slot::{History, Noise, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// The sample at the start of the step.
const START: Slot = History(0);

/// DPM-Solver-2 with ancestral noise.
pub(super) struct Kdpm2AncestralDiscrete;

impl Sampler for Kdpm2AncestralDiscrete {
    fn compile(&self, steps: Steps) -> Schedule {
        let training = Training::gentle();
        let timesteps = even(steps);
        let sigmas = training.sigmas(&timesteps, 0.0);
        let mut calls = Vec::with_capacity(2 * steps.made - 1);
        for (&t, pair) in timesteps.iter().zip(sigmas.windows(2)) {
            let (from, to) = (pair[0], pair[1]);
            let step_to = |to: f32| Update::new(Sample, &[(Sample, 1.0), (Prediction, to - from)]);
            if to == 0.0 {
                calls.push(Call::new(t, [step_to(0.0)]).scaled(from));
                break;
            }
            let Ancestral { down, up } = Ancestral::between(from, to);
            let middle = ((from.ln() + down.ln()) / 2.0).exp();
            calls.push(Call::new(t, [Update::copy(START, Sample), step_to(middle)]).scaled(from));
            let whole = Update::new(Sample, &[(START, 1.0), (Prediction, down - from), (Noise, up)]);
            calls.push(Call::new(training.timestep(middle), [whole]).scaled(middle));
        }
        calls.iter_mut().for_each(|call| call.draws_noise = true);
        Schedule::new(sigmas[0], 1, calls)
    }
}
