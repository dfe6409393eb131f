//! Whole videos through the decoder of VAE v1.1.0, with synthetic weights and the original's windows, in FLOP/s of the
//! plain formulas: on a GPU 65 and 221 frames of 512×512, with the conversion to bytes; on the CPU nine frames of
//! 64×64.

mod common;

use common::Target;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::checkpoint::ComponentConfig;
use osp::cpu::Cpu;
use osp::cuda::device::Dry;
use osp::cuda::{Cuda, Half};
use osp::model::vae::tiling::Tiling;
use osp::model::vae::{ClipValues, CoderInput, Frames, VaeConfig, VaeDecoder};
use osp::ops::pixels::{ToBytes, ToBytesArgs};
use osp::preset;
use osp::profile::{Profiled, Recorder};
use osp::weights::load::Loader;
use osp::weights::shapes::Shapes;
use osp::weights::synthetic::Synthetic;
use osp::weights::{Scope, Source};
use std::path::Path;
use std::sync::Arc;

/// The original's windows.
const TILING: Tiling = Tiling { sample_size: 256, sample_frames: 65, overlap: 0.25 };

fn config() -> VaeConfig {
    preset::open("v1.1.0", None).unwrap().vae.expect("the preset has all components").config
}

/// Decodes latents of `size` to bytes, and drops them.
fn decode<B: Backend>(backend: &B, decoder: &VaeDecoder<B::Weight>, latent: &[f32], size: [usize; 3]) {
    let latent = CoderInput { size, values: ClipValues::Floats(latent), tiling: Some(TILING), frames_at_a_time: None };
    let emit = &mut |frames: Frames<'_, B>| {
        let frame = frames.height * frames.width * frames.channels;
        let op = ToBytes { offset: frames.skip * frame, len: (frames.frames - frames.skip) * frame };
        backend.to_bytes(&op, ToBytesArgs { x: frames.data })?.bytes().map(drop)
    };
    decoder.decode(backend, &latent, &mut || Ok(()), emit).unwrap();
}

fn load<B: Backend>(backend: &B, source: &dyn Source) -> VaeDecoder<B::Weight> {
    VaeDecoder::build(&config(), Scope::root(&mut Loader::new(source, backend))).unwrap()
}

/// FLOPs of a decode, counted on the dry device.
fn flops(size: [usize; 3]) -> u64 {
    let recorder = Recorder::default();
    let dry = Cuda::new(Arc::new(Profiled::new(Arc::new(Dry::new()), recorder.clone())), Half::F16);
    let source = Shapes::new(Path::new("vae"), config().manifest(None).tensors);
    let decoder = load(&dry, &source);
    decode(&dry, &decoder, &vec![0.0; size.iter().product::<usize>() * 4], size);
    recorder.take().iter().map(|record| record.flops).sum()
}

fn run<B: Target>(criterion: &mut Criterion, backend: &B, sizes: &[[usize; 3]]) {
    let mut group = common::group(criterion, "decode");
    let decoder = load(backend, &Synthetic::new("vae", 1, config().manifest(None).tensors));
    for &size in sizes {
        let [frames, height, width] = size;
        let latent = common::values(size.iter().product::<usize>() * 4);
        group.throughput(Throughput::Elements(flops(size)));
        group.bench_function(format!("{}x{}x{}", 4 * frames - 3, 8 * height, 8 * width), |bencher| {
            bencher
                .iter_custom(|iterations| backend.time(iterations, &mut || decode(backend, &decoder, &latent, size)));
        });
    }
}

fn decodes(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &[[17, 64, 64], [56, 64, 64]]),
        None => run(criterion, &Cpu::new(), &[[3, 8, 8]]),
    }
}

criterion_group!(benches, decodes);
criterion_main!(benches);
