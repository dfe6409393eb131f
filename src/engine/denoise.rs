//! Noise to a latent: runs a sampler's schedule with the transformer, and with guidance.

use super::finite::{Axes, Checking, Made};
use super::{Observer, Reached, Settings, Stage, Task, Text, Warning, tick};
use crate::backend::Backend;
use crate::checkpoint::Component;
use crate::error::Result;
use crate::layout::nhwc_from_nchw;
use crate::memory::MemoryOptions;
use crate::model::latte::{Latte, LatteConfig, Prepared, Shape};
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use crate::sampler::{SamplerRun, SamplerState, Schedule, TorchRng, guide};
use std::ops::Deref;

/// The source of a run's noise, in the original's order and layout: (C, T, H, W).
pub(crate) enum Noise<'a> {
    /// PyTorch's noise for a seed.
    Seeded(TorchRng),
    /// Given: the initial noise, then the later draws one after the other.
    Given(&'a mut dyn Iterator<Item = Vec<f32>>),
    /// Zeros, for runs that only count.
    Absent,
}

/// What a sampler makes a latent from.
pub(crate) struct Denoising<'a> {
    pub settings: &'a Settings,
    pub schedule: &'a Schedule,
    pub text: &'a Text,
    /// Where it begins, if not at its noise.
    pub state: Option<&'a SamplerState>,
    /// The video's index in the batch.
    pub video: usize,
}

impl<'a> Denoising<'a> {
    /// What makes the latent of `task`, which is `video` of its batch.
    pub fn of(task: &'a Task, schedule: &'a Schedule, text: &'a Text, video: usize) -> Self {
        Self { settings: &task.settings, schedule, text, state: task.state(), video }
    }

    /// Calls of the model that an earlier run has made.
    pub fn done(&self) -> usize {
        self.state.map_or(0, |state| state.done)
    }
}

impl Noise<'_> {
    /// Noise for a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(TorchRng::new(seed))
    }

    /// Passes over draws that an earlier run has used.
    fn skip(&mut self, draws: usize, len: usize, channels: usize) {
        (0..draws).for_each(|_| drop(self.draw(len, channels)));
    }

    /// The next draw, in the engine's layout.
    fn draw(&mut self, len: usize, channels: usize) -> Vec<f32> {
        let values = match self {
            Self::Seeded(rng) => rng.randn(len),
            Self::Absent => return vec![0.0; len],
            Self::Given(draws) => draws.next().expect("the schedule makes no more draws than are given"),
        };
        nhwc_from_nchw(&values, channels)
    }
}

/// The transformer, loaded.
pub(crate) struct Denoiser<'a, W> {
    model: Latte<'a, W>,
    branches_in_turn: bool,
}

impl<'a, W> Denoiser<'a, W> {
    /// Loads the transformer. `backend` is a reference or a shared pointer.
    pub fn load<B: Backend<Weight = W>>(
        backend: impl Deref<Target = B> + Clone + 'a,
        part: &'a Component<LatteConfig>,
        savings: MemoryOptions,
    ) -> Result<Self> {
        let model = Latte::load(&part.config, &*part.source, backend, savings)?;
        Ok(Self { model, branches_in_turn: savings.branches_in_turn })
    }

    /// Warns of a length that the model was not trained for.
    pub fn warn_of_other_lengths(&self, settings: &Settings, observer: &mut dyn Observer) {
        let trained = settings.factors.frames(self.model.config().video_length);
        if settings.frames != 1 && settings.frames != trained {
            observer.warn(&Warning::OtherLength { frames: settings.frames, trained });
        }
    }

    /// The final latent `[T, H, W, C]`.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        Denoising { settings, schedule, text, state, video }: Denoising<'_>,
        noise: &mut Noise<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f32>> {
        backend.begin_run();
        let c = self.model.config();
        let [frames, height, width] = settings.latent_size();
        let prepared = self.prepare(backend, settings, text)?;

        let len = frames * height * width * c.in_channels;
        let mut run = match state {
            Some(state) => {
                noise.skip(state.draws(schedule), len, c.in_channels);
                SamplerRun::resume(backend, schedule, state)?
            }
            None => SamplerRun::new(backend, schedule, &noise.draw(len, c.in_channels))?,
        };
        let mut prediction = backend.alloc_f32(len)?;
        let mut evaluation = Evaluation::new(backend, settings, prepared, len)?;
        let axes = [("frame", frames), ("row", height), ("column", width), ("channel", c.in_channels)];
        let calls = schedule.calls.len();
        let mut checks = Checks { axes: &axes, steps: calls, done: run.done(), last: None };
        while let Some(call) = run.call() {
            let sample = run.model_input()?;
            evaluation.predict(backend, &self.model, sample, call.timestep, &mut prediction)?;
            checks.next(Checking::start(backend, &prediction, 0, len)?)?;
            let at = Reached { video, done: run.done() + 1, calls };
            let (state, preview) = (observer.wants_state(at), observer.wants_preview(at.done, calls));
            // After the last call, the latent itself is shown.
            let drafted = state || preview && at.done < calls;
            let draft = drafted.then(|| draft(backend, settings, &mut run, &prediction)).transpose()?;
            let drawn = call.draws_noise.then(|| noise.draw(len, c.in_channels));
            run.step(&prediction, drawn.as_deref())?;
            if let Some(draft) = draft.as_ref().filter(|_| state) {
                let state = run.state()?;
                let stage = format!("{}, step {} of {calls}", Stage::Denoise.name(), at.done);
                Made { stage, what: "the sample", axes: &axes }.check(&state.sample, f32::MAX)?;
                observer.reached(at, &state, draft);
            }
            if preview {
                let shown = draft.filter(|_| at.done < calls).map_or_else(|| host(backend, run.sample()), Ok)?;
                observer.preview(at.done, &shown);
            }
            tick(observer)?;
        }
        checks.end()?;
        let latent = host(backend, run.sample())?;
        Made { stage: Stage::Denoise.name().into(), what: "the latent", axes: &axes }.check(&latent, f32::MAX)?;
        Ok(latent)
    }

    /// The prepared text: one batch for all evaluations of a call, or one for each evaluation.
    fn prepare<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        settings: &Settings,
        text: &Text,
    ) -> Result<Vec<Prepared<B>>> {
        let patch = self.model.config().patch_size;
        let [frames, height, width] = settings.latent_size();
        let batch = evaluations(settings);
        let samples = if self.branches_in_turn { 1 } else { batch };
        let (rows, columns) = (height / patch, width / patch);
        let shape = Shape { samples, batch, frames, rows, columns, temporal: settings.frames > 1 };
        let parts = text.embeddings.chunks_exact(text.embeddings.len() / batch * samples);
        let prepare = |embeddings| {
            let captions = backend.upload(embeddings)?;
            self.model.prepare(backend, shape, &captions, text.tokens, None)
        };
        parts.map(prepare).collect()
    }
}

/// The latent that a prediction leads to: x₀ of input = √ᾱ·x₀ + √(1−ᾱ)·ε.
fn draft<B: Backend>(
    backend: &B,
    settings: &Settings,
    run: &mut SamplerRun<'_, B>,
    prediction: &B::Buffer,
) -> Result<Vec<f32>> {
    let timestep = run.call().expect("the call is not complete").timestep;
    let alpha_bar = settings.sampler.alpha_bar(timestep);
    let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
    let (input, prediction) = (host(backend, run.model_input()?)?, host(backend, prediction)?);
    Ok(input.iter().zip(prediction).map(|(x, predicted)| (x - noise * predicted) / signal).collect())
}

/// A sampler's sample on the host.
fn host<B: Backend>(backend: &B, sample: &B::Buffer) -> Result<Vec<f32>> {
    let mut values = vec![0.0; sample.len()];
    backend.download(sample, 0, &mut values)?;
    Ok(values)
}

/// Checks of the predictions. The host reads the result of a step's check after it has launched the next step, so the device
/// never waits for the host.
struct Checks<'a> {
    axes: Axes<'a>,
    steps: usize,
    /// Steps whose check was read.
    done: usize,
    last: Option<Checking>,
}

impl Checks<'_> {
    /// Keeps this check, and reads the one before.
    fn next(&mut self, check: Checking) -> Result<()> {
        let before = self.last.replace(check);
        before.map_or(Ok(()), |check| self.look_at(check))
    }

    /// Reads the last check.
    fn end(mut self) -> Result<()> {
        let last = self.last.take();
        last.map_or(Ok(()), |check| self.look_at(check))
    }

    fn look_at(&mut self, check: Checking) -> Result<()> {
        self.done += 1;
        let stage = format!("{}, step {} of {}", Stage::Denoise.name(), self.done, self.steps);
        check.end(&Made { stage, what: "the predicted noise", axes: self.axes }, 0)
    }
}

/// Evaluations of the model for one call of the sampler: two with guidance, else one.
fn evaluations(settings: &Settings) -> usize {
    if settings.guidance > 1.0 { 2 } else { 1 }
}

/// The model's evaluations for one call of the sampler, as one batch or one after the other.
struct Evaluation<B: Backend> {
    guidance: f32,
    /// One for the batch, or one for each evaluation.
    prepared: Vec<Prepared<B>>,
    /// `[T, H, W, C]`, in the device's precision
    latent: B::Buffer,
    /// Inputs and outputs of a batch of several, `[N, T, H, W, C]` each.
    batch: Option<[B::Buffer; 2]>,
    /// The output of each evaluation; with guidance, the branch of the negative prompt is the first.
    outputs: Vec<B::Buffer>,
}

impl<B: Backend> Evaluation<B> {
    fn new(backend: &B, settings: &Settings, prepared: Vec<Prepared<B>>, len: usize) -> Result<Self> {
        let samples = evaluations(settings);
        let batch = match prepared.len() == samples {
            true => None,
            false => Some([backend.alloc(samples * len)?, backend.alloc(samples * len)?]),
        };
        Ok(Self {
            guidance: settings.guidance,
            prepared,
            latent: backend.alloc(len)?,
            batch,
            outputs: (0..samples).map(|_| backend.alloc(len)).collect::<Result<_>>()?,
        })
    }

    /// Predicts the noise in `sample [T, H, W, C]`; both are f32.
    fn predict(
        &mut self,
        backend: &B,
        model: &Latte<'_, B::Weight>,
        sample: &B::Buffer,
        timestep: f32,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let rounded = Combine { len: sample.len(), coefficients: &[1.0], clamp: None };
        backend.combine(&rounded, CombineArgs { inputs: &[sample], out: &mut self.latent })?;
        let channels = model.config().in_channels;
        match &mut self.batch {
            Some([inputs, outputs]) => {
                spread(backend, &self.latent, self.outputs.len(), inputs)?;
                model.forward(backend, &self.prepared[0], inputs, timestep, channels, outputs)?;
                split(backend, outputs, &mut self.outputs)?;
            }
            None => {
                for (prepared, output) in self.prepared.iter().zip(&mut self.outputs) {
                    model.forward(backend, prepared, &self.latent, timestep, channels, output)?;
                }
            }
        }
        match &self.outputs[..] {
            [unconditional, conditional] => guide(backend, self.guidance, unconditional, conditional, out),
            [conditional] => backend.combine(&rounded, CombineArgs { inputs: &[conditional], out }),
            _ => unreachable!("there are one or two evaluations"),
        }
    }
}

/// Sample `index` of `samples`.
fn at(samples: usize, index: usize) -> BoxAt {
    BoxAt { size: [samples, 1, 1], origin: [index, 0, 0] }
}

/// `out [N, …]`: `one` for each sample.
fn spread<B: Backend>(backend: &B, one: &B::Buffer, samples: usize, out: &mut B::Buffer) -> Result<()> {
    for i in 0..samples {
        let op = CopyBox { extent: [1; 3], channels: one.len(), from: at(1, 0), to: at(samples, i) };
        backend.copy_box(&op, CopyBoxArgs { x: one, out })?;
    }
    Ok(())
}

/// The samples of `all [N, …]`.
fn split<B: Backend>(backend: &B, all: &B::Buffer, parts: &mut [B::Buffer]) -> Result<()> {
    let samples = parts.len();
    for (i, part) in parts.iter_mut().enumerate() {
        let op = CopyBox { extent: [1; 3], channels: part.len(), from: at(samples, i), to: at(1, 0) };
        backend.copy_box(&op, CopyBoxArgs { x: all, out: part })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::device::{Dry, Event};
    use crate::cuda::{Cuda, Half};
    use crate::engine::Request;
    use crate::preset;
    use std::sync::Arc;

    /// The length of the device's log after every call of the model.
    struct Steps {
        dry: Arc<Dry>,
        ends: Vec<usize>,
    }

    impl Observer for Steps {
        fn advance(&mut self, _: u64) {
            self.ends.push(self.dry.log().len());
        }
    }

    /// The sizes of the allocations for each call of the model but the first, of PNDM with guidance at 221×512×512.
    fn allocations(savings: MemoryOptions) -> Vec<Vec<usize>> {
        let dry = Arc::new(Dry::new());
        let backend = Cuda::new(dry.clone(), Half::Bf16);
        let part = preset::open("v1.1.0", Some(221)).unwrap().transformer.unwrap();
        let defaults = preset::open("v1.1.0", Some(221)).unwrap().defaults;
        let settings = Request::new("a lake").steps(4).settle(&defaults).unwrap();
        let text = Text { tokens: 120, embeddings: vec![0.5; 2 * 120 * 4096], cached: false };
        let schedule = settings.sampler.schedule(settings.steps).unwrap();
        let mut steps = Steps { dry: dry.clone(), ends: Vec::new() };
        let denoiser = Denoiser::load(&backend, &part, savings).unwrap();
        let denoising = Denoising { settings: &settings, schedule: &schedule, text: &text, state: None, video: 0 };
        denoiser.run(&backend, denoising, &mut Noise::seeded(0), &mut steps).unwrap();
        let log = dry.log();
        let size = |event: &Event| if let Event::Alloc { bytes, .. } = event { Some(*bytes) } else { None };
        steps.ends.windows(2).map(|range| log[range[0]..range[1]].iter().filter_map(size).collect()).collect()
    }

    #[test]
    fn every_call_of_the_model_allocates_the_same() {
        for savings in [MemoryOptions::NONE, MemoryOptions::MOST] {
            let calls = allocations(savings);
            assert!(calls.len() > 4 && !calls[0].is_empty(), "{savings:?}");
            assert!(calls.iter().all(|call| *call == calls[0]), "{savings:?}");
        }
    }
}
