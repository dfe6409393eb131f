//! Executes a schedule on a backend.

use super::schedule::{Call, Schedule, Slot, Update};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// A running sampler: the sample and the tensors that its schedule keeps between calls, in f32 on a device.
///
/// ```
/// # fn main() -> osp::Result<()> {
/// use osp::backend::Backend;
/// use osp::sampler::{SamplerKind, SamplerRun, TorchRng};
///
/// let backend = osp::cpu::Cpu::new();
/// let schedule = SamplerKind::EulerDiscrete.schedule(5)?;
/// let mut rng = TorchRng::new(42);
/// let mut run = SamplerRun::new(&backend, &schedule, &rng.randn(64))?;
/// let mut calls = 0;
/// while let Some(call) = run.call() {
///     let input = run.model_input()?; // the model would see this at call.timestep
///     let prediction = backend.upload_f32(&[0.1; 64])?;
///     let noise = call.draws_noise.then(|| rng.randn(64));
///     run.step(&prediction, noise.as_deref())?;
///     calls += 1;
/// }
/// assert_eq!(calls, 5);
/// # Ok(())
/// # }
/// ```
pub struct SamplerRun<'a, B: Backend> {
    backend: &'a B,
    calls: &'a [Call],
    sample: B::Buffer,
    history: Vec<B::Buffer>,
    /// Receives the result of each update, then swaps places with the tensor that the update replaces: `combine` does
    /// not work in place. Between updates it holds the scaled input of the model.
    spare: B::Buffer,
}

impl<'a, B: Backend> SamplerRun<'a, B> {
    /// A run before its first call. `noise` is N(0, 1) and has the size of the sample.
    ///
    /// # Errors
    ///
    /// The backend's: out of memory.
    pub fn new(backend: &'a B, schedule: &'a Schedule, noise: &[f32]) -> Result<Self> {
        let noise = backend.upload_f32(noise)?;
        let len = noise.len();
        let mut sample = backend.alloc_f32(len)?;
        let scale = Combine { len, coefficients: &[schedule.init_noise_sigma], clamp: None };
        backend.combine(&scale, CombineArgs { inputs: &[&noise], out: &mut sample })?;
        let history = (0..schedule.history).map(|_| backend.alloc_f32(len)).collect::<Result<_>>()?;
        Ok(Self { backend, calls: &schedule.calls, sample, history, spare: noise })
    }

    /// The next call to make; `None` after the last.
    pub fn call(&self) -> Option<&'a Call> {
        self.calls.first()
    }

    /// The sample; after the last call, the result.
    pub fn sample(&self) -> &B::Buffer {
        &self.sample
    }

    /// The model's input in the next call, in f32; after the last call, the sample.
    ///
    /// # Errors
    ///
    /// The backend's.
    pub fn model_input(&mut self) -> Result<&B::Buffer> {
        let scale = self.call().map_or(1.0, |call| call.input_scale);
        if scale == 1.0 {
            return Ok(&self.sample);
        }
        let op = Combine { len: self.sample.len(), coefficients: &[scale], clamp: None };
        self.backend.combine(&op, CombineArgs { inputs: &[&self.sample], out: &mut self.spare })?;
        Ok(&self.spare)
    }

    /// Completes a call with the noise that the model predicted and, if the call draws noise, fresh N(0, 1) noise.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] if either has another size than the sample; the backend's.
    ///
    /// # Panics
    ///
    /// After the last call, or without noise in a call that draws it.
    pub fn step(&mut self, prediction: &B::Buffer, noise: Option<&[f32]>) -> Result<()> {
        let (call, rest) = self.calls.split_first().expect("step is called once for every call of the schedule");
        assert_eq!(noise.is_some(), call.draws_noise, "a call gets noise if and only if it draws noise");
        let used = call.updates.iter().flat_map(|update| &update.terms).any(|&(slot, _)| slot == Slot::Noise);
        let noise = noise.filter(|_| used).map(|noise| self.backend.upload_f32(noise)).transpose()?;
        for update in &call.updates {
            self.update(update, prediction, noise.as_ref())?;
        }
        self.calls = rest;
        Ok(())
    }

    fn update(&mut self, update: &Update, prediction: &B::Buffer, noise: Option<&B::Buffer>) -> Result<()> {
        let Self { sample, history, spare, .. } = self;
        let inputs = update.terms.iter().map(|&(slot, _)| match slot {
            Slot::Sample => &*sample,
            Slot::Prediction => prediction,
            Slot::Noise => noise.expect("a schedule uses noise only in calls that draw it"),
            Slot::History(index) => &history[index],
        });
        let inputs: Vec<&B::Buffer> = inputs.collect();
        let coefficients: Vec<f32> = update.terms.iter().map(|&(_, factor)| factor).collect();
        let op = Combine { len: sample.len(), coefficients: &coefficients, clamp: update.clamp };
        self.backend.combine(&op, CombineArgs { inputs: &inputs, out: spare })?;
        let replaced = match update.out {
            Slot::Sample => sample,
            Slot::History(index) => &mut history[index],
            Slot::Prediction | Slot::Noise => panic!("a schedule writes only the sample and its history"),
        };
        std::mem::swap(spare, replaced);
        Ok(())
    }
}

/// Classifier-free guidance (Ho and Salimans 2022): `out = unconditional + scale·(conditional − unconditional)`.
///
/// # Errors
///
/// [`crate::Error::Shape`] if the buffers differ in size; the backend's.
pub fn guide<B: Backend>(
    backend: &B,
    scale: f32,
    unconditional: &B::Buffer,
    conditional: &B::Buffer,
    out: &mut B::Buffer,
) -> Result<()> {
    let op = Combine { len: out.len(), coefficients: &[1.0 - scale, scale], clamp: None };
    backend.combine(&op, CombineArgs { inputs: &[unconditional, conditional], out })
}
