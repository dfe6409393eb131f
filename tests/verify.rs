//! The engine against the golden folders of the PyTorch original: every case, every tolerance.

use super::fingerprints::{self, Names, Printing};
use osp::backend::Backend;
use osp::checkpoint::{Component, ComponentConfig, WeightSource};
use osp::cpu::Cpu;
use osp::cuda::device::Emulated;
use osp::cuda::{Cuda, Half};
use osp::memory::MemoryOptions;
use osp::model::latte::LatteConfig;
use osp::model::t5::T5Config;
use osp::verify::{Precision, find, run};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Runs all golden folders at or below `name` on the CPU. At least `cases` comparisons must be made, and all must pass.
fn check(name: &str, cases: usize) {
    check_on(&Cpu::new(), Precision::F32, MemoryOptions::NONE, name, cases);
}

/// As [`check`], on the emulated GPU in both of its types.
fn check_emulated(name: &str, cases: usize) {
    for (half, precision) in [(Half::F16, Precision::F16), (Half::Bf16, Precision::Bf16)] {
        check_on(&emulated(half), precision, MemoryOptions::NONE, name, cases);
    }
}

/// As [`check_emulated`] for the golden folder of a model, in bf16 also with all savings. The layers must have the bits
/// of their fingerprints.
fn check_emulated_saving<C: ComponentConfig>(name: &str, cases: usize) {
    let component: Component<C> = Component::open(&golden(name), WeightSource::Files).unwrap();
    let printed = |half, precision| {
        let backend = Printing::new(emulated(half), Names::of(&*component.source));
        let errors = check_on(&backend, precision, MemoryOptions::NONE, name, cases);
        (errors, backend.layers())
    };
    let (_, f16) = printed(Half::F16, Precision::F16);
    let (errors, bf16) = printed(Half::Bf16, Precision::Bf16);
    let saving = check_on(&emulated(Half::Bf16), Precision::Bf16, MemoryOptions::MOST, name, cases);
    assert_eq!(errors, saving, "{name} with all savings");
    fingerprints::check(name, [f16, bf16]);
}

fn emulated(half: Half) -> Cuda {
    Cuda::new(Arc::new(Emulated::new(0)), half)
}

/// Checks with no savings and with all savings. The errors must be equal to the last bit.
fn check_saving<B: Backend>(backend: &B, precision: Precision, name: &str, cases: usize) {
    let [none, most] =
        [MemoryOptions::NONE, MemoryOptions::MOST].map(|savings| check_on(backend, precision, savings, name, cases));
    assert_eq!(none, most, "{name} on {}", backend.name());
}

/// Returns the errors, as bits.
fn check_on<B: Backend>(
    backend: &B,
    precision: Precision,
    savings: MemoryOptions,
    name: &str,
    cases: usize,
) -> Vec<u64> {
    let mut failed = Vec::new();
    let mut errors = Vec::new();
    for folder in find(&golden(name)).unwrap() {
        let mut report = |result: osp::verify::CaseResult| {
            errors.push(result.error.to_bits());
            let line = format!(
                "{} {}: {} {:.3e}, allowed {:.3e}",
                result.folder.display(),
                result.case,
                result.measure,
                result.error,
                result.tolerance
            );
            println!("{line}");
            if !result.passed {
                failed.push(line);
            }
        };
        run(&folder, backend, precision, savings, &mut report).unwrap();
    }
    let count = errors.len();
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(count >= cases, "only {count} comparisons were made, expected {cases}");
    errors
}

#[test]
fn vae_v110_with_tiling_and_every_block() {
    check_saving(&Cpu::new(), Precision::F32, "vae_v110", 10 + 40);
}

#[test]
fn vae_v100_with_its_untransposed_attention() {
    check_saving(&Cpu::new(), Precision::F32, "vae_v100", 8);
}

#[test]
fn vae_of_every_other_block_class() {
    check_saving(&Cpu::new(), Precision::F32, "vae_mixed", 6);
}

/// Golden folders of the transformer, and the cases of each.
const TRANSFORMERS: [(&str, usize); 7] = [
    ("latte", 4),
    ("latte_rope", 2),
    ("latte_scaled", 2),
    ("latte_compressed_kv", 2),
    ("latte_compressed_kv_odd", 1),
    ("latte_d64", 1),
    ("latte_long", 1),
];

#[test]
fn transformer_with_every_option_on_the_emulated_gpu() {
    TRANSFORMERS.into_iter().for_each(|(name, cases)| check_emulated_saving::<LatteConfig>(name, cases));
}

#[test]
fn transformer_with_every_option() {
    TRANSFORMERS.into_iter().for_each(|(name, cases)| check_saving(&Cpu::new(), Precision::F32, name, cases));
}

#[test]
fn prompt_to_frames_with_the_text_encoder_and_tokens() {
    check_saving(&Cpu::new(), Precision::F32, "pipeline", 19);
}

#[test]
fn text_encoder_on_the_emulated_gpu() {
    check_emulated_saving::<T5Config>("pipeline/text_encoder", 4);
}

#[test]
fn samplers_on_the_emulated_gpu() {
    check_emulated("samplers", 30);
}

#[test]
fn samplers() {
    check("samplers", 30);
}

#[test]
fn noise() {
    check("noise", 15);
}

#[test]
fn captions() {
    check("captions", 2);
}

#[test]
fn published_checkpoints_hold_the_tensors_of_the_models() {
    check("manifests", 6);
}
