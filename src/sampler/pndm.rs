//! PNDM: pseudo numerical methods for diffusion models on manifolds (Liu et al. 2022), with its Runge–Kutta warm-up.
//!
//! The transfer of x from timestep t to t' along a noise e, with ᾱ at t and ᾱ' at t', is
//!
//! φ(x, e, t, t') = √(ᾱ'/ᾱ)·x − (ᾱ'−ᾱ)·e / (ᾱ·√(1−ᾱ') + √(ᾱ·(1−ᾱ)·ᾱ')).
//!
//! Each of the first three steps calls the model four times: at its start, twice halfway (half a stride, rounded down)
//! and at its end. It ends at φ(x, (ε₁ + 2ε₂ + 2ε₃ + ε₄)/6, …). Each later step calls the model once and uses
//! (55ε − 59ε₋₁ + 37ε₋₂ − 9ε₋₃)/24, with ε₁ for a warm-up step. So N steps cost N + 9 calls. A step beyond timestep 0
//! uses the ᾱ of timestep 0.

use super::Sampler;
use super::betas::{Steps, Training, leading, stride};
use super::schedule::Slot::{History, Prediction, Sample};
use super::schedule::{Call, Schedule, Slot, Update};

/// The number of warm-up steps, and of predictions that later steps use. The prediction of step i is in
/// `History(i % WARM_UP)`.
const WARM_UP: usize = 3;
/// The sample at the start of a warm-up step.
const START: Slot = History(3);
/// The terms of (ε₁ + 2ε₂ + 2ε₃)/6 that are known.
const MEAN: Slot = History(4);

/// Pseudo numerical methods.
pub(super) struct Pndm;

impl Sampler for Pndm {
    /// Three warm-up steps, and one more step at timestep 0.
    fn fewest_steps(&self) -> usize {
        WARM_UP + 1
    }

    fn compile(&self, steps: Steps) -> Schedule {
        let transfer = Transfer { training: Training::standard() };
        let timesteps = leading(steps);
        let stride = stride(steps);
        let mut calls = Vec::with_capacity(steps.made + 9);
        for step in 0..WARM_UP {
            calls.extend(transfer.runge_kutta(timesteps[step], timesteps[step + 1], stride / 2, History(step)));
        }
        calls.extend((WARM_UP..steps.made).map(|step| transfer.multistep(timesteps[step], stride, step)));
        Schedule::new(1.0, 5, calls)
    }
}

struct Transfer {
    training: Training,
}

impl Transfer {
    /// The factors of x and e in φ(x, e, from, to).
    fn factors(&self, from: isize, to: isize) -> (f32, f32) {
        let at = |t| self.training.alpha_bar(t);
        let first = at(0).expect("0 is a timestep");
        let (from, to) = (at(from).unwrap_or(first), at(to).unwrap_or(first));
        let divisor = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        ((to / from).sqrt(), -(to - from) / divisor)
    }

    /// The four calls of the warm-up step from `start` to `end`; its first prediction goes to `first`.
    fn runge_kutta(&self, start: isize, end: isize, half: isize, first: Slot) -> [Call; 4] {
        let middle = end + half;
        let step = |to: isize, noise: &[(Slot, f32)]| {
            let (kept, factor) = self.factors(start, to);
            let noise = noise.iter().map(|&(slot, weight)| (slot, weight * factor));
            Update::new(Sample, &[(START, kept)].into_iter().chain(noise).collect::<Vec<_>>())
        };
        let call = |t: isize, updates: Vec<Update>| Call::new(t as f32, updates);
        let keep = [Update::copy(first, Prediction), Update::copy(START, Sample)];
        let mean = |so_far: Slot, weight: f32| Update::new(MEAN, &[(so_far, weight), (Prediction, 1.0 / 3.0)]);
        // With an odd stride the two halves differ: the middle is half a stride from the end, but the first transfer
        // goes half a stride from the start.
        [
            call(start, [&keep[..], &[step(start - half, &[(Prediction, 1.0)])]].concat()),
            call(middle, vec![mean(first, 1.0 / 6.0), step(middle, &[(Prediction, 1.0)])]),
            call(middle, vec![mean(MEAN, 1.0), step(middle - half, &[(Prediction, 1.0)])]),
            call(end, vec![step(end, &[(MEAN, 1.0), (Prediction, 1.0 / 6.0)])]),
        ]
    }

    /// The call of step number `step`, from timestep `t` one stride down.
    fn multistep(&self, t: isize, stride: isize, step: usize) -> Call {
        let (kept, factor) = self.factors(t, t - stride);
        let earlier = |back: usize| History((step - back) % WARM_UP);
        let noise = [(Prediction, 55.0), (earlier(1), -59.0), (earlier(2), 37.0), (earlier(3), -9.0)];
        let noise = noise.map(|(slot, weight)| (slot, weight / 24.0 * factor));
        let update = Update::new(Sample, &[&[(Sample, kept)], &noise[..]].concat());
        // The oldest prediction makes room for this one.
        Call::new(t as f32, [update, Update::copy(earlier(3), Prediction)])
    }
}
