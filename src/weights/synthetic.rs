//! Synthetic weights: each value is computed from its tensor's name and a seed.

use super::manifest::Expected;
use super::shapes::Shapes;
use super::{Entry, Source};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::reading::{self, TEXT};
use crate::tensor::{Bytes, DType, Tensor};
use half::bf16;
use rayon::prelude::*;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;

/// A checkpoint made from a seed and a table of names and shapes; every tensor is stored as bf16.
#[derive(Debug)]
pub struct Synthetic {
    shapes: Shapes,
    seed: u64,
}

/// The most elements of all tensors of a file together: ten thousand times those of the published models, and few enough to count
/// their bytes.
const MOST_ELEMENTS: usize = 1 << 48;

/// `synthetic.json`, which takes the place of a weight file.
#[derive(Deserialize)]
struct File {
    seed: u64,
    tensors: serde_json::Map<String, serde_json::Value>,
}

impl Synthetic {
    /// Synthetic values for these tensors; `path` is only for messages.
    pub fn new(path: impl AsRef<Path>, seed: u64, tensors: Vec<Expected>) -> Self {
        Self { shapes: Shapes::new(path, tensors), seed }
    }

    /// Reads `synthetic.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Config`] if it is not a table of synthetic weights, [`Error::Weight`] if its
    /// shapes are too large.
    pub fn open(path: &Path) -> Result<Self> {
        let text = reading::text(path, TEXT).map_err(Error::io("cannot read", path))?;
        let file: File = serde_json::from_str(&text)
            .map_err(|error| Error::config(path, format!("is not a table of synthetic weights: {error}")))?;
        let shape = |name: &str, value: serde_json::Value| {
            serde_json::from_value::<Vec<usize>>(value)
                .map_err(|_| Error::config(path, format!("the shape of {name} is not a list of sizes")))
        };
        let tensors: Vec<Expected> = file
            .tensors
            .into_iter()
            .map(|(name, value)| Ok(Expected { shape: shape(&name, value)?, name }))
            .collect::<Result<_>>()?;
        // Nothing else bounds the shapes: there is no file with values.
        let mut left = MOST_ELEMENTS;
        for Expected { name, shape } in &tensors {
            let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
            left = count.and_then(|count| left.checked_sub(count)).ok_or_else(|| {
                let problem = format!("has shape {shape:?}; expected at most {MOST_ELEMENTS} elements in all tensors");
                Error::weight(path, name, problem)
            })?;
        }
        Ok(Self::new(path, file.seed, tensors))
    }
}

impl Source for Synthetic {
    fn path(&self) -> &Path {
        self.shapes.path()
    }

    fn entries(&self) -> Vec<Entry> {
        self.shapes.entries()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(shape) = self.shapes.shape(name) else { return Ok(None) };
        let recipe = Recipe::new(name, shape, self.seed);
        let mut bytes = vec![0; shape.iter().product::<usize>() * 2];
        const CHUNK: usize = 1 << 16;
        bytes.par_chunks_mut(2 * CHUNK).enumerate().for_each(|(chunk, bytes)| {
            for (i, out) in bytes.chunks_exact_mut(2).enumerate() {
                out.copy_from_slice(&recipe.value((chunk * CHUNK + i) as u64).to_le_bytes());
            }
        });
        Ok(Some(Tensor { shape: shape.to_vec(), dtype: DType::Bf16, bytes: Bytes::Owned(Arc::new(bytes)) }))
    }

    fn fingerprint(&self) -> String {
        format!("synthetic:{}", self.seed)
    }
}

/// The recipe of one tensor.
struct Recipe {
    key: u64,
    offset: f64,
    scale: f64,
}

impl Recipe {
    fn new(name: &str, shape: &[usize], seed: u64) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        let fan_in = shape.iter().product::<usize>() as f64 / shape.first().copied().unwrap_or(1) as f64;
        let (offset, scale) = match (last, shape.len()) {
            ("mix_factor", _) => (0.0, 1.5),
            ("weight", 1) if name.contains("norm") => (1.0, 0.3),
            (_, 1) => (0.0, 0.15),
            ("scale_shift_table", _) => (0.0, 0.8),
            _ => (0.0, (3.0 / fan_in).sqrt()),
        };
        Self { key: fnv1a(name.as_bytes()) ^ seed, offset, scale }
    }

    /// Element `i`: SplitMix64 of the key and the index, to f64, to f32, to bf16.
    #[inline]
    fn value(&self, i: u64) -> bf16 {
        let u = (splitmix64(self.key, i) >> 40) as f64 * 2f64.powi(-23) - 1.0;
        bf16::from_f32((self.offset + self.scale * u) as f32)
    }
}

/// Output `i` of SplitMix64 from a state.
#[inline]
pub fn splitmix64(state: u64, i: u64) -> u64 {
    let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(state);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, name: &str, shape: &[usize], count: usize) -> Vec<f32> {
        let expected = Expected { name: name.to_owned(), shape: shape.to_vec() };
        let source = Synthetic::new("", seed, vec![expected]);
        source.tensor(name).unwrap().unwrap().to_f32()[..count].to_vec()
    }

    #[test]
    #[expect(clippy::excessive_precision, reason = "bf16 values in full, as the recipe gives them")]
    fn first_values_match_the_recipe() {
        assert_eq!(first(1, "encoder.conv_in.weight", &[32, 3, 3, 3], 3), [0.1728515625, -0.19140625, 0.0047607421875]);
        assert_eq!(first(1, "decoder.norm_out.weight", &[32], 3), [1.1875, 0.71484375, 1.28125]);
        assert_eq!(
            first(4, "transformer_blocks.0.scale_shift_table", &[6, 144], 3),
            [-0.062255859375, 0.035400390625, -0.69140625]
        );
        assert_eq!(first(1, "decoder.up.2.time_upsample.mix_factor", &[1], 1), [1.3046875]);
        assert_eq!(first(4, "proj_out.bias", &[32], 3), [-0.080078125, 0.1123046875, -0.0380859375]);
    }

    #[test]
    fn shapes_that_nothing_bounds_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthetic.json");
        let open = |tensors: &str| {
            std::fs::write(&path, format!("{{\"seed\": 1, \"tensors\": {{{tensors}}}}}")).unwrap();
            Synthetic::open(&path)
        };
        assert_eq!(open(r#""x": [2, 3], "y": [0]"#).unwrap().entries().len(), 2);
        for tensors in [
            r#""x": [18446744073709551615, 2]"#,
            r#""x": [18446744073709551615, 2, 0]"#,
            r#""x": [281474976710657]"#,
            r#""a": [281474976710656], "x": [1]"#,
        ] {
            let error = open(tensors).unwrap_err();
            assert!(error.exit_code() == 5 && error.to_string().contains("tensor x: has shape"), "{error}");
        }
    }
}
