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
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
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

/// A copy of a golden folder with only one of its cases.
fn copy_of(name: &str, case: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let place = to.join(entry.file_name());
            if entry.path().is_dir() {
                fs::create_dir(&place).unwrap();
                copy(&entry.path(), &place);
            } else {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(name), folder.path());
    let cases = folder.path().join("cases.json");
    if cases.exists() {
        let mut table: Map<String, Value> = serde_json::from_slice(&fs::read(&cases).unwrap()).unwrap();
        table.retain(|name, _| name == case);
        fs::write(cases, serde_json::to_vec(&table).unwrap()).unwrap();
    }
    folder
}

/// The tensors of a file of safetensors, by name.
type Tensors = BTreeMap<String, Values>;

/// Type, shape and bytes of a tensor.
type Values = (Dtype, Vec<usize>, Vec<u8>);

fn read(file: &Path) -> Tensors {
    let bytes = fs::read(file).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let parts =
        |(name, view): (String, TensorView<'_>)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    whole.tensors().into_iter().map(parts).collect()
}

fn write(file: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Other shapes and types of a tensor.
fn changed((_, shape, data): &Values) -> Vec<Values> {
    let count: usize = shape.iter().product();
    let (ones, zeros) = (vec![1; shape.len()], vec![0; shape.len()]);
    let channels = |channels: usize| [&[1, channels][..], &ones[ones.len().min(2)..]].concat();
    let twice = [&[2 * shape[0]][..], &shape[1..]].concat();
    let floats = [vec![count], ones.clone(), zeros, channels(3), channels(65), twice];
    let floats = floats.into_iter().map(|shape| {
        let bytes = 4 * shape.iter().product::<usize>();
        (Dtype::F32, shape, data.iter().cycle().take(bytes).copied().collect())
    });
    let whole = [
        (Dtype::I64, vec![1], vec![1; 8]),
        (Dtype::U8, shape.clone(), vec![1; count]),
        (Dtype::I64, shape.clone(), vec![1; 8 * count]),
    ];
    whole.into_iter().chain(floats).collect()
}

/// They are errors, or checks that fail: `osp verify` goes on with its other folders.
#[test]
fn tensors_of_other_shapes_and_types_never_panic() {
    let cpu = Cpu::new();
    let mut refused = 0;
    for (name, case) in [
        ("noise", "0.15"),
        ("samplers", "DDPM"),
        ("samplers", "DDIM"),
        ("pipeline", "image"),
        ("latte_d64", "video"),
        ("vae_v110", "image"),
    ] {
        let folder = copy_of(name, case);
        for file in ["cases.safetensors", "trace.safetensors"].map(|file| folder.path().join(file)) {
            if !file.exists() {
                continue;
            }
            let whole = read(&file);
            let used = |name: &&String| {
                name.starts_with(case)
                    || ["video", "initial_noise", "trace.quant_conv", "trace.encoder.conv_in"].contains(&name.as_str())
            };
            for tensor in whole.keys().filter(used) {
                for other in changed(&whole[tensor]) {
                    let mut damaged = whole.clone();
                    damaged.insert(tensor.clone(), other);
                    write(&file, &damaged);
                    let mut failed = false;
                    let mut report = |result: osp::verify::CaseResult| failed |= !result.passed;
                    let ran = run(folder.path(), &cpu, Precision::F32, MemoryOptions::NONE, &mut report);
                    // Of some tensors, only the values count.
                    refused += usize::from(ran.is_err() || failed);
                }
            }
            write(&file, &whole);
        }
    }
    assert!(refused > 100, "only {refused} are noticed");
}

#[test]
fn numbers_of_cases_that_fit_nothing_never_panic() {
    let cpu = Cpu::new();
    let refused =
        |folder: &Path| run(folder, &cpu, Precision::F32, MemoryOptions::NONE, &mut |_| ()).unwrap_err().to_string();
    let folder = copy_of("noise", "0.15");
    for shape in ["[2305843009213693952]", "[1099511627776]", "[4294967296, 4294967296]", "[0]", "[]"] {
        let cases = format!("{{\"0.15\": {{\"seed\": 0, \"shape\": {shape}, \"mean_abs\": 0}}}}");
        fs::write(folder.path().join("cases.json"), cases).unwrap();
        let said = refused(folder.path());
        assert!(said.contains("0.15"), "{shape}: {said}");
    }
    let folder = copy_of("latte_d64", "video");
    let cases = fs::read_to_string(folder.path().join("cases.json")).unwrap();
    assert!(cases.contains("\"masked\":false"), "{cases}");
    fs::write(folder.path().join("cases.json"), cases.replace("\"masked\":false", "\"masked\":true")).unwrap();
    let file = folder.path().join("cases.safetensors");
    let mut tensors = read(&file);
    tensors.insert("video.caption_mask".into(), (Dtype::I64, vec![1], vec![1; 8]));
    write(&file, &tensors);
    assert!(refused(folder.path()).contains("1 mask values for 1 captions of 7 tokens"));
    let folder = copy_of("captions", "");
    fs::write(
        folder.path().join("captions.json"),
        format!("[{{\"text\": {:?}, \"cleaned\": \"\", \"lowered\": \"\"}}]", "a.".repeat(10_000)),
    )
    .unwrap();
    assert!(refused(folder.path()).contains("a text of 20000 bytes"));
}
