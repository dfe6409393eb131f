//! The weight of a convolution, packed in the order of its use.

use super::taps::{self, Axis};
use crate::cpu::math;
use crate::cpu::micro::{self, DOT_COLUMNS, Micro, Panel, Rows};
use crate::cpu::scratch::Scratch;
use crate::cpu::weight::Weight;
use crate::ops::conv3d::Conv3d;
use rayon::prelude::*;
use std::ops::Range;

/// Input channels that are widened together.
const STEPS: usize = 128;

/// The order of a packed weight. The weights of taps in time that read the same input are added, for every kind of
/// frame. k runs over taps in height, groups of taps in time, taps in width, then over input channels: taps in width
/// that read neighbouring pixels are neighbours, and groups in time that share taps are packed together.
pub(super) struct Packed<'a> {
    micro: &'static Micro,
    weight: &'a Weight,
    cin: usize,
    cout: usize,
    /// Height and width, with the taps of both halves.
    axes: &'a [Axis; 2],
    /// Taps in height and width.
    taps: [usize; 2],
    /// Whether there are too few output channels for a panel: they are packed as rows along k, for inner products.
    narrow: bool,
    /// The different groups of taps in time.
    times: Vec<Range<usize>>,
}

impl<'a> Packed<'a> {
    pub(super) fn new(op: &Conv3d, weight: &'a Weight, axes: &'a [Axis; 2]) -> Self {
        Self {
            micro: Micro::best(),
            weight,
            cin: op.cin,
            cout: op.cout,
            axes,
            taps: [op.taps()[1], op.taps()[2]],
            narrow: op.cout <= DOT_COLUMNS,
            times: taps::groups_in_time(op),
        }
    }

    /// Steps of k.
    pub(super) fn depth(&self) -> usize {
        self.axes[0].positions() * self.row_len()
    }

    /// Steps of k of one tap in height.
    fn row_len(&self) -> usize {
        self.times.len() * self.axes[1].positions() * self.cin
    }

    /// The first k of some taps, given by the group in time and the positions in height and width.
    pub(super) fn start(&self, time: &Range<usize>, [row, column]: [usize; 2]) -> usize {
        let time = self.times.iter().position(|taps| taps == time).expect("every frame's groups are packed");
        ((row * self.times.len() + time) * self.axes[1].positions() + column) * self.cin
    }

    /// The number of columns in memory for `columns` output channels. Times [`Self::depth`], it is the number of
    /// elements.
    pub(super) fn columns(&self, columns: usize) -> usize {
        if self.narrow { columns } else { self.micro.packed_columns(columns) }
    }

    /// The panels of `columns` output channels.
    pub(super) fn panels(&self, columns: usize) -> Vec<Panel> {
        if self.narrow {
            return vec![Panel { column: 0, columns, width: columns }];
        }
        self.micro.panels(columns).collect()
    }

    /// The most pixels of a tile.
    pub(super) fn tile_rows(&self) -> usize {
        if self.narrow { self.micro.dot_rows() } else { self.micro.tile_rows() }
    }

    /// Multiplies a tile of `rows` pixels with a panel of `width` channels.
    pub(super) fn tile(
        &self,
        [rows, width]: [usize; 2],
        x: Rows<'_>,
        panel: &[f32],
        segments: &[micro::Segment],
        sums: micro::RowsMut<'_>,
        accumulate: bool,
    ) {
        if self.narrow {
            let panel = Rows { values: panel, stride: self.depth() };
            self.micro.dot([rows, width], x, panel, segments, sums, accumulate);
        } else {
            self.micro.tile([rows, width], x, panel, segments, sums, accumulate);
        }
    }

    /// Packs output channels `channels`.
    pub(super) fn pack(&self, channels: Range<usize>, packed: &mut [f32]) {
        let depth = self.depth();
        if self.narrow {
            packed.par_chunks_mut(depth).zip(channels).for_each(|(packed, channel)| {
                let [times, columns] = [self.times.len(), self.axes[1].positions()];
                for (group, out) in packed.chunks_mut(self.cin).enumerate() {
                    self.sum(channel, [group / columns % times, group / columns / times, group % columns], 0, out);
                }
            });
            return;
        }
        let (row_len, columns) = (self.row_len(), self.axes[1].positions());
        let panels = self.panels(channels.len());
        packed.par_chunks_mut(self.micro.width() * depth).zip(panels).for_each(|(packed, panel)| {
            packed.par_chunks_mut(panel.width * row_len).enumerate().for_each(|(row, packed)| {
                // Groups in time share taps, which stay in the cache from one group to the next.
                for column in 0..columns {
                    for time in 0..self.times.len() {
                        let at = (time * columns + column) * panel.width * self.cin;
                        let packed = &mut packed[at..][..panel.width * self.cin];
                        self.pack_group(channels.start, &panel, [time, row, column], packed);
                    }
                }
            });
        });
    }

    /// Packs one group of taps in time for one panel; `first` is the channel of column 0.
    fn pack_group(&self, first: usize, panel: &Panel, group: [usize; 3], packed: &mut [f32]) {
        let mut rows = Scratch::new(panel.width * STEPS);
        for (i, packed) in packed.chunks_mut(panel.width * STEPS).enumerate() {
            let steps = packed.len() / panel.width;
            math::widest(
                #[inline(always)]
                || {
                    for (j, row) in rows.chunks_exact_mut(STEPS).enumerate().take(panel.columns) {
                        self.sum(first + panel.column + j, group, i * STEPS, &mut row[..steps]);
                    }
                },
            );
            micro::pack_panel(Rows { values: &rows, stride: STEPS }, panel.columns, panel.width, packed);
        }
    }

    /// The weights of one output channel, from input channel `start` on, summed over a group of taps in time.
    #[inline(always)]
    fn sum(&self, channel: usize, [time, row, column]: [usize; 3], start: usize, out: &mut [f32]) {
        let ([kh, kw], [lower, y]) = (self.taps, self.axes[0].half_and_tap(row));
        let [right, x] = self.axes[1].half_and_tap(column);
        let channel = (2 * lower + right) * self.cout + channel;
        let mut widened = [0.0; STEPS];
        out.fill(0.0);
        for t in self.times[time].clone() {
            let at = ((t * kh + y) * kw + x) * self.cin + start;
            for (i, out) in out.chunks_mut(STEPS).enumerate() {
                let widened = &mut widened[..out.len()];
                self.weight.widen(channel, at + i * STEPS, widened);
                out.iter_mut().zip(widened).for_each(|(sum, value)| *sum += *value);
            }
        }
    }
}
