//! Reads a golden folder: `cases.json` describes each case, `cases.safetensors` holds `CASE.TENSOR`.

use crate::error::{Error, Result};
use crate::reading::{self, TEXT};
use crate::tensor::{Bytes, DType, Tensor};
use crate::weights::{Files, Source, strange};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// An open golden folder.
pub(super) struct Golden {
    file: PathBuf,
    cases: Map<String, Value>,
    tensors: Files,
}

impl Golden {
    /// Opens both files.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("cases.json");
        let text = reading::text(&file, TEXT).map_err(Error::io("cannot read", &file))?;
        let cases: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::config(&file, format!("is not a table of cases: {error}")))?;
        let golden = Self { file, cases, tensors: Files::open(&folder.join("cases.safetensors"))? };
        if golden.cases.is_empty() {
            return Err(Error::config(golden.file, "holds no cases"));
        }
        Ok(golden)
    }

    /// Every case, with its name.
    pub fn cases(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.cases.iter()
    }

    /// A case's description.
    pub fn read<T: DeserializeOwned>(&self, name: &str, case: &Value) -> Result<T> {
        T::deserialize(case).map_err(|error| Error::config(&self.file, format!("case {name}: {error}")))
    }

    /// The tensor of floats `name`, if it exists.
    pub fn find(&self, name: &str) -> Result<Option<Tensor>> {
        find(&self.tensors, name)
    }

    /// The tensor `CASE.TENSOR`.
    pub fn tensor(&self, case: &str, tensor: &str) -> Result<Tensor> {
        let name = if case.is_empty() { tensor.to_owned() } else { format!("{case}.{tensor}") };
        read(&self.tensors, &name)?
            .ok_or_else(|| Error::weight(self.tensors.path(), &name, "is missing, but cases.json needs it"))
    }

    /// A tensor of `axes` axes, as f32.
    pub fn floats(&self, case: &str, tensor: &str, axes: usize) -> Result<Tensor> {
        let found = self.tensor(case, tensor)?;
        if found.shape.len() != axes || !found.dtype.is_float() || found.is_empty() {
            let problem =
                format!("is {} of shape {:?}; expected floats with {axes} axes", found.dtype.name(), found.shape);
            return Err(Error::weight(self.tensors.path(), format!("{case}.{tensor}"), problem));
        }
        Ok(found)
    }

    /// A tensor of bytes.
    pub fn frames(&self, case: &str, tensor: &str) -> Result<Bytes> {
        let found = self.tensor(case, tensor)?;
        if found.dtype != DType::U8 || found.is_empty() {
            let problem = format!("is {} of shape {:?}; expected bytes", found.dtype.name(), found.shape);
            return Err(Error::weight(self.tensors.path(), format!("{case}.{tensor}"), problem));
        }
        Ok(found.bytes)
    }

    /// A tensor of 64-bit integers.
    pub fn integers(&self, case: &str, tensor: &str) -> Result<Vec<i64>> {
        let found = self.tensor(case, tensor)?;
        if found.dtype != DType::I64 {
            let problem = format!("is {}; expected i64", found.dtype.name());
            return Err(Error::weight(self.tensors.path(), format!("{case}.{tensor}"), problem));
        }
        Ok(found
            .bytes
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().expect("chunks of 8")))
            .collect())
    }
}

/// The tensor of floats `name` of a golden file, if it exists.
pub(super) fn find(file: &Files, name: &str) -> Result<Option<Tensor>> {
    match read(file, name)? {
        Some(found) if !found.dtype.is_float() => {
            Err(Error::weight(file.path(), name, format!("is {}; expected floats", found.dtype.name())))
        }
        found => Ok(found),
    }
}

/// The tensor `name` of a golden file, if it exists. Fails if a value is not finite: every comparison would be useless.
fn read(file: &Files, name: &str) -> Result<Option<Tensor>> {
    let found = file.tensor(name)?;
    found.as_ref().map_or(Ok(()), |tensor| strange::check_tensor(file.path(), name, tensor))?;
    Ok(found)
}

/// The bf16 error of PyTorch in a case: one number, or one for each tensor.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Bf16Error {
    /// The error of the only tensor.
    Single(f64),
    /// The errors by tensor.
    ByTensor(std::collections::BTreeMap<String, f64>),
}

impl Bf16Error {
    /// The error of `tensor`. If the case does not have it: 0, a bound that no 16-bit device meets.
    pub fn of(&self, tensor: &str) -> f64 {
        match self {
            Self::Single(error) => *error,
            Self::ByTensor(errors) => errors.get(tensor).copied().unwrap_or(0.0),
        }
    }
}

/// The windows of a tiled case.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub(super) struct Tile {
    tile_overlap_factor: f64,
    tile_sample_min_size: usize,
    tile_sample_min_size_t: usize,
}

impl From<Tile> for crate::model::vae::tiling::Tiling {
    fn from(tile: Tile) -> Self {
        Self {
            sample_size: tile.tile_sample_min_size,
            sample_frames: tile.tile_sample_min_size_t,
            overlap: tile.tile_overlap_factor,
        }
    }
}
