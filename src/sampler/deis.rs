//! DEIS: the diffusion exponential integrator sampler (Zhang and Chen 2022), second order, extrapolating in log ρ.
//!
//! A sample is x = α·x₀ + σ·ε with α² + σ² = 1; ρ = σ/α. In terms of x/α the flow is d(x/α)/dρ = ε, and ε is
//! extrapolated linearly in log ρ through the predictions ε₀ at ρ₀ and, one step earlier, ε₁ at ρ₁:
//!
//! x' = α'·(x/α + c₀·ε₀ + c₁·ε₁), cᵢ = ∫ from ρ₀ to ρ' of (ln ρ − ln ρⱼ)/(ln ρᵢ − ln ρⱼ) dρ.
//!
//! The first step, and the last below 15 steps, are of first order: x' = α'/α·x − σ'·(e^h − 1)·ε, h = ln(ρ/ρ').
//! The last step ends at the noise level of timestep 0.

use super::Sampler;
use super::betas::{Level, Steps, Training, whole};
use super::schedule::Slot::{History, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// The prediction of the call before.
const EARLIER: Slot = History(0);
/// With fewer steps than this, the last step is of first order.
const FEW: usize = 15;

/// Diffusion exponential integrator.
pub(super) struct DeisMultistep;

impl Sampler for DeisMultistep {
    fn compile(&self, steps: Steps) -> Schedule {
        let training = Training::standard();
        let timesteps = whole(steps);
        let sigmas = training.sigmas(&timesteps, training.sigma(0.0));
        let levels: Vec<Level> = sigmas.into_iter().map(Level::new).collect();
        let call = |step: usize| {
            let (from, to) = (levels[step], levels[step + 1]);
            let lower = step == 0 || (step == steps.made - 1 && steps.all < FEW);
            let earlier = if lower { None } else { Some(levels[step - 1]) };
            // Two predictions at the same level (1000 steps round two timesteps to 500) do not determine the slope.
            let update = match earlier.filter(|earlier| earlier.rho() != from.rho()) {
                None => first_order(from, to),
                Some(earlier) => second_order(earlier, from, to),
            };
            Call::new(timesteps[step], [update, Update::copy(EARLIER, Prediction)])
        };
        Schedule::new(1.0, 1, (0..steps.made).map(call).collect())
    }
}

fn first_order(from: Level, to: Level) -> Update {
    let factor = -to.sigma * ((to.lambda - from.lambda).exp() - 1.0);
    Update::new(Sample, &[(Sample, to.alpha / from.alpha), (Prediction, factor)])
}

fn second_order(earlier: Level, from: Level, to: Level) -> Update {
    let (rho1, rho0, rho) = (earlier.rho(), from.rho(), to.rho());
    // ∫ (ln ρ − ln other)/(ln own − ln other) dρ
    let integral = |rho: f32, own: f32, other: f32| rho * (-other.ln() + rho.ln() - 1.0) / (own.ln() - other.ln());
    let latest = integral(rho, rho0, rho1) - integral(rho0, rho0, rho1);
    let before = integral(rho, rho1, rho0) - integral(rho0, rho1, rho0);
    let terms = [(Sample, to.alpha / from.alpha), (Prediction, to.alpha * latest), (EARLIER, to.alpha * before)];
    Update::new(Sample, &terms)
}
