//! From prompts to frames, stage after stage: text encoder, transformer, VAE decoder. Each stage's weights are open
//! only while the stage runs.

mod captions;
mod coder;
mod denoise;
mod devices;
mod finite;
mod planned;
mod text;
mod text_cache;

pub use crate::layout::{nchw_from_nhwc, nhwc_from_nchw};
pub use captions::{Captions, Wanted, tokenize};
pub use coder::{Windowed, decode, encode};
pub use devices::{Devices, Planned, Rehearsal, StageMemory, StagePlan};
pub use planned::{decode_planned, encode_planned, plan_encode};
pub use text::Text;
pub use text_cache::TextCache;

pub(crate) use coder::{Decoder, download, load_decoder, load_encoder};
pub(crate) use denoise::{Denoiser, Noise};
pub(crate) use finite::blame;
pub(crate) use text::{Texts, embed};

use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, Part};
use crate::error::{Error, Result};
use crate::memory::Savings;
use crate::model::t5::T5Config;
use crate::model::vae::tiling::Tiling;
use crate::model::vae::{SPATIAL_FACTOR, TEMPORAL_FACTOR};
use crate::sampler::{Kind, validate_guidance};
use crate::text::caption;
use std::time::Instant;
use text_cache::Key;

/// What one video is asked to be.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caption, as the user wrote it.
    pub prompt: String,
    /// What the video should not be; empty for none.
    pub negative_prompt: String,
    /// Clean captions as the original does; otherwise only lower-case and strip.
    pub clean_caption: bool,
    /// Frames: 1 (an image) or 4k + 1.
    pub frames: usize,
    /// Rows of pixels, a multiple of 16.
    pub height: usize,
    /// Columns of pixels, a multiple of 16.
    pub width: usize,
    /// Sampler.
    pub sampler: Kind,
    /// Steps of the sampler.
    pub steps: usize,
    /// Guidance scale; guidance is on above 1.
    pub guidance: f32,
    /// Seed of the noise, as `torch.manual_seed` takes it.
    pub seed: u64,
    /// Windows of the VAE; `None` decodes everything at once.
    pub tiling: Option<Tiling>,
}

/// Pixels a side of a token: 8 of the VAE times 2 of the transformer's patches.
const PIXELS_PER_TOKEN: usize = 2 * SPATIAL_FACTOR;

impl Request {
    /// Checks frames, size, steps, guidance, tiling and prompt.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to change.
    pub fn validate(&self) -> Result<()> {
        if self.prompt.trim().is_empty() {
            return Err(Error::Usage("the prompt is empty; say what the video should show".into()));
        }
        if self.prepared(&self.prompt).is_empty() {
            return Err(Error::Usage(format!(
                "nothing is left of the prompt {:?} when it is cleaned as the original does: links, markup and Chinese \
                 characters go; describe the video in English",
                self.prompt
            )));
        }
        validate_frames(self.frames)?;
        validate_size(self.height, self.width)?;
        validate_guidance(self.guidance)?;
        if let Some(tiling) = &self.tiling {
            tiling.validate(SPATIAL_FACTOR, TEMPORAL_FACTOR)?;
        }
        self.sampler.schedule(self.steps).map(drop)
    }

    /// A text as it goes to the tokenizer.
    pub(crate) fn prepared(&self, text: &str) -> String {
        if self.clean_caption { caption::clean(text) } else { caption::lower(text) }
    }

    /// The latent, as it goes through the VAE.
    pub fn windowed(&self) -> Windowed {
        Windowed { size: self.latent_size(), tiling: self.tiling }
    }

    /// Frames, rows, columns of the latent.
    pub fn latent_size(&self) -> [usize; 3] {
        [(self.frames - 1) / TEMPORAL_FACTOR + 1, self.height / SPATIAL_FACTOR, self.width / SPATIAL_FACTOR]
    }
}

/// Frames must be 4k + 1.
///
/// # Errors
/// [`Error::Usage`] names the two nearest.
pub fn validate_frames(frames: usize) -> Result<()> {
    if frames == 0 {
        return Err(Error::Usage("frames is 0; give 1 for an image, or 5, 9, 13, … for a video".into()));
    }
    if frames % TEMPORAL_FACTOR != 1 {
        let below = (frames - 1) / TEMPORAL_FACTOR * TEMPORAL_FACTOR + 1;
        let above = below + TEMPORAL_FACTOR;
        return Err(Error::Usage(format!("frames {frames} is not 4k+1; the nearest are {below} and {above}")));
    }
    Ok(())
}

/// Sides must be multiples of 16.
///
/// # Errors
/// [`Error::Usage`] names the nearest size.
pub fn validate_size(height: usize, width: usize) -> Result<()> {
    let nearest = |side: usize| ((side + PIXELS_PER_TOKEN / 2) / PIXELS_PER_TOKEN).max(1) * PIXELS_PER_TOKEN;
    if [height, width].iter().any(|&side| side == 0 || !side.is_multiple_of(PIXELS_PER_TOKEN)) {
        let (near_height, near_width) = (nearest(height), nearest(width));
        return Err(Error::Usage(format!(
            "size {height}x{width} is not a multiple of {PIXELS_PER_TOKEN} pixels; the nearest is {near_height}x{near_width}"
        )));
    }
    Ok(())
}

/// The parts of a run that a user waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Text encoder; a unit is a block of T5 for one caption.
    Text,
    /// Transformer; a unit is one call of the model.
    Denoise,
    /// VAE decoder; a unit is one tile of one window.
    Decode,
    /// VAE encoder; a unit is one tile of one window.
    Encode,
}

impl Stage {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text encoder",
            Self::Denoise => "transformer",
            Self::Decode => "VAE decoder",
            Self::Encode => "VAE encoder",
        }
    }
}

/// Is told how a run goes on, and asked whether to stop.
pub trait Observer {
    /// A stage begins that has `units` units of work.
    fn begin(&self, stage: Stage, units: u64);
    /// A stage was planned, before any of the run's work is done.
    fn planned(&self, stage: Stage, plan: &StagePlan) {
        let _ = (stage, plan);
    }
    /// Units that are done.
    fn advance(&self, units: u64);
    /// The stage is over.
    fn end(&self);
    /// Something that the user should know and that does not stop the run.
    fn warn(&self, text: &str);
    /// Whether the user wants to stop; the run then ends with [`Error::Interrupted`].
    fn interrupted(&self) -> bool;
}

/// An observer that says nothing and never interrupts.
pub struct Quiet;

impl Observer for Quiet {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn warn(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Counts one unit, or ends the run if the user wants to stop.
pub(crate) fn tick(observer: &dyn Observer) -> Result<()> {
    observer.advance(1);
    if observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Wall-clock seconds per stage, loading of its weights included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Text encoder (all captions of the run).
    pub text: f64,
    /// Transformer for this video.
    pub denoise: f64,
    /// VAE for this video, frames handed over included.
    pub decode: f64,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Whether the text embeddings came from the cache.
    pub text_cached: bool,
    /// Model calls of the sampler.
    pub model_calls: usize,
    /// Final latent, `[frames/4 + 1, height/8, width/8, 4]`, before the division by 0.18215.
    pub latent: Vec<f32>,
    /// Where the time went.
    pub timings: Timings,
    /// How the stages used memory.
    pub memory: Vec<StageMemory>,
}

/// Takes the frames of the videos of a run, in order. Frames come on another thread than the rest.
pub trait FrameSink {
    /// The frames of request `index` are about to come.
    fn begin(&mut self, index: usize, request: &Request) -> Result<()>;
    /// The next frame, RGB, `height·width·3` bytes.
    fn frame(&mut self, rgb: &[u8]) -> Result<()>;
    /// All frames of request `index` came.
    fn end(&mut self, index: usize, outcome: &Outcome) -> Result<()>;
}

/// How the three stages of [`sample`] will run.
#[derive(Clone, Debug)]
pub struct Plans {
    /// Text encoder.
    pub text: StagePlan,
    /// Transformer.
    pub denoise: StagePlan,
    /// VAE decoder.
    pub decode: StagePlan,
}

/// Plans all stages of [`sample`] before any work is done.
///
/// # Errors
/// Those of [`Request::validate`] and of the devices: [`Error::OutOfMemory`] if a stage has no room.
pub fn plan<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    requests: &[Request],
    captions: &[Captions],
) -> Result<Plans> {
    let channels = text_encoder(checkpoint).config.d_model;
    plan_missing(devices, checkpoint, requests, captions, Texts::new(captions, channels).missing())
}

/// [`plan`], if of all captions only these are to be encoded.
fn plan_missing<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    requests: &[Request],
    captions: &[Captions],
    missing: &[&Wanted],
) -> Result<Plans> {
    for request in requests {
        request.validate()?;
    }
    let shapes = checkpoint.shapes();
    let text = devices.plan(Stage::Text, &|backend, savings, observer| {
        embed(backend, text_encoder(&shapes), missing, savings, observer).map(drop)
    });
    let channels = text_encoder(&shapes).config.d_model;
    let texts: Vec<Text> = captions.iter().map(|captions| Text::counted(captions, channels)).collect();
    let denoise = devices.plan(Stage::Denoise, &|backend, savings, observer| {
        denoise_stage(backend, &shapes, requests, &texts, |_| Noise::Absent, savings, observer).map(drop)
    });
    let channels = shapes.vae.as_ref().expect("opened for sampling").config.embed_dim;
    let decode = devices.plan(Stage::Decode, &|backend, savings, observer| {
        let decoder = Decoder::load(backend, &shapes, savings)?;
        requests.iter().try_for_each(|request| {
            let latent = vec![0.0; request.latent_size().iter().product::<usize>() * channels];
            decoder.decode(&latent, request.windowed(), observer, &mut |_| Ok(()))
        })
    });
    devices::all_fit([text, denoise, decode]).map(|[text, denoise, decode]| Plans { text, denoise, decode })
}

fn text_encoder(checkpoint: &Checkpoint) -> &Part<T5Config> {
    checkpoint.text_encoder.as_ref().expect("opened for sampling")
}

/// Samples all requests, whose tokens are `captions` ([`tokenize`]): first all texts, unless `cache` has them, then all
/// latents and then all videos, each stage on a backend of its own, so that one model at a time is open.
///
/// # Errors
/// Those of [`plan`], of reading weights, of the devices and of `sink`; [`Error::Interrupted`].
pub fn sample<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    requests: &[Request],
    captions: &[Captions],
    cache: Option<&TextCache>,
    observer: &dyn Observer,
    sink: &mut (dyn FrameSink + Send),
) -> Result<()> {
    let part = text_encoder(checkpoint);
    let mut texts = Texts::new(captions, part.config.d_model);
    let cache = cache.map(|cache| (cache, Key::new(&devices.name(Stage::Text), part)));
    let cache = cache.as_ref().map(|(cache, key)| (*cache, key));
    if let Some((cache, key)) = cache {
        texts.look_up(cache, key);
    }
    let plans = plan_missing(devices, checkpoint, requests, captions, texts.missing())?;
    for (stage, plan) in [(Stage::Text, &plans.text), (Stage::Denoise, &plans.denoise), (Stage::Decode, &plans.decode)]
    {
        observer.planned(stage, plan);
    }
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

    let noise = |request: &Request| Noise::seeded(request.seed);
    let latents = devices
        .open(Stage::Denoise, &plans.denoise)
        .and_then(|backend| {
            denoise_stage(&backend, checkpoint, requests, &texts, noise, plans.denoise.savings, observer)
        })
        .map_err(|error| error.during(Stage::Denoise.name()))?;
    let outcomes = latents.into_iter().zip(captions).zip(&texts).map(|((latent, captions), text)| Outcome {
        cleaned_prompt: captions.cleaned_prompt.clone(),
        text_cached: text.cached,
        model_calls: latent.model_calls,
        latent: latent.values,
        timings: Timings { text: text_seconds, denoise: latent.seconds, decode: 0.0 },
        memory: plans.memory(),
    });

    let backend = devices.open(Stage::Decode, &plans.decode).map_err(|error| error.during(Stage::Decode.name()))?;
    decode_stage(&backend, checkpoint, requests, outcomes.collect(), plans.decode.savings, observer, sink)
}

impl Plans {
    /// What the stages save and need.
    fn memory(&self) -> Vec<StageMemory> {
        let stages = [(Stage::Text, &self.text), (Stage::Denoise, &self.denoise), (Stage::Decode, &self.decode)];
        stages.map(|(stage, plan)| StageMemory::of(stage, plan)).to_vec()
    }
}

/// What the transformer made of one request.
struct Latent {
    /// `[T, H, W, C]`
    values: Vec<f32>,
    model_calls: usize,
    seconds: f64,
}

fn denoise_stage<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    requests: &[Request],
    texts: &[Text],
    noise: impl Fn(&Request) -> Noise<'static>,
    savings: Savings,
    observer: &dyn Observer,
) -> Result<Vec<Latent>> {
    let part = checkpoint.transformer.as_ref().expect("opened for sampling");
    let mut denoiser = None;
    let mut latents = Vec::with_capacity(requests.len());
    for (request, text) in requests.iter().zip(texts) {
        let start = Instant::now();
        if denoiser.is_none() {
            denoiser = Some(Denoiser::load(backend, part, savings)?);
        }
        let denoiser = denoiser.as_ref().expect("just loaded");
        denoiser.warn_of_other_lengths(request, observer);
        let schedule = request.sampler.schedule(request.steps)?;
        observer.begin(Stage::Denoise, schedule.calls.len() as u64);
        let values = denoiser
            .run(backend, request, &schedule, text, &mut noise(request), observer)
            .map_err(|error| blame(error, part))?;
        observer.end();
        latents.push(Latent { values, model_calls: schedule.calls.len(), seconds: start.elapsed().as_secs_f64() });
    }
    Ok(latents)
}

fn decode_stage<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    requests: &[Request],
    outcomes: Vec<Outcome>,
    savings: Savings,
    observer: &dyn Observer,
    sink: &mut (dyn FrameSink + Send),
) -> Result<()> {
    let mut decoder = None;
    for (index, (request, mut outcome)) in requests.iter().zip(outcomes).enumerate() {
        let start = Instant::now();
        sink.begin(index, request)?;
        if decoder.is_none() {
            decoder = Some(Decoder::load(backend, checkpoint, savings)?);
        }
        let decoder = decoder.as_ref().expect("just loaded");
        decoder.decode(&outcome.latent, request.windowed(), observer, &mut |rgb| sink.frame(rgb))?;
        outcome.timings.decode = start.elapsed().as_secs_f64();
        sink.end(index, &outcome)?;
    }
    Ok(())
}
