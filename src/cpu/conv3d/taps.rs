//! Which taps of a kernel read which input, and which taps' weights can be added before the product.
//!
//! Taps in time that read the same input form one group: the copies before the first frame are the first frame. Taps
//! that read the zeros around the input are skipped.

use crate::ops::conv3d::Conv3d;
use std::ops::Range;

/// The height or width axis of a convolution.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Input size.
    size: usize,
    taps: usize,
    stride: usize,
    /// Zeros before the input.
    pad: usize,
    /// Halves of the output, each with its own weights, if the input is enlarged; else 1.
    halves: usize,
}

/// Outputs along an axis for which the same taps see the input: `count` outputs, `first`, `first + step`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SameTaps {
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    /// Index of the input under the first valid tap at the first output.
    pub(super) source: usize,
    /// Inputs from one output to the next.
    pub(super) source_step: usize,
    /// The half of the outputs.
    pub(super) half: usize,
    /// The taps that lie within the input; they read consecutive input elements.
    pub(super) taps: Range<usize>,
}

impl Axis {
    /// Height (0) or width (1) of a convolution.
    pub(super) fn new(op: &Conv3d, axis: usize) -> Self {
        Self {
            size: [op.height, op.width][axis],
            taps: op.taps()[1 + axis],
            stride: op.stride[1],
            pad: op.pad_front()[axis],
            halves: if op.upsample { 2 } else { 1 },
        }
    }

    /// The taps of every half, in order.
    pub(super) fn positions(&self) -> usize {
        self.halves * self.taps
    }

    /// The place of a tap of a half among [`Self::positions`].
    pub(super) fn position(&self, half: usize, tap: usize) -> usize {
        half * self.taps + tap
    }

    /// The half and the tap at a place among [`Self::positions`].
    pub(super) fn half_and_tap(&self, position: usize) -> [usize; 2] {
        [position / self.taps, position % self.taps]
    }

    /// The outputs of `range`, grouped by the taps that see the input.
    pub(super) fn runs(&self, range: Range<usize>) -> Vec<SameTaps> {
        let mut runs: Vec<SameTaps> = Vec::new();
        for output in range {
            let one = self.run(output);
            let last = runs.iter_mut().rfind(|run| run.half == one.half);
            match last {
                Some(run) if run.taps == one.taps && run.joins(&one) => {
                    run.step = (one.first - run.first) / run.count;
                    run.source_step = (one.source - run.source) / run.count;
                    run.count += 1;
                }
                _ => runs.push(one),
            }
        }
        runs
    }

    /// The taps of a single output.
    fn run(&self, output: usize) -> SameTaps {
        let half = output % self.halves;
        let source = (output / self.halves * self.stride + half) as isize - self.pad as isize;
        let skipped = (-source).max(0) as usize;
        let end = (self.size as isize - source).clamp(0, self.taps as isize) as usize;
        SameTaps {
            first: output,
            step: 1,
            count: 1,
            source: (source + skipped as isize) as usize,
            source_step: 1,
            half,
            taps: skipped.min(end)..end,
        }
    }
}

impl SameTaps {
    /// Whether `next` continues this run at equal distances.
    fn joins(&self, next: &Self) -> bool {
        let last = self.count - 1;
        self.count == 1
            || (next.first == self.first + (last + 1) * self.step
                && next.source == self.source + (last + 1) * self.source_step)
    }
}

/// The groups of taps in time of output frame `frame`, each with the input frame that it reads.
pub(super) fn in_time(op: &Conv3d, frame: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let [taps, start] = [op.kernel[0], frame * op.stride[0]];
    // Taps 0..front all read frame 0 or the copies before it.
    let front = taps.saturating_sub(start);
    let first = (front > 0).then_some((0..front, 0));
    first.into_iter().chain((front..taps).map(move |tap| (tap..tap + 1, start + tap + 1 - taps)))
}

/// The different groups of taps in time among all output frames that are computed.
pub(super) fn groups_in_time(op: &Conv3d) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    for (taps, _) in op.computed().flat_map(|frame| in_time(op, frame)) {
        if !groups.contains(&taps) {
            groups.push(taps);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_separate_runs() {
        let axis = Axis { size: 10, taps: 3, stride: 1, pad: 1, halves: 1 };
        let runs = axis.runs(0..10);
        let summary: Vec<_> = runs.iter().map(|run| (run.first, run.count, run.source, run.taps.clone())).collect();
        assert_eq!(summary, [(0, 1, 0, 1..3), (1, 8, 0, 0..3), (9, 1, 8, 0..2)]);
    }

    #[test]
    fn even_and_odd_outputs_of_an_enlarged_input_are_apart() {
        let axis = Axis { size: 4, taps: 2, stride: 1, pad: 1, halves: 2 };
        let runs = axis.runs(0..8);
        // An even output reads the element before its own, and its own; an odd one its own and the next.
        let even = SameTaps { first: 2, step: 2, count: 3, source: 0, source_step: 1, half: 0, taps: 0..2 };
        let odd = SameTaps { first: 1, half: 1, ..even.clone() };
        let top = SameTaps { first: 0, step: 1, count: 1, taps: 1..2, ..even.clone() };
        let bottom = SameTaps { first: 7, source: 3, half: 1, taps: 0..1, ..top.clone() };
        assert_eq!(runs, [top, odd, even, bottom]);
    }

    #[test]
    fn the_copies_before_the_video_are_the_first_frame() {
        let op = Conv3d::new(4, 1, 1, 1, 1, [3, 1, 1]);
        assert_eq!(in_time(&op, 0).collect::<Vec<_>>(), [(0..3, 0)]);
        assert_eq!(in_time(&op, 1).collect::<Vec<_>>(), [(0..2, 0), (2..3, 1)]);
        assert_eq!(in_time(&op, 3).collect::<Vec<_>>(), [(0..1, 1), (1..2, 2), (2..3, 3)]);
    }
}
