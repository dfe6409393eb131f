//! The transformer and the decoder of a batch, open for as long as they serve the next video.

use super::autoencoder::Decoder;
use super::denoise::{Denoiser, Denoising, Noise, Sampled};
use super::finite::blame;
use super::original::Original;
use super::sample::{plan_decode, plan_denoise, plan_text};
use super::shortcuts::{Measured, Purpose};
use super::{Devices, Observer, Shortcuts, Span, Stage, StagePlan, TakeFrame, Task, Text, Wanted, Windowed};
use crate::backend::Backend;
use crate::checkpoint::Model;
use crate::error::Result;
use crate::sampler::SamplerKind;
use std::rc::Rc;

/// What decides the buffers of the transformer's part of a video, besides the length of its caption.
#[derive(Clone, PartialEq)]
struct Denoises {
    size: [usize; 3],
    guided: bool,
    sampler: SamplerKind,
    steps: usize,
    /// Calls of the model; an edit makes only the last.
    calls: usize,
    /// For an edit, its method, and whether a part of its latent is held.
    edit: Option<(&'static str, bool)>,
    span: Option<Span>,
    shortcuts: Shortcuts,
    /// Calls that an earlier run has made, and which tensors its shortcuts remember.
    done: Option<(usize, [usize; 3])>,
    needed: bool,
}

/// What decides the buffers of the decoder's part of a video.
#[derive(Clone, Copy)]
struct Decodes {
    clip: Windowed,
    windows: usize,
}

impl PartialEq for Decodes {
    fn eq(&self, other: &Self) -> bool {
        (self.clip.size, self.clip.tiling, self.windows) == (other.clip.size, other.clip.tiling, other.windows)
    }
}

impl From<&Task> for Denoises {
    fn from(task: &Task) -> Self {
        let settings = &task.settings;
        Self {
            size: settings.latent_size(),
            guided: settings.guidance > 1.0,
            sampler: settings.sampler,
            steps: settings.steps,
            calls: settings.schedule().map_or(0, |schedule| schedule.calls.len()),
            edit: settings.edit.as_ref().map(|edit| (edit.method.name(), edit.holds())),
            span: settings.span,
            shortcuts: settings.shortcuts.clone(),
            done: task.state().map(|state| (state.sampler.done, state.remembered.tensors())),
            needed: task.needs_transformer(),
        }
    }
}

impl From<&Task> for Decodes {
    fn from(task: &Task) -> Self {
        Self { clip: task.settings.windowed(), windows: task.windows() }
    }
}

/// The plans of each kind of video.
struct Plans<K>(Vec<(K, Rc<StagePlan>)>);

impl<K: PartialEq> Plans<K> {
    fn get(&mut self, kind: K, plan: impl FnOnce() -> Result<StagePlan>) -> Result<Rc<StagePlan>> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Ok(known.clone());
        }
        let plan = Rc::new(plan()?);
        self.0.push((kind, plan.clone()));
        Ok(plan)
    }
}

/// The backend of a device.
type Of<D> = <D as Devices>::Backend;

/// Opens the models of a batch when a video needs them. A model stays open for videos of the same kind.
pub(super) struct Models<'a, D: Devices> {
    devices: D,
    model: &'a Model,
    /// The model without values.
    shapes: Model,
    /// Tokens of the batch's longest caption.
    tokens: usize,
    /// Whether the transformer stays open beside the decoder, if there is room.
    keeps: bool,
    denoises: Plans<Denoises>,
    decodes: Plans<Decodes>,
    transformer: Option<OpenTransformer<'a, Of<D>>>,
    decoder: Option<OpenDecoder<'a, Of<D>>>,
}

type OpenTransformer<'a, B> = Open<Denoises, (Rc<B>, Denoiser<'a, <B as Backend>::Weight>)>;
type OpenDecoder<'a, B> = Open<Decodes, Decoder<'a, B, Rc<B>>>;

/// A model that is open, with the plan of its memory.
struct Open<K, M> {
    kind: K,
    plan: Rc<StagePlan>,
    model: M,
}

/// What the transformer makes a latent from, besides its noise.
pub(super) struct Given<'g> {
    pub text: &'g Text,
    pub original: Option<&'g Original>,
    /// Gets what `osp calibrate` needs.
    pub measured: Option<&'g mut Measured>,
}

/// What a batch does with its models, whatever the device.
pub(super) trait Work {
    /// The plans of the transformer and of the decoder for `task`.
    fn plans(&mut self, task: &Task) -> [Result<Rc<StagePlan>>; 2];

    /// The latent of `task`, which is `video` of its batch.
    fn denoise(&mut self, task: &Task, given: Given<'_>, video: usize, observer: &mut dyn Observer) -> Result<Sampled>;

    /// Decodes the rest of a video, and gives its frames to `frame`.
    fn decode(
        &mut self,
        task: &Task,
        latent: &[f32],
        observer: &mut dyn Observer,
        frame: &mut TakeFrame<'_>,
    ) -> Result<()>;
}

impl<'a, D: Devices + 'a> Work for Models<'a, D> {
    fn plans(&mut self, task: &Task) -> [Result<Rc<StagePlan>>; 2] {
        let Self { devices, shapes, tokens, .. } = self;
        [
            self.denoises.get(task.into(), || plan_denoise(devices, shapes, task, *tokens)),
            self.decodes.get(task.into(), || plan_decode(devices, shapes, task)),
        ]
    }

    fn denoise(
        &mut self,
        task: &Task,
        Given { text, original, measured }: Given<'_>,
        video: usize,
        observer: &mut dyn Observer,
    ) -> Result<Sampled> {
        let part = self.model.need_transformer()?;
        let open = self.transformer(task).map_err(|error| error.during(Stage::Denoise.name()))?;
        let (backend, denoiser) = &open.model;
        denoiser.warn_of_other_lengths(&task.settings, observer);
        let schedule = task.settings.schedule()?;
        let denoising = Denoising { original, video, ..Denoising::of(task, &schedule, text) };
        observer.begin(Stage::Denoise, (schedule.calls.len() - denoising.done()) as u64);
        let purpose = measured.map_or(Purpose::Sampling, Purpose::Measuring);
        let mut noise = Noise::seeded(task.settings.seed);
        let made = denoiser.run_for(purpose, &**backend, denoising, &mut noise, observer);
        let sampled = made.map_err(|error| blame(error.during(Stage::Denoise.name()), part))?;
        observer.end();
        // A run that fails may leave buffers behind, so its model is not used again.
        self.transformer = Some(open);
        Ok(sampled)
    }

    fn decode(
        &mut self,
        task: &Task,
        latent: &[f32],
        observer: &mut dyn Observer,
        frame: &mut TakeFrame<'_>,
    ) -> Result<()> {
        let open = self.decoder(task)?;
        open.model.decode(latent, task.settings.windowed(), task.windows(), observer, frame)?;
        self.decoder = Some(open);
        Ok(())
    }
}

impl<'a, D: Devices + 'a> Models<'a, D> {
    /// Nothing is open. `keeps`: models may stay open beside each other.
    pub fn new(devices: D, model: &'a Model, tokens: usize, keeps: bool) -> Self {
        let (denoises, decodes) = (Plans(Vec::new()), Plans(Vec::new()));
        Self {
            devices,
            model,
            shapes: model.shapes(),
            tokens,
            keeps,
            denoises,
            decodes,
            transformer: None,
            decoder: None,
        }
    }

    /// The devices that the models are opened on.
    pub fn devices(&self) -> &D {
        &self.devices
    }

    /// The plan of the text encoder for these captions.
    pub fn plan_text(&self, wanted: &[&Wanted]) -> Result<StagePlan> {
        plan_text(&self.devices, &self.shapes, wanted)
    }

    /// All plans that were made.
    pub fn planned(&self) -> impl Iterator<Item = (Stage, &StagePlan)> {
        let denoises = self.denoises.0.iter().map(|(_, plan)| (Stage::Denoise, &**plan));
        denoises.chain(self.decodes.0.iter().map(|(_, plan)| (Stage::Decode, &**plan)))
    }

    /// Whether any transformer and any decoder that was planned may be open at once.
    pub fn all_fit_together(&self) -> bool {
        let decodes = || self.decodes.0.iter();
        self.denoises.0.iter().all(|(_, denoise)| decodes().all(|(_, decode)| self.together([denoise, decode])))
    }

    /// Whether the two may be open at once.
    fn together(&self, [denoise, decode]: [&StagePlan; 2]) -> bool {
        self.keeps && self.devices.fit_together([denoise, decode])
    }

    fn transformer(&mut self, task: &Task) -> Result<OpenTransformer<'a, Of<D>>> {
        let kind = Denoises::from(task);
        if let Some(open) = self.transformer.take_if(|open| open.kind == kind) {
            return Ok(open);
        }
        self.transformer = None;
        let [plan, _] = self.plans(task);
        let plan = plan?;
        let part = self.model.need_transformer()?;
        let keeps = |models: &Self, other: &Open<_, _>| models.together([&plan, &other.plan]);
        if self.decoder.as_ref().is_some_and(|other| !keeps(self, other)) {
            self.decoder = None;
        }
        let backend = Rc::new(self.devices.open(Stage::Denoise, &plan)?);
        let denoiser = Denoiser::load(backend.clone(), part, plan.savings)?;
        Ok(Open { kind, plan, model: (backend, denoiser) })
    }

    fn decoder(&mut self, task: &Task) -> Result<OpenDecoder<'a, Of<D>>> {
        let kind = Decodes::from(task);
        if let Some(open) = self.decoder.take_if(|open| open.kind == kind) {
            return Ok(open);
        }
        self.decoder = None;
        let [_, plan] = self.plans(task);
        let plan = plan?;
        let keeps = |models: &Self, other: &Open<_, _>| models.together([&other.plan, &plan]);
        if self.transformer.as_ref().is_some_and(|other| !keeps(self, other)) {
            self.transformer = None;
        }
        let backend = self.devices.open(Stage::Decode, &plan).map_err(|error| error.during(Stage::Decode.name()))?;
        let model = Decoder::load(Rc::new(backend), self.model, plan.savings)?;
        Ok(Open { kind, plan, model })
    }
}
