//! A tensor on the host: shape, stored type, and bytes that may be a mapped file.

use half::bf16;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use std::ops::Range;
use std::sync::Arc;

/// Stored types. Parameters are f32, f16 or bf16; golden data also i64 or u8. The other types occur in training
/// checkpoints, in tensors that nothing reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Signed 64-bit integers: ids and masks of golden data.
    I64,
    /// Bytes: frames of golden data.
    U8,
    /// IEEE double.
    F64,
    /// Signed 32-bit integers.
    I32,
    /// Signed 16-bit integers.
    I16,
    /// Signed bytes.
    I8,
    /// Truth values, a byte each.
    Bool,
}

impl DType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::Bool => "bool",
        }
    }

    /// Whether parameters may have this type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// Owned bytes, a range of a mapped file, or no bytes.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// A range of a file; pages are read when touched.
    Mapped(FileRange),
    /// Owned.
    Owned(Arc<Vec<u8>>),
    /// The bytes of a tensor that has only a shape: reading them is a bug.
    Absent,
}

/// A range of a mapped file.
#[derive(Clone, Debug)]
pub struct FileRange {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl FileRange {
    /// A range of `map`, which must be a read-only map of a file. Panics if the range lies beyond it.
    pub(crate) fn new(map: Arc<Mmap>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= map.len(), "{range:?} of {}", map.len());
        Self { map, range }
    }
}

impl Bytes {
    /// Tells the system that these bytes are not needed now, so that pages of a mapped file stop counting as this
    /// process's memory. The bytes can still be read again.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Self::Mapped(FileRange { map, range }) = self {
            // SAFETY: the range lies in the map, which is of a file and read only: `FileRange::new` says so. So the
            // system reads dropped pages from the file again.
            let dropped = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
            // A hint: nothing depends on it.
            let _ = dropped;
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(FileRange { map, range }) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
            Self::Absent => panic!("this tensor has a shape, but no values"),
        }
    }
}

/// A tensor on the host, row major. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Stored type.
    pub dtype: DType,
    /// `len() · dtype.size()` bytes, little endian, of any alignment.
    pub bytes: Bytes,
}

impl Tensor {
    /// An f32 tensor.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} of {} values", values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { shape: shape.to_vec(), dtype: DType::F32, bytes: Bytes::Owned(Arc::new(bytes)) }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are values, not only a shape.
    pub fn has_values(&self) -> bool {
        !matches!(self.bytes, Bytes::Absent)
    }

    /// All elements as f32. Panics on a type that cannot hold parameters.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.widen(0, &mut out);
        out
    }

    /// Elements `start..start + out.len()` as f32. Panics on a type that cannot hold parameters.
    // Always inlined, so that it is compiled for the caller's instruction set.
    #[inline(always)]
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        let size = self.dtype.size();
        let bytes = &self.bytes[start * size..(start + out.len()) * size];
        match self.dtype {
            DType::F32 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            DType::Bf16 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = bf16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
            DType::F16 => {
                for (value, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = widen_f16(u16::from_le_bytes([b[0], b[1]]));
                }
            }
            _ => panic!("{} tensors are not parameters", self.dtype.name()),
        }
    }

    /// Reorders the elements: element i of the result is element `source(i)` of this tensor. Keeps the type.
    pub fn gather(&self, shape: &[usize], source: impl Fn(usize) -> usize) -> Self {
        if !self.has_values() {
            return Self { shape: shape.to_vec(), ..self.clone() };
        }
        let size = self.dtype.size();
        let len: usize = shape.iter().product();
        let mut bytes = Vec::with_capacity(len * size);
        for i in 0..len {
            let at = source(i) * size;
            bytes.extend_from_slice(&self.bytes[at..at + size]);
        }
        Self { shape: shape.to_vec(), dtype: self.dtype, bytes: Bytes::Owned(Arc::new(bytes)) }
    }
}

/// An f16 as f32, without a branch, so that loops over it become vector code on every processor.
#[inline(always)]
fn widen_f16(bits: u16) -> f32 {
    /// 2¹¹², the difference of the exponents' biases. Multiplying by it also makes subnormal values normal.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBIAS;
    let infinite_or_nan = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | infinite_or_nan | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (widen_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
    }
}
