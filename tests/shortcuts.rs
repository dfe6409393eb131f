/// What the demo model's videos show.
#[allow(dead_code, reason = "an example uses all of it")]
#[path = "../examples/shortcuts/judge.rs"]
mod judge;

use osp::checkpoint::{Calibrated, Calibration, Opening};
use osp::engine::{Cache, Footage, Outcome, Reached, RunState, Settings, Shortcuts, Spans, Start, Task};
use osp::sampler::SamplerKind;
use osp::state::{Origin, Progress, State};
use osp::video::{FrameRate, VideoInfo};
use osp::{Clip, Engine, Error, Model, Observer, Quiet, Request, preset};
use std::collections::BTreeMap;
use std::path::Path;

/// Calls of the model in a run of these tests.
const CALLS: usize = 15;

/// The tiny model of the golden data, with some coefficients.
fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline");
    let mut model = Opening::default().open(folder).unwrap();
    // The estimate is the change of the input, and magnitudes halve.
    let polynomial = [0.0, 0.0, 0.0, 1.0, 0.0];
    let magnitudes = vec![[999.0, 2.0], [0.0, 1.0]];
    let known = Calibration { source: "a test".to_owned(), polynomial, fitted_to: None, magnitudes };
    model.defaults.calibration = Calibrated::Known(known);
    model
}

fn cached(cache: &str) -> Shortcuts {
    Shortcuts { cache: Some(cache.parse().unwrap()), ..Shortcuts::default() }
}

fn reused(calls: usize) -> Shortcuts {
    Shortcuts { guidance_reuse: Some(calls), ..Shortcuts::default() }
}

fn guided(interval: [f32; 2]) -> Shortcuts {
    Shortcuts { guidance_interval: Some(interval), ..Shortcuts::default() }
}

/// Each kind, and two together. Of TeaCache's calls some pass, and some do not.
fn all() -> Vec<Shortcuts> {
    let both = Shortcuts { guidance_interval: Some([0.1, 0.8]), ..reused(3) };
    let everything = Shortcuts { cache: cached("teacache:0.5").cache, ..both.clone() };
    vec![cached("teacache:0.5"), cached("magcache:0.2"), cached("taylor:2"), reused(4), both, everything]
}

fn request(sampler: SamplerKind, shortcuts: &Shortcuts) -> Request {
    let request = Request::new("a cat").frames(5).size(16, 32).sampler(sampler).guidance(3.0).seed(5);
    let steps = if sampler == SamplerKind::Pndm { CALLS - 9 } else { CALLS };
    request.steps(steps).shortcuts(shortcuts.clone())
}

/// A task of fewer steps, for the emulator.
fn short_task(model: &Model, shortcuts: &Shortcuts) -> Task {
    let request = request(SamplerKind::DpmSolverMultistep, shortcuts).steps(6);
    Task::from(request.settle(&model.defaults).unwrap())
}

fn task(model: &Model, sampler: SamplerKind, shortcuts: &Shortcuts) -> Task {
    Task::from(request(sampler, shortcuts).settle(&model.defaults).unwrap())
}

/// Keeps states after some calls.
#[derive(Default)]
struct Keep {
    every: usize,
    states: Vec<RunState>,
}

impl Observer for Keep {
    fn wants_state(&mut self, at: Reached) -> bool {
        self.every > 0 && at.done.is_multiple_of(self.every)
    }

    fn reached(&mut self, _: Reached, state: &RunState, _: &[f32]) {
        self.states.push(state.clone());
    }
}

fn made(engine: &Engine, model: &Model, tasks: &[Task], observer: &mut dyn Observer) -> Vec<(Vec<u8>, Outcome)> {
    let mut batch = engine.resume(model, tasks, observer).unwrap();
    let video = |index| {
        let mut bytes = Vec::new();
        let outcome = batch.decode(index, observer, &mut |frame| {
            bytes.extend_from_slice(frame);
            Ok(())
        });
        (bytes, outcome.unwrap())
    };
    (0..tasks.len()).map(video).collect()
}

fn latent(engine: &Engine, model: &Model, sampler: SamplerKind, shortcuts: &Shortcuts) -> (Vec<f32>, usize) {
    let (_, outcome) = made(engine, model, &[task(model, sampler, shortcuts)], &mut Quiet).remove(0);
    (outcome.latent.values, outcome.evaluations)
}

#[test]
fn a_threshold_of_0_and_whatever_leaves_nothing_out_give_the_exact_bits() {
    let (engine, model) = (Engine::cpu(), model());
    for sampler in [SamplerKind::Ddim, SamplerKind::Pndm, SamplerKind::EulerAncestralDiscrete] {
        let exact = latent(&engine, &model, sampler, &Shortcuts::default());
        assert_eq!(exact.1, 2 * CALLS, "{sampler}");
        for shortcuts in [cached("teacache:0"), cached("magcache:0"), cached("taylor:1"), reused(1), guided([0.0, 1.0])]
        {
            assert!(latent(&engine, &model, sampler, &shortcuts) == exact, "{sampler} {shortcuts:?}");
        }
        // Guided nowhere is without guidance, and costs half.
        let unguided = request(sampler, &Shortcuts::default()).guidance(1.0).settle(&model.defaults).unwrap();
        let (_, unguided) = made(&engine, &model, &[Task::from(unguided)], &mut Quiet).remove(0);
        let nowhere = latent(&engine, &model, sampler, &guided([0.9999, 1.0]));
        let first_call_only = usize::from(sampler == SamplerKind::EulerAncestralDiscrete);
        assert_eq!(nowhere.1, CALLS + first_call_only, "{sampler}");
        assert!(first_call_only > 0 || nowhere.0 == unguided.latent.values, "{sampler}");
    }
}

#[test]
fn evaluations_are_those_that_each_shortcut_asks_for() {
    let (engine, model) = (Engine::cpu(), model());
    let evaluations = |shortcuts: &Shortcuts| latent(&engine, &model, SamplerKind::Ddim, shortcuts).1;
    // Three calls of the beginning, then every third, and the last.
    assert_eq!(evaluations(&cached("taylor:3")), 2 * 7);
    // Of five calls, four evaluate one branch.
    assert_eq!(evaluations(&reused(5)), 2 * 3 + 12);
    // Every estimate passes, but the first and the last call.
    assert_eq!(evaluations(&cached("teacache:1e9")), 2 * 2);
    let some = evaluations(&cached("teacache:0.5"));
    assert!((2 * 3..2 * CALLS).contains(&some), "{some}");
    // The timesteps of DDIM fall by 66 from 924 to 0; those from 132 to 792 are guided.
    assert_eq!(evaluations(&guided([0.1, 0.8])), 2 * 11 + 4);
}

#[test]
fn a_cached_prediction_changes_little_and_a_larger_threshold_more() {
    let (engine, model) = (Engine::cpu(), model());
    let exact = latent(&engine, &model, SamplerKind::Ddim, &Shortcuts::default()).0;
    let distance = |shortcuts: &Shortcuts| -> f32 {
        let made = latent(&engine, &model, SamplerKind::Ddim, shortcuts).0;
        made.iter().zip(&exact).map(|(a, b)| (a - b).abs()).sum::<f32>() / exact.len() as f32
    };
    let [close, far] = ["teacache:0.5", "teacache:1e9"].map(|cache| distance(&cached(cache)));
    assert!(0.0 < close && close < far, "{close} {far}");
    for shortcuts in all() {
        let distance = distance(&shortcuts);
        assert!(distance > 0.0 && distance.is_finite(), "{shortcuts:?}");
    }
}

#[test]
fn a_run_goes_on_from_any_call_with_the_same_bits() {
    let (engine, model) = (Engine::cpu(), model());
    for sampler in [SamplerKind::Pndm, SamplerKind::HeunDiscrete] {
        for shortcuts in all() {
            let task = task(&model, sampler, &shortcuts);
            let mut keep = Keep { every: 4, ..Keep::default() };
            let (bytes, outcome) = made(&engine, &model, std::slice::from_ref(&task), &mut keep).remove(0);
            for state in keep.states {
                let done = state.sampler.done;
                let state = through_a_file(&engine, &model, &task.settings, state);
                let rest = Task { start: Start::Call(state), ..task.clone() };
                let rest = made(&engine, &model, &[rest], &mut Quiet).remove(0);
                assert!(rest.0 == bytes && rest.1.latent == outcome.latent, "{sampler} {shortcuts:?} after {done}");
            }
        }
    }
}

/// A state, written and read.
fn through_a_file(engine: &Engine, model: &Model, settings: &Settings, run: RunState) -> RunState {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4.state");
    let draft = run.sampler.sample.clone();
    let origin = Origin::of(engine, model).unwrap();
    let progress = Progress::Sampling { run: run.clone(), draft };
    State { settings: settings.clone(), origin, notes: BTreeMap::new(), progress }.write(&path).unwrap();
    let state = State::read(&path).unwrap();
    let Progress::Sampling { run: read, .. } = state.progress else { panic!("it samples") };
    assert!(read == run && state.settings.shortcuts == settings.shortcuts);
    read
}

#[test]
fn a_state_of_other_shortcuts_is_refused() {
    let (engine, model) = (Engine::cpu(), model());
    for shortcuts in all() {
        let task = task(&model, SamplerKind::Ddim, &shortcuts);
        let mut keep = Keep { every: 4, ..Keep::default() };
        made(&engine, &model, std::slice::from_ref(&task), &mut keep);
        let state = keep.states.remove(0);
        let mut wrong = vec![(state.clone(), Shortcuts::default())];
        let mut short = state.clone();
        short.remembered.predictions.iter_mut().for_each(|(_, values)| values.truncate(1));
        short.remembered.difference.iter_mut().for_each(|(_, values)| values.truncate(1));
        let shortcuts = &task.settings.shortcuts;
        wrong.push((short, shortcuts.clone()));
        if shortcuts.cache.is_some() {
            let mut nothing = state.clone();
            nothing.remembered.predictions.clear();
            let mut nan = state;
            nan.remembered.since.change = f32::NAN;
            wrong.extend([nothing, nan].map(|state| (state, shortcuts.clone())));
        }
        for (state, shortcuts) in wrong {
            let settings = Settings { shortcuts: shortcuts.clone(), ..task.settings.clone() };
            let error = Task { start: Start::Call(state), ..Task::from(settings) }.validate().unwrap_err().to_string();
            assert!(error.contains("no state of a run with these shortcuts after call 4"), "{shortcuts:?}: {error}");
        }
    }
}

#[test]
fn kernels_leave_out_the_same_calls_with_the_least_memory_as_with_all() {
    let model = model();
    let [teacache, magcache, .., everything] = &all()[..] else { panic!("there are more") };
    for shortcuts in [teacache, magcache, everything] {
        let task = short_task(&model, shortcuts);
        let short = Engine::emulated().memory_limit(1000).unwrap();
        let Err(Error::OutOfMemory { needed, .. }) = short.plan(&model, &task.settings, 9) else {
            panic!("1,000 bytes are enough")
        };
        let mut keep = Keep { every: 3, ..Keep::default() };
        let whole = made(&Engine::emulated(), &model, std::slice::from_ref(&task), &mut keep).remove(0);
        let least = Engine::emulated().memory_limit(needed).unwrap();
        // Another video before it in the same arena leaves out other calls.
        let other = Task::from(Settings { seed: 8, ..task.settings.clone() });
        let after_another = made(&least, &model, &[other, task.clone()], &mut Quiet).remove(1);
        assert!(whole.0 == after_another.0 && whole.1.latent == after_another.1.latent, "{shortcuts:?}");
        assert_eq!(whole.1.evaluations, after_another.1.evaluations);
        let start = Start::Call(keep.states.remove(0));
        let rest = made(&least, &model, &[Task { start, ..task.clone() }], &mut Quiet).remove(0);
        assert!(rest.0 == whole.0, "{shortcuts:?}: a run that goes on");
        let cpu = made(&Engine::cpu(), &model, &[task], &mut Quiet).remove(0);
        assert_eq!(cpu.1.evaluations, whole.1.evaluations, "{shortcuts:?}");
    }
}

#[test]
fn spans_are_compared_together() {
    let model = model();
    let long = request(SamplerKind::Ddim, &cached("teacache:1e9")).frames(13).spans(Spans::Of(9)).steps(4);
    let settings = long.settle(&model.defaults).unwrap();
    assert!(settings.span.is_some());
    let exact = Settings { shortcuts: Shortcuts::default(), ..settings.clone() };
    for engine in [Engine::cpu(), Engine::emulated()] {
        let tasks = [settings.clone(), exact.clone()].map(Task::from);
        let [some, all] = made(&engine, &model, &tasks, &mut Quiet).try_into().unwrap();
        assert_eq!([some.1.evaluations, all.1.evaluations], [2 * 2, 2 * 4]);
    }
}

#[test]
fn a_model_is_calibrated_by_what_its_videos_do() {
    let model = model();
    for engine in [Engine::cpu(), Engine::emulated()] {
        let request = request(SamplerKind::Ddim, &Shortcuts::default());
        let requests = [request.clone(), request.seed(9)];
        let (calibration, fit) = engine.calibrate(&model, &requests, &mut Quiet).unwrap();
        assert_eq!(fit.pairs, 2 * (CALLS - 1));
        assert!(fit.error < fit.change, "{fit:?}");
        assert!(calibration.source.contains("2 videos of 5x16x32, DDIM in 15 steps, guidance 3"), "{calibration:?}");
        let timesteps: Vec<f32> = calibration.magnitudes.iter().map(|[timestep, _]| *timestep).collect();
        let schedule = SamplerKind::Ddim.schedule(CALLS).unwrap();
        assert_eq!(timesteps, schedule.calls.iter().map(|call| call.timestep).collect::<Vec<_>>());
        assert!(calibration.magnitudes.iter().all(|[_, magnitude]| *magnitude > 0.0));
        assert_eq!(engine.calibrate(&model, &requests, &mut Quiet).unwrap().0, calibration, "to the bit");
    }
}

#[test]
fn memory_for_a_cache_is_a_few_latents() {
    let model = preset::open("v1.1.0", Some(221)).unwrap();
    let bytes = |shortcuts: Shortcuts| {
        let request = Request::new("a lake").frames(221).size(512, 512).shortcuts(shortcuts);
        let settings = request.settle(&model.defaults).unwrap();
        let plans = Engine::dry().memory_limit(3 << 30).unwrap().plan(&model, &settings, 120).unwrap();
        plans.denoise.rehearsed.unwrap().plan.bytes
    };
    let exact = bytes(Shortcuts::default());
    let latent = 56 * 64 * 64 * 4 * 4;
    for shortcuts in [cached("teacache"), cached("taylor"), reused(5)] {
        let more = bytes(shortcuts.clone()).saturating_sub(exact);
        assert!(more <= 4 * latent, "{shortcuts:?}: {more} bytes");
    }
    let settings = Request::new("a lake").shortcuts(cached("teacache")).settle(&model.defaults).unwrap();
    let Some(Cache::TeaCache { polynomial, .. }) = settings.shortcuts.cache else { panic!("it was asked for") };
    assert_eq!(polynomial, model.defaults.calibration.known().unwrap().map(|published| published.polynomial));
    let error = Request::new("a lake").shortcuts(cached("magcache")).settle(&model.defaults).unwrap_err();
    assert!(error.to_string().contains("no coefficients for magcache:0.1"), "{error}");
}

#[test]
fn states_that_remember_other_tensors_go_on_in_one_batch() {
    let model = model();
    // Whether a difference is remembered depends on values, and so do the buffers of a run that goes on.
    let task = short_task(&model, &all().pop().unwrap());
    let whole = made(&Engine::emulated(), &model, std::slice::from_ref(&task), &mut Quiet).remove(0);
    let mut keep = Keep { every: 1, ..Keep::default() };
    made(&Engine::emulated(), &model, std::slice::from_ref(&task), &mut keep);
    let known = |state: &&RunState| state.remembered.difference.is_some();
    let with = keep.states.iter().filter(|state| state.sampler.done > 1).find(known).unwrap();
    let mut without = with.clone();
    without.remembered.difference = None;
    let [with, without] = [with.clone(), without].map(|state| Task { start: Start::Call(state), ..task.clone() });
    let both = made(&Engine::emulated(), &model, &[without, with], &mut Quiet);
    assert!(both[1].0 == whole.0, "the one that an earlier run left");
}

#[test]
fn images_and_edits_take_shortcuts_too() {
    let (engine, model) = (Engine::cpu(), model());
    for shortcuts in all() {
        let image = request(SamplerKind::EulerAncestralDiscrete, &shortcuts).frames(1);
        let task = Task::from(image.settle(&model.defaults).unwrap());
        let mut keep = Keep { every: 7, ..Keep::default() };
        let whole = made(&engine, &model, std::slice::from_ref(&task), &mut keep).remove(0);
        let start = Start::Call(keep.states.remove(0));
        let rest = made(&engine, &model, &[Task { start, ..task }], &mut Quiet).remove(0);
        assert!(whole.0 == rest.0 && whole.1.evaluations <= 2 * CALLS, "{shortcuts:?}");
        let info = VideoInfo { width: 32, height: 16, fps: FrameRate::default() };
        let footage = Footage::clip(Clip::new(info, vec![90; 5 * info.frame_bytes()]).unwrap());
        let edit = request(SamplerKind::Ddim, &shortcuts).edits(&footage, 0.8);
        let edited = engine.edit(&model, &edit, footage, &mut Quiet).unwrap();
        assert!(edited.outcome.evaluations <= 2 * edited.outcome.model_calls, "{shortcuts:?}");
    }
}

/// `tools/demo_model/judge.py` wrote down what it saw in the same videos; in the first, the shape is not the one that was asked for.
#[test]
fn the_judge_of_the_comparison_sees_what_the_judge_of_the_evaluation_saw() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read(folder.join("tools/demo_model/results/evaluation.json")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let (engine, model) = (Engine::cpu(), Model::open(folder.join("assets/demo")).unwrap());
    for sample in list["samples"].as_array().unwrap().iter().take(2) {
        let asked = judge::Asked::of(sample).unwrap();
        let request = Request::new(&asked.prompt).seed(asked.seed).steps(30);
        let seen = judge::judge(&engine.sample(&model, &request, &mut Quiet).unwrap().clip);
        assert_eq!(seen, judge::KEYS.map(|key| sample[key]["seen"].as_str().unwrap().to_owned()), "{}", asked.prompt);
    }
}
