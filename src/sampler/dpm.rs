//! DPM-Solver++ of second order (Lu et al. 2022, "DPM-Solver++"), multi-step and single-step.
//!
//! A sample is x = α·x₀ + σ·ε with α² + σ² = 1, and λ = ln(α/σ) is its time. The solver works on the predicted
//! x₀ = (x − σ·ε)/α, called m below. A step from λ to λ' has the length h = λ' − λ:
//!
//! x' = σ'/σ·x − α'·(e^(−h) − 1)·(D₀ + D₁/2), where D₁ = (h/h₀)·(m₀ − m₁)
//!
//! and m₀ is the latest prediction; m₁ is the one before it, h₀ earlier in λ.
//!
//! - Multi-step: D₀ = m₀. The first and the last step are of first order: D₁ = 0.
//! - Single-step: steps of first and second order alternate. A step of second order starts again where the step before
//!   it started, and spans both, with D₀ = m₁. The last step is of first order; with an even number of steps, the last
//!   two are.
//!
//! Both end at σ = 0, where x' = m.

use super::Sampler;
use super::betas::{Level, Steps, Training, whole};
use super::schedule::Slot::{History, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// DPM-Solver++(2M).
pub(super) struct Multistep;

impl Sampler for Multistep {
    fn compile(&self, steps: Steps) -> Schedule {
        let call = |step: usize, levels: &[Level]| {
            let (latest, earlier) = (History(step % 2), History((step + 1) % 2));
            let (from, to) = (levels[step], levels[step + 1]);
            let update = if step == 0 || step == steps.made - 1 {
                advance(Sample, from, to, &[(latest, 1.0)])
            } else {
                let half = half_ratio(levels[step - 1], from, from, to);
                advance(Sample, from, to, &[(latest, 1.0 + half), (earlier, -half)])
            };
            vec![original(from, latest), update]
        };
        compile(steps, 2, call)
    }
}

/// The sample at the start of a single-step solver's step of first order.
const START: Slot = History(0);
/// The m of that step.
const FIRST: Slot = History(1);
/// The m of the step of second order that follows it.
const SECOND: Slot = History(2);

/// DPM-Solver++(2S).
pub(super) struct Singlestep;

impl Sampler for Singlestep {
    fn compile(&self, steps: Steps) -> Schedule {
        let call = |step: usize, levels: &[Level]| {
            let (from, to) = (levels[step], levels[step + 1]);
            if step % 2 == 1 && step != steps.made - 1 {
                let start = levels[step - 1];
                let half = half_ratio(start, from, start, to);
                let update = advance(START, start, to, &[(SECOND, half), (FIRST, 1.0 - half)]);
                return vec![original(from, SECOND), update];
            }
            let update = advance(Sample, from, to, &[(FIRST, 1.0)]);
            vec![Update::copy(START, Sample), original(from, FIRST), update]
        };
        compile(steps, 3, call)
    }
}

/// A schedule in which `updates(step, noise levels)` follow call number `step`.
fn compile(steps: Steps, history: usize, updates: impl Fn(usize, &[Level]) -> Vec<Update>) -> Schedule {
    let timesteps = whole(steps);
    let levels: Vec<Level> = Training::standard().sigmas(&timesteps, 0.0).into_iter().map(Level::new).collect();
    let calls = timesteps.iter().enumerate().map(|(step, &t)| Call::new(t, updates(step, &levels)));
    Schedule::new(1.0, history, calls.collect())
}

/// Computes m = (x − σ·ε)/α.
fn original(level: Level, out: Slot) -> Update {
    Update::new(out, &[(Sample, 1.0 / level.alpha), (Prediction, -level.sigma / level.alpha)])
}

/// The step from `start`, a sample at the level `from`, to the level `to`; `terms` add up to D₀ + D₁/2.
fn advance(start: Slot, from: Level, to: Level, terms: &[(Slot, f32)]) -> Update {
    let factor = -to.alpha * ((from.lambda - to.lambda).exp() - 1.0);
    let terms = terms.iter().map(|&(slot, weight)| (slot, weight * factor));
    Update::new(Sample, &[(start, to.sigma / from.sigma)].into_iter().chain(terms).collect::<Vec<_>>())
}

/// h/h₀/2 for predictions at the levels `m1` and `m0`; 0 where they coincide (1000 steps round two timesteps to 500).
fn half_ratio(m1: Level, m0: Level, from: Level, to: Level) -> f32 {
    let apart = m0.lambda - m1.lambda;
    if apart == 0.0 { 0.0 } else { 0.5 * ((to.lambda - from.lambda) / apart) }
}
