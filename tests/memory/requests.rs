use super::run;
use osp::backend::Backend;
use osp::checkpoint::{Opening, WeightSource};
use osp::cuda::device::{Device, Dry, Emulated, Event};
use osp::cuda::{Cuda, Half, Variant};
use osp::engine::{
    Captions, Devices, PlannedDevice, Quiet, Rehearsal, Settings, Shortcuts, Stage, StagePlan, Windowed, tokenize,
};
use osp::memory::MemoryOptions;
use osp::memory::arena::Arena;
use osp::memory::plan::MemoryPlan;
use osp::model::vae::Factors;
use osp::model::vae::tiling::Tiling;
use osp::sampler::SamplerKind;
use osp::video::FrameRate;
use osp::{Error, Model, Relief, Result, preset};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const HALVES: [Half; 2] = [Half::Bf16, Half::F16];

/// A device that allocates every buffer separately.
struct Loose(Arc<dyn Device>, MemoryOptions);

impl Devices for Loose {
    type Backend = Cuda;

    fn name(&self, _: Stage) -> String {
        self.0.name()
    }

    fn plan(&self, _: Stage, _: Rehearsal<'_>) -> Result<StagePlan> {
        Ok(StagePlan { savings: self.1, rehearsed: None })
    }

    fn fit_together(&self, _: [&StagePlan; 2]) -> bool {
        true
    }

    fn open(&self, stage: Stage, _: &StagePlan) -> Result<Cuda> {
        Ok(Cuda::new(self.0.clone(), HALVES[usize::from(stage != Stage::Text)]))
    }
}

/// The tiny model of the golden data.
fn tiny(weights: WeightSource) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline");
    Opening { weights, ..Opening::default() }.open(&folder).unwrap()
}

fn request(frames: usize, [height, width]: [usize; 2], sampler: SamplerKind, steps: usize, guidance: f32) -> Settings {
    Settings {
        prompt: "a cat".into(),
        negative_prompt: "a dog, a cow and a horse".into(),
        clean_caption: false,
        frames,
        height,
        width,
        sampler,
        steps,
        guidance,
        seed: 1,
        fps: FrameRate::default(),
        tiling: Some(Tiling::default()),
        edit: None,
        span: None,
        shortcuts: Shortcuts::default(),
        factors: Factors::PUBLISHED,
        patch: 2,
    }
}

fn savings() -> impl Strategy<Value = MemoryOptions> {
    let parts = prop::sample::select(vec![1, 2, 4, 8]);
    let frames = prop::sample::select(vec![None, Some(16), Some(8), Some(4)]);
    (any::<[bool; 3]>(), parts, frames).prop_map(|([text, transformer, halves], transformer_parts, vae_frames)| {
        MemoryOptions {
            stream_text: text,
            stream_transformer: transformer,
            branches_in_turn: halves,
            transformer_parts,
            vae_frames,
        }
    })
}

fn requests() -> impl Strategy<Value = (Settings, usize)> {
    let sides = || prop::sample::select(vec![16, 32, 48]);
    let kinds = prop::sample::select(SamplerKind::ALL.to_vec());
    let guidance = prop::sample::select(vec![1.0f32, 7.5]);
    let frames = prop::sample::select(vec![1, 5, 17, 33]);
    (frames, sides(), sides(), kinds, 2usize..8, guidance, 1usize..20).prop_map(
        |(frames, height, width, kind, steps, guidance, tokens)| {
            (request(frames, [height, width], kind, steps, guidance), tokens)
        },
    )
}

/// A log, split at the moments at which nothing is allocated.
fn stages(log: Vec<Event>) -> Vec<Vec<Event>> {
    let mut stages = vec![Vec::new()];
    let mut alive = 0;
    for event in log {
        alive += match event {
            Event::Alloc { .. } => 1,
            Event::Free { .. } => -1,
            _ => 0,
        };
        stages.last_mut().unwrap().push(event);
        if alive == 0 {
            stages.push(Vec::new());
        }
    }
    stages.pop();
    stages
}

fn launches(log: &[Event]) -> Vec<Event> {
    log.iter().filter(|event| matches!(event, Event::Launch { .. })).cloned().collect()
}

fn allocated(log: &[Event]) -> Vec<u64> {
    let bytes = |event: &Event| if let Event::Alloc { bytes, .. } = event { Some(*bytes as u64) } else { None };
    log.iter().filter_map(bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_run_allocates_what_its_plan_says((request, tokens) in requests(), savings in savings(), again in any::<bool>()) {
        prop_assume!(request.validate().is_ok());
        let model = tiny(WeightSource::Shapes);
        let captions = vec![Captions::counted(tokens, &request); if again { 2 } else { 1 }];
        let requests = vec![request; captions.len()];

        let dry = Arc::new(Dry::new());
        let sampled = run(PlannedDevice::saving(dry.clone(), HALVES, savings), &model, &requests, &captions).unwrap();
        let planned: Vec<u64> = sampled.outcomes[0].memory.iter().map(|stage| stage.arena_bytes.unwrap()).collect();
        let log = dry.take_log();
        prop_assert_eq!(allocated(&log), planned.clone());
        // Between two videos, transformer and decoder stay open.
        let open = if again { [planned[0], planned[1] + planned[2], 0] } else { [planned[0], planned[1], planned[2]] };
        prop_assert_eq!(stages(log.clone()).len(), if again { 2 } else { 3 });
        prop_assert_eq!(dry.peak_bytes(), *open.iter().max().unwrap());

        // Without a plan, the run has another log, which gives an equal plan.
        let dry = Arc::new(Dry::new());
        let loose = run(Loose(dry.clone(), savings), &model, &requests, &captions).unwrap();
        prop_assert_eq!(loose.bytes.len(), sampled.bytes.len());
        let loose = dry.take_log();
        prop_assert_eq!(launches(&loose), launches(&log));
        if !again {
            let replanned: Vec<u64> = stages(loose).iter().map(|log| MemoryPlan::of(log).bytes).collect();
            prop_assert_eq!(replanned, planned);
        }
    }
}

#[test]
fn the_emulator_samples_the_same_bits_in_an_arena() {
    let model = tiny(WeightSource::Files);
    let device = Arc::new(Emulated::new(0));
    for (frames, savings) in [(1, MemoryOptions::NONE), (5, MemoryOptions::MOST)] {
        let requests = [request(frames, [16, 16], SamplerKind::Ddim, 2, 7.5)];
        let captions = tokenize(&model, requests.iter(), &mut Quiet).unwrap();
        let captions: Vec<Captions> = captions.into_iter().map(Result::unwrap).collect();
        let loose = run(Loose(device.clone(), MemoryOptions::NONE), &model, &requests, &captions).unwrap();
        let planned = PlannedDevice::saving(device.clone(), HALVES, savings);
        let planned = run(planned.clone(), &model, &requests, &captions).unwrap();
        assert!(planned.bytes == loose.bytes && planned.bytes.len() == frames * 16 * 16 * 3);
        let bits = |latent: &[f32]| latent.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&planned.outcomes[0].latent.values), bits(&loose.outcomes[0].latent.values));
    }
    assert_eq!(device.memory_info().unwrap().free, u64::MAX);
}

/// An arena for a plan of two buffers with overlapping lifetimes; the second starts at `offset`.
fn arena(offset: u64) -> Arena {
    let alloc = |address| Event::Alloc { address, bytes: 300, weight: false };
    let mut plan = MemoryPlan::of(&[alloc(256), alloc(1024)]);
    assert_eq!((plan.bytes, plan.buffers[1].offset), (1024, 512));
    plan.buffers[1].offset = offset;
    Arena::new(Arc::new(Emulated::new(0)), Arc::new(plan)).unwrap()
}

#[test]
fn every_allocation_from_an_arena_is_poisoned() {
    let arena = arena(512);
    let mut first = arena.alloc(300).unwrap();
    arena.write(&mut *first, 0, &[1; 300]).unwrap();
    let second = arena.alloc(300).unwrap();
    assert_eq!(second.address() - first.address(), 512);
    let mut host = [0; 300];
    arena.read(&*second, 0, &mut host).unwrap();
    assert_eq!(host, [0xCB; 300]);
    arena.read(&*first, 0, &mut host).unwrap();
    assert_eq!((host, arena.allocations()), ([1; 300], 2));
}

#[test]
#[should_panic(expected = "not in the rehearsal")]
fn a_larger_allocation_is_a_bug() {
    let _ = arena(512).alloc(301);
}

#[test]
#[should_panic(expected = "not in the rehearsal")]
fn one_allocation_too_many_is_a_bug() {
    let arena = arena(512);
    let _pieces = [(); 3].map(|()| arena.alloc(300));
}

#[test]
fn every_run_begins_at_the_same_place() {
    let arena = arena(512);
    let weights = arena.alloc(300).unwrap();
    for bytes in [300, 1, 299] {
        arena.begin_run();
        let piece = arena.alloc(bytes).unwrap();
        assert_eq!((piece.address() - weights.address(), piece.len()), (512, bytes));
    }
}

#[test]
#[should_panic(expected = "has freed all of its buffers")]
fn a_run_that_keeps_a_buffer_is_a_bug() {
    let arena = arena(512);
    arena.begin_run();
    let _kept = arena.alloc(300).unwrap();
    arena.begin_run();
}

#[test]
fn what_a_run_leaves_out_before_a_landmark_keeps_its_place() {
    let alloc = |address, bytes| Event::Alloc { address, bytes, weight: false };
    let free = |address| Event::Free { address };
    let part = |address| [alloc(address, 300), free(address), Event::Landmark];
    let log = [&[alloc(256, 100), Event::Landmark][..], &part(1024), &part(2048), &[alloc(4096, 600)]].concat();
    let plan = Arc::new(MemoryPlan::of(&log));
    assert_eq!(plan.landmarks, [1, 2, 3]);
    let arena = Arena::new(Arc::new(Emulated::new(0)), plan).unwrap();
    let _kept = arena.alloc(100).unwrap();
    for left_out in [[false, false], [true, false], [false, true], [true, true]] {
        arena.begin_run();
        arena.landmark(false);
        for left_out in left_out {
            let _piece = (!left_out).then(|| arena.alloc(300).unwrap());
            arena.landmark(true);
        }
        // Too large for the places that were left out.
        assert_eq!(arena.alloc(600).unwrap().len(), 600);
    }
}

#[test]
#[should_panic(expected = "landmark 0 after 0 allocations is not in the rehearsal")]
fn a_landmark_too_many_is_a_bug() {
    arena(512).landmark(true);
}

#[test]
#[should_panic(expected = "landmark 0 after 1 allocations is not in the rehearsal")]
fn what_a_run_leaves_out_elsewhere_is_a_bug() {
    let alloc = |address| Event::Alloc { address, bytes: 300, weight: false };
    let plan = MemoryPlan::of(&[alloc(256), alloc(1024), Event::Landmark]);
    let arena = Arena::new(Arc::new(Emulated::new(0)), Arc::new(plan)).unwrap();
    let _piece = arena.alloc(300).unwrap();
    arena.landmark(false);
}

#[test]
#[should_panic(expected = "two buffers at once")]
fn a_plan_with_an_overlap_is_a_bug() {
    let arena = arena(256);
    let _pieces = [(); 2].map(|()| arena.alloc(300));
}

#[test]
#[should_panic(expected = "the copy lies in the buffer")]
fn a_copy_beyond_a_buffer_is_a_bug() {
    let arena = arena(512);
    let mut first = arena.alloc(300).unwrap();
    let _ = arena.write(&mut *first, 299, &[0; 2]);
}

/// Savings and arena bytes of each stage within a limit in bytes, or the error.
fn within(limit: u64) -> Result<Vec<(MemoryOptions, u64)>> {
    let model = tiny(WeightSource::Shapes);
    let requests = [request(17, [32, 32], SamplerKind::Pndm, 4, 7.5)];
    let captions = [Captions::counted(9, &requests[0])];
    let devices = PlannedDevice::within(Arc::new(Dry::new()), HALVES, Some(limit));
    let sampled = run(devices, &model, &requests, &captions)?;
    Ok(sampled.outcomes[0].memory.iter().map(|stage| (stage.savings, stage.arena_bytes.unwrap())).collect())
}

#[test]
fn a_limit_is_kept_or_refused_before_any_work() {
    let roomy = within(1 << 30).unwrap();
    assert!(roomy.iter().all(|&(savings, _)| savings == MemoryOptions::NONE));
    let error = within(10_000).unwrap_err();
    let Error::OutOfMemory { needed, free: 10_000, relief, .. } = &error else { panic!("{error}") };
    assert_ne!(*relief, Relief::Video, "{error}");
    let tight = within(*needed).unwrap();
    assert!(tight.iter().all(|(_, bytes)| bytes <= needed), "{tight:?}");
    assert!(tight.iter().any(|(_, bytes)| bytes == needed), "{tight:?}");
    assert!(matches!(within(needed - 1), Err(Error::OutOfMemory { .. })));
}

#[test]
fn a_rehearsal_launches_what_the_device_launches() {
    let device = Dry::new().with_multiprocessors(30).with_most_shared(99 << 10).with_variant(Variant::Sm90);
    let device = Arc::new(device);
    let devices = PlannedDevice::saving(device, HALVES, MemoryOptions::NONE);
    let facts = |device: &dyn Device| (device.multiprocessors(), device.most_shared(), device.variant());
    let plan = devices.plan(Stage::Text, &|cuda, _, _| {
        assert_eq!(facts(cuda.device()), (30, 99 << 10, Variant::Sm90));
        cuda.upload(&[1.0]).map(drop)
    });
    let opened = devices.open(Stage::Text, &plan.unwrap()).unwrap();
    assert_eq!(facts(opened.device()), (30, 99 << 10, Variant::Sm90));
}

const GIB: f64 = (1u64 << 30) as f64;

/// The arenas in GiB of text encoder, transformer and VAE decoder, with their savings; prints a line for each.
fn arenas(devices: &PlannedDevice, frames: usize) -> [(f64, MemoryOptions); 3] {
    let model = preset::open("v1.1.0", Some(frames)).unwrap();
    let request = request(frames, [512, 512], SamplerKind::Pndm, 150, 7.5);
    let plans = osp::engine::plan(devices, &model, &request, &Captions::counted(120, &request)).unwrap();
    [("text", plans.text), ("denoise", plans.denoise), ("decode", plans.decode)].map(|(stage, plan)| {
        let rehearsed = plan.rehearsed.unwrap();
        let (plan, work) = (rehearsed.plan, rehearsed.work);
        let [bytes, weights] = [plan.bytes, plan.weights()].map(|bytes| bytes as f64 / GIB);
        let (launches, tera) = (work.launches(), work.flops() as f64 / 1e12);
        println!(
            "{frames:>4} frames  {stage:<8} {bytes:>6.3} GiB, weights {weights:>6.3}, {launches:>6} launches, \
             {tera:>9.1} TFLOP  {}",
            rehearsed.savings
        );
        // An arena is hardly larger than the most bytes that are alive at once.
        assert!(plan.bytes as f64 <= 1.02 * plan.peak.bytes as f64, "{stage}: {} {}", plan.bytes, plan.peak.bytes);
        (bytes, rehearsed.savings)
    })
}

/// Memory for 512×512 with PNDM's 150 steps and guidance in bf16: without savings, with all savings except a streamed
/// transformer, with all savings, and within three gigabytes.
#[test]
fn table_of_the_published_model() {
    let saving = |savings| PlannedDevice::saving(Arc::new(Dry::new()), [Half::Bf16; 2], savings);
    arenas(&saving(MemoryOptions::NONE), 221);
    let resident = MemoryOptions { stream_transformer: false, ..MemoryOptions::MOST };
    let [_, (denoise, _), _] = arenas(&saving(resident), 221);
    assert!(denoise <= 3.0, "{denoise}");
    let [(text, _), (denoise, _), (decode, _)] = arenas(&saving(MemoryOptions::MOST), 221);
    assert!(text <= 1.2 && denoise <= 1.2 && decode <= 3.0, "{text} {denoise} {decode}");
    for frames in [221, 65, 1] {
        let within = PlannedDevice::within(Arc::new(Dry::new()), [Half::Bf16; 2], Some(3 << 30));
        let stages = arenas(&within, frames);
        assert!(stages.iter().all(|&(bytes, _)| bytes <= 3.0), "{frames} frames: {stages:?}");
        assert!(!stages[1].1.stream_transformer, "{stages:?}");
    }
}

/// Memory of the encoder for clips of 256×256, at once and in the original's windows, with all savings. At once it may
/// need a third of the original's memory according to the report on v1.1.0.
#[test]
fn table_of_the_published_encoder() {
    let model = preset::open("v1.1.0", None).unwrap();
    let devices = PlannedDevice::saving(Arc::new(Dry::new()), [Half::Bf16; 2], MemoryOptions::MOST);
    for (frames, reported) in [(129, 18e9), (257, 34e9), (513, 61e9)] {
        let encode = |tiling: Option<Tiling>| {
            let clip = Windowed { size: [frames, 256, 256], tiling };
            let plan = osp::engine::plan_encode(&devices, &model, clip).unwrap();
            let bytes = plan.rehearsed.unwrap().plan.bytes as f64;
            let how = if tiling.is_some() { "in windows" } else { "at once" };
            println!("{frames:>4} frames  encode   {:>6.3} GiB, {how}", bytes / GIB);
            bytes
        };
        assert!(encode(None) <= reported / 3.0);
        assert!(encode(Some(Tiling::default())) <= 3.0 * GIB);
    }
}
