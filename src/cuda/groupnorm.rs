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
/// Channels that a block takes of a slab, at most.
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

/// Groups of a stretch: as many as divide `groups` and fill whole vectors of at most [`STRETCH`] channels; none if no
/// number does.
fn stretch_groups(groups: usize, width: usize) -> Option<usize> {
    let fits = |&count: &usize| groups.is_multiple_of(count) && (count * width).is_multiple_of(VECTOR);
    (1..=groups.min(STRETCH / width)).rev().find(fits)
}

/// Launches [`Moments`]. Every frame's are the same whichever frames stand beside it.
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

/// Shared memory of a block: mean and M2 for each channel of a thread's vector, with sixteen threads' room between planes,
/// and those of a stretch's channels; or a number for each warp.
fn shared_bytes(wide: bool) -> usize {
    if wide { PAIR * (VECTOR * (THREADS as usize + 16) + STRETCH) } else { size_of::<f32>() * THREADS as usize / 32 }
}

/// What [`combine`] makes one of.
struct Combining {
    /// Where the first part is.
    from: Address,
    /// Where the first whole goes.
    to: Address,
    /// How many there are to make.
    wholes: usize,
    /// Combining of each.
    count: usize,
    /// Elements of a group in a part, in the last part.
    elements: [usize; 2],
    /// How often each whole is written.
    repeats: usize,
    /// Mean and inverse deviation, not mean and M2.
    finish: bool,
}

fn combine(cuda: &Cuda, op: &Statistics, parts: &Combining) -> Result<()> {
    let [part, last] = parts.elements;
    let params = GroupCombineParams {
        parts: parts.from,
        out: parts.to,
        part_count: int(parts.count)?,
        groups: int(op.groups)?,
        repeats: int(parts.repeats)?,
        finish: i32::from(parts.finish),
        part_elements: part as f32,
        last_elements: last as f32,
        elements: (part * (parts.count - 1) + last) as f32,
        eps: op.eps,
    };
    let moved = parts.wholes * (parts.count + parts.repeats) * op.groups;
    let plan = LaunchPlan {
        kernel: "group_combine_f32".to_owned(),
        grid: [parts.wholes * op.groups.div_ceil(COMBINED_GROUPS), 1, 1],
        threads: THREADS,
        shared_bytes: size_of::<f32>() * COMBINED_GROUPS * THREADS as usize / 32,
        // Three for the mean, four for M2.
        flops: (7 * parts.wholes * parts.count * op.groups) as u64,
        bytes: (PAIR * moved) as u64,
    };
    cuda.launch(&plan, &params)
}

/// Launches [`Statistics`]: slabs to frames, then frames to the video, unless each is normed by itself.
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

/// Where the statistics of a frame are.
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
