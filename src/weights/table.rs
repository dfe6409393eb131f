//! A weight file's table of tensors, whatever its format.

use crate::tensor::DType;

/// What a format tells of one file.
pub(super) struct Table {
    /// In the order of the file's data.
    pub tensors: Vec<Stored>,
    /// Of everything that the table says.
    pub hash: u64,
}

/// A tensor of a file; whoever makes one has checked that all of it lies inside.
pub(super) struct Stored {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// First byte.
    pub start: usize,
    /// Elements from one index to the next along each axis, where that is not simply row major.
    pub strides: Option<Vec<usize>>,
}
