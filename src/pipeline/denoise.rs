//! Noise to a latent: a sampler's schedule run over the transformer, with guidance.

use super::layout::nhwc_from_nchw;
use super::{Observer, Request, Text, tick};
use crate::backend::{Backend, DeviceBuffer};
use crate::checkpoint::Part;
use crate::error::Result;
use crate::model::latte::{Latte, LatteConfig, Prepared, Shape};
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
        let mut prediction = backend.alloc(len)?;
        let mut guidance = if guided { Some(Guidance::new(backend, request.guidance, len)?) } else { None };
        while let Some(call) = run.call() {
            let input = run.model_input()?;
            match &mut guidance {
                Some(guidance) => {
                    guidance.predict(backend, &self.model, &mut prepared, input, call.timestep, &mut prediction)?
                }
                None => {
                    self.model.forward(backend, &mut prepared, input, call.timestep, c.in_channels, &mut prediction)?
                }
            }
            let drawn = call.draws_noise.then(|| noise.draw(len, c.in_channels));
            run.step(&prediction, drawn.as_deref())?;
            tick(observer)?;
        }
        let mut latent = vec![0.0; len];
        backend.download(run.sample(), 0, &mut latent)?;
        Ok(latent)
    }
}

/// Both evaluations of classifier-free guidance as one batch.
struct Guidance<B: Backend> {
    scale: f32,
    /// `[2, T, H, W, C]`
    inputs: B::Buffer,
    /// `[2, T, H, W, C]`: without the caption, with it
    outputs: B::Buffer,
    /// The two halves of `outputs`.
    halves: [B::Buffer; 2],
}

impl<B: Backend> Guidance<B> {
    fn new(backend: &B, scale: f32, len: usize) -> Result<Self> {
        let halves = [backend.alloc(len)?, backend.alloc(len)?];
        Ok(Self { scale, inputs: backend.alloc(2 * len)?, outputs: backend.alloc(2 * len)?, halves })
    }

    fn predict(
        &mut self,
        backend: &B,
        model: &Latte<B::Weight>,
        prepared: &mut Prepared<B>,
        input: &B::Buffer,
        timestep: f32,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let channels = input.len();
        let one = BoxAt::whole([1; 3]);
        let half = |i: usize| BoxAt { size: [2, 1, 1], origin: [i, 0, 0] };
        for i in 0..2 {
            backend.copy_box(&CopyBox { extent: [1; 3], channels, from: one, to: half(i) }, input, &mut self.inputs)?;
        }
        model.forward(backend, prepared, &self.inputs, timestep, model.config().in_channels, &mut self.outputs)?;
        for (i, buffer) in self.halves.iter_mut().enumerate() {
            backend.copy_box(&CopyBox { extent: [1; 3], channels, from: half(i), to: one }, &self.outputs, buffer)?;
        }
        let [unconditional, conditional] = &self.halves;
        guide(backend, self.scale, unconditional, conditional, out)
    }
}
