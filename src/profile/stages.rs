//! One piece of each stage: a caption, a step of the sampler, a window of the VAE.

use super::{Record, Recorder};
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
use std::cell::Cell;

/// Frames, rows and columns of the first (and largest) tile that a latent of `size` is decoded in, and how many there are.
pub fn window(config: &VaeConfig, size: [usize; 3], tiling: Option<Tiling>) -> Result<([usize; 3], usize)> {
    let windows = Windows::decoding(config, size, tiling)?;
    Ok((windows.first(), windows.units()))
}

/// Runs stages on a backend that writes into `recorder`.
pub struct Profiler<'a> {
    /// Where the backend's device records.
    pub recorder: &'a Recorder,
    /// Run everything once before, unrecorded: what is timed then finds its code loaded and its memory in the pool.
    pub warm_up: bool,
    /// Hears of the progress.
    pub observer: &'a dyn Observer,
}

impl Profiler<'_> {
    /// T5 over one caption of `tokens` tokens.
    ///
    /// # Errors
    /// Those of reading weights and of the backend; [`crate::Error::Interrupted`].
    pub fn text<B: Backend>(&self, backend: &B, part: &Part<T5Config>, tokens: usize) -> Result<Vec<Record>> {
        let model = T5::load(&part.config, &*part.source, backend, false)?;
        let ids: Vec<u32> = (0..tokens).map(|i| (i % part.config.vocab_size) as u32).collect();
        let captions = [Caption { ids, mask: vec![true; tokens] }];
        self.observer.begin(Stage::Text, self.runs() * t5::units(&part.config, captions.len()));
        let records = self.last_run(|| model.encode(backend, &captions, &mut || tick(self.observer)).map(drop));
        self.observer.end();
        records
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
    ) -> Result<Vec<Record>> {
        let request = Request {
            prompt: "profile".into(),
            negative_prompt: String::new(),
            clean_caption: false,
            frames,
            height,
            width,
            sampler: Kind::Ddim,
            steps: 2,
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
        self.recorder.take();
        let second = SecondStep { profiler: self, steps: Cell::new(0) };
        denoiser.run(backend, &request, &schedule, &text, &mut Noise::seeded(0), &second)?;
        self.observer.end();
        Ok(self.recorder.take())
    }

    /// The VAE's decoder over one window: a latent of `size`, undivided, to bytes.
    ///
    /// # Errors
    /// As for [`Self::text`].
    pub fn decode<B: Backend>(&self, backend: &B, checkpoint: &Checkpoint, size: [usize; 3]) -> Result<Vec<Record>> {
        let channels = checkpoint.vae.as_ref().expect("opened for profiling").config.embed_dim;
        let latent = vec![0.5; size.iter().product::<usize>() * channels];
        self.last_run(|| {
            let clip = Windowed { size, tiling: None };
            pipeline::decode(backend, checkpoint, &latent, clip, Savings::NONE, self.observer, &mut |_| Ok(()))
        })
    }

    fn runs(&self) -> u64 {
        if self.warm_up { 2 } else { 1 }
    }

    /// The records of the last of all runs.
    fn last_run(&self, mut run: impl FnMut() -> Result<()>) -> Result<Vec<Record>> {
        for _ in 0..self.runs() {
            self.recorder.take();
            run()?;
        }
        Ok(self.recorder.take())
    }
}

/// Forgets what was recorded up to the end of the first step: what a prompt needs once, and the warming up.
struct SecondStep<'a> {
    profiler: &'a Profiler<'a>,
    steps: Cell<u64>,
}

impl Observer for SecondStep<'_> {
    fn begin(&self, _: Stage, _: u64) {}

    fn advance(&self, units: u64) {
        if self.steps.get() == 0 {
            self.profiler.recorder.take();
        }
        self.steps.set(self.steps.get() + units);
        self.profiler.observer.advance(units);
    }

    fn end(&self) {}

    fn warn(&self, text: &str) {
        self.profiler.observer.warn(text);
    }

    fn interrupted(&self) -> bool {
        self.profiler.observer.interrupted()
    }
}
