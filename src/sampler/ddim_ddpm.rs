//! DDIM and DDPM: predict x₀, clamp it to the range of images, and step to where the forward process would have been.
//!
//! With ᾱ at the timestep, ᾱ' at the next one (1 after the last), and x₀ = clamp((x − √(1−ᾱ)·ε) / √ᾱ):
//!
//! - DDIM (Song, Meng and Ermon 2020, equation 12, without noise): x' = √ᾱ'·x₀ + √(1−ᾱ')·ε.
//! - DDPM (Ho, Jain and Abbeel 2020, equation 7), with α = ᾱ/ᾱ' and β = 1−α:
//!   x' = √ᾱ'·β/(1−ᾱ)·x₀ + √α·(1−ᾱ')/(1−ᾱ)·x + √(β·(1−ᾱ')/(1−ᾱ))·noise, with no noise drawn at timestep 0.

use super::Sampler;
use super::betas::{Steps, Training, leading, stride};
use super::schedule::Slot::{History, Noise, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// The predicted x₀.
const ORIGINAL: Slot = History(0);

/// Denoising diffusion implicit models.
pub(super) struct Ddim;

impl Sampler for Ddim {
    fn compile(&self, steps: Steps) -> Schedule {
        compile(steps, |t, alpha_bar, next| {
            let step = Update::new(Sample, &[(ORIGINAL, next.sqrt()), (Prediction, (1.0 - next).sqrt())]);
            Call::new(t, [original(alpha_bar), step])
        })
    }
}

/// Denoising diffusion probabilistic models.
pub(super) struct Ddpm;

impl Sampler for Ddpm {
    fn compile(&self, steps: Steps) -> Schedule {
        compile(steps, |t, alpha_bar, next| {
            let alpha = alpha_bar / next;
            let beta = 1.0 - alpha;
            let (rest, next_rest) = (1.0 - alpha_bar, 1.0 - next);
            let mut terms = vec![(ORIGINAL, next.sqrt() * beta / rest), (Sample, alpha.sqrt() * next_rest / rest)];
            let draws_noise = t > 0.0;
            if draws_noise {
                terms.push((Noise, (next_rest / rest * beta).sqrt()));
            }
            let step = Update::new(Sample, &terms);
            Call { draws_noise, ..Call::new(t, [original(alpha_bar), step]) }
        })
    }
}

/// A schedule of `call(timestep, ᾱ, ᾱ')` at leading timesteps.
fn compile(steps: Steps, call: impl Fn(f32, f32, f32) -> Call) -> Schedule {
    let training = Training::standard();
    let call = |t: isize| {
        let alpha_bar = training.alpha_bar(t).expect("leading timesteps lie in training");
        call(t as f32, alpha_bar, training.alpha_bar(t - stride(steps)).unwrap_or(1.0))
    };
    Schedule::new(1.0, 1, leading(steps).into_iter().map(call).collect())
}

/// Computes x₀. The model scales latents so that those of images lie within ±1.
fn original(alpha_bar: f32) -> Update {
    let root = alpha_bar.sqrt();
    let terms = [(Sample, 1.0 / root), (Prediction, -(1.0 - alpha_bar).sqrt() / root)];
    Update { clamp: Some(1.0), ..Update::new(ORIGINAL, &terms) }
}
