//! `distance`: `kernels/distance.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, FLAT_THREADS, LaunchPlan};
use crate::arriving::Arriving;
use crate::error::Result;
use crate::ops::distance::{Distance, DistanceArgs};

params! {
    /// See `kernels/distance.cu`.
    DistanceParams {
        a: Address,
        b: Address,
        out: Address,
        len: i64,
    }
}

/// Launches [`Distance`], and starts the copy of its sums to the host.
pub(super) fn distance(cuda: &Cuda, op: &Distance, args: DistanceArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
    let DistanceArgs { a, b } = args;
    if op.len == 0 {
        return Ok(Box::new(Vec::new()));
    }
    let bytes = 2 * size_of::<f32>() * op.blocks();
    let sums = cuda.device.alloc(bytes)?;
    let params = DistanceParams { a: a.half(), b: b.half(), out: Address(sums.address()), len: op.len as i64 };
    let plan = LaunchPlan {
        grid: [op.blocks(), 1, 1],
        shared_bytes: FLAT_THREADS as usize / 32 * size_of::<f32>(),
        ..cuda.flat("distance", op.len.is_multiple_of(8), op.len, op.flops(), op.bytes(2))
    };
    cuda.launch(&plan, &params)?;
    cuda.device.read_behind(&*sums, 0, bytes)
}
