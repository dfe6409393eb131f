//! Schedules of edits that predict for two prompts: the source prompt, which says what a clip shows, and the new one.
//!
//! Both work with y = x/√ᾱ = x₀ + σ·ε, σ = √((1−ᾱ)/ᾱ), in which the probability flow is dy/dσ = ε(y, σ).

use super::SamplerKind;
use super::schedule::Slot::{History, Noise, Original, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};
use crate::error::{Error, Result};

/// A noise level, and the timestep at which the model is called there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct NoiseLevel {
    timestep: f32,
    sigma: f32,
}

/// The number of the edited clip of [`SamplerKind::delta`].
const RESULT: usize = 0;
const EDITED: Slot = History(RESULT);
/// The prediction for the source prompt, then what the other one differs by.
const SOURCE: Slot = History(1);
/// How far the clip has moved.
const MOVED: Slot = History(2);

impl SamplerKind {
    /// The calls that turn a clean sample into the noise from which the sampler would make it (DDIM inversion, Song et al. 2020,
    /// section 4.3), then those of [`Self::last_of`], which make it anew.
    ///
    /// The inversion takes the levels of the sampler's calls the other way round. From a level to the next, σ to σ', it is a step of
    /// Euler's method, y' = y + (σ'−σ)·ε. The model sees the sample of level σ, at the timestep of σ', and predicts for the source
    /// prompt. The inversion also leaves the noise of the clip, ε = (y − x₀)/σ, in [`Schedule::inverted`].
    ///
    /// # Errors
    /// Those of [`Self::last_of`]; [`Error::Usage`] for a sampler that adds noise or clamps.
    pub fn inverted(self, steps: usize, made: usize) -> Result<Schedule> {
        let mut schedule = self.last_of(steps, made)?;
        if !schedule.is_reversible() {
            return Err(Error::Usage(format!(
                "{self} adds noise or clamps its predictions, so an inversion cannot lead back to the clip: choose a sampler such as {} or {}",
                Self::DpmSolverMultistep,
                Self::EulerDiscrete
            )));
        }
        let found = schedule.history;
        let (signal, noise) = self.signal_and_noise(&schedule.calls[0]);
        let levels = levels(&schedule, |call| {
            let (signal, noise) = self.signal_and_noise(call);
            NoiseLevel { timestep: call.timestep, sigma: noise / signal }
        });
        let mut sigma = 0.0;
        let mut calls = Vec::new();
        for (index, next) in levels.iter().rev().enumerate() {
            // The last step leads to the sampler's own scale.
            let last = index + 1 == levels.len();
            let scale = if last { signal } else { signal_of(next.sigma) };
            let terms = [(Sample, scale / signal_of(sigma)), (Prediction, scale * (next.sigma - sigma))];
            let noise = Update::new(History(found), &[(Sample, 1.0 / noise), (Original, -signal / noise)]);
            let updates: Vec<Update> = [Update::new(Sample, &terms)].into_iter().chain(last.then_some(noise)).collect();
            calls.push(Call { source: true, ..Call::new(next.timestep, updates) });
            sigma = next.sigma;
        }
        calls.append(&mut schedule.calls);
        Ok(Schedule { calls, history: found + 1, inverted: Some(found), ..schedule })
    }

    /// The calls that move a clean sample along the difference of two flows (FlowEdit, Kulikov et al. 2024; DFVEdit, Cai et al.
    /// 2025). At each level of [`Self::last_of`], the sample z₀ and the edited one ẑ get the same noise; the model predicts the noise of
    /// the first for the source prompt and that of the second for the new one; and ẑ' = ẑ + (σ'−σ)·(ε_new − ε_source). Differences
    /// are taken first, so that equal predictions leave the bits of the clip. All of this is in the space x, at whole timesteps.
    ///
    /// # Errors
    /// Those of [`Self::last_of`].
    pub fn delta(self, steps: usize, made: usize) -> Result<Schedule> {
        let levels = levels(&self.last_of(steps, made)?, |call| {
            let alpha_bar = self.alpha_bar(call.timestep);
            NoiseLevel { timestep: call.timestep.round(), sigma: ((1.0 - alpha_bar) / alpha_bar).sqrt() }
        });
        let mut calls = Vec::new();
        for (index, &NoiseLevel { timestep, sigma }) in levels.iter().enumerate() {
            let next = levels.get(index + 1).map(|level| level.sigma);
            // Before the first step nothing is edited.
            let begins = (index == 0).then(|| Update::copy(EDITED, Original));
            let to_edited = [
                Update::copy(SOURCE, Prediction),
                Update::new(MOVED, &[(EDITED, 1.0), (Original, -1.0)]),
                Update::new(Sample, &[(Sample, 1.0), (MOVED, signal_of(sigma))]),
            ];
            let updates: Vec<Update> = begins.into_iter().chain(to_edited).collect();
            calls.push(Call { source: true, ..Call::new(timestep, updates) });

            let moves = [
                Update::new(SOURCE, &[(Prediction, 1.0), (SOURCE, -1.0)]),
                Update::new(EDITED, &[(EDITED, 1.0), (SOURCE, next.unwrap_or(0.0) - sigma)]),
            ];
            let noised = next.map(|sigma| {
                let signal = signal_of(sigma);
                Update::new(Sample, &[(Original, signal), (Noise, signal * sigma)])
            });
            let updates: Vec<Update> = moves.into_iter().chain(noised).collect();
            calls.push(Call { draws_noise: next.is_some(), ..Call::new(timestep, updates) });
        }
        Ok(Schedule { result: Some(RESULT), ..Schedule::new(1.0, 3, calls) })
    }
}

/// The levels of a schedule's calls, each once, the highest first.
fn levels(schedule: &Schedule, of: impl FnMut(&Call) -> NoiseLevel) -> Vec<NoiseLevel> {
    let mut levels: Vec<NoiseLevel> = schedule.calls.iter().map(of).collect();
    levels.sort_by(|a, b| b.sigma.total_cmp(&a.sigma));
    levels.dedup_by(|a, b| a.sigma == b.sigma);
    levels
}

/// √ᾱ at a level.
fn signal_of(sigma: f32) -> f32 {
    1.0 / (1.0 + sigma * sigma).sqrt()
}
