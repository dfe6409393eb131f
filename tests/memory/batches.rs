use super::run;
use osp::checkpoint::Opening;
use osp::cuda::Half;
use osp::cuda::device::{Device, Emulated};
use osp::engine::{Captions, Observer, PlannedDevice, Quiet, Settings, Stage, StagePlan, Task, batch, tokenize};
use osp::memory::MemoryOptions;
use osp::sampler::SamplerKind;
use osp::{Error, Model, Request, Result};
use std::path::Path;
use std::sync::Arc;

const HALVES: [Half; 2] = [Half::Bf16, Half::F16];

/// The tiny model of the golden data.
fn model() -> Model {
    Opening::default().open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline")).unwrap()
}

fn settings(model: &Model, request: Request) -> Settings {
    request.sampler(SamplerKind::Ddim).steps(2).settle(&model.defaults).unwrap()
}

/// Videos of one kind whose captions differ in length, and one of another kind between them.
fn videos(model: &Model) -> Vec<Settings> {
    let small = |prompt: &str| Request::new(prompt).frames(5).size(16, 16).guidance(4.0);
    [
        small("a cat"),
        small("a cat that walks over a wide green field").seed(3).negative_prompt("a dog"),
        small("a dog").frames(1),
        small("a horse and a cow").seed(4),
    ]
    .map(|request| settings(model, request))
    .to_vec()
}

fn captions(model: &Model, settings: &[Settings]) -> Vec<Captions> {
    tokenize(model, settings.iter(), &mut Quiet).unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn captions_of_any_length_share_a_plan() {
    let model = model();
    let settings = videos(&model);
    let captions = captions(&model, &settings);
    assert!(captions[0].tokens < captions[1].tokens);
    let device = Arc::new(Emulated::new(0));
    for savings in [MemoryOptions::NONE, MemoryOptions::MOST] {
        let devices = PlannedDevice::saving(device.clone(), HALVES, savings);
        let all = run(devices.clone(), &model, &settings, &captions).unwrap();
        let mut rest = &all.bytes[..];
        for (video, outcome) in all.outcomes.iter().enumerate() {
            let alone = run(devices.clone(), &model, &settings[video..=video], &captions[video..=video]).unwrap();
            let (bytes, others) = rest.split_at(alone.bytes.len());
            assert!(bytes == alone.bytes, "video {video}, {savings:?}");
            assert!(outcome.latent == alone.outcomes[0].latent, "video {video}, {savings:?}");
            rest = others;
        }
        assert!(rest.is_empty());
    }
    assert_eq!(device.memory_info().unwrap().free, u64::MAX);
}

/// The stages that were planned, and their bytes.
#[derive(Default)]
struct Planned(Vec<(Stage, u64)>);

impl Observer for Planned {
    fn planned(&mut self, stage: Stage, plan: &StagePlan) {
        self.0.push((stage, plan.rehearsed.as_ref().unwrap().plan.bytes));
    }
}

#[test]
fn models_stay_open_beside_each_other_within_the_limit() {
    let model = model();
    let settings = [videos(&model)[0].clone(), videos(&model)[3].clone()];
    let tasks: Vec<Task> = settings.iter().cloned().map(Task::from).collect();
    let group = |limit: Option<u64>| {
        let devices = PlannedDevice::within(Arc::new(Emulated::new(0)), HALVES, limit);
        let (captions, mut planned) = (captions(&model, &settings), Planned::default());
        let batch = batch(devices, &model, &tasks, captions.into_iter().map(Ok).collect(), None, &mut planned).unwrap();
        (batch.group(), planned.0)
    };
    let (together, planned) = group(None);
    let bytes = |wanted: Stage| planned.iter().find(|(stage, _)| *stage == wanted).unwrap().1;
    let both = bytes(Stage::Denoise) + bytes(Stage::Decode);
    assert_eq!((together, planned.len()), (1, 3));
    assert_eq!(group(Some(both)).0, 1);
    assert!(group(Some(both - 1)).0 > 1);
    // Apart, the videos are the same.
    let run = |limit| {
        let devices = PlannedDevice::within(Arc::new(Emulated::new(0)), HALVES, limit);
        run(devices, &model, &settings, &captions(&model, &settings)).unwrap()
    };
    assert!(run(Some(both)).bytes == run(Some(both - 1)).bytes);
}

#[test]
fn a_video_that_cannot_be_made_fails_alone() {
    let model = model();
    let mut settings = videos(&model);
    let large = Request::new("a cat").frames(65).size(256, 256);
    settings[1] = large.sampler(SamplerKind::Ddim).steps(2).settle(&model.defaults).unwrap();
    let tasks: Vec<Task> = settings.iter().cloned().map(Task::from).collect();
    let mut captions: Vec<Result<Captions>> = captions(&model, &settings).into_iter().map(Ok).collect();
    captions[3] = Err(Error::Usage("no such words".into()));
    let devices = PlannedDevice::within(Arc::new(Emulated::new(0)), HALVES, Some(16 << 20));
    let mut batch = batch(devices, &model, &tasks, captions, None, &mut Quiet).unwrap();
    let mut make = |video| batch.decode(video, &mut Quiet, &mut |_| Ok(()));
    assert!(make(0).is_ok());
    assert!(matches!(make(1), Err(Error::OutOfMemory { .. })));
    assert!(make(2).is_ok());
    assert!(matches!(make(3), Err(Error::Usage(words)) if words == "no such words"));
    assert!(matches!(make(3), Err(Error::Usage(words)) if words.contains("refused before")));
}
