//! Compares the VAE on the emulated GPU with the CPU: every block class, decoding and encoding, with and without
//! windows. `osp verify --device emulated` checks the golden folders, which takes many minutes.

use super::{component, values};
use crate::fingerprints::{self, Layers, Names, Printing};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::Emulated;
use osp::cuda::{Cuda, Half};
use osp::model::vae::tiling::Tiling;
use osp::model::vae::{ClipValues, CoderInput, Frames, VaeConfig, VaeDecoder, VaeEncoder};
use osp::ops::DeviceBuffer;
use osp::weights::Scope;
use osp::weights::load::Loader;
use std::sync::Arc;

/// The decoded pixels of a latent, then the moments of a clip.
fn both_ways<B: Backend>(
    backend: &B,
    name: &str,
    latent: [usize; 3],
    tiling: Option<Tiling>,
    frames_at_a_time: Option<usize>,
) -> [Vec<f32>; 2] {
    let component = component::<VaeConfig>(name);
    let decoder =
        VaeDecoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, backend))).unwrap();
    let encoder =
        VaeEncoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, backend))).unwrap();
    let clip = [4 * latent[0] - 3, 8 * latent[1], 8 * latent[2]];
    let [mut pixels, mut moments] = [Vec::new(), Vec::new()];
    let take = |frames: &Frames<'_, B>, to: &mut Vec<f32>| {
        let frame_len = frames.height * frames.width * frames.channels;
        let start = to.len();
        to.resize(start + (frames.frames - frames.skip) * frame_len, f32::NAN);
        backend.download(frames.data, frames.skip * frame_len, &mut to[start..])
    };
    let x = values(latent.iter().product::<usize>() * 4);
    let x = CoderInput { size: latent, values: ClipValues::Floats(&x), tiling, frames_at_a_time };
    decoder.decode(backend, &x, &mut || Ok(()), &mut |frames| take(&frames, &mut pixels)).unwrap();
    let x = values(clip.iter().product::<usize>() * 3);
    let x = CoderInput { size: clip, values: ClipValues::Floats(&x), tiling, frames_at_a_time };
    encoder.encode(backend, &x, &mut || Ok(()), &mut |frames| take(&frames, &mut moments)).unwrap();
    [pixels, moments]
}

/// The moments of a clip.
fn encode<B: Backend>(backend: &B, size: [usize; 3], values: ClipValues<'_>, tiling: Option<Tiling>) -> Vec<u32> {
    let component = component::<VaeConfig>("vae_v110");
    let encoder =
        VaeEncoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, backend))).unwrap();
    let mut moments = Vec::new();
    let take = &mut |frames: Frames<'_, B>| {
        let start = moments.len();
        moments.resize(start + frames.data.len(), f32::NAN);
        backend.download(frames.data, 0, &mut moments[start..])
    };
    encoder
        .encode(backend, &CoderInput { size, values, tiling, frames_at_a_time: None }, &mut || Ok(()), take)
        .unwrap();
    moments.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_clip_of_bytes_has_the_moments_of_its_pixels() {
    fn check<B: Backend>(backend: &B, size: [usize; 3], tiling: Option<Tiling>) {
        let bytes: Vec<u8> = (0..size.iter().product::<usize>() * 3).map(|i| (i * 37 % 256) as u8).collect();
        let pixels: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
        let of_bytes = encode(backend, size, ClipValues::Bytes(&bytes), tiling);
        assert!(of_bytes == encode(backend, size, ClipValues::Floats(&pixels), tiling), "{}", backend.name());
    }
    // Two windows of five frames, which share one.
    let tiling = Tiling { sample_size: 16, sample_frames: 5, overlap: 0.5 };
    check(&Cpu::new(), [9, 24, 8], Some(tiling));
    for half in [Half::F16, Half::Bf16] {
        check(&Cuda::new(Arc::new(Emulated::new(0)), half), [5, 8, 8], None);
    }
}

#[test]
fn a_clip_of_another_size_than_it_says_is_refused() {
    let backend = Cpu::new();
    let component = component::<VaeConfig>("vae_v110");
    let encoder =
        VaeEncoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, &backend))).unwrap();
    let (bytes, pixels) = (vec![1; 8 * 8 * 3 - 1], vec![0.5; 8 * 8 * 3 + 1]);
    for (values, found) in [(ClipValues::Bytes(&bytes), 191), (ClipValues::Floats(&pixels), 193)] {
        let video = CoderInput { size: [1, 8, 8], values, tiling: None, frames_at_a_time: None };
        let refused = encoder.encode(&backend, &video, &mut || Ok(()), &mut |_| Ok(())).unwrap_err().to_string();
        assert_eq!(refused, format!("vae: clip has {found} elements, expected 192 elements"));
    }
}

fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let difference = sum(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    (difference / sum(&mut expected.iter().copied())).sqrt()
}

/// Tolerances for some hundred roundings in a row; one rounding differs eightfold between the types.
const ALLOWED: [(Half, f64); 2] = [(Half::F16, 0.01), (Half::Bf16, 0.08)];

/// Compares the kernels with the CPU, and returns the fingerprints of the layers in each of the types.
fn kernels_agree<const N: usize>(
    name: &str,
    latent: [usize; 3],
    tiling: Option<Tiling>,
    types: [(Half, f64); N],
) -> [Layers; N] {
    let expected = both_ways(&Cpu::new(), name, latent, tiling, None);
    types.map(|(half, allowed)| {
        let names = Names::of(&*component::<VaeConfig>(name).source);
        let backend = Printing::new(Cuda::new(Arc::new(Emulated::new(0)), half), names);
        let found = both_ways(&backend, name, latent, tiling, None);
        for (what, (found, expected)) in ["pixels", "moments"].iter().zip(found.iter().zip(&expected)) {
            let error = relative_l2(found, expected);
            println!("{name} {half:?} {what}: {error:.2e}");
            assert!(error <= allowed, "{name}, {half:?}, {what}: relative error {error:.2e}");
        }
        backend.layers()
    })
}

fn kernels_run_the_vae(name: &str) {
    fingerprints::check(name, kernels_agree(name, [2, 2, 2], None, ALLOWED));
}

#[test]
fn kernels_run_the_vae_of_v110() {
    kernels_run_the_vae("vae_v110");
}

#[test]
fn kernels_run_the_vae_of_v100() {
    kernels_run_the_vae("vae_v100");
}

#[test]
fn kernels_run_the_vae_of_every_other_block() {
    kernels_run_the_vae("vae_mixed");
}

#[test]
fn kernels_run_windows_that_are_cross_faded() {
    let tiling = Tiling { sample_size: 16, sample_frames: 5, overlap: 0.5 };
    kernels_agree("vae_v110", [3, 3, 1], Some(tiling), [ALLOWED[0]]);
}

/// Checks that layers that run over stretches give the same bits as layers that take all frames together.
fn stretches_change_nothing<B: Backend>(backend: &B, name: &str, latent: [usize; 3], lengths: &[usize]) {
    let whole = both_ways(backend, name, latent, None, None);
    for &frames in lengths {
        let found = both_ways(backend, name, latent, None, Some(frames));
        for (what, (found, whole)) in ["pixels", "moments"].iter().zip(found.iter().zip(&whole)) {
            let same = found.iter().zip(whole).all(|(found, whole)| found.to_bits() == whole.to_bits());
            assert!(found.len() == whole.len() && same, "{name}, {}, {frames} frames: {what} differ", backend.name());
        }
    }
}

#[test]
fn stretches_of_time_change_no_bit_on_the_cpu() {
    for name in ["vae_v110", "vae_v100", "vae_mixed"] {
        for latent in [[1, 3, 2], [2, 2, 3], [5, 2, 2]] {
            stretches_change_nothing(&Cpu::new(), name, latent, &[1, 3, 4, 16]);
        }
    }
}

#[test]
fn stretches_of_time_change_no_bit_of_kernels() {
    stretches_change_nothing(&Cuda::new(Arc::new(Emulated::new(0)), Half::F16), "vae_v110", [2, 1, 1], &[2]);
}
