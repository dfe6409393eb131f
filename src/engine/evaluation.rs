//! The transformer's evaluations for one call of the sampler: the branches of guidance, of the whole latent or of its spans.

use super::Settings;
use super::span::SpanBuffers;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::latte::{Latte, Prepared};
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use crate::sampler::guide;

/// Evaluations of the model for one call of the sampler: two with guidance, else one.
pub(super) fn evaluations(settings: &Settings) -> usize {
    if settings.guidance > 1.0 { 2 } else { 1 }
}

/// The model's evaluations for one call of the sampler.
pub(super) struct Evaluation<B: Backend> {
    guidance: f32,
    branches: Branches<B>,
    /// `[T, H, W, C]`, in the device's precision
    latent: B::Buffer,
    /// The output of each branch; with guidance, the branch of the negative prompt is the first.
    outputs: Vec<B::Buffer>,
    /// The spans of a latent that is longer than one.
    spans: Option<SpanBuffers<B>>,
}

/// The branches of guidance, evaluated as one batch or one after the other.
struct Branches<B: Backend> {
    /// One for the batch, or one for each branch.
    prepared: Vec<Prepared<B>>,
    /// Inputs and outputs of a batch of several, `[N, T, H, W, C]` each.
    batch: Option<[B::Buffer; 2]>,
}

impl<B: Backend> Branches<B> {
    fn new(backend: &B, prepared: Vec<Prepared<B>>, samples: usize, len: usize) -> Result<Self> {
        let batch = match prepared.len() == samples {
            true => None,
            false => Some([backend.alloc(samples * len)?, backend.alloc(samples * len)?]),
        };
        Ok(Self { prepared, batch })
    }

    /// Predicts the noise in `latent [T, H, W, C]` at `timestep`, in each branch.
    fn predict(
        &mut self,
        backend: &B,
        model: &Latte<'_, B::Weight>,
        timestep: f32,
        latent: &B::Buffer,
        branches: &mut [B::Buffer],
    ) -> Result<()> {
        let channels = model.config().in_channels;
        if let Some([inputs, outputs]) = &mut self.batch {
            spread(backend, latent, branches.len(), inputs)?;
            model.forward(backend, &self.prepared[0], inputs, timestep, channels, outputs)?;
            return split(backend, outputs, branches);
        }
        let mut pairs = self.prepared.iter().zip(branches);
        pairs.try_for_each(|(prepared, output)| model.forward(backend, prepared, latent, timestep, channels, output))
    }
}

impl<B: Backend> Evaluation<B> {
    /// The evaluations of a video of `frames` latent frames of `frame_len` elements, prepared for its spans.
    pub fn new(
        backend: &B,
        settings: &Settings,
        prepared: Vec<Prepared<B>>,
        [frames, frame_len]: [usize; 2],
    ) -> Result<Self> {
        let samples = evaluations(settings);
        let (len, at_once) = (frames * frame_len, settings.frames_at_once() * frame_len);
        let branches = Branches::new(backend, prepared, samples, at_once)?;
        let latent = backend.alloc(len)?;
        let outputs = (0..samples).map(|_| backend.alloc(len)).collect::<Result<_>>()?;
        let spans = SpanBuffers::new(backend, settings.span, frames, frame_len, samples)?;
        Ok(Self { guidance: settings.guidance, branches, latent, outputs, spans })
    }

    /// Predicts the noise in `sample [T, H, W, C]`; both are f32.
    pub fn predict(
        &mut self,
        backend: &B,
        model: &Latte<'_, B::Weight>,
        sample: &B::Buffer,
        timestep: f32,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let Self { guidance, branches, latent, outputs, spans } = self;
        let rounded = Combine { len: sample.len(), coefficients: &[1.0], clamp: None };
        backend.combine(&rounded, CombineArgs { inputs: &[sample], out: latent })?;
        let mut predict =
            |latent: &B::Buffer, outputs: &mut [B::Buffer]| branches.predict(backend, model, timestep, latent, outputs);
        match spans {
            None => predict(latent, outputs)?,
            Some(spans) => spans.predict(backend, predict, latent, outputs)?,
        }
        match &outputs[..] {
            [unconditional, conditional] => guide(backend, *guidance, unconditional, conditional, out),
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
