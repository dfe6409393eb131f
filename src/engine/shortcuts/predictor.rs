//! The predictions of a run: each evaluated, or made by a shortcut.

use super::cached::Cached;
use super::guidance::Difference;
use super::measure::{Magnitude, Measured};
use super::pace::Place;
use super::{Remembered, Shortcuts};
use crate::backend::Backend;
use crate::engine::Settings;
use crate::engine::evaluation::{Branch, Evaluation, On, Prompt};
use crate::engine::transfer::{copy, host};
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::sampler::{Schedule, guide};

/// Predicts the noise in a sampler's samples.
pub(in crate::engine) struct Predictor<'a, B: Backend> {
    evaluation: Evaluation<B>,
    guidance: f32,
    shortcuts: &'a Shortcuts,
    schedule: &'a Schedule,
    cached: Option<Cached<'a, B>>,
    /// If inputs are compared.
    input: Option<LastInput<B>>,
    difference: Option<Difference<B>>,
    purpose: Purpose<'a>,
    /// Evaluations of branches so far.
    evaluations: usize,
}

/// What a run is made for.
pub(crate) enum Purpose<'a> {
    /// Its latent.
    Sampling,
    /// A plan of its memory. The device computes nothing, so what depends on values is evaluated.
    Rehearsal,
    /// What `osp calibrate` needs. Every call is evaluated.
    Measuring(&'a mut Measured),
}

/// What the model saw in the call before, in the device's precision.
struct LastInput<B: Backend> {
    latent: B::Buffer,
    /// Whether there was a call before.
    known: bool,
}

/// Where the branches of guidance come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guidance {
    /// There is one branch.
    Absent,
    /// Both are evaluated.
    Evaluated,
    /// That of the prompt is evaluated, and the difference of an earlier call serves.
    Reused,
    /// Only that of the prompt is used.
    Off,
}

impl<B: Backend> LastInput<B> {
    /// What an earlier run remembers, if it does.
    fn new(backend: &B, len: usize, remembered: Option<&Vec<f32>>) -> Result<Self> {
        let mut latent = backend.alloc(len)?;
        remembered.map_or(Ok(()), |values| copy(backend, &backend.upload_f32(values)?, &mut latent))?;
        Ok(Self { latent, known: remembered.is_some() })
    }
}

impl<'a, B: Backend> Predictor<'a, B> {
    /// Predictions by `evaluation` for the calls of a schedule, from what an earlier run remembers on. `frame`: rows, columns and
    /// channels of a latent frame.
    pub fn new(
        backend: &B,
        evaluation: Evaluation<B>,
        (settings, schedule): (&'a Settings, &'a Schedule),
        remembered: Option<&Remembered>,
        purpose: Purpose<'a>,
        frame: [usize; 3],
    ) -> Result<Self> {
        let (shortcuts, nothing) = (&settings.shortcuts, Remembered::default());
        let remembered = remembered.unwrap_or(&nothing);
        let len = evaluation.latent().len();
        let cache = shortcuts.caching();
        let input = cache.filter(|cache| cache.compares_inputs());
        let reuse = shortcuts.reuse().filter(|_| evaluation.outputs().len() == 2);
        let frames = len / frame.iter().product::<usize>();
        let difference = |calls| Difference::new(backend, calls, frames, frame, remembered.difference.as_ref());
        Ok(Self {
            cached: cache.map(|cache| Cached::new(backend, cache, len, remembered)).transpose()?,
            input: input.map(|_| LastInput::new(backend, len, remembered.input.as_ref())).transpose()?,
            difference: reuse.map(difference).transpose()?,
            guidance: settings.guidance,
            evaluation,
            shortcuts,
            schedule,
            purpose,
            evaluations: 0,
        })
    }

    /// Evaluations of the transformer so far, each of one branch.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Predicts the noise in `sample [T, H, W, C]`, the model's input in call `index`; both are f32.
    pub fn predict(&mut self, on: On<'_, B>, index: usize, sample: &B::Buffer, out: &mut B::Buffer) -> Result<()> {
        let (backend, calls) = (on.0, &self.schedule.calls);
        self.evaluation.show(backend, sample)?;
        let of = if calls[index].source { Prompt::Source } else { Prompt::Target };
        let (timestep, timestep_before) = (calls[index].timestep, calls[index.saturating_sub(1)].timestep);
        let place = Place { index, calls: calls.len(), timestep, timestep_before };
        let input_change = self.input_change(on, &place)?;
        let optional = self.input.is_some();
        if optional {
            backend.landmark(false);
        }
        let passes = self.passes(&place, input_change.unwrap_or_default());
        if !passes {
            self.evaluate(on, (of, timestep), input_change, out)?;
        }
        if optional {
            backend.landmark(true);
        }
        match &mut self.cached {
            Some(cached) if passes => cached.predict(backend, timestep, out),
            Some(cached) => cached.keep(backend, timestep, out),
            None => Ok(()),
        }
    }

    /// Whether the call takes an earlier prediction.
    fn passes(&mut self, place: &Place, input_change: f64) -> bool {
        let evaluates_all = match self.purpose {
            Purpose::Sampling => false,
            Purpose::Rehearsal => self.input.is_some(),
            Purpose::Measuring(_) => true,
        };
        let mut cached = self.cached.as_mut().filter(|_| !evaluates_all);
        cached.as_mut().is_some_and(|cached| cached.lets_pass(place, input_change))
    }

    /// How much the model's input has changed since the call before, if that is asked for and known; keeps the input.
    fn input_change(&mut self, on: On<'_, B>, place: &Place) -> Result<Option<f64>> {
        let Some(LastInput { latent, known }) = &mut self.input else { return Ok(None) };
        let change = match known {
            true => Some(self.evaluation.input_change(on, place.timestep, (latent, place.timestep_before))?),
            false => None,
        };
        *known = true;
        copy(on.0, self.evaluation.latent(), latent)?;
        Ok(change)
    }

    /// Where the branches of a call come from that is evaluated.
    fn guidance(&mut self, (of, timestep): (Prompt, f32)) -> Guidance {
        // The evaluations between two uses of a difference depend on values, too.
        let evaluates_all = matches!(self.purpose, Purpose::Rehearsal) && self.input.is_some();
        if self.evaluation.branches(of) == 1 {
            Guidance::Absent
        } else if !self.shortcuts.guides_at(timestep) {
            Guidance::Off
        } else if !evaluates_all && self.difference.as_mut().is_some_and(Difference::serves) {
            Guidance::Reused
        } else {
            Guidance::Evaluated
        }
    }

    /// Evaluates a call as its guidance asks for.
    fn evaluate(
        &mut self,
        on: On<'_, B>,
        (of, timestep): (Prompt, f32),
        change: Option<f64>,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let from = self.guidance((of, timestep));
        let Self { evaluation, difference, guidance, purpose, .. } = self;
        let branch = if from == Guidance::Evaluated { Branch::All } else { Branch::Conditional };
        self.evaluations += if from == Guidance::Evaluated { 2 } else { 1 };
        let mut magnitude = Magnitude::new(on.1.config().channels());
        match purpose {
            Purpose::Measuring(_) => evaluation.predict(on, (of, timestep), branch, &mut |b, x| magnitude.see(b, x))?,
            _ => evaluation.predict(on, (of, timestep), branch, &mut |_, _| Ok(()))?,
        }
        match (from, evaluation.outputs(), difference) {
            (Guidance::Evaluated, [unconditional, conditional], difference) => {
                difference.as_mut().map_or(Ok(()), |known| known.keep(on.0, unconditional, conditional))?;
                guide(on.0, *guidance, unconditional, conditional, out)?;
            }
            (Guidance::Reused, [_, conditional], Some(difference)) => {
                difference.guide(on.0, *guidance, timestep, conditional, out)?;
            }
            (_, [.., conditional], difference) => {
                difference.iter_mut().for_each(Difference::forget);
                copy(on.0, conditional, out)?;
            }
            (_, [], _) => unreachable!("there are one or two branches"),
        }
        match purpose {
            Purpose::Measuring(measured) => measured.add(on.0, [f64::from(timestep), magnitude.mean()], change, out),
            Purpose::Sampling | Purpose::Rehearsal => Ok(()),
        }
    }

    /// What a later run needs. The host waits for the device.
    pub fn remembered(&self, backend: &B) -> Result<Remembered> {
        let mut remembered = Remembered::default();
        self.cached.as_ref().map_or(Ok(()), |cached| cached.remember(backend, &mut remembered))?;
        if let Some(LastInput { latent, known: true }) = &self.input {
            remembered.input = Some(host(backend, latent)?);
        }
        remembered.difference = self.difference.as_ref().and_then(Difference::known).cloned();
        Ok(remembered)
    }
}
