//! Checkpoints on disk: which ones fit a model, and the errors for the others.

mod hub;
mod pickle;
mod shards;
pub mod torch_file;
mod write;

use osp::Error;
use osp::tensor::DType;
use osp::weights::manifest::{CheckpointManifest, Expected};
use osp::weights::{Files, Source};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Writes a safetensors file of `(name, dtype, shape, bytes)`.
fn write(path: &Path, tensors: &[(&str, &str, &[usize], Vec<u8>)]) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert((*name).to_owned(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

fn file_with(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, tensors);
    (folder, path)
}

fn manifest(tensors: &[(&str, &[usize])]) -> CheckpointManifest {
    let expected = |&(name, shape): &(&str, &[usize])| Expected { name: name.to_owned(), shape: shape.to_vec() };
    CheckpointManifest { tensors: tensors.iter().map(expected).collect() }
}

#[test]
fn every_stored_type_widens_to_the_same_values() {
    let one_and_minus_two = [
        ("f32", "F32", [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat()),
        ("f16", "F16", vec![0x00, 0x3c, 0x00, 0xc0]),
        ("bf16", "BF16", vec![0x80, 0x3f, 0x00, 0xc0]),
    ];
    let tensors: Vec<_> =
        one_and_minus_two.iter().map(|(name, dtype, bytes)| (*name, *dtype, &[2usize][..], bytes.clone())).collect();
    let (_folder, path) = file_with(&tensors);
    let source = Files::open(&path).unwrap();
    for (name, ..) in &tensors {
        assert_eq!(source.tensor(name).unwrap().unwrap().to_f32(), [1.0, -2.0], "{name}");
    }
    assert!(source.tensor("other").unwrap().is_none());
}

#[test]
fn a_manifest_names_every_difference() {
    let (_folder, path) = file_with(&[
        ("right", "F32", &[1], vec![0; 4]),
        ("misshapen", "F32", &[2], vec![0; 8]),
        ("integers", "I64", &[1], vec![0; 8]),
        ("unknown", "F32", &[1], vec![0; 4]),
        ("ignored", "F32", &[1], vec![0; 4]),
    ]);
    let source = Files::open(&path).unwrap();
    let manifest = manifest(&[("right", &[1]), ("misshapen", &[1, 2]), ("integers", &[1]), ("absent", &[3])]);
    let problems = manifest.problems(&source, |name| name == "ignored");
    let lines: Vec<String> = problems.iter().map(Error::to_string).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (line, parts) in lines.iter().zip([
        ["misshapen", "[2], expected [1, 2]"],
        ["integers", "i64"],
        ["absent", "missing"],
        ["unknown", "does not belong"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let error = manifest.check(&source, |name| name == "ignored").unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("and 3 more"), "{error}");
}

#[test]
fn shards_are_one_checkpoint_and_a_shard_that_lacks_a_tensor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.safetensors"), &[("x", "F32", &[1], 1f32.to_le_bytes().to_vec())]);
    write(&folder.path().join("b.safetensors"), &[("y", "F32", &[1], 2f32.to_le_bytes().to_vec())]);
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#).unwrap();
    let source = Files::open(&index).unwrap();
    assert_eq!(source.tensor("y").unwrap().unwrap().to_f32(), [2.0]);
    assert_eq!(source.entries().len(), 2);

    std::fs::write(&index, r#"{"weight_map": {"x": "a.safetensors", "z": "b.safetensors"}}"#).unwrap();
    let error = Files::open(&index).unwrap_err().to_string();
    assert!(error.contains('z') && error.contains("b.safetensors"), "{error}");
}

#[test]
fn fingerprints_differ_if_names_shapes_or_first_values_differ() {
    let fingerprint = |name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>| {
        let (_folder, path) = file_with(&[(name, dtype, shape, bytes)]);
        Files::open(&path).unwrap().fingerprint()
    };
    let first = fingerprint("x", "F32", &[2], vec![0; 8]);
    assert_eq!(first, fingerprint("x", "F32", &[2], vec![0; 8]));
    let others = [
        fingerprint("y", "F32", &[2], vec![0; 8]),
        fingerprint("x", "F32", &[2, 1], vec![0; 8]),
        fingerprint("x", "F16", &[4], vec![0; 8]),
        fingerprint("x", "F32", &[2], vec![0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    assert!(others.iter().all(|other| *other != first), "{first} {others:?}");
}

#[test]
fn headers_with_false_claims_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let header = |json: &str| {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.extend([0; 8]);
        file
    };
    let files = [
        Vec::new(),
        vec![1, 2, 3],
        u64::MAX.to_le_bytes().to_vec(),
        [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat(),
        header(r#"{"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}"#),
        header(r#"{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#),
        header(r#"{"x": {"dtype": "F32", "shape": [18446744073709551615, 4], "data_offsets": [0, 8]}}"#),
        header(r#"{"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}"#),
        header("not json"),
    ];
    for (i, file) in files.iter().enumerate() {
        std::fs::write(&path, file).unwrap();
        let error = Files::open(&path).expect_err(&format!("file {i} was accepted"));
        assert_eq!(error.exit_code(), 5, "file {i}: {error}");
        assert!(error.to_string().contains("model.safetensors"), "file {i}: {error}");
    }
}

#[test]
fn dtypes_know_their_sizes() {
    assert_eq!([DType::F32, DType::F16, DType::Bf16, DType::I64, DType::U8].map(DType::size), [4, 2, 2, 8, 1]);
    assert_eq!([DType::F64, DType::I32, DType::I16, DType::I8, DType::Bool].map(DType::size), [8, 4, 2, 1, 1]);
}

/// Reading beyond the end of a mapped file would end the process.
#[test]
fn a_file_that_changes_its_length_while_it_is_mapped_is_named() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline");
    for name in ["vae/diffusion_pytorch_model.safetensors", "text_encoder/pytorch_model.bin"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Path::new(name).file_name().unwrap());
        let bytes = std::fs::read(golden.join(name)).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let source = Files::open(&path).unwrap();
        let tensor = &source.entries()[0].name;
        assert!(source.tensor(tensor).unwrap().is_some());
        std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        let error = source.tensor(tensor).unwrap_err();
        assert!(
            matches!(error, Error::Weight { .. }) && error.to_string().contains("another program is writing to it"),
            "{error}"
        );
    }
}

proptest! {
    /// Damage to a file gives an error, or only changes values; it never panics.
    #[test]
    fn damaged_files_never_panic(position in 0usize..120, value: u8, cut in 0usize..120) {
        let (_folder, path) = file_with(&[("x", "F32", &[2], vec![0; 8]), ("y", "BF16", &[2, 2], vec![1; 8])]);
        let mut bytes = std::fs::read(&path).unwrap();
        let position = position % bytes.len();
        bytes[position] = value;
        bytes.truncate(bytes.len() - cut.min(bytes.len()) / 4);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(source) = Files::open(&path) {
            for entry in source.entries() {
                let tensor = source.tensor(&entry.name).unwrap().unwrap();
                if tensor.dtype.is_float() {
                    prop_assert_eq!(tensor.to_f32().len(), tensor.len());
                }
            }
        }
    }
}
