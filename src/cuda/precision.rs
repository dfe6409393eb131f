//! The element types of a device, and their conversion from and to the host's values.

use crate::tensor::{DType, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use rayon::prelude::*;

/// Values of one task. Converting them takes longer than handing the task to a thread.
const TASK: usize = 1 << 16;
/// Values that are widened to f32 at a time, so that they stay in the first-level cache.
const WIDENED: usize = 1 << 10;

/// The 16-bit type of activations and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Half {
    /// The end of the kernels' names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The largest number.
    pub fn largest(self) -> f32 {
        match self {
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }

    /// This type as the type of a stored tensor.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F16 => DType::F16,
            Self::Bf16 => DType::Bf16,
        }
    }

    /// Rounds `values`, and returns their bits.
    pub(super) fn narrowed(self, values: &[f32]) -> Vec<u16> {
        let mut out = vec![0; values.len()];
        in_parallel(&mut out, |start, out| self.narrow(&values[start..start + out.len()], out));
        out
    }

    /// Rounds a parameter's elements from `start` on, and writes their bits to `out`.
    pub(super) fn convert(self, tensor: &Tensor, start: usize, out: &mut [u16]) {
        in_parallel(out, |offset, out| {
            let mut values = [0.0; WIDENED];
            for (i, out) in out.chunks_mut(WIDENED).enumerate() {
                let values = &mut values[..out.len()];
                widen_stored(tensor, start + offset + i * WIDENED, values);
                self.narrow(values, out);
            }
        });
    }

    /// Writes the values of `bits` to `out`.
    pub(super) fn widened(self, bits: &[u16], out: &mut [f32]) {
        in_parallel(out, |start, out| self.widen(&bits[start..start + out.len()], out));
    }

    fn widen(self, bits: &[u16], out: &mut [f32]) {
        match self {
            Self::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(out),
            Self::Bf16 => out.iter_mut().zip(bits).for_each(|(out, &bits)| *out = widen_bf16(bits)),
        }
    }

    fn narrow(self, values: &[f32], out: &mut [u16]) {
        match self {
            Self::F16 => out.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values),
            Self::Bf16 => out.iter_mut().zip(values).for_each(|(out, &value)| *out = narrow_bf16(value)),
        }
    }
}

/// Writes at most [`WIDENED`] elements of a parameter to `out` as f32, from `start` on.
fn widen_stored(tensor: &Tensor, start: usize, out: &mut [f32]) {
    let half = match tensor.dtype {
        DType::F16 => Half::F16,
        DType::Bf16 => Half::Bf16,
        _ => return tensor.widen(start, out),
    };
    // The stored bytes may be of any alignment.
    let mut bits = [0; WIDENED];
    let bits = &mut bits[..out.len()];
    bytemuck::cast_slice_mut(bits).copy_from_slice(&tensor.bytes[2 * start..2 * (start + out.len())]);
    half.widen(bits, out);
}

/// Fills `out` in parallel, in pieces. `fill` receives the index of a piece's first element.
fn in_parallel<T: Send>(out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= TASK {
        return fill(0, out);
    }
    out.par_chunks_mut(TASK).enumerate().for_each(|(i, out)| fill(i * TASK, out));
}

/// As [`half::bf16::from_f32`], but without a branch, so that loops over it become vector code. It rounds to nearest,
/// ties to even; NaN stays NaN.
#[inline(always)]
fn narrow_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if value.is_nan() { quiet } else { rounded }) as u16
}

/// As [`half::bf16::to_f32`], but without a branch.
#[inline(always)]
fn widen_bf16(bits: u16) -> f32 {
    let value = f32::from_bits(u32::from(bits) << 16);
    let quiet = if value.is_nan() { 0x40_0000 } else { 0 };
    f32::from_bits(value.to_bits() | quiet)
}

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// The backend's 16-bit type.
    Half,
    /// f32.
    Single,
}

impl ElementType {
    /// Bytes of an element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Bytes;
    use half::bf16;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Values for every case of rounding: each pattern of sign, exponent and the mantissa's upper seven bits, with
    /// lower bits just below, at and above half of the last place of either type.
    fn singles() -> Vec<f32> {
        let rests = [0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff];
        let bits = (0..=u16::MAX).flat_map(|upper| rests.map(|lower| u32::from(upper) << 16 | lower));
        bits.map(f32::from_bits).collect()
    }

    fn scalar(half: Half, value: f32) -> u16 {
        match half {
            Half::F16 => f16::from_f32(value).to_bits(),
            Half::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    fn scalar_widened(half: Half, bits: u16) -> u32 {
        match half {
            Half::F16 => f16::from_bits(bits).to_f32().to_bits(),
            Half::Bf16 => bf16::from_bits(bits).to_f32().to_bits(),
        }
    }

    fn tensor(dtype: DType, bytes: Vec<u8>) -> Tensor {
        Tensor { shape: vec![bytes.len() / dtype.size()], dtype, bytes: Bytes::Owned(Arc::new(bytes)) }
    }

    /// Compares value by value, because `assert_eq` on slices would print millions of values.
    fn check(half: Half, found: &[u16], values: &[f32]) {
        assert_eq!(found.len(), values.len());
        for (&found, &value) in found.iter().zip(values) {
            let (bits, expected) = (value.to_bits(), scalar(half, value));
            assert!(found == expected, "{half:?} of {bits:#010x}: {found:#06x}, expected {expected:#06x}");
        }
    }

    #[test]
    fn slices_of_singles_are_rounded_as_single_values_are() {
        let values = singles();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let stored = tensor(DType::F32, bytes);
        for half in [Half::F16, Half::Bf16] {
            check(half, &half.narrowed(&values), &values);
            let mut bits = vec![0; values.len() - 8];
            half.convert(&stored, 3, &mut bits);
            check(half, &bits, &values[3..values.len() - 5]);
        }
    }

    #[test]
    fn slices_of_halves_are_converted_as_single_values_are() {
        let all: Vec<u16> = (0..=u16::MAX).chain([0; 3]).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        for half in [Half::F16, Half::Bf16] {
            let mut values = vec![0.0; all.len()];
            half.widened(&all, &mut values);
            for (&bits, value) in all.iter().zip(values) {
                let (found, expected) = (value.to_bits(), scalar_widened(half, bits));
                assert!(found == expected, "{half:?} {bits:#06x}: {found:#010x}, expected {expected:#010x}");
            }
            for dtype in [DType::F16, DType::Bf16] {
                let stored = tensor(dtype, bytes.clone());
                let mut bits = vec![0; all.len()];
                half.convert(&stored, 0, &mut bits);
                check(half, &bits, &stored.to_f32());
            }
        }
    }

    proptest! {
        #[test]
        fn random_singles_are_rounded_as_single_values_are(bits in prop::collection::vec(any::<u32>(), 0..5000)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            for half in [Half::F16, Half::Bf16] {
                check(half, &half.narrowed(&values), &values);
            }
        }
    }
}
