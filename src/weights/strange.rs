//! Finds weights that are NaN, infinite or too large for a device.

use super::Source;
use super::manifest::Expected;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::fmt;
use std::path::Path;

/// A weight that no run can use.
#[derive(Clone, Debug, PartialEq)]
pub struct Strange {
    /// Name of its tensor.
    pub tensor: String,
    /// Index of the element, row major.
    pub index: usize,
    /// NaN, infinite, or too large.
    pub value: f32,
}

impl Strange {
    /// The error for a weight of `file` that is NaN or infinite.
    fn of(self, file: &Path) -> Error {
        let problem = format!("{self}, expected a finite number: the file is damaged; download it again");
        Error::weight(file, self.tensor, problem)
    }
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {} is {}", self.index, self.value)
    }
}

/// The first weight of `tensors`, in their order, that is NaN or larger than `largest` in magnitude.
///
/// # Errors
/// The source's.
pub fn first(source: &dyn Source, tensors: &[Expected], largest: f32) -> Result<Option<Strange>> {
    for Expected { name, .. } in tensors {
        let Some(tensor) = source.tensor(name)? else { continue };
        let found = first_in(&tensor, largest);
        tensor.bytes.release();
        if let Some((index, value)) = found {
            return Ok(Some(Strange { tensor: name.clone(), index, value }));
        }
    }
    Ok(None)
}

/// Fails if a weight of `tensors` is NaN or infinite.
///
/// # Errors
/// [`Error::Weight`] with the first such weight; the source's.
pub fn check(source: &dyn Source, tensors: &[Expected]) -> Result<()> {
    match first(source, tensors, f32::MAX)? {
        None => Ok(()),
        Some(found) => Err(found.of(source.path())),
    }
}

/// Fails if a value of a tensor of `file` is NaN or infinite.
///
/// # Errors
/// [`Error::Weight`] with the first such value.
pub fn check_tensor(file: &Path, name: &str, tensor: &Tensor) -> Result<()> {
    match first_in(tensor, f32::MAX) {
        None => Ok(()),
        Some((index, value)) => Err(Strange { tensor: name.to_owned(), index, value }.of(file)),
    }
}

/// Index and value of the first element that is NaN or larger than `largest`. Integers are never strange.
fn first_in(tensor: &Tensor, largest: f32) -> Option<(usize, f32)> {
    if !tensor.dtype.is_float() || !tensor.has_values() {
        return None;
    }
    /// Values that are widened together.
    const CHUNK: usize = 1 << 16;
    (0..tensor.len().div_ceil(CHUNK)).into_par_iter().find_map_first(|chunk| {
        let start = chunk * CHUNK;
        let mut values = vec![0.0; CHUNK.min(tensor.len() - start)];
        tensor.widen(start, &mut values);
        let first = values.iter().position(|value| value.is_nan() || value.abs() > largest)?;
        Some((start + first, values[first]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Bytes, DType};
    use crate::weights::Entry;
    use half::{bf16, f16};
    use std::sync::Arc;

    struct One(Tensor);

    impl Source for One {
        fn path(&self) -> &Path {
            Path::new("one")
        }

        fn entries(&self) -> Vec<Entry> {
            Vec::new()
        }

        fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
            Ok((name == "a").then(|| self.0.clone()))
        }

        fn fingerprint(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn the_first_strange_value_is_found_in_every_type() {
        let len = 150_000;
        let values = |strange: &[(usize, f32)]| {
            let mut values: Vec<f32> = (0..len).map(|i| (i % 100) as f32).collect();
            strange.iter().for_each(|&(at, value)| values[at] = value);
            values
        };
        let find = |dtype, strange: &[(usize, f32)], largest| {
            let narrow = |value: &f32| match dtype {
                DType::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
                DType::Bf16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            };
            let bytes = Bytes::Owned(Arc::new(values(strange).iter().flat_map(narrow).collect()));
            let tensors = ["missing", "a"].map(|name| Expected { name: name.into(), shape: vec![len] });
            first(&One(Tensor { shape: vec![len], dtype, bytes }), &tensors, largest).unwrap()
        };
        for dtype in [DType::F32, DType::F16, DType::Bf16] {
            assert_eq!(find(dtype, &[], f32::MAX), None);
            let strange = [(149_999, f32::NAN), (70_001, f32::NEG_INFINITY)];
            let found = find(dtype, &strange, f32::MAX).unwrap();
            assert_eq!((found.tensor.as_str(), found.index, found.value), ("a", 70_001, f32::NEG_INFINITY));
            assert!(find(dtype, &strange[..1], f32::MAX).unwrap().value.is_nan());
            assert_eq!(find(dtype, &[(3, -60_000.0)], 50_000.0).unwrap().index, 3);
        }
    }
}
