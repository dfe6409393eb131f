//! The device that executes nothing: its refusals, its counts, and full-size models on it.

use osp::Error;
use osp::backend::Backend;
use osp::checkpoint::ComponentConfig;
use osp::cuda::device::{Device, Dry, Event, Launch};
use osp::cuda::{CONTRACTS, Cuda, Half};
use osp::engine::{Quiet, Windowed};
use osp::memory::MemoryOptions;
use osp::model::latte::{Latte, LatteConfig, Shape};
use osp::model::t5::{Caption, T5, T5Config};
use osp::ops::DeviceBuffer;
use osp::weights::Scope;
use osp::weights::load::Loader;
use osp::weights::shapes::Shapes;
use std::path::Path;
use std::sync::Arc;

/// The parameters of `copy_box` as bytes; the first two are addresses.
fn params(x: u64, out: u64) -> Vec<u8> {
    let contract = contract();
    assert_eq!([contract.fields[0].1, contract.fields[1].1], ["x", "out"]);
    let mut bytes = [x, out].map(u64::to_le_bytes).concat();
    bytes.resize(contract.bytes, 0);
    bytes
}

fn contract() -> &'static osp::cuda::Contract {
    CONTRACTS.iter().find(|contract| contract.params == "CopyBoxParams").expect("copy_box has parameters")
}

fn launch(params: &[u8]) -> Launch<'_> {
    Launch {
        kernel: "copy_box_f16",
        grid: [3, 1, 1],
        threads: 256,
        shared_bytes: 0,
        params,
        fields: contract().fields,
        flops: 0,
        bytes: 7,
        choice: None,
    }
}

#[test]
fn launches_that_every_gpu_would_refuse_are_refused() {
    let dry = Dry::new();
    let memory = dry.alloc(100).unwrap();
    let good = params(memory.address(), memory.address() + 99);
    let good = launch(&good);
    dry.launch(&good).unwrap();
    let cases = [
        (Launch { kernel: "copy_boxes_f16", ..good }, "no such kernel"),
        (Launch { threads: 128, ..good }, "takes 256 threads"),
        (Launch { params: &good.params[1..], ..good }, "parameter bytes"),
        (Launch { grid: [1, 0, 1], ..good }, "must have between 1 and"),
        (Launch { grid: [1 << 31, 1, 1], ..good }, "must have between 1 and"),
        (Launch { grid: [1, 1, 65_536], ..good }, "must have between 1 and"),
        (Launch { shared_bytes: (99 << 10) + 1, ..good }, "at most 101376 bytes of shared memory"),
    ];
    for (bad, words) in cases {
        let error = dry.launch(&bad).expect_err(words);
        assert!(matches!(error, Error::Launch { .. }) && error.to_string().contains(words), "{error}");
    }
    let launches = dry.log().into_iter().filter(|event| matches!(event, Event::Launch { .. })).count();
    assert_eq!(launches, 1);
}

#[test]
fn addresses_must_be_null_or_in_a_live_buffer() {
    let dry = Dry::new();
    let x = dry.alloc(256).unwrap();
    let nothing = dry.alloc(0).unwrap();
    let freed = dry.alloc(8).unwrap().address();
    let at = |x: u64, out: u64| dry.launch(&launch(&params(x, out)));
    at(0, x.address()).unwrap();
    at(x.address() + 255, nothing.address()).unwrap();
    for (wrong, name) in [(freed, "x"), (x.address() + 256, "x"), (x.address() - 1, "x"), (1, "x")] {
        let text = at(wrong, x.address()).unwrap_err().to_string();
        assert!(text.contains(&format!("{name} is {wrong:#x}, which is not in a buffer")), "{text}");
    }
    let text = at(x.address(), freed).unwrap_err().to_string();
    assert!(text.contains("out is "), "{text}");
}

#[test]
fn memory_is_counted_and_its_bounds_are_kept() {
    let dry = Dry::with_memory(1000);
    let first = dry.alloc(300).unwrap();
    let mut second = dry.alloc(500).unwrap();
    assert!([&first, &second].iter().all(|memory| memory.address() % 256 == 0));
    assert_eq!(dry.memory_info().unwrap().free, 200);
    let error = dry.alloc(201).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { needed: 201, free: 200, .. }), "{error}");
    let address = first.address();
    drop(first);
    let third = dry.alloc(400).unwrap();
    assert_ne!(third.address(), address);
    assert_eq!((dry.peak_bytes(), dry.allocations(), dry.memory_info().unwrap().free), (900, 3, 100));
    assert_eq!(
        dry.log()[2..],
        [Event::Free { address }, Event::Alloc { address: third.address(), bytes: 400, weight: false }]
    );

    let mut host = [1; 4];
    dry.write(&mut *second, 496, &host).unwrap();
    dry.read(&*second, 496, &mut host).unwrap();
    assert_eq!(host, [0; 4]);
}

#[test]
#[should_panic(expected = "the copy lies in the buffer")]
fn reading_beyond_a_buffer_is_a_bug() {
    let dry = Dry::new();
    let memory = dry.alloc(4).unwrap();
    let _ = dry.read(&*memory, 1, &mut [0; 4]);
}

/// The config of a published checkpoint, and its shapes.
fn published<C: ComponentConfig>(name: &str) -> (C, Shapes) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifests").join(format!("{name}.json"));
    let mut manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let config: C = serde_json::from_value(manifest["config"].take()).unwrap();
    let source = Shapes::new(name, config.manifest(None).tensors);
    (config, source)
}

/// FLOPs of the launches since the log had `start` entries.
fn flops(dry: &Dry, start: usize) -> u64 {
    let flops = |event: &Event| if let Event::Launch { flops, .. } = event { *flops } else { 0 };
    dry.log()[start..].iter().map(flops).sum()
}

#[test]
fn full_size_models_run_without_weights_and_have_the_known_cost() {
    let dry = Arc::new(Dry::new());
    let backend = Cuda::new(dry.clone(), Half::Bf16);
    let (config, source) = published::<T5Config>("t5_v1_1_xxl");
    let text = T5::build(&config, "shared.weight", Scope::root(&mut Loader::new(&source, &backend))).unwrap();
    let weights = dry.peak_bytes();
    assert_eq!(weights, 2 * config.manifest(None).parameters());
    let caption = Caption { ids: vec![5; 120], mask: vec![true; 120] };
    let hidden = text.encode(&backend, &[caption], &mut || Ok(())).unwrap();
    assert_eq!(hidden[0].len(), 120 * 4096);
    let activations = dry.peak_bytes() - weights;
    assert!((8 << 20..16 << 20).contains(&activations), "{activations}");
    drop((text, hidden));
    assert_eq!(dry.memory_info().unwrap().free, u64::MAX);

    let (config, source) = published::<LatteConfig>("latte_221x512x512");
    let model = Latte::build(&config, Scope::root(&mut Loader::new(&source, &backend))).unwrap();
    let shape = Shape { samples: 2, batch: 2, frames: 56, rows: 32, columns: 32, temporal: true };
    let captions = backend.alloc(2 * 120 * 4096).unwrap();
    let prepared = model.prepare(&backend, shape, &captions, 120, None).unwrap();
    let latent = backend.alloc(2 * 56 * 64 * 64 * 4).unwrap();
    let mut out = backend.alloc(latent.len()).unwrap();
    let start = dry.log().len();
    model.forward(&backend, &prepared, &latent, 500.0, 4, &mut out).unwrap();
    // The 239 TFLOP of a step with guidance, counted by hand from the architecture.
    let step = flops(&dry, start) as f64 / 1e12;
    assert!((237.0..241.0).contains(&step), "{step} TFLOP");
}

#[test]
fn the_largest_text_encoder_streams_two_long_captions_in_little_memory() {
    let dry = Arc::new(Dry::new());
    let backend = Cuda::new(dry.clone(), Half::Bf16);
    let (config, source) = published::<T5Config>("t5_v1_1_xxl");
    let text = T5::load(&config, &source, &backend, true).unwrap();
    let caption = || Caption { ids: vec![5; 120], mask: vec![true; 120] };
    let hidden = text.encode(&backend, &[caption(), caption()], &mut || Ok(())).unwrap();
    assert_eq!(hidden.len(), 2);
    let (block, peak) = (2 * 4096 * (4 * 4096 + 3 * 10240) as u64, dry.peak_bytes());
    println!("text: {:.3} GiB", peak as f64 / (1u64 << 30) as f64);
    assert!((2 * block..(6 << 30) / 5).contains(&peak), "{peak}");
    // Every block was loaded once for both captions: the allocations of its attention's output layer show it.
    let output = |event: &Event| matches!(event, Event::Alloc { bytes, .. } if *bytes == 2 * 4096 * 4096);
    assert_eq!(dry.log().iter().filter(|event| output(event)).count(), 24);
}

#[test]
fn out_of_memory_names_the_stage() {
    let checkpoint = osp::preset::open("v1.1.0", None).unwrap();
    let backend = Cuda::new(Arc::new(Dry::with_memory(3 << 30)), Half::F16);
    let size = [17, 32, 32];
    let latent = vec![0.0; size.iter().product::<usize>() * 4];
    let mut frame = |_: &[u8]| -> osp::Result<()> { panic!("no frame is finished") };
    let clip = Windowed { size, tiling: None };
    let run = osp::engine::decode(&backend, &checkpoint, &latent, clip, MemoryOptions::NONE, &mut Quiet, &mut frame);
    let error = run.unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory { stage, .. } if stage == "decode"), "{error}");
}
