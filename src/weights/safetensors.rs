//! The header of safetensors files.

use super::mapped::Mapped;
use super::table::{Stored, Table};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::tensor::DType;

/// Checks a header against the file: the header's length, and every tensor's type, shape and place.
pub(super) fn table(file: &Mapped) -> Result<Table> {
    let (path, map) = (file.path(), file.all());
    let fault = |problem: String| Error::weight(path, "", problem);
    let (length, metadata) = ::safetensors::SafeTensors::read_metadata(map).map_err(|error| {
        let size = map.len();
        fault(format!("is not a whole safetensors file ({error}); it has {size} bytes: download it again"))
    })?;
    let data = 8 + length;
    let mut tensors = Vec::new();
    let mut end = (data, String::new());
    for (name, info) in metadata.tensors() {
        let unknown = || {
            Error::weight(path, &name, format!("is stored as {:?}, which no component of the model uses", info.dtype))
        };
        let dtype = dtype(info.dtype).ok_or_else(unknown)?;
        let (start, stop) = info.data_offsets;
        end = end.max((data + stop, name.clone()));
        tensors.push(Stored { name, dtype, shape: info.shape.clone(), start: data + start, strides: None });
    }
    tensors.sort_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
    if end.0 > map.len() {
        let problem =
            format!("ends at byte {}, but the file has {} bytes: it is cut off; download it again", end.0, map.len());
        return Err(Error::weight(path, end.1, problem));
    }
    Ok(Table { tensors, hash: fnv1a(&map[8..data]) })
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
