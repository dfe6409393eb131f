//! Memory-mapped safetensors: one file, or shards named by `*.safetensors.index.json`.

use super::synthetic::fnv1a;
use super::{Bytes, DType, Entry, Source, Tensor};
use crate::error::{Error, Result};
use memmap2::Mmap;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A safetensors checkpoint. Opening it reads the headers; tensors are pages of the mapped files.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    entries: Vec<Entry>,
    places: HashMap<String, (Arc<Mmap>, Range<usize>, usize)>,
    fingerprint: u64,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Safetensors {
    /// Opens a `.safetensors` file, or all shards that a `.safetensors.index.json` names.
    pub fn open(path: &Path) -> Result<Self> {
        let mut opened = Self { path: path.to_path_buf(), entries: Vec::new(), places: HashMap::new(), fingerprint: 0 };
        if path.extension().is_none_or(|extension| extension != "json") {
            opened.add(path)?;
            return Ok(opened);
        }
        let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|error| Error::config(path, format!("is not an index of shards: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        for shard in shards {
            opened.add(&folder.join(shard))?;
        }
        let absent = index.weight_map.iter().filter(|(name, _)| !opened.places.contains_key(*name)).min();
        if let Some((name, shard)) = absent {
            return Err(Error::weight(path, name, format!("is said to be in {shard}, which does not hold it")));
        }
        Ok(opened)
    }

    /// Adds one file's tensors.
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(Error::io("cannot open", path))?;
        let size = file.metadata().map_err(Error::io("cannot read", path))?.len();
        if size < 8 {
            return Err(Error::weight(
                path,
                "",
                format!("is not a safetensors file: it has {size} bytes; download it again"),
            ));
        }
        // SAFETY: the map is read only. If another process truncates the file while it is mapped, reads fault; that is
        // the accepted price of mapping, as for every program that maps its inputs.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("cannot map", path))?;
        let map = Arc::new(map);
        let header = parse_header(path, &map)?;
        // Shards are combined in name order by the caller, so the order of mixing is fixed.
        self.fingerprint = self.fingerprint.rotate_left(1) ^ fingerprint(&map, &header);
        for (name, info) in header.tensors {
            let entry = Entry { name: name.clone(), dtype: info.dtype, shape: info.shape };
            let place = (map.clone(), info.bytes, self.entries.len());
            if self.places.insert(name.clone(), place).is_some() {
                return Err(Error::weight(path, name, "stands in two shards"));
            }
            self.entries.push(entry);
        }
        Ok(())
    }
}

impl Source for Safetensors {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.places.get(name).map(|(map, range, index)| {
            let Entry { shape, dtype, .. } = &self.entries[*index];
            Tensor { shape: shape.clone(), dtype: *dtype, bytes: Bytes::Mapped(map.clone(), range.clone()) }
        }))
    }

    fn fingerprint(&self) -> String {
        format!("safetensors:{:016x}", self.fingerprint)
    }
}

/// Names, types, shapes and places of all tensors, and the first values of each: enough to tell checkpoints apart
/// without reading gigabytes.
fn fingerprint(map: &[u8], header: &Header) -> u64 {
    const SAMPLE: usize = 64;
    let samples = header.tensors.iter().map(|(_, info)| {
        let end = info.bytes.end.min(info.bytes.start + SAMPLE);
        fnv1a(&map[info.bytes.start..end])
    });
    samples.fold(fnv1a(&map[8..header.end]), |hash, sample| hash.rotate_left(5) ^ sample)
}

struct Header {
    /// First byte of the data.
    end: usize,
    /// In the order of the file's data.
    tensors: Vec<(String, Info)>,
}

struct Info {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// Checks a header against the file: its own length, every tensor's type, shape and place.
fn parse_header(path: &Path, map: &[u8]) -> Result<Header> {
    let fault = |problem: String| Error::weight(path, "", problem);
    let (length, metadata) = ::safetensors::SafeTensors::read_metadata(map).map_err(|error| {
        let size = map.len();
        fault(format!("is not a whole safetensors file ({error}); it has {size} bytes: download it again"))
    })?;
    let end = 8 + length;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let unknown =
            || Error::weight(path, &name, format!("is stored as {:?}, which no part of the model uses", info.dtype));
        let dtype = dtype(info.dtype).ok_or_else(unknown)?;
        let (start, stop) = info.data_offsets;
        tensors.push((name, Info { dtype, shape: info.shape.clone(), bytes: end + start..end + stop }));
    }
    tensors.sort_by_key(|(_, info)| info.bytes.start);
    if let Some((name, info)) = tensors.last().filter(|(_, info)| info.bytes.end > map.len()) {
        let problem = format!(
            "ends at byte {}, but the file has {}: it is cut off; download it again",
            info.bytes.end,
            map.len()
        );
        return Err(Error::weight(path, name, problem));
    }
    Ok(Header { end, tensors })
}

fn dtype(dtype: ::safetensors::Dtype) -> Option<DType> {
    use ::safetensors::Dtype;
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::Bf16),
        Dtype::I64 => Some(DType::I64),
        Dtype::U8 => Some(DType::U8),
        _ => None,
    }
}
