//! `time_average`, `time_double`, `regroup_frames`: `kernels/resample.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, FLAT_THREADS, LaunchPlan, int};
use crate::error::Result;
use crate::ops::resample::{
    RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
};

/// Elements of a vector.
const VECTOR: usize = 8;
/// Frames of a run: of the output for `time_average`, of the input for `time_double`.
const RUN: usize = 4;
/// The most bytes of shared memory for a block of `regroup_frames`, so that several blocks fit a multiprocessor.
const TILE_BYTES: usize = 32 << 10;

params! {
    /// See `kernels/resample.cu`.
    ResampleParams {
        x: Address,
        out: Address,
        frame_len: i64,
        count: i32,
        frames: i32,
        out_frames: i32,
        runs: i32,
    }
}

params! {
    /// See `kernels/resample.cu`.
    RegroupFramesParams {
        x: Address,
        out: Address,
        frame_len: i64,
        frames: i32,
        channels: i32,
        stretch: i32,
        stretches: i32,
        inverse: i32,
        count: i32,
    }
}

/// A change of the frame rate. `run_frames` are the frames that are cut into runs, of the input or the output.
struct Resampling {
    kernel: &'static str,
    frames: usize,
    out_frames: usize,
    run_frames: usize,
    frame_len: usize,
    flops: u64,
    bytes: u64,
}

fn resample(cuda: &Cuda, op: &Resampling, x: &Buffer, out: &mut Buffer) -> Result<()> {
    let wide = op.frame_len.is_multiple_of(VECTOR);
    let count = op.frame_len / if wide { VECTOR } else { 1 };
    let runs = op.run_frames.div_ceil(RUN);
    let params = ResampleParams {
        x: x.half(),
        out: out.half(),
        frame_len: op.frame_len as i64,
        count: int(count)?,
        frames: int(op.frames)?,
        out_frames: int(op.out_frames)?,
        runs: int(runs)?,
    };
    let mut plan = cuda.flat(op.kernel, wide, count, op.flops, op.bytes);
    plan.grid[0] *= runs;
    cuda.launch(&plan, &params)
}

/// Launches [`TimeAverage`].
pub(super) fn time_average(cuda: &Cuda, op: &TimeAverage, args: TimeAverageArgs<'_, Buffer>) -> Result<()> {
    let op = Resampling {
        kernel: "time_average",
        frames: op.frames,
        out_frames: op.out_frames(),
        run_frames: op.out_frames(),
        frame_len: op.frame_len,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    resample(cuda, &op, args.x, args.out)
}

/// Launches [`TimeDouble`].
pub(super) fn time_double(cuda: &Cuda, op: &TimeDouble, args: TimeDoubleArgs<'_, Buffer>) -> Result<()> {
    let op = Resampling {
        kernel: "time_double",
        frames: op.frames,
        out_frames: op.out_frames(),
        run_frames: op.frames,
        frame_len: op.frame_len,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    resample(cuda, &op, args.x, args.out)
}

/// Channels of a block of `regroup_frames`, a multiple of the vector; `None` if a block cannot hold one vector of every
/// frame.
fn stretch(op: &RegroupFrames) -> Option<usize> {
    let room = (TILE_BYTES / (2 * op.frames)).saturating_sub(2).min(op.channels) / VECTOR * VECTOR;
    (room > 0 && op.channels.is_multiple_of(VECTOR)).then_some(room)
}

/// Launches [`RegroupFrames`].
pub(super) fn regroup_frames(cuda: &Cuda, op: &RegroupFrames, args: RegroupFramesArgs<'_, Buffer>) -> Result<()> {
    let RegroupFramesArgs { x, out } = args;
    if x.len == 0 {
        return Ok(());
    }
    let stretch = stretch(op);
    let stretches = stretch.map_or(0, |stretch| op.channels.div_ceil(stretch));
    let params = RegroupFramesParams {
        x: x.half(),
        out: out.half(),
        frame_len: (op.positions * op.channels) as i64,
        frames: int(op.frames)?,
        channels: int(op.channels)?,
        stretch: int(stretch.unwrap_or(0))?,
        stretches: int(stretches)?,
        inverse: i32::from(op.inverse),
        count: if stretch.is_some() { 0 } else { int(x.len)? },
    };
    let flat = cuda.flat("regroup_frames", stretch.is_some(), x.len, 0, op.bytes(2));
    let plan = match stretch {
        Some(stretch) => LaunchPlan {
            grid: [op.positions * stretches, 1, 1],
            threads: FLAT_THREADS,
            shared_bytes: 2 * op.frames * (stretch + 2),
            ..flat
        },
        None => flat,
    };
    cuda.launch(&plan, &params)
}
