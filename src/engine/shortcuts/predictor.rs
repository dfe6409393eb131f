//! The predictions of a run: each evaluated, or made by a shortcut.

use super::cached::{Cached, copy};
use super::guidance::Difference;
use super::measure::{Magnitude, Measured};
use super::pace::Place;
use super::{Cache, Remembered, Shortcuts};
use crate::backend::Backend;
use crate::engine::Denoising;
use crate::engine::evaluation::{Branch, Evaluation, On};
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
    /// The model's last input, in the device's precision, if inputs are compared; whether there is one.
    before: Option<(B::Buffer, bool)>,
    difference: Option<Difference<B>>,
    observes: Observes<'a>,
    /// Evaluations of branches so far.
    evaluations: usize,
}

/// What besides predictions comes of a run.
pub(crate) enum Observes<'a> {
    /// Nothing.
    Nothing,
    /// A rehearsal: the device computes nothing, so what depends on values is evaluated.
    Rehearsal,
    /// What a cache could go by; every call is evaluated.
    Measures(&'a mut Measured),
}

impl<'a, B: Backend> Predictor<'a, B> {
    /// Predictions by `evaluation`; `frame`: rows, columns and channels of a latent frame.
    pub fn new(
        backend: &B,
        evaluation: Evaluation<B>,
        &Denoising { settings, schedule, state, .. }: &Denoising<'a>,
        observes: Observes<'a>,
        frame: [usize; 3],
    ) -> Result<Self> {
        let nothing = Remembered::default();
        let remembered = state.map_or(&nothing, |state| &state.remembered);
        let shortcuts = &settings.shortcuts;
        let len = evaluation.latent().len();
        let cache = shortcuts.caching();
        let compares = cache.is_some_and(Cache::compares_inputs) || matches!(observes, Observes::Measures(_));
        let mut before = if compares { Some((backend.alloc(len)?, false)) } else { None };
        if let (Some((buffer, known)), Some(values)) = (&mut before, &remembered.input) {
            copy(backend, &backend.upload_f32(values)?, buffer)?;
            *known = true;
        }
        let guided = evaluation.outputs().len() == 2;
        let reuse = shortcuts.reuse().filter(|_| guided);
        let frames = len / frame.iter().product::<usize>();
        let mut difference = reuse.map(|calls| Difference::new(backend, calls, frames, frame)).transpose()?;
        if let (Some(difference), Some(known)) = (&mut difference, &remembered.difference) {
            difference.set(backend, known.clone())?;
        }
        Ok(Self {
            cached: cache.map(|cache| Cached::new(backend, cache, len, remembered)).transpose()?,
            guidance: settings.guidance,
            evaluation,
            shortcuts,
            schedule,
            before,
            difference,
            observes,
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
        let (timestep, before) = (calls[index].timestep, calls[index.saturating_sub(1)].timestep);
        let place = Place { index, calls: calls.len(), timestep, before };
        let input_change = self.input_change(on, &place)?;
        if let Observes::Measures(_) = self.observes {
            return self.measure(on, timestep, input_change, out);
        }
        let everything = self.rehearses_values();
        let change = input_change.unwrap_or_default();
        let passes = !everything && self.cached.as_mut().is_some_and(|cached| cached.lets_pass(&place, change));
        backend.landmark();
        if !passes {
            self.evaluate(on, timestep, out)?;
        }
        backend.landmark();
        match &mut self.cached {
            Some(cached) if passes => cached.predict(backend, timestep, out),
            Some(cached) => cached.keep(backend, timestep, out),
            None => Ok(()),
        }
    }

    /// Whether this is a rehearsal of a run whose evaluations depend on values. It evaluates everything.
    fn rehearses_values(&self) -> bool {
        matches!(self.observes, Observes::Rehearsal) && self.before.is_some()
    }

    /// How much the model's input has changed since the call before, if that is asked for and known; keeps the input.
    fn input_change(&mut self, on: On<'_, B>, place: &Place) -> Result<Option<f64>> {
        let Some((before, known)) = &mut self.before else { return Ok(None) };
        let change = match known {
            true => Some(self.evaluation.input_change(on, place.timestep, (before, place.before))?),
            false => None,
        };
        *known = true;
        copy(on.0, self.evaluation.latent(), before)?;
        Ok(change)
    }

    /// Evaluates a call as its guidance asks for.
    fn evaluate(&mut self, on: On<'_, B>, timestep: f32, out: &mut B::Buffer) -> Result<()> {
        let everything = self.rehearses_values();
        let Self { evaluation, shortcuts, difference, guidance, .. } = self;
        let guided = evaluation.outputs().len() == 2;
        let unguided = guided && !shortcuts.guides_at(timestep);
        let reuses = guided && !unguided && !everything && difference.as_mut().is_some_and(Difference::serves);
        let branch = if unguided || reuses { Branch::Conditional } else { Branch::All };
        self.evaluations += if guided && branch == Branch::All { 2 } else { 1 };
        evaluation.predict(on, timestep, branch, &mut |_, _| Ok(()))?;
        if unguided && let Some(difference) = difference {
            difference.forget();
        }
        match (evaluation.outputs(), difference) {
            ([_, conditional], Some(difference)) if reuses => {
                difference.guide(on.0, *guidance, timestep, conditional, out)
            }
            ([unconditional, conditional], difference) if !unguided => {
                difference.as_mut().map_or(Ok(()), |known| known.keep(on.0, unconditional, conditional))?;
                guide(on.0, *guidance, unconditional, conditional, out)
            }
            ([.., conditional], _) => copy(on.0, conditional, out),
            ([], _) => unreachable!("there are one or two branches"),
        }
    }

    /// Evaluates a call, and notes what a cache could go by.
    fn measure(&mut self, on: On<'_, B>, timestep: f32, input_change: Option<f64>, out: &mut B::Buffer) -> Result<()> {
        let mut magnitude = Magnitude::new(on.1.config().channels());
        let mut see = |backend: &B, tokens: &B::Buffer| magnitude.see(backend, tokens);
        self.evaluation.predict(on, timestep, Branch::All, &mut see)?;
        match self.evaluation.outputs() {
            [unconditional, conditional] => guide(on.0, self.guidance, unconditional, conditional, out)?,
            outputs => copy(on.0, &outputs[0], out)?,
        }
        let Observes::Measures(measured) = &mut self.observes else { return Ok(()) };
        measured.add(on.0, [f64::from(timestep), magnitude.mean()], input_change, out)
    }

    /// What a later run needs. The host waits for the device.
    pub fn remembered(&self, backend: &B) -> Result<Remembered> {
        let mut remembered = Remembered::default();
        self.cached.as_ref().map_or(Ok(()), |cached| cached.remember(backend, &mut remembered))?;
        if let (Some((before, true)), Some(_)) = (&self.before, &self.cached) {
            let mut values = vec![0.0; before.len()];
            backend.download(before, 0, &mut values)?;
            remembered.input = Some(values);
        }
        remembered.difference = self.difference.as_ref().and_then(Difference::known).cloned();
        Ok(remembered)
    }
}
