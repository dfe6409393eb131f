//! Noise to a latent: a sampler's schedule run over the transformer, with guidance.

use super::layout::nhwc_from_nchw;
use super::{Observer, Request, Text, tick};
use crate::backend::{Backend, DeviceBuffer};
use crate::checkpoint::Part;
use crate::error::Result;
use crate::model::latte::{Latte, LatteConfig, Prepared, Shape};
use crate::ops::sampler::Combine;
use crate::ops::tile::{BoxAt, CopyBox};
use crate::sampler::{Run, Schedule, TorchRng, guide};
use crate::weights::Scope;
use crate::weights::load::Loader;

/// Where a run's noise comes from, in the order and layout in which the original draws it: (C, T, H, W).
pub(crate) enum Noise<'a> {
    /// What PyTorch draws for a seed.
    Seeded(TorchRng),
    /// Given: the initial noise, then the later draws one after the other.
    Given(&'a mut dyn Iterator<Item = Vec<f32>>),
    /// Zeros, for runs that only count.
    Absent,
}

impl Noise<'_> {
    /// Noise for a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(TorchRng::new(seed))
    }

    /// The next draw, in the engine's layout.
    fn draw(&mut self, len: usize, channels: usize) -> Vec<f32> {
        let values = match self {
            Self::Seeded(rng) => rng.randn(len),
            Self::Absent => return vec![0.0; len],
            Self::Given(draws) => draws.next().expect("as many draws are given as the schedule makes"),
        };
        nhwc_from_nchw(&values, channels)
    }
}

/// The transformer, loaded.
pub(crate) struct Denoiser<W> {
    model: Latte<W>,
}

impl<W> Denoiser<W> {
    /// Loads the transformer.
    pub fn load<B: Backend<Weight = W>>(backend: &B, part: &Part<LatteConfig>) -> Result<Self> {
        let mut loader = Loader::new(&*part.source, backend);
        Ok(Self { model: Latte::build(&part.config, Scope::root(&mut loader))? })
    }

    /// The model was trained for one length; others use its formulas outside of what it saw.
    pub fn warn_of_other_lengths(&self, request: &Request, observer: &dyn Observer) {
        let trained = self.model.config().frames();
        if request.frames != 1 && request.frames != trained {
            let frames = request.frames;
            observer.warn(&format!(
                "the model was trained for videos of {trained} frames, and for images; {frames} frames may look worse"
            ));
        }
    }

    /// The final latent `[T, H, W, C]` of a request.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        request: &Request,
        schedule: &Schedule,
        text: &Text,
        noise: &mut Noise<'_>,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>> {
        let c = self.model.config();
        let [frames, height, width] = request.latent_size();
        let guided = request.guidance > 1.0;
        let shape = Shape {
            samples: if guided { 2 } else { 1 },
            frames,
            rows: height / c.patch_size,
            columns: width / c.patch_size,
            temporal: request.frames > 1,
        };
        let captions = backend.upload(&text.embeddings)?;
        let mut prepared = self.model.prepare(backend, shape, &captions, text.tokens, None)?;
        drop(captions);

        let len = frames * height * width * c.in_channels;
        let mut run = Run::new(backend, schedule, &noise.draw(len, c.in_channels))?;
        let mut prediction = backend.alloc_f32(len)?;
        let mut evaluation = Evaluation::new(backend, guided.then_some(request.guidance), len)?;
        while let Some(call) = run.call() {
            let sample = run.model_input()?;
            evaluation.predict(backend, &self.model, &mut prepared, sample, call.timestep, &mut prediction)?;
            let drawn = call.draws_noise.then(|| noise.draw(len, c.in_channels));
            run.step(&prediction, drawn.as_deref())?;
            tick(observer)?;
        }
        let mut latent = vec![0.0; len];
        backend.download(run.sample(), 0, &mut latent)?;
        Ok(latent)
    }
}

/// The model's evaluations for one call of the sampler, as one batch: with the caption and, guided, without it.
struct Evaluation<B: Backend> {
    guidance: Option<f32>,
    /// `[T, H, W, C]`, in the device's precision
    latent: B::Buffer,
    /// `[N, T, H, W, C]`
    inputs: B::Buffer,
    /// `[N, T, H, W, C]`: guided, first without the caption
    outputs: B::Buffer,
    /// The samples of `outputs`.
    parts: Vec<B::Buffer>,
}

impl<B: Backend> Evaluation<B> {
    fn new(backend: &B, guidance: Option<f32>, len: usize) -> Result<Self> {
        let samples = if guidance.is_some() { 2 } else { 1 };
        Ok(Self {
            guidance,
            latent: backend.alloc(len)?,
            inputs: backend.alloc(samples * len)?,
            outputs: backend.alloc(samples * len)?,
            parts: (0..samples).map(|_| backend.alloc(len)).collect::<Result<_>>()?,
        })
    }

    /// The noise in `sample [T, H, W, C]`, both in f32.
    fn predict(
        &mut self,
        backend: &B,
        model: &Latte<B::Weight>,
        prepared: &mut Prepared<B>,
        sample: &B::Buffer,
        timestep: f32,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let (len, samples) = (sample.len(), self.parts.len());
        let rounded = Combine { len, coefficients: &[1.0], clamp: None };
        backend.combine(&rounded, &[sample], &mut self.latent)?;
        let one = BoxAt::whole([1; 3]);
        let part = |i: usize| BoxAt { size: [samples, 1, 1], origin: [i, 0, 0] };
        let copy = |from: BoxAt, to: BoxAt| CopyBox { extent: [1; 3], channels: len, from, to };
        for i in 0..samples {
            backend.copy_box(&copy(one, part(i)), &self.latent, &mut self.inputs)?;
        }
        model.forward(backend, prepared, &self.inputs, timestep, model.config().in_channels, &mut self.outputs)?;
        for (i, buffer) in self.parts.iter_mut().enumerate() {
            backend.copy_box(&copy(part(i), one), &self.outputs, buffer)?;
        }
        match (self.guidance, &self.parts[..]) {
            (Some(scale), [unconditional, conditional]) => guide(backend, scale, unconditional, conditional, out),
            _ => backend.combine(&rounded, &[&self.parts[0]], out),
        }
    }
}
