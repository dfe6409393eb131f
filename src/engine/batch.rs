//! Many videos in one run: all captions are encoded first, then each video is made.

use super::denoise::Sampled;
use super::devices::{all_fit, both_fit};
use super::models::{Given, Models, Work};
use super::original::{Encoded, Originals};
use super::shortcuts::{Measured, MeasuredCall};
use super::text::{Texts, embed};
use super::text_cache::{Key, TextCache};
use super::{Captions, Devices, Observer, Outcome, Stage, StageMemory, StagePlan, Start, Task, Text, Timings, Wanted};
use crate::checkpoint::Model;
use crate::error::{Error, Result};
use crate::latent::Latent;
use std::rc::Rc;
use std::time::Instant;

/// Takes RGB frames in order, `height·width·3` bytes each. It runs on its own thread, for which the decoder may wait: if it uses rayon, do not
/// call the decoder from a worker of the same pool.
pub type TakeFrame<'a> = dyn FnMut(&[u8]) -> Result<()> + Send + 'a;

/// Latents to make before the decoder takes the transformer's place. They are small; what they cost is that more work is lost if
/// the process is killed.
const GROUP: usize = 8;

/// Videos that can be made, in any order. Models that have served a video stay open for the next one.
pub struct Batch<'a> {
    /// A video that cannot be made is an error until [`Self::denoise`] returns it.
    videos: Vec<Result<Video>>,
    work: Box<dyn Work + 'a>,
    group: usize,
}

/// A video that can be made.
struct Video {
    task: Task,
    cleaned_prompt: String,
    text: Text,
    text_seconds: f64,
    text_memory: StageMemory,
    /// The latent of an edit's clip.
    original: Option<Rc<Encoded>>,
    /// Its latent, once it is made.
    denoised: Option<Denoised>,
}

/// What the transformer made.
struct Denoised {
    sampled: Sampled,
    seconds: f64,
}

/// Plans all videos, and encodes their texts unless `cache` has them. `captions` are the tokens of each ([`super::tokenize`]). A
/// task that begins at its latent needs no text.
///
/// # Errors
/// Those of reading weights and of the devices; [`Error::Interrupted`]; if no video can be made, the first one's error.
pub fn batch<'a, D: Devices + 'a>(
    devices: D,
    model: &'a Model,
    tasks: &[Task],
    captions: Vec<Result<Captions>>,
    cache: Option<&TextCache>,
    observer: &mut dyn Observer,
) -> Result<Batch<'a>> {
    let mut videos: Vec<_> = tasks.iter().zip(captions).map(|(task, captions)| asked(task, captions?)).collect();
    check_any(&mut videos)?;
    let captions: Vec<Captions> =
        videos.iter().map(|video| video.as_ref().map(|(_, captions)| captions.clone()).unwrap_or_default()).collect();
    let longest = captions.iter().map(Captions::longest).max().unwrap_or(0);
    let part = model.need_text_encoder()?;
    let cache = cache.map(|cache| (cache, Key::new(&devices.name(Stage::Text), part)));
    let cache = cache.as_ref().map(|(cache, key)| (*cache, key));
    let mut texts = Texts::new(&captions, part.config.d_model);
    if let Some((cache, key)) = cache {
        texts.look_up(cache, key);
    }
    let mut models = Models::new(devices, model, longest, tasks.len() > 1);
    let mut originals = Originals::of(videos.iter().flatten().map(|(task, _)| task));
    let text_plan = plan_all(&mut models, &mut videos, texts.missing());
    let sampling = both_fit(text_plan, check_any(&mut videos));
    let ((text_plan, ()), encode_plans) = both_fit(sampling, originals.plans(models.devices(), model))?;
    observer.planned(Stage::Text, &text_plan);
    encode_plans.iter().for_each(|plan| observer.planned(Stage::Encode, plan));
    models.planned().for_each(|(stage, plan)| observer.planned(stage, plan));

    let start = Instant::now();
    if !texts.missing().is_empty() {
        let encoded = models
            .devices()
            .open(Stage::Text, &text_plan)
            .and_then(|backend| embed(&backend, part, texts.missing(), text_plan.savings, observer))
            .map_err(|error| error.during(Stage::Text.name()))?;
        texts.add(encoded, cache, observer);
    }
    let text_seconds = start.elapsed().as_secs_f64();
    let text_memory = StageMemory::of(Stage::Text, &text_plan);
    originals.encode(models.devices(), model, observer)?;
    let video = |((task, captions), text): ((Task, Captions), Text)| Video {
        original: originals.get(&task),
        task,
        cleaned_prompt: captions.cleaned_prompt,
        text,
        text_seconds,
        text_memory: text_memory.clone(),
        denoised: None,
    };
    let videos =
        videos.into_iter().zip(texts.into_texts()).map(|(asked, text)| asked.map(|asked| video((asked, text))));
    let group = if models.all_fit_together() { 1 } else { GROUP };
    Ok(Batch { videos: videos.collect(), work: Box::new(models), group })
}

/// A task that makes sense, and the captions that it needs.
fn asked(task: &Task, captions: Captions) -> Result<(Task, Captions)> {
    task.validate()?;
    task.check_footage()?;
    task.check_room()?;
    let captions = match task.needs_transformer() {
        true => captions,
        false => Captions { samples: Vec::new(), source: None, ..captions },
    };
    Ok((task.clone(), captions))
}

/// Fails with the first error if there are only errors.
fn check_any<T>(videos: &mut Vec<Result<T>>) -> Result<()> {
    if videos.is_empty() || videos.iter().any(Result::is_ok) { Ok(()) } else { videos.swap_remove(0).map(drop) }
}

/// Plans each video; one that does not fit becomes an error. Returns the plan for the texts `missing`.
fn plan_all<'a, D: Devices + 'a>(
    models: &mut Models<'a, D>,
    videos: &mut [Result<(Task, Captions)>],
    missing: &[&Wanted],
) -> Result<Rc<StagePlan>> {
    let text = models.plan_text(missing).map(Rc::new);
    for video in videos {
        let Ok((task, _)) = video else { continue };
        let [denoise, decode] = models.plans(task);
        if text.is_err() {
            all_fit([text, denoise, decode])?;
            unreachable!("the texts do not fit");
        }
        if let Err(error) = all_fit([denoise, decode]) {
            *video = Err(error);
        }
    }
    text
}

impl Batch<'_> {
    /// How many latents to make before they are decoded, so that models are opened rarely: 1 if they stay open beside each other.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Makes a video begin where an earlier run stopped.
    ///
    /// # Errors
    /// [`Error::Usage`] if the start does not fit the settings; [`Error::OutOfMemory`]; the video's, if it was refused.
    ///
    /// # Panics
    /// If the batch began with the video's latent, and so has no text and no encoded clip for another start.
    pub fn begin_at(&mut self, video: usize, start: Start) -> Result<()> {
        let Self { videos, work, .. } = self;
        let video = accepted(&mut videos[video])?;
        let task = Task { start, ..video.task.clone() };
        assert!(!task.needs_transformer() || !video.text.embeddings.is_empty(), "the batch has the video's text");
        task.validate()?;
        all_fit(work.plans(&task))?;
        (video.task, video.denoised) = (task, None);
        Ok(())
    }

    /// Makes the latent of a video, by its index in the batch.
    ///
    /// # Errors
    /// Those of reading weights and of the device; [`Error::Interrupted`]; if the video was refused when the batch was planned,
    /// the reason.
    pub fn denoise(&mut self, video: usize, observer: &mut dyn Observer) -> Result<()> {
        let Self { videos, work, .. } = self;
        let of_video = accepted(&mut videos[video])?;
        let start = Instant::now();
        let sampled = match &of_video.task.start {
            Start::Latent { values, .. } => Sampled { latent: values.clone(), evaluations: 0 },
            Start::Noise | Start::Call(_) => {
                let original = of_video.original.as_ref().map(|encoded| &encoded.original);
                let given = Given { text: &of_video.text, original, measured: None };
                let sampled = work.denoise(&of_video.task, given, video, observer)?;
                observer.denoised(video, &sampled.latent);
                sampled
            }
        };
        of_video.denoised = Some(Denoised { sampled, seconds: start.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Samples a video, and measures what a cache could go by. Its settings ask for a cache that compares inputs.
    ///
    /// # Errors
    /// Those of [`Self::denoise`].
    pub(super) fn measure(&mut self, video: usize, observer: &mut dyn Observer) -> Result<Vec<MeasuredCall>> {
        let Self { videos, work, .. } = self;
        let of_video = accepted(&mut videos[video])?;
        let mut measured = Measured::default();
        let given = Given { text: &of_video.text, original: None, measured: Some(&mut measured) };
        work.denoise(&of_video.task, given, video, observer)?;
        Ok(measured.calls)
    }

    /// Decodes a video, and gives its frames to `frame`; makes its latent before, if that is not done.
    ///
    /// # Errors
    /// Those of [`Self::denoise`] and of `frame`.
    pub fn decode(&mut self, video: usize, observer: &mut dyn Observer, frame: &mut TakeFrame<'_>) -> Result<Outcome> {
        if accepted(&mut self.videos[video])?.denoised.is_none() {
            self.denoise(video, observer)?;
        }
        let Self { videos, work, .. } = self;
        let video = accepted(&mut videos[video])?;
        let Denoised { sampled: Sampled { latent, evaluations }, seconds } = video.denoised.take().expect("just made");
        let start = Instant::now();
        let mut shown = video.task.first_frame();
        work.decode(&video.task, &latent, observer, &mut |rgb| {
            let pasted = video.task.pasted(shown, rgb);
            shown += 1;
            frame(&pasted)
        })?;
        let encode = video.original.as_ref().map_or(0.0, |encoded| encoded.seconds);
        let (text, decode) = (video.text_seconds, start.elapsed().as_secs_f64());
        let memory = video.memory(work.plans(&video.task))?;
        let settings = video.task.settings.clone();
        Ok(Outcome {
            cleaned_prompt: video.cleaned_prompt.clone(),
            text_cached: video.text.cached,
            model_calls: settings.schedule()?.calls.len(),
            evaluations,
            latent: Latent { values: latent, size: settings.latent_size(), fps: Some(settings.fps) },
            timings: Timings { text, encode, denoise: seconds, decode },
            memory,
            settings,
        })
    }
}

impl Video {
    /// How the stages used memory, with the plans of transformer and decoder.
    fn memory(&self, [denoise, decode]: [Result<Rc<StagePlan>>; 2]) -> Result<Vec<StageMemory>> {
        let text = [self.text_memory.clone()].into_iter();
        let encode = self.original.iter().flat_map(|encoded| encoded.memory.iter().cloned());
        let rest = [StageMemory::of(Stage::Denoise, &*denoise?), StageMemory::of(Stage::Decode, &*decode?)];
        Ok(text.chain(encode).chain(rest).collect())
    }
}

/// The video, or why it cannot be made.
fn accepted(video: &mut Result<Video>) -> Result<&mut Video> {
    let refused = || Error::Usage("this video was refused before".into());
    video.as_mut().map_err(|error| std::mem::replace(error, refused()))
}
