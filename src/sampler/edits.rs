//! Schedules of edits that predict for two prompts: the source prompt, which says what a clip shows, and the new one.
//!
//! Both work with y = x/√ᾱ = x₀ + σ·ε, σ = √((1−ᾱ)/ᾱ), in which the probability flow is dy/dσ = ε(y, σ).

use super::SamplerKind;
use super::schedule::Slot::{History, Noise, Original, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};
use crate::error::{Error, Result};

/// A noise level of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    timestep: f32,
    /// σ.
    sigma: f32,
}

/// The edited clip of [`SamplerKind::delta`].
const EDITED: Slot = History(0);
/// The prediction for the source prompt, then what the other one differs by.
const SOURCE: Slot = History(1);
/// How far the clip has moved.
const MOVED: Slot = History(2);

impl SamplerKind {
    /// The calls that turn a clean sample into the noise from which the sampler would make it (DDIM inversion, Dhariwal and Nichol
    /// 2021), then those of [`Self::last_of`], which make it anew.
    ///
    /// The inversion takes the levels of the sampler's calls the other way round. From a level to the next, σ to σ', it is a step of
    /// Euler's method, y' = y + (σ'−σ)·ε, with ε predicted for the source prompt at the timestep of σ'. It also leaves the noise
    /// of the clip, ε = (y − x₀)/σ, in [`Schedule::inverted`].
    ///
    /// # Errors
    /// Those of [`Self::last_of`]; [`Error::Usage`] for a sampler that adds noise.
    pub fn inverted(self, steps: usize, made: usize) -> Result<Schedule> {
        let mut schedule = self.last_of(steps, made)?;
        if schedule.adds_noise() {
            return Err(Error::Usage(format!(
                "{self} adds noise, which hides what an inversion has found: choose a sampler such as {} or {}",
                Self::DpmSolverMultistep,
                Self::Ddim
            )));
        }
        let noise = History(schedule.history);
        let (signal, level) = self.signal_and_noise(&schedule.calls[0]);
        let levels = self.levels(&schedule);
        let mut sigma = 0.0;
        let mut calls = Vec::new();
        for (index, next) in levels.iter().rev().enumerate() {
            let last = index + 1 == levels.len();
            let scale = if last { signal } else { signal_of(next.sigma) };
            let terms = [(Sample, scale / signal_of(sigma)), (Prediction, scale * (next.sigma - sigma))];
            let step = Update::new(Sample, &terms);
            let found = last.then(|| Update::new(noise, &[(Sample, 1.0 / level), (Original, -signal / level)]));
            let updates: Vec<Update> = std::iter::once(step).chain(found).collect();
            calls.push(Call { source: true, ..Call::new(next.timestep, updates) });
            sigma = next.sigma;
        }
        calls.append(&mut schedule.calls);
        Ok(Schedule { calls, history: schedule.history + 1, inverted: Some(noise), ..schedule })
    }

    /// The calls that move a clean sample along the difference of two flows (FlowEdit, Kulikov et al. 2024; DFVEdit, Bai et al.
    /// 2025). At each level of [`Self::last_of`], the sample z₀ and the edited one ẑ get the same noise; the model predicts the noise of
    /// the first for the source prompt and that of the second for the new one; and ẑ' = ẑ + (σ'−σ)·(ε_new − ε_source). Differences
    /// are taken first, so that equal predictions leave the bits of the clip. All of this is in the space x, at whole timesteps.
    ///
    /// # Errors
    /// Those of [`Self::last_of`].
    pub fn delta(self, steps: usize, made: usize) -> Result<Schedule> {
        let mut timesteps: Vec<f32> =
            self.last_of(steps, made)?.calls.iter().map(|call| call.timestep.round()).collect();
        timesteps.sort_by(|a, b| b.total_cmp(a));
        timesteps.dedup();
        let sigma_of = |timestep: f32| ((1.0 - self.alpha_bar(timestep)) / self.alpha_bar(timestep)).sqrt();
        let mut calls = Vec::new();
        for (index, &timestep) in timesteps.iter().enumerate() {
            let sigma = sigma_of(timestep);
            let next = timesteps.get(index + 1).map(|&timestep| sigma_of(timestep));
            // Before the first step nothing is edited.
            let begins = (index == 0).then(|| Update::copy(EDITED, Original));
            let signal = signal_of(sigma);
            let to_edited = [
                Update::copy(SOURCE, Prediction),
                Update::new(MOVED, &[(EDITED, 1.0), (Original, -1.0)]),
                Update::new(Sample, &[(Sample, 1.0), (MOVED, signal)]),
            ];
            let updates: Vec<Update> = begins.into_iter().chain(to_edited).collect();
            calls.push(Call { source: true, ..Call::new(timestep, updates) });

            let step = next.unwrap_or(0.0) - sigma;
            let moves = [
                Update::new(SOURCE, &[(Prediction, 1.0), (SOURCE, -1.0)]),
                Update::new(EDITED, &[(EDITED, 1.0), (SOURCE, step)]),
            ];
            let noised = next.map(|sigma| {
                let signal = signal_of(sigma);
                Update::new(Sample, &[(Original, signal), (Noise, signal * sigma)])
            });
            let updates: Vec<Update> = moves.into_iter().chain(noised).collect();
            calls.push(Call { draws_noise: next.is_some(), ..Call::new(timestep, updates) });
        }
        Ok(Schedule { result: EDITED, ..Schedule::new(1.0, 3, calls) })
    }

    /// The levels of a schedule's calls, each once, the highest first.
    fn levels(self, schedule: &Schedule) -> Vec<Level> {
        let level = |call: &Call| {
            let (signal, noise) = self.signal_and_noise(call);
            Level { timestep: call.timestep, sigma: noise / signal }
        };
        let mut levels: Vec<Level> = schedule.calls.iter().map(level).collect();
        levels.sort_by(|a, b| b.sigma.total_cmp(&a.sigma));
        levels.dedup_by(|a, b| a.sigma == b.sigma);
        levels
    }
}

/// √ᾱ at a level.
fn signal_of(sigma: f32) -> f32 {
    1.0 / (1.0 + sigma * sigma).sqrt()
}
