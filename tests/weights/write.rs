//! Writing weights as safetensors.

use super::torch_file::{Tensor, state, zipped};
use half::{bf16, f16};
use osp::tensor::DType;
use osp::weights::manifest::Expected;
use osp::weights::write::Writer;
use osp::weights::{Files, Source};
use osp::{Error, Result};
use std::path::Path;

/// A pickle with these f32 tensors, and a tensor that is not wanted.
fn source(folder: &Path, tensors: &[(&'static str, &[i64], Vec<f32>)]) -> Files {
    let path = folder.join("source.bin");
    let keys = ["0", "1", "2", "3"];
    let tensors = tensors.iter().zip(keys).map(|((name, shape, values), key)| (*name, Tensor::f32(key, shape, values)));
    let mut all: Vec<_> = tensors.collect();
    all.push(("unwanted", Tensor::f32("9", &[1], &[9.0])));
    let state =
        super::torch_file::dict(all.into_iter().map(|(name, tensor)| (name, super::torch_file::Py::Tensor(tensor))));
    std::fs::write(&path, zipped(&state)).unwrap();
    Files::open(&path).unwrap()
}

fn wanted(source: &Files) -> Vec<Expected> {
    let entries = source.entries().into_iter().filter(|entry| entry.name != "unwanted");
    entries.map(|entry| Expected { name: entry.name, shape: entry.shape }).collect()
}

fn write(source: &Files, folder: &Path, dtype: DType, most: u64) -> Result<Vec<String>> {
    let writer = Writer::new(source, &wanted(source), dtype, most);
    let mut told = 0;
    let names = writer.write(folder, "model", &mut |bytes| {
        told += bytes;
        Ok(())
    })?;
    assert_eq!(told, writer.bytes());
    Ok(names)
}

/// Values that round up, down and to even, very small values, and the largest of f16.
fn values() -> Vec<f32> {
    let mut values =
        vec![1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.7, 1e-8, 6e-5, -0.0, f32::MIN_POSITIVE, 65504.0];
    // More values than are converted together.
    values.extend((0..300_000).map(|i| (i as f32 - 150_000.0) / 1e4));
    values
}

#[test]
fn every_type_is_rounded_to_nearest_even() {
    let folder = tempfile::tempdir().unwrap();
    let values = values();
    let source = source(folder.path(), &[("a.weight", &[values.len() as i64], values.clone())]);
    type Round = fn(f32) -> f32;
    let rounded: [(DType, Round); 3] = [
        (DType::F32, |value| value),
        (DType::F16, |value| f16::from_f32(value).to_f32()),
        (DType::Bf16, |value| bf16::from_f32(value).to_f32()),
    ];
    for (dtype, round) in rounded {
        assert_eq!(write(&source, folder.path(), dtype, u64::MAX).unwrap(), ["model.safetensors"]);
        let written = Files::open(&folder.path().join("model.safetensors")).unwrap();
        assert_eq!(written.entries().len(), 1, "the unwanted tensor is not written");
        let tensor = written.tensor("a.weight").unwrap().unwrap();
        assert_eq!(tensor.dtype, dtype);
        let found = tensor.to_f32();
        assert!(
            found.iter().zip(&values).all(|(found, value)| found.to_bits() == round(*value).to_bits()),
            "{dtype:?}"
        );
    }
}

#[test]
fn a_value_that_f16_cannot_hold_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), &[("a", &[3], vec![0.0, 65519.0, 65520.0])]);
    let line = write(&source, folder.path(), DType::F16, u64::MAX).unwrap_err().to_string();
    assert!(["tensor a", "65520", "choose bf16"].iter().all(|word| line.contains(word)), "{line}");
    write(&source, folder.path(), DType::Bf16, u64::MAX).unwrap();
}

#[test]
fn values_beyond_bf16_and_values_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (value, word) in [(f32::MAX, "choose f32"), (f32::INFINITY, "damaged"), (f32::NAN, "damaged")] {
        let source = source(folder.path(), &[("a", &[2], vec![0.0, value])]);
        let line = write(&source, folder.path(), DType::Bf16, u64::MAX).unwrap_err().to_string();
        assert!(line.contains("tensor a") && line.contains(word), "{line}");
    }
}

#[test]
fn tensors_beyond_one_file_are_divided_among_files_with_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let row = |value: f32, count: usize| vec![value; count];
    let tensors: [(&'static str, &[i64], Vec<f32>); 4] =
        [("a", &[4], row(1.0, 4)), ("b", &[2, 2], row(2.0, 4)), ("c", &[9], row(3.0, 9)), ("d", &[0], vec![])];
    let source = source(folder.path(), &tensors);
    // Each file has room for eight values: a and b; then c, which has more, and d, which has none.
    let names = write(&source, folder.path(), DType::F32, 32).unwrap();
    let [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names, [one, two, "model.safetensors.index.json"]);
    let written = Files::open(&folder.path().join("model.safetensors.index.json")).unwrap();
    for (name, _, values) in &tensors {
        assert_eq!(written.tensor(name).unwrap().unwrap().to_f32(), *values);
    }
    assert_eq!(Files::open(&folder.path().join(one)).unwrap().entries().len(), 2);
}

#[test]
fn strided_tensors_are_written_in_order_and_stopping_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Tensor { strides: vec![1, 3], ..Tensor::f32("0", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) };
    let path = folder.path().join("source.bin");
    std::fs::write(&path, zipped(&state([("a", tensor)]))).unwrap();
    let source = Files::open(&path).unwrap();
    write(&source, folder.path(), DType::Bf16, u64::MAX).unwrap();
    let written = Files::open(&folder.path().join("model.safetensors")).unwrap();
    assert_eq!(written.tensor("a").unwrap().unwrap().to_f32(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);

    let writer = Writer::new(&source, &wanted(&source), DType::F32, u64::MAX);
    let stopped = writer.write(folder.path(), "model", &mut |_| Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn other_readers_accept_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), &[("a", &[1], vec![1.0]), ("bb", &[3], vec![1.0; 3])]);
    write(&source, folder.path(), DType::Bf16, u64::MAX).unwrap();
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((length + 8) % 8, 0);
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor("bb").unwrap().shape(), [3]);
}
