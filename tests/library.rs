//! The library as a program calls it that has no command line.

use osp::checkpoint::{Need, Opening, WeightSource};
use osp::engine::{Coding, Outcome, Reached, RunState, Sample, SavedSettings, Settings, Stage, TextCache, Windowed};
use osp::memory::MemoryOptions;
use osp::model::vae::tiling::Tiling;
use osp::model::vae::{MOST_SIDE, Projection};
use osp::profile::{Subject, Times};
use osp::video::{FrameRate, VideoInfo};
use osp::{Clip, Engine, Error, Latent, Model, Observer, Quiet, Relief, Request, preset};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A request that the tiny model of the golden data answers in an instant.
fn request() -> Request {
    Request::new("a cat").frames(5).size(16, 32).steps(4).seed(3)
}

/// A clip of no particular content.
fn clip(frames: usize, height: usize, width: usize) -> Clip {
    let pixels = (0..frames * height * width * 3).map(|i| (i * 7 % 251) as u8).collect();
    Clip::new(VideoInfo { height, width, fps: FrameRate::default() }, pixels).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Keeps what the observer hears, and cancels after some units.
#[derive(Default)]
struct Heard {
    stages: Vec<(Stage, u64, u64)>,
    previews: Vec<(usize, Vec<f32>)>,
    /// Whether states are wanted, too, and their drafts.
    states: bool,
    drafts: Vec<(usize, Vec<f32>)>,
    left: Option<u64>,
}

impl Observer for Heard {
    fn begin(&mut self, stage: Stage, units: u64) {
        self.stages.push((stage, units, 0));
    }

    fn advance(&mut self, units: u64) {
        self.stages.last_mut().unwrap().2 += units;
        self.left = self.left.map(|left| left.saturating_sub(units));
    }

    fn wants_preview(&mut self, step: usize, steps: usize) -> bool {
        step.is_multiple_of(2) || step == steps
    }

    fn preview(&mut self, step: usize, latent: &[f32]) {
        self.previews.push((step, latent.to_vec()));
    }

    fn wants_state(&mut self, at: Reached) -> bool {
        self.states && self.wants_preview(at.done, at.calls)
    }

    fn reached(&mut self, at: Reached, _: &RunState, draft: &[f32]) {
        self.drafts.push((at.done, draft.to_vec()));
    }

    fn cancelled(&mut self) -> bool {
        self.left == Some(0)
    }
}

#[test]
fn an_observer_hears_of_every_unit_and_sees_latents_without_changing_a_bit() {
    let model = Model::open(golden("pipeline")).unwrap();
    // Kernels run in arenas that were planned without previews.
    for engine in [Engine::cpu(), Engine::emulated()] {
        let plain = engine.sample(&model, &request(), &mut Quiet).unwrap();
        let mut heard = Heard::default();
        let seen = engine.sample(&model, &request(), &mut heard).unwrap();
        assert_eq!(seen.clip, plain.clip);
        assert_eq!((seen.clip.frames, seen.clip.height, seen.clip.width), (5, 16, 32));
        assert_eq!(seen.outcome.latent.size, [2, 2, 4]);
        assert_eq!(
            heard.stages.iter().map(|stage| stage.0).collect::<Vec<_>>(),
            [Stage::Text, Stage::Denoise, Stage::Decode]
        );
        assert!(heard.stages.iter().all(|(_, units, done)| units == done), "{:?}", heard.stages);
        let (last, latent) = heard.previews.last().unwrap();
        assert_eq!(*last, seen.outcome.model_calls);
        assert_eq!(bits(latent), bits(&seen.outcome.latent.values));
        assert_ne!(bits(&heard.previews[0].1), bits(latent));

        // Before the last call, previews are the drafts of states, and those who want both get the same.
        let mut both = Heard { states: true, ..Heard::default() };
        engine.sample(&model, &request(), &mut both).unwrap();
        assert_eq!(both.previews, heard.previews);
        let before = heard.previews.len() - 1;
        assert!(before > 2 && both.drafts.len() == before + 1);
        assert_eq!(both.drafts[..before], heard.previews[..before]);
    }
}

#[test]
fn the_demo_model_comes_with_the_projection_that_is_fitted_to_it() {
    let model = Opening { need: Need::Vae, ..Opening::default() }.open("assets/demo").unwrap();
    let kept = model.need_vae().unwrap().projection().unwrap().unwrap();
    let mut heard = Heard::default();
    let fitted = Engine::cpu().fit_projection(&model, &mut heard).unwrap();
    assert_eq!(heard.stages, [(Stage::Encode, 1, 1); 3]);
    let values = |of: &Projection| of.weights.iter().flatten().chain(&of.bias).copied().collect::<Vec<f32>>();
    // The CPUs of other machines round otherwise.
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
    assert!(values(&kept).iter().zip(&values(&fitted)).all(near), "{kept:?}, fitted {fitted:?}");
}

#[test]
fn a_projection_fits_vaes_of_other_factors_and_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let model = other_factors(folder.path());
    let projection = Engine::cpu().fit_projection(&model, &mut Quiet).unwrap();
    assert_eq!(projection.problem(3), None);
    let clip = projection.image(&[0.5; 2 * 2 * 6 * 3], [2, 2, 6]).unwrap();
    assert_eq!((clip.frames, clip.height, clip.width), (2, 2, 6));
    let short = Engine::emulated().memory_limit(1000).unwrap().fit_projection(&model, &mut Quiet);
    let Err(Error::OutOfMemory { free: 1000, relief: Relief::Limit, .. }) = short else { panic!("{short:?}") };
}

#[test]
fn an_observer_stops_a_run_in_any_stage() {
    let model = Model::open(golden("pipeline")).unwrap();
    let engine = Engine::cpu();
    let mut all = Heard::default();
    engine.sample(&model, &request(), &mut all).unwrap();
    let units: Vec<u64> = all.stages.iter().map(|(_, units, _)| *units).collect();
    for stage in 0..units.len() {
        let left = units[..stage].iter().sum::<u64>() + 1;
        let mut heard = Heard { left: Some(left), ..Heard::default() };
        let error = engine.sample(&model, &request(), &mut heard).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(heard.stages.len(), stage + 1);
    }
}

#[test]
fn a_batch_gives_what_single_runs_give() {
    let model = Model::open(golden("pipeline")).unwrap();
    let requests = [request(), request().seed(4).frames(1), request().guidance(1.0)];
    let settings: Vec<Settings> = requests.iter().map(|request| request.settle(&model.defaults).unwrap()).collect();
    let engine = Engine::cpu();
    let mut batch = engine.batch(&model, &settings, &mut Quiet).unwrap();
    // In any order, with latents made before or not.
    batch.denoise(1, &mut Quiet).unwrap();
    for video in [2, 0, 1] {
        let alone = engine.sample(&model, &requests[video], &mut Quiet).unwrap();
        let mut frames = Vec::new();
        let outcome = batch.decode(video, &mut Quiet, &mut |rgb| {
            frames.extend_from_slice(rgb);
            Ok(())
        });
        assert_eq!(frames, alone.clip.pixels);
        assert_eq!(outcome.unwrap().latent, alone.outcome.latent);
    }
}

#[test]
fn what_a_request_leaves_open_is_the_models() {
    let model = Model::open(golden("pipeline")).unwrap();
    let settings = Request::new("a cat").settle(&model.defaults).unwrap();
    let defaults = &model.defaults;
    assert_eq!((settings.frames, settings.height, settings.width), (defaults.frames, defaults.height, defaults.width));
    assert_eq!((settings.sampler, settings.steps), (defaults.sampler, defaults.steps));
    for wrong in [
        Request::new(" "),
        request().frames(6),
        request().size(16, 24),
        request().steps(0),
        request().guidance(f32::NAN),
    ] {
        let error = wrong.settle(&model.defaults).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
    }
}

#[test]
fn clips_go_through_the_vae_and_others_are_refused() {
    let model = Opening { need: Need::Vae, ..Opening::default() }.open(golden("pipeline")).unwrap();
    let engine = Engine::cpu();
    let (clip, coding) = (clip(5, 16, 24), Coding { seed: None, ..Coding::default() });
    let (latent, _) = engine.encode(&model, &clip, coding, &mut Quiet).unwrap();
    assert_eq!((latent.size, latent.channels().unwrap()), ([2, 2, 3], 4));
    let (decoded, _) = engine.decode(&model, &latent, coding, &mut Quiet).unwrap();
    let again = engine.reconstruct(&model, &clip, coding, &mut Quiet).unwrap();
    assert_eq!((again.clip, again.latent), (decoded, latent));
    assert_eq!(again.psnr.frames.len(), 5);
    let short = Latent { values: vec![0.0; 7], size: [1, 2, 2], fps: None };
    assert!(matches!(engine.decode(&model, &short, coding, &mut Quiet), Err(Error::Shape { .. })));
    let three = Latent { values: vec![0.0; 12], size: [1, 2, 2], fps: None };
    let error = engine.decode(&model, &three, coding, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("has 3 channels, the VAE takes 4"), "{error}");
    for [frames, height, width] in [[4, 16, 16], [5, 12, 16], [5, 16, 20]] {
        let error = engine.encode(&model, &self::clip(frames, height, width), coding, &mut Quiet).unwrap_err();
        assert!(error.to_string().contains(&format!("{frames} frames of {height}x{width}")), "{error}");
    }
}

/// The tiny model with a VAE of another shape: latents of 4×4 pixels, 2 frames and 3 channels. Its weights are generated.
fn other_factors(folder: &Path) -> Model {
    let config = |part: &str, edits: &[(&str, Value)]| {
        let text = fs::read_to_string(golden("pipeline").join(part).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        edits.iter().for_each(|(key, value)| config[*key] = value.clone());
        fs::create_dir_all(folder.join(part)).unwrap();
        fs::write(folder.join(part).join("config.json"), config.to_string()).unwrap();
    };
    config("text_encoder", &[]);
    fs::copy(golden("pipeline/text_encoder/spiece.model"), folder.join("text_encoder/spiece.model")).unwrap();
    config("transformer", &[("in_channels", 3.into()), ("out_channels", 6.into())]);
    let vae = [
        ("embed_dim", json!(3)),
        ("encoder_spatial_downsample", json!(["Downsample", "", "Downsample", ""])),
        ("encoder_temporal_downsample", json!(["", "TimeDownsampleRes2x", "", ""])),
        ("decoder_spatial_upsample", json!(["", "SpatialUpsample2x", "", "SpatialUpsample2x"])),
        ("decoder_temporal_upsample", json!(["", "", "TimeUpsampleRes2x", ""])),
    ];
    config("vae", &vae);
    Opening { weights: WeightSource::Synthetic(1), ..Opening::default() }.open(folder).unwrap()
}

#[test]
fn sizes_follow_the_factors_of_the_model_s_vae() {
    let folder = tempfile::tempdir().unwrap();
    let (model, engine) = (other_factors(folder.path()), Engine::cpu());
    let sample = engine.sample(&model, &request().frames(3).size(8, 24), &mut Quiet).unwrap();
    let Sample { clip, outcome: Outcome { latent, .. }, .. } = sample;
    assert_eq!((latent.size, latent.channels().unwrap()), ([2, 2, 6], 3));
    assert_eq!([clip.frames, clip.height, clip.width], [3, 8, 24]);

    let path = folder.path().join("latent.safetensors");
    latent.write(&path).unwrap();
    assert_eq!(Latent::read(&path).unwrap(), latent);
    let again = engine.reconstruct(&model, &clip, Coding::default(), &mut Quiet).unwrap();
    assert_eq!((again.clip.frames, again.latent.size), (3, [2, 2, 6]));

    let refused = |request: Request| request.settle(&model.defaults).unwrap_err().to_string();
    assert!(refused(request().frames(4)).contains("frames 4 is not 2k+1; the nearest are 3 and 5"));
    assert!(refused(request().frames(3).size(12, 16)).contains("not a multiple of 8 pixels; the nearest is 16x16"));
    let tiling = Some(Tiling { sample_size: 8, sample_frames: 4, overlap: 0.5 });
    assert!(refused(request().frames(3).tiling(tiling)).contains("tile frames 4 is not 2k+1"));
    let coding = Coding { tiling, ..Coding::default() };
    let error = engine.encode(&model, &clip, coding, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("tile frames 4 is not 2k+1"), "{error}");
}

#[test]
fn a_device_that_executes_nothing_gives_no_result() {
    let (model, engine, coding) = (Model::open(golden("pipeline")).unwrap(), Engine::dry(), Coding::default());
    let latent = Latent { values: vec![0.0; 16], size: [1, 2, 2], fps: None };
    for failed in [
        engine.sample(&model, &request(), &mut Quiet).map(drop),
        engine.encode(&model, &clip(5, 16, 16), coding, &mut Quiet).map(drop),
        engine.decode(&model, &latent, coding, &mut Quiet).map(drop),
    ] {
        assert!(matches!(&failed, Err(Error::Usage(text)) if text.contains("executes nothing")), "{failed:?}");
    }
}

#[test]
fn a_model_without_a_part_is_an_error_and_no_panic() {
    let model = Opening { need: Need::Vae, ..Opening::default() }.open(golden("pipeline")).unwrap();
    let error = Engine::cpu().sample(&model, &request(), &mut Quiet).unwrap_err();
    assert!(matches!(&error, Error::Usage(text) if text.contains("tokenizer")), "{error}");
    let models = Opening { need: Need::Models, ..Opening::default() }.open(golden("pipeline")).unwrap();
    assert!(Engine::cpu().sample(&models, &request(), &mut Quiet).is_err());
}

#[test]
fn limits_are_kept_and_only_kernels_have_them() {
    assert!(matches!(Engine::cpu().memory_limit(1 << 30), Err(Error::Usage(_))));
    let model = Opening { weights: WeightSource::Shapes, ..Opening::default() }.open(golden("pipeline")).unwrap();
    let settings = request().settle(&model.defaults).unwrap();
    let peak = |engine: Engine| {
        let plans = engine.plan(&model, &settings, 9).unwrap();
        plans.stages().iter().map(|(_, plan)| plan.rehearsed.as_ref().unwrap().plan.bytes).max().unwrap()
    };
    let short = Engine::dry().memory_limit(1000).unwrap().plan(&model, &settings, 9);
    let Err(Error::OutOfMemory { needed, free: 1000, .. }) = short else { panic!("{short:?}") };
    assert_eq!(peak(Engine::dry().memory_limit(needed).unwrap()), needed);
    // The CPU plans nothing.
    assert!(Engine::cpu().plan(&model, &settings, 9).unwrap().text.rehearsed.is_none());
    let clip = Windowed { size: [5, 16, 16], tiling: None };
    assert!(Engine::dry().plan_encode(&model, clip).unwrap().rehearsed.unwrap().plan.bytes > 0);
}

#[test]
fn a_profile_counts_the_same_on_every_device_with_kernels() {
    let model = tiny();
    let subject = Subject { size: [5, 16, 16], tokens: 3, tiling: None, repeat: None };
    let counted = Engine::dry().profile(&model, &subject, &mut Quiet).unwrap();
    let emulated = Engine::emulated().profile(&model, &subject, &mut Quiet).unwrap();
    let calls = |profile: &osp::profile::Profile| {
        let records = profile.stages.iter().flat_map(|stage| &stage.piece.records);
        records.map(|record| (record.name.clone(), record.flops, record.bytes)).collect::<Vec<_>>()
    };
    assert_eq!((counted.times, calls(&counted)), (Times::None, calls(&emulated)));
    assert!(counted.stages.iter().all(|stage| stage.memory.is_some_and(|memory| memory.peak_bytes > 0)));
    let cpu = Engine::cpu().profile(&model, &subject, &mut Quiet).unwrap();
    assert!(cpu.stages.iter().flat_map(|stage| &stage.piece.records).all(|record| record.time.is_some()));
    let again = Subject { repeat: Some(2), ..subject };
    assert!(matches!(Engine::dry().profile(&model, &again, &mut Quiet), Err(Error::Usage(_))));
    let odd = Subject { size: [0, 16, 16], ..subject };
    assert!(matches!(Engine::dry().profile(&model, &odd, &mut Quiet), Err(Error::Usage(_))));
}

/// The tiny model, whose weights a device that executes needs.
fn tiny() -> Model {
    Opening { need: Need::Models, ..Opening::default() }.open(golden("pipeline")).unwrap()
}

#[test]
fn an_engine_verifies_golden_folders_unless_it_executes_nothing() {
    let mut results = Vec::new();
    let folder = golden("samplers");
    Engine::cpu().verify(&folder, MemoryOptions::NONE, &mut |result| results.push(result.passed)).unwrap();
    assert!(!results.is_empty() && results.iter().all(|passed| *passed));
    assert!(matches!(Engine::dry().verify(&folder, MemoryOptions::NONE, &mut |_| {}), Err(Error::Usage(_))));
}

#[test]
fn embeddings_are_cached_where_the_engine_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(golden("pipeline")).unwrap();
    let cached = || {
        let engine = Engine::cpu().text_cache(TextCache::new(folder.path()));
        engine.sample(&model, &request(), &mut Quiet).unwrap()
    };
    let (first, second) = (cached(), cached());
    assert!(!first.outcome.text_cached && second.outcome.text_cached);
    assert_eq!(first.clip, second.clip);
}

#[test]
fn a_preset_is_a_model_without_a_tokenizer() {
    let model = preset::open("v1.1.0", None).unwrap();
    let error = Engine::cpu().sample(&model, &Request::new("a lake"), &mut Quiet).unwrap_err();
    assert!(error.to_string().contains("v1.1.0 was opened without its tokenizer"), "{error}");
}

/// Else a run could be stopped, but not go on.
#[test]
fn every_size_that_a_request_may_have_can_be_read_again() {
    let defaults = preset::open("v1.1.0", None).unwrap().defaults;
    let tiling = Some(Tiling { sample_size: MOST_SIDE, sample_frames: MOST_SIDE - 3, overlap: 0.5 });
    let large = Request::new("a cat").frames(MOST_SIDE - 3).size(MOST_SIDE, MOST_SIDE).tiling(tiling);
    let saved = SavedSettings::from(&large.settle(&defaults).unwrap());
    let text = serde_json::to_string(&saved).unwrap();
    let read = serde_json::from_str::<SavedSettings>(&text).unwrap().settings().expect("it is a request");
    assert_eq!(serde_json::to_string(&SavedSettings::from(&read)).unwrap(), text);
    let tiled = |change: fn(Tiling) -> Tiling| large.clone().tiling(tiling.map(change));
    for too_large in [
        large.clone().frames(MOST_SIDE + 1),
        large.clone().frames(usize::MAX),
        large.clone().frames(1 << 62 | 1),
        large.clone().size(16, MOST_SIDE + 16),
        tiled(|tiling| Tiling { sample_size: MOST_SIDE + 8, ..tiling }),
        tiled(|tiling| Tiling { sample_frames: MOST_SIDE + 1, ..tiling }),
    ] {
        let error = too_large.settle(&defaults).unwrap_err().to_string();
        assert!(error.contains("65536"), "{error}");
    }
}
