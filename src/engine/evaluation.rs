//! The transformer's evaluations for one call of the sampler: the branches of guidance, of the whole latent or of its spans.

use super::Settings;
use super::span::SpanBuffers;
use super::transfer::copy;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::latte::{Latte, Prepared, Watch};
use crate::ops::DeviceBuffer;
use crate::ops::distance::{Distance, DistanceArgs};
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};

/// The branches that a call of the sampler needs: two with guidance, else one.
pub(super) fn branches(settings: &Settings) -> usize {
    if settings.guidance > 1.0 { 2 } else { 1 }
}

/// The transformer, and the device that it runs on.
pub(super) type On<'a, B> = (&'a B, &'a Latte<'a, <B as Backend>::Weight>);

/// What a call of the model predicts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// The prompt.
    Target,
    /// The source prompt of an edit.
    Source,
}

/// Which branches of guidance are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    /// All that there are.
    All,
    /// That of the prompt.
    Conditional,
}

/// Prepared texts: of the prompt, and of an edit's source prompt with the number of its branches.
pub(super) type PreparedTexts<B> = (Vec<Prepared<B>>, Option<(Vec<Prepared<B>>, usize)>);

/// The model's evaluations for one call of the sampler.
pub(super) struct Evaluation<B: Backend> {
    branches: Branches<B>,
    /// Those for the source prompt of an edit.
    source: Option<Branches<B>>,
    /// What the model sees: `[T, H, W, C]`, in the device's precision.
    latent: B::Buffer,
    /// The output of each branch; with guidance, the branch of the negative prompt is the first.
    outputs: Vec<B::Buffer>,
    /// The spans of a latent that is longer than one.
    spans: Option<SpanBuffers<B>>,
}

/// The branches of guidance, evaluated as one batch or one after the other.
struct Branches<B: Backend> {
    count: usize,
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
        Ok(Self { count: samples, prepared, batch })
    }

    /// Predicts the noise in `latent [T, H, W, C]` at `timestep`, in the last branches; a batch has all of them.
    fn predict(
        &mut self,
        (backend, model): On<'_, B>,
        timestep: f32,
        latent: &B::Buffer,
        branches: &mut [B::Buffer],
        watch: Watch<'_, B>,
    ) -> Result<()> {
        let channels = model.config().in_channels;
        if let Some([inputs, outputs]) = &mut self.batch {
            spread(backend, latent, branches.len(), inputs)?;
            model.forward_watched(backend, &self.prepared[0], inputs, timestep, watch, channels, outputs)?;
            return split(backend, outputs, branches);
        }
        let skipped = self.prepared.len() - branches.len();
        let mut pairs = self.prepared[skipped..].iter().zip(branches);
        pairs.try_for_each(|(prepared, output)| {
            model.forward_watched(backend, prepared, latent, timestep, watch, channels, output)
        })
    }
}

impl<B: Backend> Evaluation<B> {
    /// The evaluations of a video of `frames` latent frames of `frame_len` elements, prepared for its spans.
    pub fn new(
        backend: &B,
        settings: &Settings,
        (prepared, source): PreparedTexts<B>,
        [frames, frame_len]: [usize; 2],
    ) -> Result<Self> {
        let samples = branches(settings);
        let (len, at_once) = (frames * frame_len, settings.frames_at_once() * frame_len);
        let source = source.map(|(prepared, count)| Branches::new(backend, prepared, count, at_once)).transpose()?;
        let branches = Branches::new(backend, prepared, samples, at_once)?;
        let latent = backend.alloc(len)?;
        let outputs = (0..samples).map(|_| backend.alloc(len)).collect::<Result<_>>()?;
        let spans = SpanBuffers::new(backend, settings.span, frames, frame_len, samples)?;
        Ok(Self { branches, source, latent, outputs, spans })
    }

    /// Shows `sample [T, H, W, C]`, in f32, to the model.
    pub fn show(&mut self, backend: &B, sample: &B::Buffer) -> Result<()> {
        copy(backend, sample, &mut self.latent)
    }

    /// The branches of guidance that there are for `of`.
    pub fn branches(&self, of: Prompt) -> usize {
        match of {
            Prompt::Target => self.branches.count,
            Prompt::Source => self.source.as_ref().map_or(0, |source| source.count),
        }
    }

    /// What the model sees.
    pub fn latent(&self) -> &B::Buffer {
        &self.latent
    }

    /// The outputs of the branches, as they were evaluated last. With guidance there are two, that of the negative prompt first.
    pub fn outputs(&self) -> &[B::Buffer] {
        &self.outputs
    }

    /// Predicts the noise in what the model sees for `of`, in some branches: the last outputs. Only branches that are no batch can
    /// be evaluated alone.
    pub fn predict(
        &mut self,
        on: On<'_, B>,
        (of, timestep): (Prompt, f32),
        branch: Branch,
        watch: Watch<'_, B>,
    ) -> Result<()> {
        let skipped = self.outputs.len() - if branch == Branch::All { self.branches(of) } else { 1 };
        let Self { branches, source, latent, outputs, spans } = self;
        let branches = if of == Prompt::Source { source.as_mut().expect("an edit has it") } else { branches };
        debug_assert!(branch == Branch::All || branches.batch.is_none(), "a batch has all branches");
        let mut predict =
            |latent: &B::Buffer, outputs: &mut [B::Buffer]| branches.predict(on, timestep, latent, outputs, watch);
        match spans {
            None => predict(latent, &mut outputs[skipped..]),
            Some(spans) => spans.predict(on.0, predict, latent, &mut outputs[skipped..]),
        }
    }

    /// How much the input of the first block has changed from `before`, a latent at another timestep: Σ|a − b| / Σ|b|.
    pub fn input_change(
        &mut self,
        (backend, model): On<'_, B>,
        timestep: f32,
        (before, at): (&B::Buffer, f32),
    ) -> Result<f64> {
        let prepared = &self.branches.prepared[0];
        let mut sums = [0.0; 2];
        let mut add = |[now, before]: [&B::Buffer; 2]| {
            let before = model.first_input(backend, prepared, before, at)?;
            let now = model.first_input(backend, prepared, now, timestep)?;
            let op = Distance { len: now.len() };
            let mut arriving = backend.distance(&op, DistanceArgs { a: &now, b: &before })?;
            let [change, whole] = op.sums(arriving.bytes()?);
            sums = [sums[0] + change, sums[1] + whole];
            Ok(())
        };
        match &mut self.spans {
            None => add([&self.latent, before])?,
            Some(spans) => spans.each_of_two(backend, [&self.latent, before], add)?,
        }
        Ok(Distance::ratio(sums))
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
