//! A weight file's table of tensors, for all formats.

use crate::tensor::DType;

/// The table of one file.
pub(super) struct Table {
    /// In the order of the file's data.
    pub tensors: Vec<Stored>,
    /// A hash of the whole table.
    pub hash: u64,
}

/// A tensor of a file. The code that makes one has checked that all of it lies inside the file.
pub(super) struct Stored {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// First byte.
    pub start: usize,
    /// Elements from one index to the next along each axis; `None` for row-major order.
    pub strides: Option<Vec<usize>>,
}
