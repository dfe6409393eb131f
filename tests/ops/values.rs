//! Pseudo-random arguments, and comparison with the naive formula.

use half::{bf16, f16};
use osp::tensor::{Bytes, DType, Tensor};
use std::sync::Arc;

pub use osp::selftest::values;

/// A parameter stored as `dtype`, and its values after rounding.
pub fn parameter(seed: u64, shape: &[usize], dtype: DType) -> (Tensor, Vec<f32>) {
    let values = values(seed, shape.iter().product());
    let bytes: Vec<u8> = match dtype {
        DType::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let tensor = Tensor {
        shape: shape.to_vec(),
        dtype: if dtype.size() == 2 { dtype } else { DType::F32 },
        bytes: Bytes::Owned(Arc::new(bytes)),
    };
    let stored = tensor.to_f32();
    (tensor, stored)
}

/// Checks that every element of `found` is within `tolerance` of `expected`, relative to its magnitude plus the root
/// mean square of all: sums of many terms cancel, and the error of single precision depends on the size of the terms.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let typical = (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs() / (typical + expected.abs());
        assert!(error <= tolerance, "element {i}: {found}, expected {expected}, error {error:.1e}");
    }
}

/// The result of `f`, which must have the same bits in a pool of one thread and in a pool of three.
#[track_caller]
pub fn on_one_and_three_threads(f: impl Fn() -> Vec<f32> + Send + Sync) {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(&f);
    let (one, three) = (run(1), run(3));
    assert!(one.iter().zip(&three).all(|(one, three)| one.to_bits() == three.to_bits()));
    assert_eq!(one.len(), three.len());
}
