//! `group_moments`, `group_statistics`, `group_norm`: `kernels/groupnorm.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::Result;
use crate::ops::groupnorm::{GroupNorm, GroupNormArgs, Moments, MomentsArgs, Statistics, StatisticsArgs};

/// Threads of every kernel here.
pub(crate) const THREADS: u32 = 256;
/// Elements of a vector.
const VECTOR: usize = 8;
/// Positions of a thread.
const STEPS: usize = 8;
/// The most channels of a slab that a block takes.
const STRETCH: usize = 128;
/// Groups that a block combines.
const COMBINED_GROUPS: usize = 8;
/// Bytes of a group's mean and M2.
const PAIR: usize = 2 * size_of::<f32>();

params! {
    /// See `kernels/groupnorm.cu`.
    GroupMomentsParams {
        x: Address,
        moments: Address,
        positions: i32,
        channels: i32,
        groups: i32,
        width: i32,
        slabs: i32,
        stretches: i32,
        across: i32,
        rows: i32,
    }
}

params! {
    /// See `kernels/groupnorm.cu`.
    GroupCombineParams {
        parts: Address,
        out: Address,
        part_count: i32,
        groups: i32,
        repeats: i32,
        finish: i32,
        part_elements: f32,
        last_elements: f32,
        elements: f32,
        eps: f32,
    }
}

params! {
    /// See `kernels/groupnorm.cu`.
    GroupApplyParams {
        x: Address,
        statistics: Address,
        weight: Address,
        bias: Address,
        out: Address,
        positions: i32,
        channels: i32,
        groups: i32,
        width: i32,
        silu: i32,
        across: i32,
        rows: i32,
        columns: i32,
    }
}

/// Groups of a stretch: the largest divisor of `groups` whose channels fill whole vectors and are at most [`STRETCH`];
/// `None` if there is no such divisor.
fn stretch_groups(groups: usize, width: usize) -> Option<usize> {
    let fits = |&count: &usize| groups.is_multiple_of(count) && (count * width).is_multiple_of(VECTOR);
    (1..=groups.min(STRETCH / width)).rev().find(fits)
}

/// Launches [`Moments`]. A frame's moments do not depend on the other frames of the launch.
pub(super) fn group_moments(cuda: &Cuda, op: &Moments, args: MomentsArgs<'_, Buffer>) -> Result<()> {
    let MomentsArgs { x, moments } = args;
    if x.len == 0 {
        return Ok(());
    }
    let (slabs, width) = (op.slabs(), op.channels / op.groups);
    let stretch = stretch_groups(op.groups, width);
    let across = stretch.map_or(1, |groups| groups * width / VECTOR);
    let stretches = op.groups / stretch.unwrap_or(1);
    let ragged = if stretch.is_some() { "" } else { "_ragged" };
    let params = GroupMomentsParams {
        x: x.half(),
        moments: moments.single(),
        positions: int(op.positions)?,
        channels: int(op.channels)?,
        groups: int(op.groups)?,
        width: int(width)?,
        slabs: int(slabs)?,
        stretches: int(stretches)?,
        across: int(across)?,
        rows: int(THREADS as usize / across)?,
    };
    let plan = LaunchPlan {
        kernel: format!("group_moments{ragged}_{}", cuda.half.suffix()),
        grid: [stretches * slabs, op.frames, 1],
        threads: THREADS,
        shared_bytes: shared_bytes(stretch.is_some()),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}

/// Shared memory of a block. With stretches: mean and M2 for each channel of a thread's vector, with a gap of sixteen
/// threads' room between planes, and mean and M2 of a stretch's channels. Else: one number for each warp.
fn shared_bytes(wide: bool) -> usize {
    if wide { PAIR * (VECTOR * (THREADS as usize + 16) + STRETCH) } else { size_of::<f32>() * THREADS as usize / 32 }
}

/// Statistics that [`combine`] makes out of smaller pieces: a frame's of its slabs', or the video's of its frames'.
struct Combining {
    /// The address of the first piece.
    from: Address,
    /// The address of the first result.
    to: Address,
    /// The number of results.
    wholes: usize,
    /// Pieces of each result.
    count: usize,
    /// Elements of a group in a piece, and in the last piece.
    elements: [usize; 2],
    /// How often each result is written.
    repeats: usize,
    /// Whether a result is mean and inverse deviation; else it is mean and M2.
    finish: bool,
}

fn combine(cuda: &Cuda, op: &Statistics, pieces: &Combining) -> Result<()> {
    let [piece, last] = pieces.elements;
    let params = GroupCombineParams {
        parts: pieces.from,
        out: pieces.to,
        part_count: int(pieces.count)?,
        groups: int(op.groups)?,
        repeats: int(pieces.repeats)?,
        finish: i32::from(pieces.finish),
        part_elements: piece as f32,
        last_elements: last as f32,
        elements: (piece * (pieces.count - 1) + last) as f32,
        eps: op.eps,
    };
    let moved = pieces.wholes * (pieces.count + pieces.repeats) * op.groups;
    let plan = LaunchPlan {
        kernel: "group_combine_f32".to_owned(),
        grid: [pieces.wholes * op.groups.div_ceil(COMBINED_GROUPS), 1, 1],
        threads: THREADS,
        shared_bytes: size_of::<f32>() * COMBINED_GROUPS * THREADS as usize / 32,
        // Each piece costs three for the mean and four for M2.
        flops: (7 * pieces.wholes * pieces.count * op.groups) as u64,
        bytes: (PAIR * moved) as u64,
    };
    cuda.launch(&plan, &params)
}

/// Launches [`Statistics`]. It combines slabs to frames, and frames to the video unless `op.per_frame`.
pub(super) fn group_statistics(cuda: &Cuda, op: &Statistics, args: StatisticsArgs<'_, Buffer>) -> Result<()> {
    let StatisticsArgs { stretches, statistics } = args;
    if op.frames * op.positions * op.channels == 0 {
        return Ok(());
    }
    let (slabs, width) = (op.moments(1).slabs(), op.channels / op.groups);
    let (slab, frame) = (Moments::SLAB * width, op.positions * width);
    let mut first = 0;
    for &(moments, frames) in stretches {
        combine(
            cuda,
            op,
            &Combining {
                from: moments.single(),
                to: frame_statistics(statistics, op.groups, first),
                wholes: frames,
                count: slabs,
                elements: [slab, frame - (slabs - 1) * slab],
                repeats: 1,
                finish: op.per_frame,
            },
        )?;
        first += frames;
    }
    if op.per_frame {
        return Ok(());
    }
    combine(
        cuda,
        op,
        &Combining {
            from: statistics.single(),
            to: statistics.single(),
            wholes: 1,
            count: op.frames,
            elements: [frame; 2],
            repeats: op.frames,
            finish: true,
        },
    )
}

/// The address of a frame's statistics.
fn frame_statistics(statistics: &Buffer, groups: usize, frame: usize) -> Address {
    Address(statistics.single().0 + (PAIR * groups * frame) as u64)
}

/// Launches [`GroupNorm`].
pub(super) fn group_norm(cuda: &Cuda, op: &GroupNorm, args: GroupNormArgs<'_, Buffer, Weight>) -> Result<()> {
    let GroupNormArgs { x, statistics, weight, bias, out } = args;
    let wide = op.channels.is_multiple_of(VECTOR);
    let vectors = op.channels / if wide { VECTOR } else { 1 };
    let across = vectors.min(THREADS as usize);
    let (rows, columns) = (THREADS as usize / across, vectors.div_ceil(across));
    let frame = |buffer: Address, at: usize| Address(buffer.0 + (2 * at * op.frame_len()) as u64);
    let params = GroupApplyParams {
        x: frame(x.half(), op.x_frame),
        statistics: frame_statistics(statistics, op.groups, op.video_frame),
        weight: weight.address(),
        bias: bias.address(),
        out: frame(out.half(), op.out_frame),
        positions: int(op.positions)?,
        channels: int(op.channels)?,
        groups: int(op.groups)?,
        width: int(op.channels / op.groups)?,
        silu: i32::from(op.silu),
        across: int(across)?,
        rows: int(rows)?,
        columns: int(columns)?,
    };
    let mut plan = cuda.flat("group_apply", wide, 0, op.flops(), op.bytes(2));
    plan.grid = [columns * op.positions.div_ceil(STEPS * rows), op.frames, 1];
    cuda.launch(&plan, &params)
}

#[cfg(test)]
mod tests {
    use super::stretch_groups;

    #[test]
    fn stretches_are_whole_groups_and_whole_vectors() {
        for (groups, width, expected) in [
            (32, 4, Some(32)),
            (32, 8, Some(16)),
            (32, 16, Some(8)),
            (32, 1, Some(32)),
            (5, 24, Some(5)),
            (22, 12, Some(2)),
            (3, 8, Some(3)),
            (17, 8, Some(1)),
            (3, 4, None),
            (7, 1, None),
            (1, 264, None),
        ] {
            assert_eq!(stretch_groups(groups, width), expected, "{groups} groups of {width}");
        }
    }
}
