//! `finite`: `kernels/finite.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, ElementType, FLAT_THREADS, LaunchPlan};
use crate::arriving::Arriving;
use crate::error::Result;
use crate::ops::finite::{Finite, FiniteArgs};

params! {
    /// See `kernels/finite.cu`.
    FiniteParams {
        x: Address,
        out: Address,
        len: i64,
        single: i32,
        padding: i32,
    }
}

/// Launches [`Finite`], and starts the copy of its counts to the host.
pub(super) fn finite(cuda: &Cuda, op: &Finite, args: FiniteArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
    let FiniteArgs { x } = args;
    if op.len == 0 {
        return Ok(Box::new(Vec::new()));
    }
    let element = x.precision.bytes();
    let wide = [op.offset, op.len].iter().all(|len| len.is_multiple_of(8));
    let counts = cuda.device.alloc(4 * op.blocks())?;
    let params = FiniteParams {
        x: Address(x.address().0 + (element * op.offset) as u64),
        out: Address(counts.address()),
        len: op.len as i64,
        single: i32::from(x.precision == ElementType::Single),
        padding: 0,
    };
    let plan = LaunchPlan {
        grid: [op.blocks(), 1, 1],
        shared_bytes: FLAT_THREADS as usize / 32 * size_of::<f32>(),
        ..cuda.flat("finite", wide, op.len, 0, op.bytes(element as u64))
    };
    cuda.launch(&plan, &params)?;
    cuda.device.read_behind(&*counts, 0, 4 * op.blocks())
}
