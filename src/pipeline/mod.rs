//! From prompts to frames, stage after stage: text encoder, transformer, VAE decoder. Each stage's weights are open
//! only while the stage runs.

mod coder;
mod denoise;
mod layout;
mod text;
mod text_cache;

pub use coder::{decode, encode};
pub use layout::{nchw_from_nhwc, nhwc_from_nchw};
pub use text::Text;
pub use text_cache::TextCache;

pub(crate) use coder::{download, load_decoder, load_encoder};
pub(crate) use denoise::{Denoiser, Noise};
pub(crate) use text::embed;

use crate::backend::Backend;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::memory::Savings;
use crate::model::vae::tiling::Tiling;
use crate::sampler::Kind;
use std::time::Instant;

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
const PIXELS_PER_TOKEN: usize = 16;
/// Frames of a latent frame, the first aside.
const FRAMES_PER_LATENT: usize = 4;

impl Request {
    /// Checks frames, size, steps, guidance, tiling and prompt.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to change.
    pub fn validate(&self) -> Result<()> {
        if self.prompt.trim().is_empty() {
            return Err(Error::Usage("the prompt is empty; say what the video should show".into()));
        }
        validate_frames(self.frames)?;
        validate_size(self.height, self.width)?;
        if !self.guidance.is_finite() || self.guidance < 0.0 {
            return Err(Error::Usage(format!(
                "guidance {} is not a number of at least 0; 7.5 is usual",
                self.guidance
            )));
        }
        if let Some(tiling) = &self.tiling {
            tiling.validate(PIXELS_PER_TOKEN / 2, FRAMES_PER_LATENT)?;
        }
        self.sampler.schedule(self.steps).map(drop)
    }

    /// Frames, rows, columns of the latent.
    pub fn latent_size(&self) -> [usize; 3] {
        [(self.frames - 1) / FRAMES_PER_LATENT + 1, self.height / 8, self.width / 8]
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
    if frames % FRAMES_PER_LATENT != 1 {
        let below = (frames - 1) / FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1;
        let above = below + FRAMES_PER_LATENT;
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

/// Is told how a run goes on, and asked whether to stop.
pub trait Observer {
    /// A stage begins that has `units` units of work.
    fn begin(&self, stage: Stage, units: u64);
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

/// Samples all requests: first all captions on the backend `text`, unless `cache` has them, then all latents and then all
/// videos on the backend `video`, so that one model at a time is open.
///
/// # Errors
/// Those of [`Request::validate`], of reading weights, of the devices and of `sink`; [`Error::Interrupted`].
pub fn sample<T: Backend, V: Backend>(
    text: &T,
    video: &V,
    checkpoint: &Checkpoint,
    requests: &[Request],
    savings: Savings,
    cache: Option<&TextCache>,
    observer: &dyn Observer,
    sink: &mut (dyn FrameSink + Send),
) -> Result<()> {
    for request in requests {
        request.validate()?;
    }
    let start = Instant::now();
    let texts = text_stage(text, checkpoint, requests, savings, cache, observer);
    let texts = texts.map_err(|error| error.during("text encoder"))?;
    let text_seconds = start.elapsed().as_secs_f64();

    let outcomes = denoise_stage(video, checkpoint, requests, &texts, savings, observer);
    let mut outcomes = outcomes.map_err(|error| error.during("transformer"))?;
    for outcome in &mut outcomes {
        outcome.timings.text = text_seconds;
    }
    decode_stage(video, checkpoint, requests, outcomes, savings, observer, sink)
}

fn text_stage<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    requests: &[Request],
    savings: Savings,
    cache: Option<&TextCache>,
    observer: &dyn Observer,
) -> Result<Vec<Text>> {
    let part = checkpoint.text_encoder.as_ref().expect("opened for sampling");
    let transformer = checkpoint.transformer.as_ref().expect("opened for sampling");
    let max_tokens = transformer.config.model_max_length;
    embed(backend, part, max_tokens, requests, savings, cache, observer)
}

fn denoise_stage<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    requests: &[Request],
    texts: &[Text],
    savings: Savings,
    observer: &dyn Observer,
) -> Result<Vec<Outcome>> {
    let part = checkpoint.transformer.as_ref().expect("opened for sampling");
    let mut denoiser = None;
    let mut outcomes = Vec::with_capacity(requests.len());
    for (request, text) in requests.iter().zip(texts) {
        let start = Instant::now();
        if denoiser.is_none() {
            denoiser = Some(Denoiser::load(backend, part, savings)?);
        }
        let denoiser = denoiser.as_ref().expect("just loaded");
        denoiser.warn_of_other_lengths(request, observer);
        let schedule = request.sampler.schedule(request.steps)?;
        observer.begin(Stage::Denoise, schedule.calls.len() as u64);
        let latent = denoiser.run(backend, request, &schedule, text, &mut Noise::seeded(request.seed), observer)?;
        observer.end();
        outcomes.push(Outcome {
            cleaned_prompt: text.cleaned_prompt.clone(),
            text_cached: text.cached,
            model_calls: schedule.calls.len(),
            latent,
            timings: Timings { denoise: start.elapsed().as_secs_f64(), ..Timings::default() },
        });
    }
    Ok(outcomes)
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
    for (index, (request, mut outcome)) in requests.iter().zip(outcomes).enumerate() {
        let start = Instant::now();
        sink.begin(index, request)?;
        decode(
            backend,
            checkpoint,
            &outcome.latent,
            request.latent_size(),
            request.tiling,
            savings,
            observer,
            &mut |rgb| sink.frame(rgb),
        )?;
        outcome.timings.decode = start.elapsed().as_secs_f64();
        sink.end(index, &outcome)?;
    }
    Ok(())
}
