//! Names and shapes without values, for runs that only count.

use super::manifest::Expected;
use super::{Entry, Source};
use crate::error::Result;
use crate::tensor::{Bytes, DType, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A checkpoint whose tensors have no values. A device allocates memory for them and leaves it unspecified; the CPU
/// allocates none.
#[derive(Debug)]
pub struct Shapes {
    path: PathBuf,
    tensors: Vec<Expected>,
    index: HashMap<String, usize>,
}

impl Shapes {
    /// A checkpoint of these tensors; `path` is only for messages.
    pub fn new(path: impl AsRef<Path>, tensors: Vec<Expected>) -> Self {
        let index = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Self { path: path.as_ref().to_path_buf(), tensors, index }
    }

    /// The shape of a tensor of this checkpoint.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.index.get(name).map(|&index| &*self.tensors[index].shape)
    }
}

impl Source for Shapes {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        let entry =
            |tensor: &Expected| Entry { name: tensor.name.clone(), dtype: DType::Bf16, shape: tensor.shape.clone() };
        self.tensors.iter().map(entry).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let tensor = |shape: &[usize]| Tensor { shape: shape.to_vec(), dtype: DType::Bf16, bytes: Bytes::Absent };
        Ok(self.shape(name).map(tensor))
    }

    fn fingerprint(&self) -> String {
        "shapes".into()
    }
}
