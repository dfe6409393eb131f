//! Noise to a latent: runs a sampler's schedule with the transformer, and with guidance.

use super::evaluation::{Evaluation, branches};
use super::finite::{Axes, Checking, Made};
use super::held::{CLEAN, Held};
use super::original::Original;
use super::shortcuts::{Predictor, Purpose};
use super::transfer::host;
use super::{Observer, Reached, RunState, Settings, Stage, Task, Text, Warning, tick};
use crate::backend::Backend;
use crate::checkpoint::Component;
use crate::error::Result;
use crate::layout::nhwc_from_nchw;
use crate::memory::MemoryOptions;
use crate::model::latte::{Latte, LatteConfig, Prepared, Shape};
use crate::sampler::{SamplerRun, Schedule, TorchRng};
use std::ops::Deref;

/// The source of a run's noise, in the original's order and layout: (C, T, H, W).
pub(crate) enum Noise<'a> {
    /// PyTorch's noise for a seed.
    Seeded(TorchRng),
    /// Given: the initial noise, then the later draws one after the other.
    Given(&'a mut dyn Iterator<Item = Vec<f32>>),
    /// Zeros, for runs that only count.
    Absent,
}

/// What a sampler makes a latent from.
pub(crate) struct Denoising<'a> {
    pub settings: &'a Settings,
    pub schedule: &'a Schedule,
    pub text: &'a Text,
    /// The latent of an edit's clip.
    pub original: Option<&'a Original>,
    /// Where it goes on, if an earlier run has begun.
    pub state: Option<&'a RunState>,
    /// The video's index in the batch.
    pub video: usize,
}

/// What a sampler has made.
pub(crate) struct Sampled {
    /// The final latent, `[T, H, W, C]`.
    pub latent: Vec<f32>,
    /// Evaluations of the transformer, each of one branch of guidance.
    pub evaluations: usize,
}

impl<'a> Denoising<'a> {
    /// What makes the latent of `task`, which is no edit and alone in its batch.
    pub fn of(task: &'a Task, schedule: &'a Schedule, text: &'a Text) -> Self {
        Self { settings: &task.settings, schedule, text, original: None, state: task.state(), video: 0 }
    }

    /// Calls of the model that an earlier run has made.
    pub fn done(&self) -> usize {
        self.state.map_or(0, |state| state.sampler.done)
    }
}

impl Noise<'_> {
    /// Noise for a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(TorchRng::new(seed))
    }

    /// Passes over draws that an earlier run has used.
    fn skip(&mut self, draws: usize, len: usize, channels: usize) {
        (0..draws).for_each(|_| drop(self.draw(len, channels)));
    }

    /// The next draw, in the engine's layout.
    fn draw(&mut self, len: usize, channels: usize) -> Vec<f32> {
        let values = match self {
            Self::Seeded(rng) => rng.randn(len),
            Self::Absent => return vec![0.0; len],
            Self::Given(draws) => draws.next().expect("the schedule makes no more draws than are given"),
        };
        nhwc_from_nchw(&values, channels)
    }
}

/// The transformer, loaded.
pub(crate) struct Denoiser<'a, W> {
    model: Latte<'a, W>,
    branches_in_turn: bool,
}

impl<'a, W> Denoiser<'a, W> {
    /// Loads the transformer. `backend` is a reference or a shared pointer.
    pub fn load<B: Backend<Weight = W>>(
        backend: impl Deref<Target = B> + Clone + 'a,
        part: &'a Component<LatteConfig>,
        savings: MemoryOptions,
    ) -> Result<Self> {
        let model = Latte::load(&part.config, &*part.source, backend, savings)?;
        Ok(Self { model, branches_in_turn: savings.branches_in_turn })
    }

    /// Warns of a length that the model was not trained for.
    pub fn warn_of_other_lengths(&self, settings: &Settings, observer: &mut dyn Observer) {
        let trained = settings.factors.frames(self.model.config().video_length);
        let frames = settings.factors.frames(settings.frames_at_once());
        if frames < settings.frames {
            observer.warn(&Warning::Spans { frames: settings.frames, span: frames });
        }
        if frames != 1 && frames != trained {
            observer.warn(&Warning::OtherLength { frames, trained });
        }
    }

    /// The final latent.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        denoising: Denoising<'_>,
        noise: &mut Noise<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Sampled> {
        let rehearses = matches!(noise, Noise::Absent);
        let purpose = if rehearses { Purpose::Rehearsal } else { Purpose::Sampling };
        self.run_for(purpose, backend, denoising, noise, observer)
    }

    /// As [`Self::run`], for this purpose.
    pub fn run_for<B: Backend<Weight = W>>(
        &self,
        purpose: Purpose<'_>,
        backend: &B,
        denoising: Denoising<'_>,
        noise: &mut Noise<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Sampled> {
        let Denoising { settings, schedule, text, original, video, .. } = denoising;
        backend.begin_run();
        let c = self.model.config();
        let [frames, height, width] = settings.latent_size();
        let prepared = self.prepare(backend, settings, text)?;
        let source = settings.source().zip(text.source.as_deref());
        let source = source.map(|(of, text)| Ok((self.prepare(backend, &of, text)?, branches(&of)))).transpose()?;

        let len = frames * height * width * c.in_channels;
        let first = noise.draw(len, c.in_channels);
        let held = original.map(|original| Held::new(backend, original, &first)).transpose()?;
        let mut run = begin(backend, &denoising, noise, &first, (held.as_ref(), c.in_channels))?;
        let mut prediction = backend.alloc_f32(len)?;
        let evaluation = Evaluation::new(backend, settings, (prepared, source), [frames, len / frames])?;
        let (frame, remembered) = ([height, width, c.in_channels], denoising.state.map(|state| &state.remembered));
        let mut predictor = Predictor::new(backend, evaluation, (settings, schedule), remembered, purpose, frame)?;
        let axes = [("frame", frames), ("row", height), ("column", width), ("channel", c.in_channels)];
        let calls = schedule.calls.len();
        let mut checks = Checks { axes: &axes, steps: calls, done: run.done(), last: None };
        while let Some(call) = run.call() {
            held.iter().try_for_each(|held| held.hold_before_call(&mut run, settings.sampler))?;
            let index = run.done();
            predictor.predict((backend, &self.model), index, run.model_input()?, &mut prediction)?;
            checks.next(Checking::start(backend, &prediction, 0, len)?)?;
            let at = Reached { video, done: run.done() + 1, calls };
            let (state, preview) = (observer.wants_state(at), observer.wants_preview(at.done, calls));
            // After the last call, the latent itself is shown.
            let drafted = state || preview && at.done < calls;
            let draft = drafted.then(|| draft(backend, settings, &mut run, &prediction, held.as_ref())).transpose()?;
            let drawn = call.draws_noise.then(|| noise.draw(len, c.in_channels));
            run.step(&prediction, drawn.as_deref())?;
            let edited = run.edited().filter(|_| drafted).map(|edited| host(backend, edited)).transpose()?;
            let draft = edited.or(draft);
            if let Some(draft) = draft.as_ref().filter(|_| state) {
                let state = RunState { sampler: run.state()?, remembered: predictor.remembered(backend)? };
                let stage = format!("{}, step {} of {calls}", Stage::Denoise.name(), at.done);
                Made { stage, what: "the sample", axes: &axes }.check(&state.sampler.sample, f32::MAX)?;
                observer.reached(at, &state, draft);
            }
            if preview {
                let shown = draft.filter(|_| at.done < calls).map_or_else(|| host(backend, run.result()), Ok)?;
                observer.preview(at.done, &shown);
            }
            tick(observer)?;
        }
        checks.end()?;
        held.iter().try_for_each(|held| held.hold(&mut run, CLEAN))?;
        let latent = host(backend, run.result())?;
        Made { stage: Stage::Denoise.name().into(), what: "the latent", axes: &axes }.check(&latent, f32::MAX)?;
        Ok(Sampled { latent, evaluations: predictor.evaluations() })
    }

    /// The prepared text: one batch for all evaluations of a call, or one for each evaluation.
    fn prepare<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        settings: &Settings,
        text: &Text,
    ) -> Result<Vec<Prepared<B>>> {
        let patch = self.model.config().patch_size;
        let [_, height, width] = settings.latent_size();
        let frames = settings.frames_at_once();
        let batch = branches(settings);
        let in_turn = self.branches_in_turn || settings.shortcuts.split_guidance();
        let samples = if in_turn { 1 } else { batch };
        let (rows, columns) = (height / patch, width / patch);
        let shape = Shape { samples, batch, frames, rows, columns, temporal: settings.frames > 1 };
        let parts = text.embeddings.chunks_exact(text.embeddings.len() / batch * samples);
        let prepare = |embeddings| {
            let captions = backend.upload(embeddings)?;
            self.model.prepare(backend, shape, &captions, text.tokens, None)
        };
        parts.map(prepare).collect()
    }
}

/// The sampler before its next call. `first` is the run's first draw, and `held` the clip of an edit.
fn begin<'a, B: Backend>(
    backend: &'a B,
    &Denoising { settings, schedule, state, .. }: &Denoising<'a>,
    noise: &mut Noise<'_>,
    first: &[f32],
    (held, channels): (Option<&'a Held<B>>, usize),
) -> Result<SamplerRun<'a, B>> {
    let level = schedule.calls.first().and_then(|call| settings.begins_at(call));
    let run = match (state, held, level) {
        (Some(state), ..) => {
            noise.skip(state.sampler.draws(schedule).saturating_sub(1), first.len(), channels);
            SamplerRun::resume(backend, schedule, &state.sampler)?
        }
        (None, Some(held), Some(level)) => SamplerRun::begin(backend, schedule, held.at(backend, level)?)?,
        _ => SamplerRun::new(backend, schedule, first)?,
    };
    Ok(match held {
        Some(held) => run.of_original(held.original()),
        None => run,
    })
}

/// The latent that a prediction leads to: x₀ of input = √ᾱ·x₀ + √(1−ᾱ)·ε. While an inversion looks for the noise of the clip, the
/// clip is what it would lead to.
fn draft<B: Backend>(
    backend: &B,
    settings: &Settings,
    run: &mut SamplerRun<'_, B>,
    prediction: &B::Buffer,
    held: Option<&Held<B>>,
) -> Result<Vec<f32>> {
    let call = run.call().expect("the call is not complete");
    if let Some(held) = held.filter(|_| call.source) {
        return host(backend, held.original());
    }
    let alpha_bar = settings.sampler.alpha_bar(call.timestep);
    let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
    let (input, prediction) = (host(backend, run.model_input()?)?, host(backend, prediction)?);
    Ok(input.iter().zip(prediction).map(|(x, predicted)| (x - noise * predicted) / signal).collect())
}

/// Checks of the predictions. The host reads the result of a step's check after it has launched the next step, so
/// that the check keeps no device waiting.
struct Checks<'a> {
    axes: Axes<'a>,
    steps: usize,
    /// Steps whose check was read.
    done: usize,
    last: Option<Checking>,
}

impl Checks<'_> {
    /// Keeps this check, and reads the one before.
    fn next(&mut self, check: Checking) -> Result<()> {
        let before = self.last.replace(check);
        before.map_or(Ok(()), |check| self.look_at(check))
    }

    /// Reads the last check.
    fn end(mut self) -> Result<()> {
        let last = self.last.take();
        last.map_or(Ok(()), |check| self.look_at(check))
    }

    fn look_at(&mut self, check: Checking) -> Result<()> {
        self.done += 1;
        let stage = format!("{}, step {} of {}", Stage::Denoise.name(), self.done, self.steps);
        check.end(&Made { stage, what: "the predicted noise", axes: self.axes }, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Opening;
    use crate::cpu::Cpu;
    use crate::cuda::device::{Dry, Emulated, Event};
    use crate::cuda::{Cuda, Half};
    use crate::engine::{Quiet, Request, Spans};
    use crate::layout::nchw_from_nhwc;
    use crate::preset;
    use crate::sampler::SamplerKind;
    use std::path::Path;
    use std::sync::Arc;

    /// The length of the device's log after every call of the model.
    struct Steps {
        dry: Arc<Dry>,
        ends: Vec<usize>,
    }

    impl Observer for Steps {
        fn advance(&mut self, _: u64) {
            self.ends.push(self.dry.log().len());
        }
    }

    /// The sizes of the allocations for each call of the model but the first, of PNDM with guidance at 221×512×512.
    fn allocations(savings: MemoryOptions) -> Vec<Vec<usize>> {
        let dry = Arc::new(Dry::new());
        let backend = Cuda::new(dry.clone(), Half::Bf16);
        let part = preset::open("v1.1.0", Some(221)).unwrap().transformer.unwrap();
        let defaults = preset::open("v1.1.0", Some(221)).unwrap().defaults;
        let settings = Request::new("a lake").steps(4).settle(&defaults).unwrap();
        let text = Text { tokens: 120, embeddings: vec![0.5; 2 * 120 * 4096], cached: false, source: None };
        let schedule = settings.sampler.schedule(settings.steps).unwrap();
        let mut steps = Steps { dry: dry.clone(), ends: Vec::new() };
        let denoiser = Denoiser::load(&backend, &part, savings).unwrap();
        let denoising =
            Denoising { settings: &settings, schedule: &schedule, text: &text, original: None, state: None, video: 0 };
        denoiser.run(&backend, denoising, &mut Noise::seeded(0), &mut steps).unwrap();
        let log = dry.log();
        let size = |event: &Event| if let Event::Alloc { bytes, .. } = event { Some(*bytes) } else { None };
        steps.ends.windows(2).map(|range| log[range[0]..range[1]].iter().filter_map(size).collect()).collect()
    }

    #[test]
    fn every_call_of_the_model_allocates_the_same() {
        for savings in [MemoryOptions::NONE, MemoryOptions::MOST] {
            let calls = allocations(savings);
            assert!(calls.len() > 4 && !calls[0].is_empty(), "{savings:?}");
            assert!(calls.iter().all(|call| *call == calls[0]), "{savings:?}");
        }
    }

    /// One step of DPM-Solver++ from noise of `frames` latent frames to the latent, both `[T, H, W, C]`.
    fn one_step<B: Backend>(backend: &B, noise: &[f32], frames: usize, spans: Spans) -> Vec<f32> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline");
        let model = Opening::default().open(folder).unwrap();
        let request =
            Request::new("a cat").frames(4 * frames - 3).size(16, 32).sampler(SamplerKind::DpmSolverMultistep).steps(1);
        let settings = request.spans(spans).settle(&model.defaults).unwrap();
        let part = model.need_transformer().unwrap();
        let text = Text {
            tokens: 3,
            embeddings: TorchRng::new(2).randn(6 * part.config.caption_channels),
            cached: false,
            source: None,
        };
        let schedule = settings.schedule().unwrap();
        let denoising =
            Denoising { settings: &settings, schedule: &schedule, text: &text, original: None, state: None, video: 0 };
        let mut draws = [nchw_from_nhwc(noise, 4)].into_iter();
        let denoiser = Denoiser::load(backend, part, MemoryOptions::NONE).unwrap();
        denoiser.run(backend, denoising, &mut Noise::Given(&mut draws), &mut Quiet).unwrap().latent
    }

    /// `tolerance`: of values of some hundreds. The step multiplies the rounding of the predictions, and so does guidance.
    fn spans_are_predicted_alone_and_fade<B: Backend>(backend: &B, tolerance: f32) {
        const FRAME: usize = 2 * 4 * 4;
        let noise = TorchRng::new(1).randn(7 * FRAME);
        let part = |from: usize, to: usize| noise[from * FRAME..to * FRAME].to_vec();
        // Spans of 4 latent frames overlap by 1, and begin at 0 and at 3.
        let long = one_step(backend, &noise, 7, Spans::Of(13));
        let [first, second] = [(0, 4), (3, 7)].map(|(from, to)| one_step(backend, &part(from, to), 4, Spans::Trained));
        assert!(long[..4 * FRAME] == first[..], "the overlap begins with the earlier span");
        assert!(long[4 * FRAME..] == second[FRAME..]);
        // At 0, 1 and 2 the overlaps are longer.
        let long = one_step(backend, &noise[..6 * FRAME], 6, Spans::Of(13));
        let second = one_step(backend, &part(2, 6), 4, Spans::Trained);
        assert!(long[..3 * FRAME] == first[..3 * FRAME] && long[4 * FRAME..] == second[2 * FRAME..]);
        let fading = 3 * FRAME..4 * FRAME;
        let means = first[fading.clone()].iter().zip(&second[FRAME..2 * FRAME]).map(|(a, b)| (a + b) / 2.0);
        for (found, mean) in long[fading].iter().zip(means) {
            assert!((found - mean).abs() < tolerance, "{found} is not half of each: {mean}");
        }
    }

    #[test]
    fn spans_are_predicted_alone_and_fade_into_each_other() {
        spans_are_predicted_alone_and_fade(&Cpu::new(), 0.01);
        spans_are_predicted_alone_and_fade(&Cuda::new(Arc::new(Emulated::new(0)), Half::F16), 5.0);
    }
}
