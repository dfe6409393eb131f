//! Edits with a source prompt: inversions and deltas.

use super::{FRAMES, Keep, clip, encoded, finish, mask, model, request, same};
use osp::engine::{Footage, Method, Reached, RunState, Sample, Settings, Shortcuts, Start, Task};
use osp::sampler::SamplerKind;
use osp::video::metrics::psnr;
use osp::video::{FrameRate, Mask, VideoInfo};
use osp::{Clip, Engine, Error, Model, Observer, Quiet, Request};
use std::path::Path;
use std::sync::Arc;

fn inversion(source: &str) -> Method {
    Method::Inversion { source: source.to_owned() }
}

fn delta(source: &str) -> Method {
    Method::Delta { source: source.to_owned() }
}

fn edit(engine: &Engine, model: &Model, request: Request, method: Method, footage: Footage, strength: f32) -> Sample {
    engine.edit(model, &request.edits_by(method, &footage, strength), footage, &mut Quiet).unwrap()
}

/// The prompt of [`request`].
const PROMPT: &str = "a cat";

#[test]
fn a_delta_to_the_same_prompt_leaves_the_latent_as_it_is() {
    let (engine, model) = (Engine::cpu(), model());
    let latent = encoded(&engine, &model, &clip(FRAMES)).values;
    for (sampler, guidance) in [(SamplerKind::Ddim, 1.0), (SamplerKind::Pndm, 3.0), (SamplerKind::EulerDiscrete, 3.0)] {
        let made = |source: &str| {
            let request = request(sampler).guidance(guidance);
            edit(&engine, &model, request, delta(source), Footage::clip(clip(FRAMES)), 0.75)
        };
        assert!(made(PROMPT).outcome.latent.values == latent, "{sampler}");
        assert!(made("a dog on a red sofa").outcome.latent.values != latent, "{sampler}");
    }
}

#[test]
fn a_delta_makes_two_calls_a_step_and_an_inversion_one_more_for_each_step() {
    let (engine, model) = (Engine::cpu(), model());
    let counts = |method: Method| {
        let request = request(SamplerKind::EulerDiscrete).guidance(2.0);
        let outcome = edit(&engine, &model, request, method, Footage::clip(clip(FRAMES)), 0.5).outcome;
        (outcome.model_calls, outcome.evaluations)
    };
    // Of 8 steps, 4. An inversion has no guidance.
    assert_eq!([counts(Method::Noise), counts(delta("a dog")), counts(inversion("a dog"))], [(4, 8), (8, 16), (8, 12)]);
}

#[test]
fn masks_keep_what_they_keep_with_every_method() {
    let (engine, model) = (Engine::cpu(), model());
    let clip = clip(FRAMES);
    let latent = encoded(&engine, &model, &clip).values;
    for method in [inversion("a dog"), delta("a dog")] {
        let edited = |inside: Option<fn(usize) -> bool>| {
            let footage = Footage::clip(clip.clone());
            let footage = match inside {
                Some(inside) => footage.mask(mask(3, |_, _, x| inside(x))).unwrap(),
                None => footage,
            };
            edit(&engine, &model, request(SamplerKind::DpmSolverMultistep), method.clone(), footage, 0.6)
        };
        let free = edited(None);
        assert!(same(&edited(Some(|_| true)), &free) && free.outcome.latent.values != latent);
        let kept = edited(Some(|_| false));
        assert!(kept.clip == clip && kept.outcome.latent.values == latent);
        let half = edited(Some(|x| x >= 24)).outcome.latent.values;
        for (i, (new, old)) in half.iter().zip(&latent).enumerate() {
            let column = i / model.factors().unwrap().channels % 6;
            assert_eq!(new != old, column >= 3, "{}, value {i}", method.name());
        }
    }
}

/// On the demo model: with the prompt of the clip, an inversion keeps more than noise of the same strength.
#[test]
fn an_inversion_finds_the_way_back() {
    let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).unwrap();
    let engine = Engine::cpu();
    let request = || Request::new("a large red circle moving right on a black background").frames(9).seed(1);
    let clip = engine.sample(&model, &request(), &mut Quiet).unwrap().clip;
    let kept = |method: Method, strength| {
        let request = request().guidance(1.0).seed(5);
        let made = edit(&engine, &model, request, method, Footage::clip(clip.clone()), strength).clip;
        psnr(&clip, &made).unwrap().overall
    };
    let prompt = request().prompt;
    for strength in [0.5, 0.8] {
        let [noise, inverted] = [Method::Noise, inversion(&prompt)].map(|method| kept(method, strength));
        assert!(
            inverted > noise + 3.0,
            "strength {strength}: {inverted} dB after an inversion, {noise} dB after noise"
        );
    }
}

/// A masked edit with guidance, of two frames of latents.
fn small_task(model: &Model, method: &Method) -> Task {
    let info = VideoInfo { width: 32, height: 16, fps: FrameRate::default() };
    let clip = Clip::new(info, (0..5 * info.frame_bytes()).map(|i| (i % 241) as u8).collect()).unwrap();
    let inside: Vec<bool> = (0..5 * 16 * 32).map(|i| i % 32 < 13).collect();
    let footage = Footage::clip(clip).mask(Mask::new([5, 16, 32], &inside, 1)).unwrap();
    let request = Request::new(PROMPT).sampler(SamplerKind::DpmSolverMultistep).steps(5).guidance(2.0).seed(3);
    let request = request.edits_by(method.clone(), &footage, 0.6);
    Task::from(request.settle(&model.defaults).unwrap()).of_footage(Some(Arc::new(footage)))
}

#[test]
fn they_go_on_from_any_call_with_the_same_bits() {
    let (engine, model) = (Engine::cpu(), model());
    for method in [inversion("a dog on a sofa"), delta("a dog on a sofa")] {
        for at in 1..=5 {
            let mut keep = Keep { at, state: None };
            let (bytes, outcome) = finish(&engine, &model, small_task(&model, &method), &mut keep);
            let start = Start::Call(keep.state.unwrap());
            let rest = finish(&engine, &model, Task { start, ..small_task(&model, &method) }, &mut Quiet);
            assert!(rest.0 == bytes && rest.1.latent == outcome.latent, "{}, after call {at}", method.name());
        }
    }
}

/// Keeps every draft.
#[derive(Default)]
struct Drafts(Vec<Vec<f32>>);

impl Observer for Drafts {
    fn wants_state(&mut self, _: Reached) -> bool {
        true
    }

    fn reached(&mut self, _: Reached, _: &RunState, draft: &[f32]) {
        self.0.push(draft.to_vec());
    }
}

#[test]
fn a_draft_is_what_the_edit_is_by_now() {
    let (engine, model) = (Engine::cpu(), model());
    let drafts = |method: Method| {
        let (footage, mut drafts) = (Footage::clip(clip(FRAMES)), Drafts::default());
        let request = request(SamplerKind::DpmSolverMultistep).edits_by(method, &footage, 0.5);
        let latent = engine.edit(&model, &request, footage, &mut drafts).unwrap().outcome.latent.values;
        (drafts.0, latent)
    };
    let clip = encoded(&engine, &model, &clip(FRAMES)).values;
    // Four calls look for the noise, and four make the clip anew.
    let (inverted, _) = drafts(inversion("a dog"));
    assert!(inverted[..4].iter().all(|draft| *draft == clip) && inverted[4] != clip);
    // Every other call moves the clip, and the last one makes it what it becomes.
    let (moved, latent) = drafts(delta("a dog"));
    assert!(moved[0] == clip && moved[1] != clip && moved[2] == moved[1] && moved[3] != moved[2]);
    assert!(moved[7] == latent);
}

#[test]
fn plans_count_the_source_prompt() {
    let model = model();
    let engine = Engine::emulated();
    let [noise, inversion, delta] = [Method::Noise, inversion("a dog"), delta("a dog")].map(|method| {
        let plans = engine.plan(&model, &small_task(&model, &method).settings, 9).unwrap();
        [plans.text, plans.denoise].map(|plan| plan.rehearsed.unwrap())
    });
    let flops = [&noise, &inversion, &delta].map(|[text, _]| text.work.flops());
    // Two captions with guidance; the source prompt is a third; and with guidance of its own there are four.
    assert!(flops[0] < flops[1] && flops[1] < flops[2], "{flops:?}");
    assert!(delta[1].plan.bytes > noise[1].plan.bytes, "the transformer keeps two texts");
}

#[test]
fn kernels_make_them_with_the_least_memory_as_with_all() {
    let model = model();
    let short = Engine::emulated().memory_limit(1000).unwrap();
    for method in [inversion("a dog on a sofa"), delta("a dog on a sofa")] {
        let task = || small_task(&model, &method);
        let Err(Error::OutOfMemory { needed, .. }) = short.plan(&model, &task().settings, 9) else {
            panic!("1,000 bytes are enough")
        };
        let whole = finish(&Engine::emulated(), &model, task(), &mut Quiet);
        let least = finish(&Engine::emulated().memory_limit(needed).unwrap(), &model, task(), &mut Quiet);
        assert!(whole.0 == least.0 && whole.1.latent == least.1.latent, "{}", method.name());
        let cpu = finish(&Engine::cpu(), &model, task(), &mut Quiet);
        let differences: Vec<u32> = cpu.0.iter().zip(&whole.0).map(|(a, b)| a.abs_diff(*b).into()).collect();
        let mean = f64::from(differences.iter().sum::<u32>()) / differences.len() as f64;
        assert!(mean < 1.0 && differences.iter().all(|&levels| levels < 16), "{}: {mean} levels", method.name());
    }
}

#[test]
fn what_makes_no_sense_is_one_line() {
    let model = model();
    let said = |request: Request| request.settle(&model.defaults).unwrap_err().to_string();
    let footage = Footage::clip(clip(FRAMES));
    let asked = |sampler, method| request(sampler).edits_by(method, &footage, 0.5);
    let error = said(asked(SamplerKind::EulerAncestralDiscrete, inversion("a dog")));
    assert!(error.contains("EulerAncestralDiscrete adds noise or clamps"), "{error}");
    for empty in ["", " ", "<br>"] {
        let error = said(asked(SamplerKind::Ddim, delta(empty)));
        assert!(error.contains("nothing is left of the source prompt"), "{error}");
    }
    let shortcuts = Shortcuts { cache: Some("taylor:2".parse().unwrap()), ..Shortcuts::default() };
    let error = said(asked(SamplerKind::Ddim, delta("a dog")).shortcuts(shortcuts));
    assert!(error.contains("the method delta can reuse no prediction"), "{error}");
    let interval = Shortcuts { guidance_interval: Some([0.1, 0.8]), ..Shortcuts::default() };
    assert!(asked(SamplerKind::Ddim, delta("a dog")).shortcuts(interval).settle(&model.defaults).is_ok());
    let extended = Footage::clip(clip(FRAMES)).extend(8).unwrap();
    let begun = Footage::clip(clip(FRAMES)).first_frame(clip(1)).unwrap();
    for footage in [extended, begun, Footage::image(clip(1)).unwrap()] {
        let error = said(request(SamplerKind::Ddim).frames(FRAMES).edits_by(delta("a dog"), &footage, 1.0));
        assert!(error.contains("the method delta needs a clip, without a new first frame"), "{error}");
    }
}

/// Videos of one batch whose source prompts differ in length.
#[test]
fn a_batch_makes_each_as_alone() {
    let (engine, model) = (Engine::cpu(), model());
    let one = small_task(&model, &delta("a dog"));
    let other = small_task(&model, &inversion("a dog and a cat on a long red sofa"));
    let other = Task { footage: one.footage.clone(), ..other };
    let plain = Task {
        settings: Settings { prompt: "a bird".into(), ..small_task(&model, &Method::Noise).settings },
        ..one.clone()
    };
    let tasks = [one, other, plain];
    let mut batch = engine.resume(&model, &tasks, &mut Quiet).unwrap();
    for (video, task) in tasks.iter().enumerate() {
        let made = batch.decode(video, &mut Quiet, &mut |_| Ok(())).unwrap();
        assert!(made.latent == finish(&engine, &model, task.clone(), &mut Quiet).1.latent, "video {video}");
    }
}
