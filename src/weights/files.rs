//! Weights in files of any format: one file, or the shards that an index names.

use super::mapped::Mapped;
use super::table::{Stored, Table};
use super::{Entry, Source, pickle, safetensors};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::reading::{self, TEXT};
use crate::tensor::{Bytes, DType, Tensor};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A checkpoint in files. Opening it reads the tables of tensors; tensors are pages of the mapped files.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    format: &'static str,
    entries: Vec<Entry>,
    places: HashMap<String, Place>,
    fingerprint: u64,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    file: Arc<Mapped>,
    /// Index into [`Files::entries`].
    entry: usize,
    /// First byte.
    start: usize,
    /// See [`Stored::strides`].
    strides: Option<Vec<usize>>,
}

/// Endings of PyTorch's pickle files.
const PICKLES: [&str; 4] = ["bin", "ckpt", "pt", "pth"];

impl Files {
    /// Opens a file (`.safetensors`, or PyTorch's `.bin`, `.ckpt`, `.pt`, `.pth`), or all shards that an index
    /// (`….index.json`) names.
    ///
    /// # Errors
    /// [`Error::Weight`] if a file is missing, is damaged, holds a type that no component of the model uses, or lacks a
    /// tensor that the index lists for it; [`Error::Config`] if the index is not valid; [`Error::Io`] if a file cannot
    /// be read.
    pub fn open(path: &Path) -> Result<Self> {
        let (entries, places) = (Vec::new(), HashMap::new());
        let mut opened = Self { path: path.to_path_buf(), format: "", entries, places, fingerprint: 0 };
        if path.extension().is_none_or(|extension| extension != "json") {
            opened.add(path)?;
            return Ok(opened);
        }
        let index = read_index(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        // In name order, so that the fingerprint does not depend on the order of the index.
        let shards: BTreeSet<&String> = index.iter().map(|(_, shard)| shard).collect();
        for shard in &shards {
            opened.add(&folder.join(shard))?;
        }
        for (name, shard) in &index {
            let place = opened.places.get(name);
            if place.is_none_or(|place| place.file.path() != folder.join(shard)) {
                return Err(Error::weight(
                    path,
                    name,
                    format!("is in {shard} according to the index, but that file does not hold it"),
                ));
            }
        }
        Ok(opened)
    }

    /// Adds one file's tensors.
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = Arc::new(Mapped::open(path)?);
        let is_pickle = path.extension().is_some_and(|found| PICKLES.iter().any(|pickle| found == *pickle));
        let table = if is_pickle { pickle::table(&file)? } else { safetensors::table(&file)? };
        self.format = if is_pickle { "pickle" } else { "safetensors" };
        self.fingerprint = self.fingerprint.rotate_left(1) ^ fingerprint(file.all(), &table);
        for Stored { name, dtype, shape, start, strides } in table.tensors {
            let place = Place { file: file.clone(), entry: self.entries.len(), start, strides };
            if let Some(other) = self.places.insert(name.clone(), place) {
                let problem = format!("is also in {}", other.file.path().display());
                return Err(Error::weight(path, name, problem));
            }
            self.entries.push(Entry { name, dtype, shape });
        }
        Ok(())
    }
}

impl Source for Files {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(Place { file, entry, start, strides }) = self.places.get(name) else { return Ok(None) };
        let Entry { shape, dtype, .. } = self.entries[*entry].clone();
        // Strided elements may lie anywhere after the first.
        let end = match strides {
            None => start + shape.iter().product::<usize>() * dtype.size(),
            Some(_) => file.all().len(),
        };
        let bytes = file.bytes(*start..end)?;
        Ok(Some(match strides {
            None => Tensor { shape, dtype, bytes },
            Some(strides) => row_major(&shape, dtype, strides, bytes),
        }))
    }

    fn fingerprint(&self) -> String {
        format!("{}:{:016x}", self.format, self.fingerprint)
    }

    /// The fingerprint covers only some values. A change to the other values changes the file's time.
    fn identity(&self) -> String {
        let stamps: BTreeMap<&Path, (u64, u128)> =
            self.places.values().map(|place| (place.file.path(), place.file.stamp())).collect();
        format!("{} {stamps:?}", self.fingerprint())
    }
}

/// Copies strided elements to row-major order.
fn row_major(shape: &[usize], dtype: DType, strides: &[usize], bytes: Bytes) -> Tensor {
    let stored = Tensor { shape: shape.to_vec(), dtype, bytes };
    stored.gather(shape, |mut i| {
        let mut at = 0;
        for (size, stride) in shape.iter().zip(strides).rev() {
            at += i % size * stride;
            i /= size;
        }
        at
    })
}

/// A hash of names, types, shapes and places of all tensors, and of the first values of each: enough to distinguish
/// checkpoints without reading gigabytes.
fn fingerprint(file: &[u8], table: &Table) -> u64 {
    const SAMPLE: usize = 64;
    let samples = table.tensors.iter().map(|tensor| {
        let length = tensor.shape.iter().product::<usize>() * tensor.dtype.size();
        // Values of strided tensors are hashed in the order of the file.
        let end = file.len().min(tensor.start + length.min(SAMPLE));
        fnv1a(&file[tensor.start..end])
    });
    samples.fold(table.hash, |hash, sample| hash.rotate_left(5) ^ sample)
}

/// Reads `….index.json`: names of tensors, and the files that hold them.
fn read_index(path: &Path) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(deserialize_with = "pairs")]
        weight_map: Vec<(String, String)>,
    }

    let text = reading::text(path, TEXT).map_err(Error::io("cannot read", path))?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| Error::config(path, format!("is not an index of shards: {error}")))?;
    let mut seen = HashMap::new();
    for (name, shard) in &index.weight_map {
        if let Some(other) = seen.insert(name, shard) {
            return Err(Error::weight(path, name, format!("is listed twice, in {other} and in {shard}")));
        }
        if !Path::new(shard).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::weight(
                path,
                name,
                format!("is in {shard:?} according to the index, which is outside of this folder"),
            ));
        }
    }
    Ok(index.weight_map)
}

/// Reads a map as a list of pairs, so that duplicate keys are detected.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<(String, String)>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from tensors to files")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Pairs)
}
