//! Savings change no bit of the transformer, for every option, number of parts and size, nor of the text encoder.

use super::{component, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::Emulated;
use osp::cuda::{Cuda, Half};
use osp::memory::MemoryOptions;
use osp::model::latte::{Latte, LatteConfig, Norms, Shape};
use osp::model::t5::{Caption, T5, T5Config};
use osp::ops::DeviceBuffer;
use std::sync::Arc;

const MODELS: [&str; 7] = [
    "latte",
    "latte_rope",
    "latte_scaled",
    "latte_compressed_kv",
    "latte_compressed_kv_odd",
    "latte_d64",
    "latte_long",
];

/// Sizes of a request: frames, token rows and columns, text tokens.
type Size = [usize; 4];

/// The bits of the prediction for a batch of two, with these savings.
fn predict<B: Backend>(
    backend: &B,
    name: &str,
    [frames, rows, columns, tokens]: Size,
    savings: MemoryOptions,
    norms: Norms,
) -> Vec<u32> {
    let component = component::<LatteConfig>(name);
    let c = &component.config;
    let model = Latte::load(c, &*component.source, backend, savings).unwrap().with_norms(norms);
    let samples = if savings.branches_in_turn { 1 } else { 2 };
    let shape = Shape { samples, batch: 2, frames, rows, columns, temporal: frames > 1 };
    let latent_len = shape.rows_per_sample() * c.patch_size * c.patch_size * c.in_channels;
    let (captions, latents) = (values(2 * tokens * c.caption_channels), values(2 * latent_len));
    // The last token of each caption is masked.
    let mask: Vec<bool> = (1..=2 * tokens).map(|i| i % tokens != 0).collect();
    let mut bits = Vec::new();
    for first in (0..2).step_by(samples) {
        let some = |values: &[f32], len: usize| backend.upload(&values[first * len..][..samples * len]).unwrap();
        let captions = some(&captions, tokens * c.caption_channels);
        let mask = (tokens > 1).then(|| &mask[first * tokens..][..samples * tokens]);
        let prepared = model.prepare(backend, shape, &captions, tokens, mask).unwrap();
        let latent = some(&latents, latent_len);
        let mut out = backend.alloc(latent.len()).unwrap();
        model.forward(backend, &prepared, &latent, 321.0, c.in_channels, &mut out).unwrap();
        let mut found = vec![0.0; out.len()];
        backend.download(&out, 0, &mut found).unwrap();
        bits.extend(found.into_iter().map(f32::to_bits));
    }
    bits
}

fn keeps_its_bits_with_both_norms<B: Backend>(backend: &B, name: &str, size: Size, all: &[MemoryOptions]) {
    for norms in [Norms::Separate, Norms::Folded] {
        keeps_its_bits_with_norms(backend, name, size, all, norms);
    }
}

fn keeps_its_bits_with_norms<B: Backend>(backend: &B, name: &str, size: Size, all: &[MemoryOptions], norms: Norms) {
    let expected = predict(backend, name, size, MemoryOptions::NONE, norms);
    for &savings in all {
        let found = predict(backend, name, size, savings, norms);
        assert!(found == expected, "{name}, {size:?}, {savings:?}, {norms:?} on {}", backend.name());
    }
}

/// Savings with numbers of parts that divide heads and tokens, that do not, and that are larger than both.
fn parts(counts: &[usize]) -> Vec<MemoryOptions> {
    let plain = counts.iter().map(|&transformer_parts| MemoryOptions { transformer_parts, ..MemoryOptions::NONE });
    let halves = counts.iter().map(|&transformer_parts| MemoryOptions { transformer_parts, ..MemoryOptions::MOST });
    plain.chain(halves).chain([MemoryOptions { stream_transformer: true, ..MemoryOptions::NONE }]).collect()
}

#[test]
fn transformer_in_parts_on_the_cpu() {
    for name in MODELS {
        keeps_its_bits_with_norms(&Cpu::new(), name, [5, 4, 6, 7], &parts(&[2, 3, 1000]), Norms::Separate);
        keeps_its_bits_with_norms(&Cpu::new(), name, [1, 4, 4, 5], &parts(&[3]), Norms::Separate);
        keeps_its_bits_with_both_norms(&Cpu::new(), name, [4, 3, 5, 1], &parts(&[3]));
    }
}

#[test]
fn a_guidance_branch_has_the_bits_of_the_batch_even_with_few_rows() {
    // For up to eight rows the CPU sums in another order: here a branch has at most eight rows, and the batch more.
    for size in [[1, 2, 3, 5], [3, 1, 2, 6], [1, 1, 1, 8]] {
        keeps_its_bits_with_both_norms(&Cpu::new(), "latte", size, &parts(&[1, 2, 7]));
    }
}

#[test]
fn transformer_in_parts_on_the_emulated_gpu() {
    // In bf16, the tests of the golden folders check the same.
    let backend = Cuda::new(Arc::new(Emulated::new(0)), Half::F16);
    let most = MemoryOptions { transformer_parts: 1000, ..MemoryOptions::MOST };
    for name in ["latte_rope", "latte_compressed_kv_odd"] {
        keeps_its_bits_with_both_norms(&backend, name, [3, 2, 2, 5], &[most]);
    }
}

#[test]
fn captions_encoded_together_and_streamed_have_the_bits_of_each_alone() {
    let caption = |len: usize, unmasked: usize| Caption {
        ids: (0..len as u32).map(|i| 3 + i * 7 % 50).collect(),
        mask: (0..len).map(|i| i < unmasked).collect(),
    };
    let captions = [caption(5, 5), caption(17, 9), caption(1, 1)];
    fn encode<B: Backend>(backend: &B, captions: &[Caption], stream: bool) -> Vec<Vec<u32>> {
        let component = component::<T5Config>("pipeline/text_encoder");
        let model = T5::load(&component.config, &*component.source, backend, stream).unwrap();
        let bits = |hidden: &B::Buffer| {
            let mut found = vec![0.0; hidden.len()];
            backend.download(hidden, 0, &mut found).unwrap();
            found.into_iter().map(f32::to_bits).collect()
        };
        model.encode(backend, captions, &mut || Ok(())).unwrap().iter().map(bits).collect()
    }
    fn check<B: Backend>(backend: &B, captions: &[Caption]) {
        let alone: Vec<_> = captions.iter().flat_map(|one| encode(backend, std::slice::from_ref(one), false)).collect();
        for stream in [false, true] {
            assert!(encode(backend, captions, stream) == alone, "stream: {stream}, on {}", backend.name());
        }
    }
    check(&Cpu::new(), &captions);
    check(&Cuda::new(Arc::new(Emulated::new(0)), Half::Bf16), &captions);
}
