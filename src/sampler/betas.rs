//! The noise levels of the model's training, and the ways to space timesteps over them.

/// Timesteps of training: 0 (almost no noise) to 999 (almost only noise).
pub(super) const TRAINING_STEPS: usize = 1000;
const LAST: f64 = (TRAINING_STEPS - 1) as f64;

/// Noise levels by timestep, from linearly rising β: ᾱ = Π(1−β) and σ = √((1−ᾱ)/ᾱ).
pub(super) struct Training {
    alpha_bar: Vec<f32>,
    sigma: Vec<f32>,
}

impl Training {
    /// β from 1e-4 to 0.02 (Ho, Jain and Abbeel 2020), for most samplers.
    pub(super) fn standard() -> Self {
        Self::linear(1e-4, 0.02)
    }

    /// β from 0.00085 to 0.012, the default of the Heun and DPM-Solver-2 samplers.
    pub(super) fn gentle() -> Self {
        Self::linear(0.00085, 0.012)
    }

    fn linear(first: f32, last: f32) -> Self {
        let step = (last - first) / LAST as f32;
        // Counted from the nearer end, as PyTorch does: every β is equal to PyTorch's to the last bit.
        let beta = |t: usize| match t < TRAINING_STEPS / 2 {
            true => step.mul_add(t as f32, first),
            false => (-step).mul_add((TRAINING_STEPS - 1 - t) as f32, last),
        };
        let mut product = 1.0f64;
        let alpha_bar: Vec<f32> = (0..TRAINING_STEPS)
            .map(|t| {
                product *= f64::from(1.0 - beta(t));
                product as f32
            })
            .collect();
        let sigma = alpha_bar.iter().map(|&alpha_bar| ((1.0 - alpha_bar) / alpha_bar).sqrt()).collect();
        Self { alpha_bar, sigma }
    }

    /// ᾱ at timestep `t`; `None` before the first timestep.
    pub(super) fn alpha_bar(&self, t: isize) -> Option<f32> {
        usize::try_from(t).ok().map(|t| self.alpha_bar[t])
    }

    /// σ at a timestep; interpolated linearly between whole timesteps.
    pub(super) fn sigma(&self, t: f32) -> f32 {
        let index = t as usize;
        let low = f64::from(self.sigma[index]);
        let rest = f64::from(t.fract());
        if rest == 0.0 { low as f32 } else { ((f64::from(self.sigma[index + 1]) - low) * rest + low) as f32 }
    }

    /// σ at each of `timesteps`, then `last`.
    pub(super) fn sigmas(&self, timesteps: &[f32], last: f32) -> Vec<f32> {
        timesteps.iter().map(|&t| self.sigma(t)).chain([last]).collect()
    }

    /// The timestep of a noise level; between whole timesteps, log σ is interpolated linearly.
    pub(super) fn timestep(&self, sigma: f32) -> f32 {
        let above = self.sigma.partition_point(|&other| other <= sigma);
        let low = above.saturating_sub(1).min(TRAINING_STEPS - 2);
        let (from, to) = (self.sigma[low].ln(), self.sigma[low + 1].ln());
        low as f32 + ((sigma.max(1e-10).ln() - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// A noise level in the scaling x = α·x₀ + σ·ε with α² + σ² = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) alpha: f32,
    pub(super) sigma: f32,
    /// ln(α/σ); infinite without noise.
    pub(super) lambda: f32,
}

impl Level {
    /// The level at σ = √((1−ᾱ)/ᾱ).
    pub(super) fn new(sigma: f32) -> Self {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }

    /// σ/α.
    pub(super) fn rho(self) -> f32 {
        self.sigma / self.alpha
    }
}

/// The steps of a sampler: all that it spaces its timesteps for, or only the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    /// The steps from pure noise to the sample.
    pub(super) all: usize,
    /// The steps that are made, the last ones of all.
    pub(super) made: usize,
}

impl Steps {
    /// Every step.
    #[cfg(test)]
    pub(super) fn all(all: usize) -> Self {
        Self { all, made: all }
    }
}

/// Timesteps every ⌊1000 / steps⌋ from 0 on ("leading" spacing), the highest first.
pub(super) fn leading(steps: Steps) -> Vec<isize> {
    let stride = stride(steps);
    (0..steps.made as isize).rev().map(|index| index * stride).collect()
}

/// The distance of [`leading`] timesteps.
pub(super) fn stride(steps: Steps) -> isize {
    (TRAINING_STEPS / steps.all) as isize
}

/// Evenly spaced timesteps from 999 to 0, not rounded; only 0 for one step.
pub(super) fn even(steps: Steps) -> Vec<f32> {
    let stride = LAST / (steps.all.max(2) - 1) as f64;
    (0..steps.made).rev().map(|index| (index as f64 * stride).min(LAST) as f32).collect()
}

/// Evenly spaced timesteps from 999 to 0, without the 0, rounded to whole numbers, ties to even.
pub(super) fn whole(steps: Steps) -> Vec<f32> {
    let stride = LAST / steps.all as f64;
    (1..=steps.made).rev().map(|index| (index as f64 * stride).round_ties_even() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigma_and_timestep_are_inverse_also_between_whole_timesteps() {
        let training = Training::standard();
        for t in [0.0, 0.25, 1.0, 499.5, 998.75, 999.0] {
            // One interpolates σ and the other log σ. The two differ most near 0.
            assert!((training.timestep(training.sigma(t)) - t).abs() < 0.1, "{t}");
        }
        assert_eq!(training.timestep(0.0), 0.0);
        assert_eq!(training.timestep(f32::MAX), 999.0);
    }

    #[test]
    fn every_spacing_has_its_documented_ends() {
        assert_eq!(leading(Steps::all(3)), [666, 333, 0]);
        assert_eq!(even(Steps::all(1)), [0.0]);
        assert_eq!(even(Steps::all(3)), [999.0, 499.5, 0.0]);
        assert_eq!(whole(Steps::all(2)), [999.0, 500.0]);
        assert_eq!(whole(Steps::all(1)), [999.0]);
        for steps in 2..=TRAINING_STEPS {
            let (even, whole) = (even(Steps::all(steps)), whole(Steps::all(steps)));
            assert_eq!((even[0], even[steps - 1], whole[0]), (999.0, 0.0, 999.0));
        }
    }

    #[test]
    fn the_last_steps_have_the_last_timesteps_of_all() {
        for (all, made) in [(7, 3), (30, 1), (150, 149), (1000, 1000)] {
            let (whole_run, part) = (Steps::all(all), Steps { all, made });
            assert!(leading(whole_run).ends_with(&leading(part)) && leading(part).len() == made);
            assert!(even(whole_run).ends_with(&even(part)) && even(part).len() == made);
            assert!(whole(whole_run).ends_with(&whole(part)) && whole(part).len() == made);
        }
    }
}
