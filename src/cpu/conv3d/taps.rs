//! Which taps of a kernel read which input, and which taps' weights can be added before the product.
//!
//! Taps that read the same input form one group. In an input that is enlarged twofold, the three rows under a kernel
//! are only two different rows of the input. The copies before the first frame are the first frame. Taps that read the
//! zeros around the input are skipped.

use crate::ops::conv3d::Conv3d;
use std::ops::Range;

/// The height or width axis of a convolution.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Input size, before enlargement.
    size: usize,
    kernel: usize,
    stride: usize,
    /// Zeros before the (enlarged) input.
    pad: usize,
    /// Enlargement: 1 or 2.
    factor: usize,
}

/// Outputs along an axis for which the same taps see the input: `count` outputs, `first`, `first + step`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SameTaps {
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    /// Index of the input under the first valid group of taps at the first output.
    pub(super) source: usize,
    /// Inputs from one output to the next.
    pub(super) source_step: usize,
    /// The position in an enlarged input element at which the kernel starts.
    pub(super) phase: usize,
    /// The groups of taps that lie within the input; they read consecutive input elements.
    pub(super) groups: Range<usize>,
}

impl Axis {
    /// Height (0) or width (1) of a convolution.
    pub(super) fn new(op: &Conv3d, axis: usize) -> Self {
        Self {
            size: [op.height, op.width][axis],
            kernel: op.kernel[1 + axis],
            stride: op.stride[1],
            pad: op.pad_front()[axis],
            factor: if op.upsample { 2 } else { 1 },
        }
    }

    /// The groups of taps of every phase, in order: (phase, group, taps).
    pub(super) fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.factor).flat_map(move |phase| (0..self.count(phase)).map(move |group| self.taps(phase, group)))
    }

    /// Position of a group in [`Self::groups`].
    pub(super) fn position(&self, phase: usize, group: usize) -> usize {
        (0..phase).map(|phase| self.count(phase)).sum::<usize>() + group
    }

    /// The number of groups of a phase.
    fn count(&self, phase: usize) -> usize {
        (phase + self.kernel - 1) / self.factor + 1
    }

    fn taps(&self, phase: usize, group: usize) -> Range<usize> {
        let start = (group * self.factor).saturating_sub(phase);
        start..self.kernel.min((group + 1) * self.factor - phase)
    }

    /// The outputs of `range`, grouped by the taps that see the input.
    pub(super) fn runs(&self, range: Range<usize>) -> Vec<SameTaps> {
        let mut runs: Vec<SameTaps> = Vec::new();
        for output in range {
            let one = self.run(output);
            let last = runs.iter_mut().rfind(|run| run.phase == one.phase);
            match last {
                Some(run) if run.groups == one.groups && run.joins(&one) => {
                    run.step = (one.first - run.first) / run.count;
                    run.source_step = (one.source - run.source) / run.count;
                    run.count += 1;
                }
                _ => runs.push(one),
            }
        }
        runs
    }

    /// The group of a single output.
    fn run(&self, output: usize) -> SameTaps {
        let start = (output * self.stride) as isize - self.pad as isize;
        let phase = start.rem_euclid(self.factor as isize) as usize;
        let source = start.div_euclid(self.factor as isize);
        let skipped = (-source).max(0) as usize;
        let end = (self.size as isize - source).clamp(0, self.count(phase) as isize) as usize;
        SameTaps {
            first: output,
            step: 1,
            count: 1,
            source: (source + skipped as isize) as usize,
            source_step: 1,
            phase,
            groups: skipped.min(end)..end,
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
        let axis = Axis { size: 10, kernel: 3, stride: 1, pad: 1, factor: 1 };
        let runs = axis.runs(0..10);
        let summary: Vec<_> = runs.iter().map(|run| (run.first, run.count, run.source, run.groups.clone())).collect();
        assert_eq!(summary, [(0, 1, 0, 1..3), (1, 8, 0, 0..3), (9, 1, 8, 0..2)]);
    }

    #[test]
    fn an_enlarged_input_needs_two_taps_of_three() {
        let axis = Axis { size: 4, kernel: 3, stride: 1, pad: 1, factor: 2 };
        assert_eq!(axis.groups().collect::<Vec<_>>(), [0..2, 2..3, 0..1, 1..3]);
        let runs = axis.runs(0..8);
        // Odd outputs start at the first half of an element, even outputs at the second half.
        let odd = SameTaps { first: 1, step: 2, count: 3, source: 0, source_step: 1, phase: 0, groups: 0..2 };
        assert!(runs.contains(&odd));
        assert_eq!(runs.iter().map(|run| run.count).sum::<usize>(), 8);
    }

    #[test]
    fn the_copies_before_the_video_are_the_first_frame() {
        let op = Conv3d::new(4, 1, 1, 1, 1, [3, 1, 1]);
        assert_eq!(in_time(&op, 0).collect::<Vec<_>>(), [(0..3, 0)]);
        assert_eq!(in_time(&op, 1).collect::<Vec<_>>(), [(0..2, 0), (2..3, 1)]);
        assert_eq!(in_time(&op, 3).collect::<Vec<_>>(), [(0..1, 1), (1..2, 2), (2..3, 3)]);
    }
}
