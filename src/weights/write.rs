//! Writes weights as safetensors, one tensor after the other, and converts their type.

use super::manifest::Expected;
use super::{Entry, Source, strange};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use half::{bf16, f16};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes the wanted tensors of a source, divided among files.
pub struct Writer<'a> {
    source: &'a dyn Source,
    dtype: DType,
    /// In the order of the source, so that the source is read once from front to back.
    files: Vec<Vec<Entry>>,
}

/// Called with the number of bytes after each write; an error stops the writing.
pub type Progress<'a> = dyn FnMut(u64) -> Result<()> + 'a;

impl<'a> Writer<'a> {
    /// Prepares to write the tensors `wanted` of `source` as `dtype` (f32, f16 or bf16). A file has at most `most`
    /// bytes of data, or a single tensor.
    pub fn new(source: &'a dyn Source, wanted: &[Expected], dtype: DType, most: u64) -> Self {
        assert!(dtype.is_float(), "parameters cannot be stored as {}", dtype.name());
        let wanted: HashSet<&str> = wanted.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut files: Vec<Vec<Entry>> = Vec::new();
        let mut room = 0;
        for entry in source.entries().into_iter().filter(|entry| wanted.contains(entry.name.as_str())) {
            let size = size(&entry, dtype);
            match files.last_mut() {
                Some(file) if size <= room => file.push(entry),
                _ => {
                    files.push(vec![entry]);
                    room = most.max(size);
                }
            }
            room -= size;
        }
        Self { source, dtype, files }
    }

    /// Tensors in all files.
    pub fn tensors(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }

    /// Bytes of data in all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().flatten().map(|entry| size(entry, self.dtype)).sum()
    }

    /// Writes `STEM.safetensors` into `folder`, or numbered files and their index, and returns their names. The files
    /// are on the disk when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk is full, [`Error::Weight`] if a value is too large for the type; those of `progress`.
    pub fn write(&self, folder: &Path, stem: &str, progress: &mut Progress<'_>) -> Result<Vec<String>> {
        let count = self.files.len();
        let mut names = Vec::new();
        let mut index = serde_json::Map::new();
        for (i, entries) in self.files.iter().enumerate() {
            let name = match count {
                1 => format!("{stem}.safetensors"),
                _ => format!("{stem}-{:05}-of-{count:05}.safetensors", i + 1),
            };
            index.extend(entries.iter().map(|entry| (entry.name.clone(), name.clone().into())));
            self.write_file(&folder.join(&name), entries, progress)?;
            names.push(name);
        }
        if count > 1 {
            let index = serde_json::json!({"metadata": {"total_size": self.bytes()}, "weight_map": index});
            let name = format!("{stem}.safetensors.index.json");
            let path = folder.join(&name);
            std::fs::write(&path, format!("{index:#}\n")).map_err(Error::io("cannot write", &path))?;
            names.push(name);
        }
        Ok(names)
    }

    fn write_file(&self, path: &Path, entries: &[Entry], progress: &mut Progress<'_>) -> Result<()> {
        let full = || Error::io("cannot write", path);
        let file = File::create(path).map_err(full())?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header(entries, self.dtype)).map_err(full())?;
        for Entry { name, .. } in entries {
            let tensor = self.source.tensor(name)?.expect("the source holds the tensors that it lists");
            strange::check_tensor(self.source.path(), name, &tensor)?;
            for start in (0..tensor.len()).step_by(CHUNK) {
                let count = CHUNK.min(tensor.len() - start);
                let bytes = narrow(&tensor, start, count, self.dtype)
                    .map_err(|problem| Error::weight(self.source.path(), name, problem))?;
                out.write_all(&bytes).map_err(full())?;
                progress(bytes.len() as u64)?;
            }
            tensor.bytes.release();
        }
        let file = out.into_inner().map_err(|failed| full()(failed.into_error()))?;
        file.sync_all().map_err(full())
    }
}

/// Elements that are converted together.
const CHUNK: usize = 1 << 18;

fn size(entry: &Entry, dtype: DType) -> u64 {
    (entry.shape.iter().product::<usize>() * dtype.size()) as u64
}

/// The header: the length of the table, then the table with types, shapes and places of all tensors.
fn header(entries: &[Entry], dtype: DType) -> Vec<u8> {
    let code = match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        _ => "BF16",
    };
    let mut table = serde_json::Map::new();
    // Without this entry, Python's transformers library does not read the file.
    table.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut at = 0;
    for entry in entries {
        let end = at + size(entry, dtype);
        let place = serde_json::json!({"dtype": code, "shape": entry.shape, "data_offsets": [at, end]});
        table.insert(entry.name.clone(), place);
        at = end;
    }
    let mut table = serde_json::Value::Object(table).to_string();
    // The data begins at a multiple of eight.
    table.extend(std::iter::repeat_n(' ', table.len().next_multiple_of(8) - table.len()));
    [&(table.len() as u64).to_le_bytes(), table.as_bytes()].concat()
}

/// `count` elements from `start` on as `dtype`, rounded to nearest even.
fn narrow(tensor: &Tensor, start: usize, count: usize, dtype: DType) -> std::result::Result<Vec<u8>, String> {
    if tensor.dtype == dtype {
        return Ok(tensor.bytes[start * dtype.size()..(start + count) * dtype.size()].to_vec());
    }
    let mut values = vec![0.0; count];
    tensor.widen(start, &mut values);
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for value in values {
        let (narrowed, fits) = match dtype {
            DType::F32 => {
                bytes.extend(value.to_le_bytes());
                continue;
            }
            DType::F16 => (f16::from_f32(value).to_bits(), f16::from_f32(value).is_finite()),
            _ => (bf16::from_f32(value).to_bits(), bf16::from_f32(value).is_finite()),
        };
        if !fits {
            let others = if dtype == DType::F16 { "bf16 or f32" } else { "f32" };
            return Err(format!("has the value {value}, too large for {}; choose {others}", dtype.name()));
        }
        bytes.extend(narrowed.to_le_bytes());
    }
    Ok(bytes)
}
