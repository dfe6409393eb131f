//! Prompts to frames: first all texts, then all latents, then all videos, so that only one model is open at a time.

use super::autoencoder::Decoder;
use super::denoise::{Denoiser, Denoising, Noise};
use super::devices::all_fit;
use super::finite::blame;
use super::text::{Texts, embed};
use super::text_cache::{Key, TextCache};
use super::{
    Captions, Devices, Observer, Settings, Stage, StageMemory, StagePlan, Start, Task, Text, Wanted, Windowed,
};
use crate::backend::Backend;
use crate::checkpoint::Model;
use crate::cuda::Cuda;
use crate::error::Result;
use crate::latent::Latent;
use crate::memory::MemoryOptions;
use std::time::Instant;

/// Wall-clock seconds per stage, loading of its weights included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Text encoder (all captions of the run).
    pub text: f64,
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
    /// The latent.
    pub latent: Latent,
    /// Seconds of each stage.
    pub timings: Timings,
    /// How the stages used memory.
    pub memory: Vec<StageMemory>,
}

/// How the three stages of sampling will run.
#[derive(Clone, Debug)]
pub struct Plans {
    /// Text encoder.
    pub text: StagePlan,
    /// Transformer.
    pub denoise: StagePlan,
    /// VAE decoder.
    pub decode: StagePlan,
}

impl Plans {
    /// Each stage with its plan, in the order in which they run.
    pub fn stages(&self) -> [(Stage, &StagePlan); 3] {
        [(Stage::Text, &self.text), (Stage::Denoise, &self.denoise), (Stage::Decode, &self.decode)]
    }
}

/// Plans all stages of sampling before any work is done.
///
/// # Errors
/// Those of [`Settings::validate`] and of the devices: [`crate::Error::OutOfMemory`] if a stage does not fit.
pub fn plan<D: Devices>(devices: &D, model: &Model, settings: &[Settings], captions: &[Captions]) -> Result<Plans> {
    let channels = model.need_text_encoder()?.config.d_model;
    let tasks: Vec<Task> = settings.iter().cloned().map(Task::from).collect();
    plan_missing(devices, model, &tasks, captions, Texts::new(captions, channels).missing())
}

/// As [`plan`], where only the captions `missing` need to be encoded.
fn plan_missing<D: Devices>(
    devices: &D,
    model: &Model,
    tasks: &[Task],
    captions: &[Captions],
    missing: &[&Wanted],
) -> Result<Plans> {
    tasks.iter().try_for_each(Task::validate)?;
    let shapes = model.shapes();
    let text_encoder = shapes.need_text_encoder()?;
    let text = devices.plan(Stage::Text, &|backend, savings, observer| {
        embed(backend, text_encoder, missing, savings, observer).map(drop)
    });
    let channels = text_encoder.config.d_model;
    let texts: Vec<Text> = captions.iter().map(|captions| Text::counted(captions, channels)).collect();
    let denoise = devices.plan(Stage::Denoise, &|backend, savings, observer| {
        denoise_all(backend, &shapes, tasks, &texts, |_| Noise::Absent, savings, observer).map(drop)
    });
    let channels = shapes.need_vae()?.config.embed_dim;
    let decode = devices.plan(Stage::Decode, &|backend, savings, observer| {
        let decoder = Decoder::<Cuda, _>::load(backend, &shapes, savings)?;
        tasks.iter().try_for_each(|task| {
            let settings = &task.settings;
            let latent = vec![0.0; settings.latent_size().iter().product::<usize>() * channels];
            decoder.decode(&latent, settings.windowed(), task.windows(), observer, &mut |_| Ok(()))
        })
    });
    all_fit([text, denoise, decode]).map(|[text, denoise, decode]| Plans { text, denoise, decode })
}

/// Encodes the texts of all videos, unless `cache` has them, and makes their latents. `captions` are the tokens
/// ([`super::tokenize`]). A task that begins at its latent needs neither. [`Batch::decode`] then decodes one video at a time.
///
/// # Errors
/// Those of [`plan`], of reading weights and of the devices; [`crate::Error::Interrupted`].
pub fn batch<'a, D: Devices + 'a>(
    devices: D,
    model: &'a Model,
    tasks: &[Task],
    captions: &[Captions],
    cache: Option<&TextCache>,
    observer: &mut dyn Observer,
) -> Result<Batch<'a>> {
    let part = model.need_text_encoder()?;
    let captions = &needed(tasks, captions)[..];
    let mut texts = Texts::new(captions, part.config.d_model);
    let cache = cache.map(|cache| (cache, Key::new(&devices.name(Stage::Text), part)));
    let cache = cache.as_ref().map(|(cache, key)| (*cache, key));
    if let Some((cache, key)) = cache {
        texts.look_up(cache, key);
    }
    let plans = plan_missing(&devices, model, tasks, captions, texts.missing())?;
    plans.stages().iter().for_each(|(stage, plan)| observer.planned(*stage, plan));
    let start = Instant::now();
    if !texts.missing().is_empty() {
        let encoded = devices
            .open(Stage::Text, &plans.text)
            .and_then(|backend| embed(&backend, part, texts.missing(), plans.text.savings, observer))
            .map_err(|error| error.during(Stage::Text.name()))?;
        texts.add(encoded, cache, observer);
    }
    let texts = texts.into_texts();
    let text_seconds = start.elapsed().as_secs_f64();

    let noise = |settings: &Settings| Noise::seeded(settings.seed);
    let latents = devices
        .open(Stage::Denoise, &plans.denoise)
        .and_then(|backend| denoise_all(&backend, model, tasks, &texts, noise, plans.denoise.savings, observer))
        .map_err(|error| error.during(Stage::Denoise.name()))?;
    let memory: Vec<StageMemory> = plans.stages().map(|(stage, plan)| StageMemory::of(stage, plan)).to_vec();
    let made = latents.into_iter().zip(tasks).zip(captions).zip(&texts);
    let outcomes: Vec<(Outcome, usize)> = made
        .map(|(((denoised, task), captions), text)| {
            let settings = task.settings.clone();
            let outcome = Outcome {
                cleaned_prompt: captions.cleaned_prompt.clone(),
                text_cached: text.cached,
                model_calls: denoised.model_calls,
                latent: Latent { values: denoised.latent, size: settings.latent_size(), fps: Some(settings.fps) },
                timings: Timings { text: text_seconds, denoise: denoised.seconds, decode: 0.0 },
                memory: memory.clone(),
                settings,
            };
            (outcome, task.windows())
        })
        .collect();
    Ok(Batch { outcomes: outcomes.into_iter(), decode: decode_with(devices, model, plans.decode) })
}

/// The captions of the videos whose texts are still needed; the others ask for no text.
fn needed(tasks: &[Task], captions: &[Captions]) -> Vec<Captions> {
    let needed = |(task, captions): (&Task, &Captions)| match task.needs_transformer() {
        true => captions.clone(),
        false => Captions { samples: Vec::new(), ..captions.clone() },
    };
    tasks.iter().zip(captions).map(needed).collect()
}

/// Takes RGB frames in order, `height·width·3` bytes each. It runs on its own thread.
pub type TakeFrame<'a> = dyn FnMut(&[u8]) -> Result<()> + Send + 'a;

/// Decodes a latent without some windows in time.
type Decode<'a> = Box<dyn FnMut(&[f32], Windowed, usize, &mut dyn Observer, &mut TakeFrame<'_>) -> Result<()> + 'a>;

/// Videos whose latents are ready to be decoded, in order.
pub struct Batch<'a> {
    /// Each with the windows in time that are decoded already.
    outcomes: std::vec::IntoIter<(Outcome, usize)>,
    decode: Decode<'a>,
}

impl Batch<'_> {
    /// Decodes the next video and gives its frames to `frame`; `None` after the last video.
    ///
    /// # Errors
    /// Those of reading weights, of the device and of `frame`; [`crate::Error::Interrupted`].
    pub fn decode(&mut self, observer: &mut dyn Observer, frame: &mut TakeFrame<'_>) -> Result<Option<Outcome>> {
        let Some((mut outcome, windows)) = self.outcomes.next() else { return Ok(None) };
        let start = Instant::now();
        (self.decode)(&outcome.latent.values, outcome.settings.windowed(), windows, observer, frame)?;
        outcome.timings.decode = start.elapsed().as_secs_f64();
        Ok(Some(outcome))
    }
}

/// A decoder that loads its weights for the first latent, and keeps them.
fn decode_with<'a, D: Devices + 'a>(devices: D, model: &'a Model, plan: StagePlan) -> Decode<'a> {
    let mut decoder = None;
    Box::new(move |latent, clip, windows, observer, frame| {
        let loaded = match decoder.take() {
            Some(loaded) => loaded,
            None => {
                let backend = devices.open(Stage::Decode, &plan).map_err(|error| error.during(Stage::Decode.name()))?;
                Decoder::<D::Backend, _>::load(backend, model, plan.savings)?
            }
        };
        decoder.insert(loaded).decode(latent, clip, windows, observer, frame)
    })
}

/// The transformer's result for one request.
struct Denoised {
    /// `[T, H, W, C]`
    latent: Vec<f32>,
    model_calls: usize,
    seconds: f64,
}

fn denoise_all<B: Backend>(
    backend: &B,
    model: &Model,
    tasks: &[Task],
    texts: &[Text],
    noise: impl Fn(&Settings) -> Noise<'static>,
    savings: MemoryOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<Denoised>> {
    let part = model.need_transformer()?;
    let mut denoiser = None;
    let mut made = Vec::with_capacity(tasks.len());
    for (video, (task, text)) in tasks.iter().zip(texts).enumerate() {
        let settings = &task.settings;
        let schedule = settings.sampler.schedule(settings.steps)?;
        let model_calls = schedule.calls.len();
        if let Start::Latent { values, .. } = &task.start {
            made.push(Denoised { latent: values.clone(), model_calls, seconds: 0.0 });
            continue;
        }
        let start = Instant::now();
        if denoiser.is_none() {
            denoiser = Some(Denoiser::load(backend, part, savings)?);
        }
        let denoiser = denoiser.as_ref().expect("just loaded");
        denoiser.warn_of_other_lengths(settings, observer);
        let denoising = Denoising { settings, schedule: &schedule, text, state: task.state(), video };
        observer.begin(Stage::Denoise, (model_calls - denoising.done()) as u64);
        let latent =
            denoiser.run(backend, denoising, &mut noise(settings), observer).map_err(|error| blame(error, part))?;
        observer.end();
        observer.denoised(video, &latent);
        made.push(Denoised { latent, model_calls, seconds: start.elapsed().as_secs_f64() });
    }
    Ok(made)
}
