//! From prompts to frames, stage after stage: text encoder, transformer, VAE decoder. Each stage's weights are open
//! only while the stage runs.
//!
//! Start with [`Engine`]. Below it, each stage is a function of a [`crate::backend::Backend`], and [`Devices`] provides the
//! backends.

mod autoencoder;
mod batch;
mod calibrate;
mod captions;
mod clips;
mod denoise;
mod devices;
mod edit;
mod evaluation;
mod finite;
mod held;
mod method;
mod models;
mod original;
mod processor;
mod projection;
mod projection_cache;
mod request;
mod sample;
mod saved;
mod shortcuts;
mod span;
mod stage;
mod task;
mod text;
mod text_cache;
mod transfer;

pub use autoencoder::{Windowed, decode, encode};
pub use batch::{Batch, TakeFrame, batch};
pub use calibrate::Fit;
pub use captions::{Captions, Wanted, tokenize};
pub use clips::{Coding, Reconstruction, decode_planned, encode_planned, plan_encode, validate_clip};
pub use devices::{Devices, PlannedDevice, Rehearsal, StageMemory, StagePlan};
pub use edit::{Edit, Footage};
pub use method::Method;
pub use projection_cache::ProjectionCache;
pub use request::{Request, Settings, validate_frames, validate_size};
pub use sample::{Outcome, Plans, Timings, plan};
pub use saved::SavedSettings;
pub use shortcuts::{Cache, Remembered, RunState, Shortcuts, SinceEvaluation};
pub use span::{Span, Spans};
pub use stage::{Observer, Quiet, Reached, Stage, Warning};
pub use task::{Start, Task};
pub use text::Text;
pub use text_cache::TextCache;

pub(crate) use autoencoder::{download, load_decoder, load_encoder};
pub(crate) use denoise::{Denoiser, Denoising, Noise, Sampled};
pub(crate) use processor::Processor;
pub(crate) use request::MOST_PROMPT;
pub(crate) use stage::tick;
pub(crate) use text::{Texts, embed};

use crate::checkpoint::Model;
use crate::cuda::device::Device;
use crate::cuda::{Half, Variant};
use crate::error::{Error, Result};
use crate::latent::Latent;
use crate::video::metrics::{psnr, ssim};
use crate::video::{Clip, VideoInfo};
use clips::gather;
use std::sync::Arc;

/// A device, the precision in which it computes, and the memory that it may use.
///
/// ```no_run
/// # fn main() -> osp::Result<()> {
/// use osp::{Engine, Model, Quiet, Request};
///
/// let engine = Engine::cuda()?.memory_limit(3 << 30)?;
/// let model = Model::open("models/Open-Sora-Plan-v1.1.0")?;
/// let sample = engine.sample(&model, &Request::new("a quiet lake"), &mut Quiet)?;
/// sample.clip.save("lake.mp4")?;
/// # Ok(())
/// # }
/// ```
pub struct Engine {
    processor: Processor,
    /// The type of the text encoder, and the type of the transformer and the VAE.
    dtypes: [Half; 2],
    /// Bytes that a stage may take.
    limit: Option<u64>,
    cache: Option<TextCache>,
    no_gpu: Option<String>,
}

/// A sampled video.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its frames.
    pub clip: Clip,
    /// Its latent, its timings and its use of memory.
    pub outcome: Outcome,
}

impl Engine {
    /// An engine on the GPU if there is one, else on the CPU; [`Self::no_gpu`] then says why.
    ///
    /// # Errors
    /// Those of [`Self::cuda`] if there is a GPU that does not work.
    pub fn auto() -> Result<Self> {
        match Self::cuda() {
            Err(Error::Device(reason)) => Ok(Self { no_gpu: Some(reason), ..Self::cpu() }),
            other => other,
        }
    }

    /// An engine on the CPU, in f32.
    pub fn cpu() -> Self {
        Self::on(Processor::cpu(), None)
    }

    /// An engine on the first GPU of `CUDA_VISIBLE_DEVICES`. A stage may take 95 % of the memory that is free now.
    ///
    /// # Errors
    /// [`Error::Device`] if no GPU can be used.
    pub fn cuda() -> Result<Self> {
        let processor = Processor::gpu()?;
        let limit = processor.free_bytes()?;
        Ok(Self::on(processor, limit))
    }

    /// An engine on the emulator, which runs the GPU's kernels on the CPU: slowly, and with every access checked.
    pub fn emulated() -> Self {
        Self::on(Processor::emulated(), None)
    }

    /// An engine on the PTX machine, which runs the kernels' PTX on the CPU: even slower, and with more checks. With
    /// `compares`, it runs PTX that rounds as the emulator does, and each launch must leave the bits of the emulator.
    ///
    /// # Errors
    /// [`Error::Device`] if osp was built without nvcc; [`Error::Usage`] if a file of `OSP_KERNELS` is not PTX.
    #[cfg(feature = "ptx")]
    pub fn ptx(compares: bool) -> Result<Self> {
        Ok(Self::on(Processor::ptx(compares)?, None))
    }

    /// An engine on a device that executes nothing, for [`Self::plan`] and [`Self::profile`]; neither needs weights then.
    /// Calls that would give a result fail with [`Error::Usage`].
    pub fn dry() -> Self {
        Self::on(Processor::Dry(Variant::default()), None)
    }

    fn on(processor: Processor, limit: Option<u64>) -> Self {
        Self { processor, dtypes: [Half::Bf16, Half::F16], limit, cache: None, no_gpu: None }
    }

    /// Chooses the type in which kernels compute; the CPU ignores it. By default the text encoder computes in bf16, because
    /// its feed-forward overflows f16, and the other models in f16.
    #[must_use]
    pub fn dtype(self, half: Half) -> Self {
        Self { dtypes: [half; 2], ..self }
    }

    /// Chooses which variant of its kernels the device runs. Must be called before the engine computes.
    ///
    /// # Errors
    /// [`Error::Usage`] on the CPU, [`Error::Device`] if the GPU cannot run the variant.
    pub fn kernels(mut self, variant: Variant) -> Result<Self> {
        self.processor.set_variant(variant)?;
        Ok(self)
    }

    /// Limits the device memory of a stage to `bytes`. Less memory takes more time and gives the same result.
    ///
    /// # Errors
    /// [`Error::Usage`] on the CPU, whose memory cannot be limited.
    pub fn memory_limit(self, bytes: u64) -> Result<Self> {
        match self.processor {
            Processor::Cpu(_) => Err(Error::Usage("a memory limit is one of a GPU, and this engine has none".into())),
            _ => Ok(Self { limit: Some(bytes), ..self }),
        }
    }

    /// Reads text embeddings from `cache`, and adds new ones to it.
    #[must_use]
    pub fn text_cache(self, cache: TextCache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The name of the device, for messages and records.
    pub fn name(&self) -> String {
        self.processor.name(self.dtypes[1])
    }

    /// What decides the bits of its results: the device, the types of its numbers and its kernels.
    ///
    /// # Errors
    /// [`Error::Usage`] if the environment asks for norms that do not exist.
    pub fn arithmetic(&self) -> Result<String> {
        self.processor.arithmetic(self.dtypes)
    }

    /// The device that runs kernels; the CPU and [`Self::dry`] have none.
    pub fn device(&self) -> Option<&Arc<dyn Device>> {
        self.processor.device()
    }

    /// The driver's name for the GPU, if there is one.
    pub fn card(&self) -> Option<&str> {
        self.processor.card()
    }

    /// Why [`Self::auto`] chose the CPU.
    pub fn no_gpu(&self) -> Option<&str> {
        self.no_gpu.as_deref()
    }

    /// Bytes of device memory that a stage may take, if there is a limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    pub(crate) fn processor(&self) -> &Processor {
        &self.processor
    }

    /// The type of the text encoder, and the type of the transformer and the VAE.
    pub(crate) fn dtypes(&self) -> [Half; 2] {
        self.dtypes
    }

    /// Samples a video: prompt to frames.
    ///
    /// # Errors
    /// [`Error::Usage`] for an invalid request; [`Error::OutOfMemory`] before any work if a stage does not fit; errors of the
    /// weights and of the device; [`Error::Interrupted`] if the observer cancels.
    pub fn sample(&self, model: &Model, request: &Request, observer: &mut dyn Observer) -> Result<Sample> {
        self.make(model, Task::from(request.settle(&model.defaults)?), observer)
    }

    /// Samples an edit of a clip, or a video that begins with an image. [`Request::edits`] makes the request.
    ///
    /// # Errors
    /// Those of [`Self::sample`]; [`Error::Usage`] if the request is not one for this footage.
    pub fn edit(
        &self,
        model: &Model,
        request: &Request,
        footage: Footage,
        observer: &mut dyn Observer,
    ) -> Result<Sample> {
        let task = Task::from(request.settle(&model.defaults)?).of_footage(Some(Arc::new(footage)));
        self.make(model, task, observer)
    }

    fn make(&self, model: &Model, task: Task, observer: &mut dyn Observer) -> Result<Sample> {
        let Settings { height, width, fps, .. } = task.settings;
        let info = VideoInfo { width, height, fps };
        let mut batch = self.resume(model, &[task], observer)?;
        let mut outcome = None;
        let clip = gather(info, |frame| {
            outcome = Some(batch.decode(0, observer, frame)?);
            Ok(())
        })?;
        Ok(Sample { clip, outcome: outcome.expect("the batch holds one video") })
    }

    /// Encodes the texts of several videos; [`Batch::decode`] then makes each. Videos of the same size and sampler share models
    /// that are loaded once. A video that cannot be made fails alone.
    ///
    /// # Errors
    /// As for [`Self::sample`], if no video can be made.
    pub fn batch<'a>(&self, model: &'a Model, settings: &[Settings], observer: &mut dyn Observer) -> Result<Batch<'a>> {
        let tasks: Vec<Task> = settings.iter().cloned().map(Task::from).collect();
        self.resume(model, &tasks, observer)
    }

    /// As [`Self::batch`], where videos may begin where an earlier run stopped ([`Observer::reached`]). On the same kind of
    /// device, with the same model, the latents and frames have the bits of a run without a stop.
    ///
    /// # Errors
    /// [`Error::Usage`] if no start fits its settings; the errors of [`Self::sample`].
    pub fn resume<'a>(&self, model: &'a Model, tasks: &[Task], observer: &mut dyn Observer) -> Result<Batch<'a>> {
        self.processor.check_executes()?;
        let captions = tokenize(model, tasks.iter().map(|task| &task.settings), observer)?;
        let cache = self.cache.as_ref();
        match &self.processor {
            Processor::Cpu(cpu) => batch(cpu.clone(), model, tasks, captions, cache, observer),
            _ => batch(self.planned()?, model, tasks, captions, cache, observer),
        }
    }

    /// Encodes a clip to its latent. The published VAEs take 4k + 1 frames with sides in multiples of 8.
    ///
    /// # Errors
    /// [`Error::Usage`] for a clip of another size; the errors of [`Self::sample`].
    pub fn encode(
        &self,
        model: &Model,
        clip: &Clip,
        coding: Coding,
        observer: &mut dyn Observer,
    ) -> Result<(Latent, StageMemory)> {
        self.processor.check_executes()?;
        match &self.processor {
            Processor::Cpu(cpu) => encode_planned(cpu, model, clip, coding, observer),
            _ => encode_planned(&self.planned()?, model, clip, coding, observer),
        }
    }

    /// Decodes a latent and gives its frames to `frame`, in order. `frame` runs on another thread, beside the device.
    ///
    /// # Errors
    /// The errors of `frame`, and those of [`Self::sample`].
    pub fn decode_frames(
        &self,
        model: &Model,
        latent: &Latent,
        coding: Coding,
        observer: &mut dyn Observer,
        frame: &mut TakeFrame<'_>,
    ) -> Result<StageMemory> {
        self.processor.check_executes()?;
        match &self.processor {
            Processor::Cpu(cpu) => decode_planned(cpu, model, latent, coding, observer, frame),
            _ => decode_planned(&self.planned()?, model, latent, coding, observer, frame),
        }
    }

    /// Decodes a latent to a clip.
    ///
    /// # Errors
    /// As for [`Self::sample`].
    pub fn decode(
        &self,
        model: &Model,
        latent: &Latent,
        coding: Coding,
        observer: &mut dyn Observer,
    ) -> Result<(Clip, StageMemory)> {
        let [_, height, width] = latent.clip_size(model.factors()?)?;
        let info = VideoInfo { width, height, fps: latent.fps.unwrap_or_default() };
        let mut memory = None;
        let clip = gather(info, |frame| {
            memory = Some(self.decode_frames(model, latent, coding, observer, frame)?);
            Ok(())
        })?;
        Ok((clip, memory.expect("it was decoded")))
    }

    /// Encodes a clip, decodes it again, and compares the two.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    pub fn reconstruct(
        &self,
        model: &Model,
        clip: &Clip,
        coding: Coding,
        observer: &mut dyn Observer,
    ) -> Result<Reconstruction> {
        let (latent, encoding) = self.encode(model, clip, coding, observer)?;
        let (decoded, decoding) = self.decode(model, &latent, coding, observer)?;
        let (psnr, ssim) = (psnr(clip, &decoded)?, ssim(clip, &decoded)?);
        Ok(Reconstruction { clip: decoded, latent, psnr, ssim, memory: [encoding, decoding] })
    }

    /// Plans the sampling of a video whose prompts have at most `tokens` tokens: the memory and the launches of each stage. The CPU
    /// plans nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] for invalid settings; [`Error::OutOfMemory`] if a stage does not fit.
    pub fn plan(&self, model: &Model, settings: &Settings, tokens: usize) -> Result<Plans> {
        let captions = Captions::counted(tokens, settings);
        match &self.processor {
            Processor::Cpu(cpu) => plan(cpu, model, settings, &captions),
            _ => plan(&self.planned()?, model, settings, &captions),
        }
    }

    /// Plans the encoding of a clip.
    ///
    /// # Errors
    /// As for [`Self::plan`].
    pub fn plan_encode(&self, model: &Model, clip: Windowed) -> Result<StagePlan> {
        validate_clip(clip, model.factors()?)?;
        match &self.processor {
            Processor::Cpu(cpu) => plan_encode(cpu, model, clip),
            _ => plan_encode(&self.planned()?, model, clip),
        }
    }

    /// The device that plans each stage within the limit.
    fn planned(&self) -> Result<PlannedDevice> {
        Ok(PlannedDevice::within(self.processor.kernels()?, self.dtypes, self.limit))
    }
}
