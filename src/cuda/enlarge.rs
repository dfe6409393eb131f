//! `fold_enlargement`: `kernels/enlarge.cu`.

use super::params::{Address, params};
use super::{Cuda, Weight, int};
use crate::error::Result;
use crate::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};

params! {
    /// See `kernels/enlarge.cu`.
    FoldEnlargementParams {
        weight: Address,
        folded: Address,
        rows: i32,
        cin: i32,
    }
}

/// Launches [`FoldEnlargement`].
pub(super) fn fold_enlargement(cuda: &Cuda, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Weight>) -> Result<()> {
    let wide = op.cin.is_multiple_of(8);
    let rows = op.cout * op.kt;
    let vectors = rows * op.cin / if wide { 8 } else { 1 };
    let params = FoldEnlargementParams {
        weight: args.weight.address(),
        folded: args.folded.address(),
        rows: int(rows)?,
        cin: int(op.cin)?,
    };
    cuda.launch(&cuda.flat("fold_enlargement", wide, vectors, op.flops(), op.bytes(2)), &params)
}
