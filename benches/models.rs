//! Times of five full-size pieces of the model with synthetic weights, beside PyTorch's times.
//!
//! `cargo bench --bench models [NAME…]` times each piece twice and prints the better run. The PyTorch column has the
//! best of two runs of PyTorch 2.2 (oneDNN, float32, two threads with AVX-512). To compare, give the engine two threads
//! (`RAYON_NUM_THREADS=2`).

use osp::Model;
use osp::backend::Backend;
use osp::checkpoint::ComponentConfig;
use osp::cpu::Cpu;
use osp::model::latte::{Latte, Shape};
use osp::model::vae::{ClipValues, CoderInput, Frames, VaeDecoder, VaeEncoder};
use osp::preset;
use osp::weights::Scope;
use osp::weights::load::Loader;
use osp::weights::synthetic::Synthetic;
use std::hint::black_box;
use std::time::Instant;

/// The published configs, at 65 frames.
fn published() -> Model {
    preset::open("v1.1.0", Some(65)).expect("the preset is built in")
}

/// Synthetic weights for a config.
fn weights<C: ComponentConfig>(config: &C) -> Synthetic {
    Synthetic::new("synthetic", 1, config.manifest(None).tensors)
}

/// Pseudo-random values in [−1, 1).
fn values(len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Runs `piece` twice and prints a line.
fn time(name: &str, torch_seconds: f64, mut piece: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..2 {
        let start = Instant::now();
        piece();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name:<44} {best:>7.2} s   PyTorch {torch_seconds:>5.1} s   {:>5.2}×", torch_seconds / best);
}

fn decode(backend: &Cpu, name: &str, size: [usize; 3], torch_seconds: f64) {
    let config = published().vae.expect("the preset has all components").config;
    let source = weights(&config);
    let decoder = VaeDecoder::build(&config, Scope::root(&mut Loader::new(&source, backend))).expect("the plan fits");
    let latent = values(size.iter().product::<usize>() * config.embed_dim);
    let latent = CoderInput { size, values: ClipValues::Floats(&latent), tiling: None, frames_at_a_time: None };
    time(name, torch_seconds, || {
        let emit = &mut |frames: Frames<'_, Cpu>| {
            black_box(frames.data);
            Ok(())
        };
        decoder.decode(backend, &latent, &mut || Ok(()), emit).expect("sizes fit");
    });
}

fn encode(backend: &Cpu, name: &str, size: [usize; 3], torch_seconds: f64) {
    let config = published().vae.expect("the preset has all components").config;
    let source = weights(&config);
    let encoder = VaeEncoder::build(&config, Scope::root(&mut Loader::new(&source, backend))).expect("the plan fits");
    let video = values(size.iter().product::<usize>() * 3);
    let video = CoderInput { size, values: ClipValues::Floats(&video), tiling: None, frames_at_a_time: None };
    time(name, torch_seconds, || {
        let emit = &mut |frames: Frames<'_, Cpu>| {
            black_box(frames.data);
            Ok(())
        };
        encoder.encode(backend, &video, &mut || Ok(()), emit).expect("sizes fit");
    });
}

fn transform(backend: &Cpu, name: &str, [frames, height, width]: [usize; 3], torch_seconds: f64) {
    const TEXT_TOKENS: usize = 20;
    let config = published().transformer.expect("the preset has all components").config;
    let source = weights(&config);
    let model = Latte::build(&config, Scope::root(&mut Loader::new(&source, backend))).expect("the plan fits");
    let shape = Shape { samples: 1, batch: 1, frames, rows: height / 2, columns: width / 2, temporal: frames > 1 };
    let captions = backend.upload(&values(TEXT_TOKENS * config.caption_channels)).expect("host memory");
    let prepared = model.prepare(backend, shape, &captions, TEXT_TOKENS, None).expect("sizes fit");
    let latent = backend.upload(&values(frames * height * width * 4)).expect("host memory");
    let mut out = backend.alloc(frames * height * width * 4).expect("host memory");
    time(name, torch_seconds, || {
        model.forward(backend, &prepared, &latent, 500.0, 4, &mut out).expect("sizes fit");
    });
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let backend = Cpu::new();
    println!("{}", backend.name());
    type Piece = (&'static str, fn(&Cpu, &str));
    let pieces: [Piece; 5] = [
        ("decode 1x32x32 latents to 256x256", |backend, name| decode(backend, name, [1, 32, 32], 6.2)),
        ("decode 3x16x16 latents to 9x128x128", |backend, name| decode(backend, name, [3, 16, 16], 10.6)),
        ("encode 9x128x128", |backend, name| encode(backend, name, [9, 128, 128], 2.8)),
        ("transformer 512x512 image, 1,024 tokens", |backend, name| transform(backend, name, [1, 64, 64], 8.4)),
        ("transformer 17x256x256, 5x256 tokens", |backend, name| transform(backend, name, [5, 32, 32], 15.1)),
    ];
    for (name, piece) in pieces {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            piece(&backend, name);
        }
    }
}
