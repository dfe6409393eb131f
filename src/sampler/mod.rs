//! Samplers: how noise becomes a sample, one prediction of the model at a time.
//!
//! Between two predictions every sampler does the same thing: it replaces a few tensors by linear combinations of
//! others, with factors that depend on nothing but the step (DDIM and DDPM clamp one of the results). So a sampler is
//! compiled: [`SamplerKind::schedule`] turns a number of steps into a [`Schedule`], a list of model calls with their timesteps
//! and updates, and [`SamplerRun`] executes any schedule on any backend by its `combine` operation alone. Adding a sampler is
//! adding a compiler; no backend learns about it.
//!
//! The model predicts the noise ε in x = √ᾱ·x₀ + √(1−ᾱ)·ε, over 1000 training steps of linearly rising β. Factors are
//! computed in f32, operation by operation as the reference implementation (diffusers 0.27.2) does: several of them
//! subtract nearly equal numbers, and its rounding is then part of the result. [`TorchRng`] draws the same noise as
//! PyTorch on the CPU for the same seed.

mod betas;
mod ddim_ddpm;
mod deis;
mod dpm;
mod edits;
mod euler;
mod heun;
mod kdpm2;
mod noise;
mod pndm;
mod run;
mod schedule;

pub use noise::TorchRng;
pub use run::{SamplerRun, SamplerState, guide};
pub use schedule::{Call, Schedule, Slot, Update};

use crate::error::{Error, Result};
use betas::{Steps, TRAINING_STEPS, Training};
use std::fmt;
use std::str::FromStr;

/// A sampler: how it spaces its timesteps, and what it does with each prediction.
trait Sampler {
    /// The fewest steps that the sampler can make.
    fn fewest_steps(&self) -> usize {
        1
    }

    /// Its model calls. Both numbers of `steps` lie between [`Sampler::fewest_steps`] and [`TRAINING_STEPS`]. A sampler that uses
    /// earlier predictions has none at its first step, also if that is not the first of all.
    fn compile(&self, steps: Steps) -> Schedule;
}

/// The samplers. They have the names of the original scripts; upper and lower case do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// Denoising diffusion implicit models, without noise.
    Ddim,
    /// Euler's method for the probability flow.
    EulerDiscrete,
    /// Denoising diffusion probabilistic models; draws noise.
    Ddpm,
    /// DPM-Solver++, second order, from the last two predictions.
    DpmSolverMultistep,
    /// DPM-Solver++, second order, from two predictions for every other step.
    DpmSolverSinglestep,
    /// Pseudo numerical methods: Runge–Kutta for three steps (twelve calls), then linear multistep.
    #[default]
    Pndm,
    /// Heun's method for the probability flow; two calls a step.
    HeunDiscrete,
    /// Euler's method to a lower noise level, then fresh noise.
    EulerAncestralDiscrete,
    /// Diffusion exponential integrator, second order.
    DeisMultistep,
    /// DPM-Solver-2 with ancestral noise; two calls a step.
    Kdpm2AncestralDiscrete,
}

impl SamplerKind {
    /// All samplers, in the order of the original scripts.
    pub const ALL: [Self; 10] = [
        Self::Ddim,
        Self::EulerDiscrete,
        Self::Ddpm,
        Self::DpmSolverMultistep,
        Self::DpmSolverSinglestep,
        Self::Pndm,
        Self::HeunDiscrete,
        Self::EulerAncestralDiscrete,
        Self::DeisMultistep,
        Self::Kdpm2AncestralDiscrete,
    ];

    /// Its name in the original scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIM",
            Self::EulerDiscrete => "EulerDiscrete",
            Self::Ddpm => "DDPM",
            Self::DpmSolverMultistep => "DPMSolverMultistep",
            Self::DpmSolverSinglestep => "DPMSolverSinglestep",
            Self::Pndm => "PNDM",
            Self::HeunDiscrete => "HeunDiscrete",
            Self::EulerAncestralDiscrete => "EulerAncestralDiscrete",
            Self::DeisMultistep => "DEISMultistep",
            Self::Kdpm2AncestralDiscrete => "KDPM2AncestralDiscrete",
        }
    }

    /// The model calls of `steps` steps.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] unless `steps` lies between 1 (PNDM: 4) and 1000.
    pub fn schedule(self, steps: usize) -> Result<Schedule> {
        self.last_of(steps, steps)
    }

    /// The fewest steps that it can make.
    pub fn fewest_steps(self) -> usize {
        self.sampler().fewest_steps()
    }

    /// The model calls of the last `made` of `steps` steps, for a sample that has the noise of the first of them
    /// ([`Self::signal_and_noise`]).
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] unless `steps` lies between 1 (PNDM: 4) and 1000, and `made` between 1 (PNDM: 4) and `steps`.
    pub fn last_of(self, steps: usize, made: usize) -> Result<Schedule> {
        let fewest = self.fewest_steps();
        if !(fewest..=TRAINING_STEPS).contains(&steps) {
            return Err(Error::Usage(format!(
                "{self} cannot sample in {steps} steps: choose between {fewest} and {TRAINING_STEPS}"
            )));
        }
        if !(fewest..=steps).contains(&made) {
            return Err(Error::Usage(format!(
                "{self} cannot make only the last {made} of {steps} steps: choose between {fewest} and {steps}"
            )));
        }
        Ok(self.sampler().compile(Steps { all: steps, made }))
    }

    /// How much of the clean sample and of the noise are in the sample before `call`, a call of this sampler: the factors of
    /// x₀ and ε in x = signal·x₀ + noise·ε.
    pub fn signal_and_noise(self, call: &Call) -> (f32, f32) {
        if call.input_scale == 1.0 {
            let alpha_bar = self.alpha_bar(call.timestep);
            return (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        }
        // These samplers divide by √ᾱ.
        (1.0, self.training().sigma(call.timestep))
    }

    /// ᾱ at a timestep of its schedule, to the nearest whole timestep.
    pub(crate) fn alpha_bar(self, timestep: f32) -> f32 {
        let nearest = timestep.round().clamp(0.0, (TRAINING_STEPS - 1) as f32);
        self.training().alpha_bar(nearest as isize).expect("it is not before the first")
    }

    /// The noise levels that it assumes.
    fn training(self) -> Training {
        match self {
            Self::HeunDiscrete | Self::Kdpm2AncestralDiscrete => Training::gentle(),
            _ => Training::standard(),
        }
    }

    fn sampler(self) -> &'static dyn Sampler {
        match self {
            Self::Ddim => &ddim_ddpm::Ddim,
            Self::EulerDiscrete => &euler::EulerDiscrete,
            Self::Ddpm => &ddim_ddpm::Ddpm,
            Self::DpmSolverMultistep => &dpm::Multistep,
            Self::DpmSolverSinglestep => &dpm::Singlestep,
            Self::Pndm => &pndm::Pndm,
            Self::HeunDiscrete => &heun::HeunDiscrete,
            Self::EulerAncestralDiscrete => &euler::EulerAncestralDiscrete,
            Self::DeisMultistep => &deis::DeisMultistep,
            Self::Kdpm2AncestralDiscrete => &kdpm2::Kdpm2AncestralDiscrete,
        }
    }
}

/// Checks that some sampler accepts a number of steps.
///
/// # Errors
/// [`Error::Usage`] for 0, and for more steps than training had.
pub fn validate_steps(steps: usize) -> Result<()> {
    if (1..=TRAINING_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Error::Usage(format!("no sampler can sample in {steps} steps: choose between 1 and {TRAINING_STEPS}")))
}

/// Checks a guidance scale: a number of at least 0. Guidance is on above 1.
///
/// # Errors
/// [`Error::Usage`] for every other scale.
pub fn validate_guidance(scale: f32) -> Result<()> {
    if scale.is_finite() && scale >= 0.0 {
        return Ok(());
    }
    Err(Error::Usage(format!("guidance {scale} is not a number of at least 0; 7.5 is usual")))
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Usage(format!("there is no sampler {name:?}: choose one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_any_case_and_an_unknown_name_lists_them_all() {
        for kind in SamplerKind::ALL {
            assert_eq!(kind.to_string().to_lowercase().parse::<SamplerKind>().unwrap(), kind);
            let error = "DPM".parse::<SamplerKind>().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(kind.name()), "{error}");
        }
    }

    #[test]
    fn step_counts_out_of_range_are_usage_errors_that_name_the_range() {
        for kind in SamplerKind::ALL {
            let fewest = if kind == SamplerKind::Pndm { 4 } else { 1 };
            for steps in [0, fewest - 1, 1001, usize::MAX] {
                let error = kind.schedule(steps).unwrap_err();
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().contains(&format!("between {fewest} and 1000")), "{error}");
            }
            assert!(kind.schedule(fewest).is_ok() && kind.schedule(1000).is_ok());
            for made in [0, fewest - 1, 31] {
                let error = kind.last_of(30, made).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("the last {made} of 30 steps: choose between {fewest} and 30")),
                    "{error}"
                );
            }
            assert!(kind.last_of(30, fewest).is_ok());
        }
    }
}
