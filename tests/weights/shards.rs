//! Checkpoints in shards, and their index.

use super::torch_file::{Tensor, state, zipped};
use osp::Result;
use osp::weights::{Files, Source};
use std::fs;
use std::path::Path;

/// Two PyTorch shards and an index with this text.
fn folder(index: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shard = |name, value| zipped(&state([(name, Tensor::f32("0", &[1], &[value]))]));
    fs::write(folder.path().join("one.bin"), shard("x", 1.0)).unwrap();
    fs::write(folder.path().join("two.bin"), shard("y", 2.0)).unwrap();
    fs::write(folder.path().join("pytorch_model.bin.index.json"), index).unwrap();
    folder
}

fn open(folder: &Path) -> Result<Files> {
    Files::open(&folder.join("pytorch_model.bin.index.json"))
}

const INDEX: &str = r#"{"metadata": {"total_size": 8}, "weight_map": {"y": "two.bin", "x": "one.bin"}}"#;

#[test]
fn shards_are_one_checkpoint() {
    let folder = folder(INDEX);
    let source = open(folder.path()).unwrap();
    assert_eq!(source.tensor("x").unwrap().unwrap().to_f32(), [1.0]);
    assert_eq!(source.tensor("y").unwrap().unwrap().to_f32(), [2.0]);
    assert_eq!(source.entries().len(), 2);
    assert!(source.fingerprint().starts_with("pickle:"));
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let cases = [
        (r#"{"weight_map": {"x": "one.bin", "z": "two.bin"}}"#, ["tensor z", "two.bin"]),
        (r#"{"weight_map": {"x": "two.bin", "y": "one.bin"}}"#, ["tensor x", "two.bin"]),
        (r#"{"weight_map": {"x": "one.bin", "y": "three.bin"}}"#, ["three.bin", "is missing; download it"]),
        (r#"{"weight_map": {"x": "one.bin", "y": "two.bin", "x": "two.bin"}}"#, ["tensor x", "listed twice"]),
        (r#"{"weight_map": {"x": "../one.bin"}}"#, ["tensor x", "outside of this folder"]),
        (r#"{"weight_map": {"x": "/one.bin"}}"#, ["tensor x", "outside of this folder"]),
        (r#"{"weight_map": ["one.bin"]}"#, ["index.json", "a map from tensors to files"]),
        (r#"{"weight_map": {"x": "one.bin""#, ["index.json", "is not an index of shards"]),
        ("{}", ["index.json", "weight_map"]),
    ];
    for (index, words) in cases {
        let line = open(folder(index).path()).unwrap_err().to_string();
        assert!(words.iter().all(|word| line.contains(word)), "{index}: {line}");
    }
}

#[test]
fn the_error_for_a_tensor_in_two_shards_names_both() {
    let folder = folder(INDEX);
    fs::copy(folder.path().join("one.bin"), folder.path().join("two.bin")).unwrap();
    let line = open(folder.path()).unwrap_err().to_string();
    assert!(["two.bin", "tensor x", "one.bin"].iter().all(|word| line.contains(word)), "{line}");
}

#[test]
#[cfg(unix)]
fn a_link_to_nothing_is_an_incomplete_download() {
    let folder = folder(INDEX);
    fs::remove_file(folder.path().join("two.bin")).unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", folder.path().join("two.bin")).unwrap();
    let line = open(folder.path()).unwrap_err().to_string();
    assert!(line.contains("two.bin: is a link to ../../blobs/abc") && line.contains("incomplete"), "{line}");
}
