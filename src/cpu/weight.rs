//! Parameters on the CPU: kept in their stored type, and widened to f32 block by block when used.

use crate::ops::DeviceWeight;
use crate::tensor::{Bytes, DType, Tensor};

/// One tensor, or several stacked along the first axis. Mapped tensors stay in the file.
#[derive(Clone, Debug)]
pub struct Weight {
    shape: Vec<usize>,
    parts: Vec<Tensor>,
}

impl Weight {
    /// Stacks `parts`, whose sizes are equal except the first.
    pub(super) fn new(parts: Vec<Tensor>) -> Self {
        let mut shape = parts[0].shape.clone();
        assert!(parts.iter().all(|part| part.shape[1..] == shape[1..]), "stacked tensors have the same trailing shape");
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        Self { shape, parts }
    }

    /// A parameter that an operation makes later.
    pub(super) fn unmade(shape: &[usize]) -> Self {
        Self::new(vec![Tensor { shape: shape.to_vec(), dtype: DType::F32, bytes: Bytes::Absent }])
    }

    /// Elements of one entry of the first axis.
    pub(super) fn row_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Elements `column..column + out.len()` of entry `row` of the first axis, as f32.
    // Always inlined, so that it is compiled for the caller's instruction set.
    #[inline(always)]
    pub(super) fn widen(&self, mut row: usize, column: usize, out: &mut [f32]) {
        for part in &self.parts {
            if row < part.shape[0] {
                return part.widen(row * self.row_len() + column, out);
            }
            row -= part.shape[0];
        }
        panic!("row {row} beyond the weight's {}", self.shape[0]);
    }

    /// All values as f32.
    pub(super) fn to_f32(&self) -> Vec<f32> {
        self.parts.iter().flat_map(Tensor::to_f32).collect()
    }
}

impl DeviceWeight for Weight {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
}
