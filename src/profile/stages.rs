//! One piece of each stage: a caption, a step of the sampler, a window of the VAE.

use super::Recorder;
use super::passes::{Measure, Passes, Piece};
use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, Part};
use crate::error::Result;
use crate::memory::Savings;
use crate::model::latte::LatteConfig;
use crate::model::t5::{self, Caption, T5, T5Config};
use crate::model::vae::tiling::Tiling;
use crate::model::vae::{VaeConfig, Windows};
use crate::pipeline::{self, Denoiser, Noise, Observer, Request, Stage, Text, Windowed, tick};
use crate::sampler::Kind;
use std::cell::{Cell, RefCell};

/// Frames, rows and columns of the first (and largest) tile that a latent of `size` is decoded in, and how many there are.
///
/// # Errors
/// Those of [`Windows::decoding`].
pub fn window(config: &VaeConfig, size: [usize; 3], tiling: Option<Tiling>) -> Result<([usize; 3], usize)> {
    let windows = Windows::decoding(config, size, tiling)?;
    Ok((windows.first(), windows.units()))
}

/// Runs stages on a backend that writes into `recorder`.
pub struct Profiler<'a> {
    /// Where the backend's device records.
    pub recorder: &'a Recorder,
    /// What is measured.
    pub measure: Measure<'a>,
    /// Hears of the progress.
    pub observer: &'a dyn Observer,
}

impl Profiler<'_> {
    /// T5 over one caption of `tokens` tokens.
    ///
    /// # Errors
    /// Those of reading weights and of the backend; [`crate::Error::Interrupted`].
    pub fn text<B: Backend>(&self, backend: &B, part: &Part<T5Config>, tokens: usize) -> Result<Piece> {
        let model = T5::load(&part.config, &*part.source, backend, false)?;
        let ids: Vec<u32> = (0..tokens).map(|i| (i % part.config.vocab_size) as u32).collect();
        let captions = [Caption { ids, mask: vec![true; tokens] }];
        self.observer.begin(Stage::Text, self.measure.runs() as u64 * t5::units(&part.config, captions.len()));
        let piece = self.runs(|| model.encode(backend, &captions, &mut || tick(self.observer)).map(drop));
        self.observer.end();
        piece
    }

    /// One step of DDIM with guidance for `[frames, height, width]` pixels: both evaluations, the sampler's arithmetic,
    /// without what happens once a prompt.
    ///
    /// # Errors
    /// As for [`Self::text`], and those of [`Request::validate`].
    pub fn denoise<B: Backend>(
        &self,
        backend: &B,
        part: &Part<LatteConfig>,
        [frames, height, width]: [usize; 3],
        tokens: usize,
    ) -> Result<Piece> {
        let request = Request {
            prompt: "profile".into(),
            negative_prompt: String::new(),
            clean_caption: false,
            frames,
            height,
            width,
            sampler: Kind::Ddim,
            // The first one is never looked at: it comes with what a prompt needs once.
            steps: 1 + self.measure.runs(),
            guidance: 7.5,
            seed: 0,
            tiling: None,
        };
        request.validate()?;
        let embeddings = vec![0.5; 2 * tokens * part.config.caption_channels];
        let text = Text { tokens, embeddings, cached: false };
        let denoiser = Denoiser::load(backend, part, Savings::NONE)?;
        let schedule = request.sampler.schedule(request.steps)?;
        self.observer.begin(Stage::Denoise, schedule.calls.len() as u64);
        let passes = RefCell::new(Passes::new(self.recorder, self.measure));
        let steps = Steps { observer: self.observer, passes, begun: Cell::new(false), failed: RefCell::new(Ok(())) };
        denoiser.run(backend, &request, &schedule, &text, &mut Noise::seeded(0), &steps)?;
        self.observer.end();
        steps.failed.into_inner()?;
        Ok(steps.passes.into_inner().piece())
    }

    /// The VAE's decoder over one window: a latent of `size`, undivided, to bytes.
    ///
    /// # Errors
    /// As for [`Self::text`].
    pub fn decode<B: Backend>(&self, backend: &B, checkpoint: &Checkpoint, size: [usize; 3]) -> Result<Piece> {
        let channels = checkpoint.vae.as_ref().expect("opened for profiling").config.embed_dim;
        let latent = vec![0.5; size.iter().product::<usize>() * channels];
        self.runs(|| {
            let clip = Windowed { size, tiling: None };
            pipeline::decode(backend, checkpoint, &latent, clip, Savings::NONE, self.observer, &mut |_| Ok(()))
        })
    }

    /// Runs `work` as often as is measured.
    fn runs(&self, mut work: impl FnMut() -> Result<()>) -> Result<Piece> {
        let mut passes = Passes::new(self.recorder, self.measure);
        while passes.more() {
            passes.begin()?;
            work()?;
            passes.end()?;
        }
        Ok(passes.piece())
    }
}

/// Makes a run of each step of a sampler but the first.
struct Steps<'a> {
    observer: &'a dyn Observer,
    passes: RefCell<Passes<'a>>,
    begun: Cell<bool>,
    failed: RefCell<Result<()>>,
}

impl Steps<'_> {
    /// The run that is under way ends, and the next one begins.
    fn turn(&self) -> Result<()> {
        let mut passes = self.passes.borrow_mut();
        if self.begun.replace(true) {
            passes.end()?;
        }
        if passes.more() { passes.begin() } else { Ok(()) }
    }
}

impl Observer for Steps<'_> {
    fn begin(&self, _: Stage, _: u64) {}

    fn advance(&self, units: u64) {
        // An observer cannot fail: what went wrong is told when the sampler is through.
        if self.failed.borrow().is_ok() {
            *self.failed.borrow_mut() = self.turn();
        }
        self.observer.advance(units);
    }

    fn end(&self) {}

    fn warn(&self, text: &str) {
        self.observer.warn(text);
    }

    fn interrupted(&self) -> bool {
        self.observer.interrupted()
    }
}
