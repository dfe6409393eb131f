//! One piece of each stage: a caption, a step of the sampler, a window of the VAE.

use super::Recorder;
use super::passes::{Measure, Measured, Passes};
use crate::backend::Backend;
use crate::checkpoint::Model;
use crate::engine::{self, Denoiser, Denoising, Noise, Observer, Request, Stage, Text, Warning, Windowed, tick};
use crate::error::Result;
use crate::memory::MemoryOptions;
use crate::model::t5::{self, Caption, T5};
use crate::sampler::SamplerKind;

/// Runs stages on a backend that writes into `recorder`.
pub struct Profiler<'a> {
    /// Where the backend's device records.
    pub recorder: &'a Recorder,
    /// The measurements.
    pub measure: Measure<'a>,
    /// Receives the progress.
    pub observer: &'a mut dyn Observer,
}

impl Profiler<'_> {
    /// Runs T5 over one caption of `tokens` tokens.
    ///
    /// # Errors
    /// Errors of reading weights and of the backend; [`crate::Error::Interrupted`].
    pub fn text<B: Backend>(&mut self, backend: &B, model: &Model, tokens: usize) -> Result<Measured> {
        let component = model.need_text_encoder()?;
        let encoder = T5::load(&component.config, &*component.source, backend, false)?;
        let ids: Vec<u32> = (0..tokens).map(|i| (i % component.config.vocab_size) as u32).collect();
        let captions = [Caption { ids, mask: vec![true; tokens] }];
        self.observer.begin(Stage::Text, self.measure.runs() as u64 * t5::units(&component.config, captions.len()));
        let piece = self.runs(|observer| encoder.encode(backend, &captions, &mut || tick(observer)).map(drop));
        self.observer.end();
        piece
    }

    /// Runs one step of DDIM with guidance for `[frames, height, width]` pixels: both evaluations and the sampler's
    /// arithmetic, without the work that is done once for each prompt.
    ///
    /// # Errors
    /// As for [`Self::text`] and for [`Request::settle`].
    pub fn denoise<B: Backend>(
        &mut self,
        backend: &B,
        model: &Model,
        [frames, height, width]: [usize; 3],
        tokens: usize,
    ) -> Result<Measured> {
        let component = model.need_transformer()?;
        let request = Request::new("profile").clean_caption(false).frames(frames).size(height, width);
        // The first step is not measured, because it also does the work that is done once for each prompt.
        let request = request.sampler(SamplerKind::Ddim).steps(1 + self.measure.runs()).guidance(7.5);
        let settings = request.settle(&model.defaults)?;
        let embeddings = vec![0.5; 2 * tokens * component.config.caption_channels];
        let text = Text { tokens, embeddings, cached: false, source: None };
        let denoiser = Denoiser::load(backend, component, MemoryOptions::NONE)?;
        let schedule = settings.sampler.schedule(settings.steps)?;
        self.observer.begin(Stage::Denoise, schedule.calls.len() as u64);
        let passes = Passes::new(self.recorder, self.measure);
        let mut steps = Steps { observer: &mut *self.observer, passes, begun: false, failed: Ok(()) };
        let denoising =
            Denoising { settings: &settings, schedule: &schedule, text: &text, original: None, state: None, video: 0 };
        denoiser.run(backend, denoising, &mut Noise::seeded(0), &mut steps)?;
        let Steps { passes, failed, .. } = steps;
        self.observer.end();
        failed.map(|()| passes.piece())
    }

    /// Runs the VAE's decoder over one window: a latent of `size`, undivided, to bytes.
    ///
    /// # Errors
    /// As for [`Self::text`].
    pub fn decode<B: Backend>(&mut self, backend: &B, model: &Model, size: [usize; 3]) -> Result<Measured> {
        let channels = model.need_vae()?.config.embed_dim;
        let latent = vec![0.5; size.iter().product::<usize>() * channels];
        self.runs(|observer| {
            let clip = Windowed { size, tiling: None };
            engine::decode(backend, model, &latent, clip, MemoryOptions::NONE, observer, &mut |_| Ok(()))
        })
    }

    /// Runs `work` once for each pass of the measurement.
    fn runs(&mut self, mut work: impl FnMut(&mut dyn Observer) -> Result<()>) -> Result<Measured> {
        let mut passes = Passes::new(self.recorder, self.measure);
        while passes.more() {
            passes.begin()?;
            work(self.observer)?;
            passes.end()?;
        }
        Ok(passes.piece())
    }
}

/// An observer that measures each step of a sampler, except the first, as one run.
struct Steps<'a, 'b> {
    observer: &'b mut dyn Observer,
    passes: Passes<'a>,
    begun: bool,
    failed: Result<()>,
}

impl Steps<'_, '_> {
    /// Ends the current run, and begins the next.
    fn turn(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            self.passes.end()?;
        }
        if self.passes.more() { self.passes.begin() } else { Ok(()) }
    }
}

impl Observer for Steps<'_, '_> {
    fn advance(&mut self, units: u64) {
        // An observer cannot fail, so the error is returned after the sampler's last step.
        if self.failed.is_ok() {
            self.failed = self.turn();
        }
        self.observer.advance(units);
    }

    fn warn(&mut self, warning: &Warning) {
        self.observer.warn(warning);
    }

    fn cancelled(&mut self) -> bool {
        self.observer.cancelled()
    }
}
