//! Executes a schedule on a backend.

use super::schedule::{Call, Schedule, Slot, Update};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};

/// Where a sampler stands between two calls, on the host: all that the calls after it need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerState {
    /// Calls that are complete.
    pub done: usize,
    /// The sample; empty if the run has not begun, and no noise is drawn.
    pub sample: Vec<f32>,
    /// The tensors that the schedule keeps between calls; one that no call has written yet is empty.
    pub history: Vec<Vec<f32>>,
}

impl SamplerState {
    /// Draws of noise that the run has made: the first sample, then those of its calls.
    pub fn draws(&self, schedule: &Schedule) -> usize {
        let begun = usize::from(!self.sample.is_empty());
        begun + schedule.calls[..self.done].iter().filter(|call| call.draws_noise).count()
    }

    /// Checks that the state is one of `schedule`, whose samples have `len` elements.
    ///
    /// # Errors
    /// [`Error::Usage`] says what does not fit.
    pub fn validate(&self, schedule: &Schedule, len: usize) -> Result<()> {
        let written = schedule.written(self.done.min(schedule.calls.len()));
        let kept: Vec<bool> = self.history.iter().map(|tensor| !tensor.is_empty()).collect();
        let lens = self.history.iter().chain([&self.sample]).all(|tensor| tensor.is_empty() || tensor.len() == len);
        let begun = !self.sample.is_empty() || self.done == 0;
        if self.done <= schedule.calls.len() && begun && lens && kept == written {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "this is no state of the sampler after call {} of {}, with tensors of {len} values",
            self.done,
            schedule.calls.len()
        )))
    }
}

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
    schedule: &'a Schedule,
    /// Calls that are complete.
    done: usize,
    sample: B::Buffer,
    history: Vec<B::Buffer>,
    /// The clean sample that an edit begins with.
    original: Option<&'a B::Buffer>,
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
        Self::with(backend, schedule, sample, noise)
    }

    /// A run before its first call, whose sample is `sample`: a clean sample with the noise of that call.
    ///
    /// # Errors
    ///
    /// The backend's: out of memory.
    pub fn begin(backend: &'a B, schedule: &'a Schedule, sample: B::Buffer) -> Result<Self> {
        let spare = backend.alloc_f32(sample.len())?;
        Self::with(backend, schedule, sample, spare)
    }

    fn with(backend: &'a B, schedule: &'a Schedule, sample: B::Buffer, spare: B::Buffer) -> Result<Self> {
        let history = (0..schedule.history).map(|_| backend.alloc_f32(sample.len())).collect::<Result<_>>()?;
        Ok(Self { backend, schedule, done: 0, sample, history, original: None, spare })
    }

    /// This run, as an edit that begins with `original`. Schedules that read [`Slot::Original`] need it.
    #[must_use]
    pub fn of_original(self, original: &'a B::Buffer) -> Self {
        Self { original: Some(original), ..self }
    }

    /// A run that goes on from `state`, whose sample is not empty. The rest has the same bits as without a stop.
    ///
    /// # Errors
    ///
    /// Those of [`SamplerState::validate`]; the backend's.
    pub fn resume(backend: &'a B, schedule: &'a Schedule, state: &SamplerState) -> Result<Self> {
        let len = state.sample.len();
        state.validate(schedule, len)?;
        let tensor = |values: &Vec<f32>| match values.is_empty() {
            true => backend.alloc_f32(len),
            false => backend.upload_f32(values),
        };
        let (sample, spare) = (backend.upload_f32(&state.sample)?, backend.alloc_f32(len)?);
        let history = state.history.iter().map(tensor).collect::<Result<_>>()?;
        Ok(Self { backend, schedule, done: state.done, sample, history, original: None, spare })
    }

    /// Where the run stands. The host waits for the device.
    ///
    /// # Errors
    ///
    /// The backend's.
    pub fn state(&self) -> Result<SamplerState> {
        let host = |tensor: &B::Buffer| {
            let mut values = vec![0.0; tensor.len()];
            self.backend.download(tensor, 0, &mut values)?;
            Ok(values)
        };
        let written = self.schedule.written(self.done);
        let history = self.history.iter().zip(written);
        let history = history.map(|(tensor, written)| if written { host(tensor) } else { Ok(Vec::new()) });
        Ok(SamplerState { done: self.done, sample: host(&self.sample)?, history: history.collect::<Result<_>>()? })
    }

    /// The next call to make; `None` after the last.
    pub fn call(&self) -> Option<&'a Call> {
        self.schedule.calls.get(self.done)
    }

    /// Calls that are complete.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The sample.
    pub fn sample(&self) -> &B::Buffer {
        &self.sample
    }

    /// After the last call, the result.
    pub fn result(&self) -> &B::Buffer {
        self.edited().unwrap_or(&self.sample)
    }

    /// What the result is by now, if the sample is only a noisy form of it and a call has written it.
    pub fn edited(&self) -> Option<&B::Buffer> {
        let index = self.schedule.result?;
        self.schedule.written(self.done)[index].then(|| &self.history[index])
    }

    /// Puts a clean sample with noise back into parts of the tensor that becomes the result. The operands are the clean sample,
    /// the noise and the weights of [`Hold`]. In the schedule of an inversion, the noise that it has found takes the operand's place.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] if one has another size than the sample; the backend's.
    pub fn hold(&mut self, op: &Hold, [original, noise, weight]: [&B::Buffer; 3]) -> Result<()> {
        let Self { schedule, history, sample, .. } = self;
        let (held, noise) = match (schedule.result, schedule.inverted) {
            (Some(index), _) => (&mut history[index], noise),
            (None, Some(index)) => (sample, &history[index]),
            (None, None) => (sample, noise),
        };
        self.backend.hold(op, HoldArgs { original, noise, weight, sample: held })
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
        let call = self.call().expect("step is called once for every call of the schedule");
        assert_eq!(noise.is_some(), call.draws_noise, "a call gets noise if and only if it draws noise");
        let used = call.updates.iter().flat_map(|update| &update.terms).any(|&(slot, _)| slot == Slot::Noise);
        let noise = noise.filter(|_| used).map(|noise| self.backend.upload_f32(noise)).transpose()?;
        for update in &call.updates {
            self.update(update, prediction, noise.as_ref())?;
        }
        self.done += 1;
        Ok(())
    }

    fn update(&mut self, update: &Update, prediction: &B::Buffer, noise: Option<&B::Buffer>) -> Result<()> {
        let Self { sample, history, original, spare, .. } = self;
        let inputs = update.terms.iter().map(|&(slot, _)| match slot {
            Slot::Sample => &*sample,
            Slot::Prediction => prediction,
            Slot::Noise => noise.expect("a schedule uses noise only in calls that draw it"),
            Slot::Original => original.expect("only the schedule of an edit reads what it begins with"),
            Slot::History(index) => &history[index],
        });
        let inputs: Vec<&B::Buffer> = inputs.collect();
        let coefficients: Vec<f32> = update.terms.iter().map(|&(_, factor)| factor).collect();
        let op = Combine { len: sample.len(), coefficients: &coefficients, clamp: update.clamp };
        self.backend.combine(&op, CombineArgs { inputs: &inputs, out: spare })?;
        let replaced = match update.out {
            Slot::Sample => sample,
            Slot::History(index) => &mut history[index],
            Slot::Prediction | Slot::Noise | Slot::Original => {
                panic!("a schedule writes only the sample and its history")
            }
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
