//! `time_average`, `time_double`, `regroup_frames`: temporal resampling; each is one pass over memory.

use super::{Buffer, math};
use crate::ops::resample::{
    RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
};
use rayon::prelude::*;

/// Elements of a frame in one task.
const BLOCK: usize = 16384;

/// Calls `write(frame, start, block)` for blocks of each output frame, in parallel; a block starts at element `start`.
fn for_each_block(out: &mut [f32], frame_len: usize, write: impl Fn(usize, usize, &mut [f32]) + Sync) {
    if frame_len == 0 {
        return;
    }
    out.par_chunks_mut(frame_len).enumerate().for_each(|(frame, out)| {
        let blocks = out.par_chunks_mut(BLOCK).enumerate();
        blocks.for_each(|(index, block)| {
            math::widest(
                #[inline(always)]
                || write(frame, index * BLOCK, block),
            )
        });
    });
}

pub(super) fn time_average(op: &TimeAverage, TimeAverageArgs { x, out }: TimeAverageArgs<'_, Buffer>) {
    for_each_block(
        out,
        op.frame_len,
        #[inline(always)]
        |frame, start, out| {
            // Frame f of the padded input is frame f − 2 of x, or the first frame.
            let len = out.len();
            let padded = |f: usize| &x[f.saturating_sub(2) * op.frame_len + start..][..len];
            let [a, b, c] = [0, 1, 2].map(|tap| padded(2 * frame + tap));
            for (((mean, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *mean = (a + b + c) / 3.0;
            }
        },
    );
}

pub(super) fn time_double(op: &TimeDouble, TimeDoubleArgs { x, out }: TimeDoubleArgs<'_, Buffer>) {
    for_each_block(
        out,
        op.frame_len,
        #[inline(always)]
        |frame, start, out| {
            let len = out.len();
            let source = |f: usize| &x[f * op.frame_len + start..][..len];
            if frame == 0 {
                return out.copy_from_slice(source(0));
            }
            // Outputs 2j + 1 and 2j + 2 are mostly frame j + 1, plus a share of frame j or frame j + 2.
            let near = frame.div_ceil(2);
            let far = if frame % 2 == 1 { (near - 1).max(1) } else { (near + 1).min(op.frames - 1) };
            for ((value, near), far) in out.iter_mut().zip(source(near)).zip(source(far)) {
                *value = 0.75 * near + 0.25 * far;
            }
        },
    );
}

pub(super) fn regroup_frames(op: &RegroupFrames, RegroupFramesArgs { x, out }: RegroupFramesArgs<'_, Buffer>) {
    let frame_len = op.positions * op.channels;
    if frame_len == 0 {
        return;
    }
    let back = RegroupFrames { inverse: !op.inverse, ..*op };
    out.par_chunks_mut(frame_len).enumerate().for_each(|(frame, out)| {
        let sources: Vec<usize> = (0..op.channels)
            .map(|channel| back.target(frame, channel))
            .map(|(frame, channel)| frame * frame_len + channel)
            .collect();
        out.par_chunks_mut(op.channels).with_min_len(16).enumerate().for_each(|(position, out)| {
            let x = &x[position * op.channels..];
            out.iter_mut().zip(&sources).for_each(|(value, &source)| *value = x[source]);
        });
    });
}
