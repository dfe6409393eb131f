//! A profile of a request: one piece of each stage on an engine's device.

use super::{Counted, Measure, Measured, Profiled, Profiler, Recorder};
use crate::backend::Backend;
use crate::checkpoint::Model;
use crate::cuda::device::{Device, Dry};
use crate::cuda::{Cuda, Variant};
use crate::engine::{Engine, Observer, Processor, Stage, validate_frames, validate_size};
use crate::error::{Error, Result};
use crate::model::vae::Windows;
use crate::model::vae::tiling::Tiling;
use std::sync::Arc;

/// The request to profile.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Frames, rows and columns of pixels.
    pub size: [usize; 3],
    /// Tokens of the caption.
    pub tokens: usize,
    /// Windows of the VAE; `None` takes the whole clip at once.
    pub tiling: Option<Tiling>,
    /// Runs for each median; `None` times each launch once.
    pub repeat: Option<usize>,
}

/// The kind of a profile's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The profile has no times.
    None,
    /// Wall-clock times of operations on the CPU.
    Cpu,
    /// Times of launches on the GPU, by its own clock.
    Gpu,
}

/// The profile of a request.
#[derive(Debug)]
pub struct Profile {
    /// The device that ran it.
    pub device: String,
    /// The kind of its times.
    pub times: Times,
    /// Text encoder, transformer, VAE decoder.
    pub stages: Vec<StageProfile>,
}

/// The profile of one stage.
#[derive(Debug)]
pub struct StageProfile {
    /// The stage.
    pub stage: Stage,
    /// The piece of the stage that ran, for people.
    pub what: String,
    /// Its launches, or its operations on the CPU.
    pub piece: Measured,
    /// The memory that it would allocate, if that was counted.
    pub memory: Option<Allocated>,
}

/// Memory of a stage, weights included.
#[derive(Clone, Copy, Debug)]
pub struct Allocated {
    /// The most bytes that are allocated at a time.
    pub peak_bytes: u64,
    /// Number of allocations.
    pub allocations: usize,
}

impl Engine {
    /// Runs T5 over one caption, one step of the sampler with guidance, and the VAE's decoder over one window, and
    /// records every launch. A GPU times launches, and the CPU times operations. The emulator and [`Engine::dry`] only
    /// count.
    ///
    /// # Errors
    /// [`Error::Usage`] for an invalid size, or for repeats on a device that does not time; errors of weights and
    /// device.
    pub fn profile(&self, model: &Model, subject: &Subject, observer: &mut dyn Observer) -> Result<Profile> {
        let [frames, height, width] = subject.size;
        let factors = model.factors()?;
        validate_frames(frames, factors)?;
        validate_size([height, width], factors.space * model.defaults.patch)?;
        let recorder = Recorder::default();
        let run = ProfileRun { model, subject, recorder: &recorder };
        let (times, stages) = match self.processor() {
            Processor::Cpu(cpu) => {
                let cpu = Counted::new(cpu.clone(), recorder.clone(), size_of::<f32>() as u64);
                (Times::Cpu, run.stages([&cpu; 3], subject.measure(&|| Ok(())), observer)?)
            }
            Processor::Gpu { device, .. } => {
                let [text, video] = self.recorded(device, &recorder);
                let synchronize = || text.device().synchronize();
                (Times::Gpu, run.stages([&text, &video, &video], subject.measure(&synchronize), observer)?)
            }
            Processor::Emulated(device) => {
                subject.counts()?;
                let [text, video] = self.recorded(device, &recorder);
                (Times::None, run.stages([&text, &video, &video], Measure::Counts, observer)?)
            }
            Processor::Dry(variant) => {
                subject.counts()?;
                (Times::None, self.count(*variant, &run, observer)?)
            }
        };
        Ok(Profile { device: self.name(), times, stages })
    }

    /// The backends of the text encoder and of the other components, with a recorder in front of the device.
    fn recorded(&self, device: &Arc<dyn Device>, recorder: &Recorder) -> [Cuda; 2] {
        let device: Arc<dyn Device> = Arc::new(Profiled::new(device.clone(), recorder.clone()));
        self.dtypes().map(|half| Cuda::new(device.clone(), half))
    }

    /// Runs each stage on its own dry device, because each stage has its own memory.
    fn count(&self, variant: Variant, run: &ProfileRun<'_>, observer: &mut dyn Observer) -> Result<Vec<StageProfile>> {
        let devices = [(); 3].map(|()| Arc::new(Dry::new().with_variant(variant)));
        let [text, denoise, decode] = devices.each_ref().map(|dry| {
            let device: Arc<dyn Device> = dry.clone();
            self.recorded(&device, run.recorder)
        });
        let mut stages = run.stages([&text[0], &denoise[1], &decode[1]], Measure::Counts, observer)?;
        for (stage, dry) in stages.iter_mut().zip(devices) {
            stage.memory = Some(Allocated { peak_bytes: dry.peak_bytes(), allocations: dry.allocations() });
        }
        Ok(stages)
    }
}

impl Subject {
    /// The measurements on a device that times.
    fn measure<'a>(&self, synchronize: &'a dyn Fn() -> Result<()>) -> Measure<'a> {
        self.repeat.map_or(Measure::Once, |repeat| Measure::Medians { repeat, synchronize })
    }

    /// Fails if the user wants times: the device only counts.
    fn counts(&self) -> Result<()> {
        match self.repeat {
            Some(_) => Err(Error::Usage("this device only counts: measure times on a GPU or a CPU".into())),
            None => Ok(()),
        }
    }
}

/// A profile that is in progress.
struct ProfileRun<'a> {
    model: &'a Model,
    subject: &'a Subject,
    recorder: &'a Recorder,
}

impl ProfileRun<'_> {
    /// Runs the stages, each on its own backend.
    fn stages<B: Backend>(
        &self,
        [text, denoise, decode]: [&B; 3],
        measure: Measure<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<StageProfile>> {
        let Self { model, subject: &Subject { size, tokens, tiling, .. }, recorder } = *self;
        let mut profiler = Profiler { recorder, measure, observer };
        let stage = |stage, what, piece| StageProfile { stage, what, piece, memory: None };

        let windows = Windows::decoding(&model.need_vae()?.config, model.factors()?.latent_size(size), tiling)?;
        let what = format!("one caption of {tokens} tokens");
        let text = stage(Stage::Text, what, profiler.text(text, model, tokens)?);

        let [frames, height, width] = size;
        let what = format!("one step with guidance at {frames}x{height}x{width}");
        let denoise = stage(Stage::Denoise, what, profiler.denoise(denoise, model, size, tokens)?);

        let (first, count) = (windows.first(), windows.units());
        let which = if count == 1 { "the only window".into() } else { format!("one of {count} windows") };
        let [frames, rows, columns] = first;
        let what = format!("{which}: {frames}x{rows}x{columns} latents");
        let decode = stage(Stage::Decode, what, profiler.decode(decode, model, first)?);
        Ok(vec![text, denoise, decode])
    }
}
