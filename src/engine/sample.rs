//! How a video is sampled: what its stages will need, and what came out.

use super::autoencoder::Decoder;
use super::denoise::{Denoiser, Denoising, Noise};
use super::devices::{all_fit, both_fit};
use super::original::{Original, plan_originals};
use super::text::{Texts, embed};
use super::{Captions, Devices, Settings, Stage, StageMemory, StagePlan, Task, Text, Wanted};
use crate::checkpoint::Model;
use crate::error::Result;
use crate::latent::Latent;

/// Wall-clock seconds per stage, loading of its weights included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Text encoder (all captions of the run).
    pub text: f64,
    /// VAE encoder, for the clip of an edit; videos of the same clip share it.
    pub encode: f64,
    /// Transformer, for this video.
    pub denoise: f64,
    /// VAE, for this video, with the time of the frames' consumer.
    pub decode: f64,
}

/// The result of one request, without the frames.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The settings.
    pub settings: Settings,
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Whether the text embeddings came from the cache.
    pub text_cached: bool,
    /// Model calls of the sampler.
    pub model_calls: usize,
    /// Evaluations of the transformer in this run, each of one branch of guidance.
    pub evaluations: usize,
    /// The latent.
    pub latent: Latent,
    /// Seconds of each stage.
    pub timings: Timings,
    /// How the stages used memory.
    pub memory: Vec<StageMemory>,
}

/// How the stages of sampling will run.
#[derive(Clone, Debug)]
pub struct Plans {
    /// Text encoder.
    pub text: StagePlan,
    /// VAE encoder, for each clip or image that an edit begins with.
    pub encode: Vec<StagePlan>,
    /// Transformer.
    pub denoise: StagePlan,
    /// VAE decoder.
    pub decode: StagePlan,
}

impl Plans {
    /// Each stage with its plan, in the order in which they run.
    pub fn stages(&self) -> Vec<(Stage, &StagePlan)> {
        let encode = self.encode.iter().map(|plan| (Stage::Encode, plan));
        let rest = [(Stage::Denoise, &self.denoise), (Stage::Decode, &self.decode)];
        std::iter::once((Stage::Text, &self.text)).chain(encode).chain(rest).collect()
    }
}

/// Plans all stages of sampling a video, before any work is done.
///
/// # Errors
/// Those of [`Settings::validate`] and of the devices: [`crate::Error::OutOfMemory`] if a stage does not fit.
pub fn plan<D: Devices>(devices: &D, model: &Model, settings: &Settings, captions: &Captions) -> Result<Plans> {
    let task = Task::from(settings.clone());
    task.validate()?;
    task.check_room()?;
    let (shapes, channels) = (model.shapes(), model.need_text_encoder()?.config.d_model);
    let texts = Texts::new(std::slice::from_ref(captions), channels);
    let sampling = all_fit([
        plan_text(devices, &shapes, texts.missing()),
        plan_denoise(devices, &shapes, &task, captions.longest()),
        plan_decode(devices, &shapes, &task),
    ]);
    let encode = plan_originals(devices, model, settings);
    both_fit(sampling, encode).map(|([text, denoise, decode], encode)| Plans { text, encode, denoise, decode })
}

/// Plans the encoding of captions. `shapes` is the model without values, here and below.
pub(super) fn plan_text<D: Devices>(devices: &D, shapes: &Model, wanted: &[&Wanted]) -> Result<StagePlan> {
    let part = shapes.need_text_encoder()?;
    devices.plan(Stage::Text, &|backend, savings, observer| embed(backend, part, wanted, savings, observer).map(drop))
}

/// Plans the transformer's part of a task whose caption has `tokens` tokens. A shorter caption takes the same buffers, some of
/// them smaller.
pub(super) fn plan_denoise<D: Devices>(devices: &D, shapes: &Model, task: &Task, tokens: usize) -> Result<StagePlan> {
    let part = shapes.need_transformer()?;
    let channels = shapes.need_text_encoder()?.config.d_model;
    let text = Text::counted(tokens, &task.settings, channels);
    devices.plan(Stage::Denoise, &|backend, savings, observer| {
        if !task.needs_transformer() {
            return Ok(());
        }
        let denoiser = Denoiser::load(backend, part, savings)?;
        let schedule = task.settings.schedule()?;
        let original = Original::counted(&task.settings);
        let denoising = Denoising { original: original.as_ref(), ..Denoising::of(task, &schedule, &text) };
        denoiser.run(backend, denoising, &mut Noise::Absent, observer).map(drop)
    })
}

/// Plans the decoder's part of a task.
pub(super) fn plan_decode<D: Devices>(devices: &D, shapes: &Model, task: &Task) -> Result<StagePlan> {
    let channels = shapes.need_vae()?.config.embed_dim;
    let latent = vec![0.0; task.settings.latent_size().iter().product::<usize>() * channels];
    devices.plan(Stage::Decode, &|backend, savings, observer| {
        let decoder = Decoder::load(backend, shapes, savings)?;
        decoder.decode(&latent, task.settings.windowed(), task.windows(), observer, &mut |_| Ok(()))
    })
}
