//! `linear` on the CPU: the weight is packed once, block by block, and shared by all tasks. A task computes one block
//! of the result: the sums, then the epilogue.

use super::math;
use super::micro::{self, DOT_COLUMNS, Micro, Panel, Rows, RowsMut, Segment, cuts};
use super::scratch::Scratch;
use super::shared::SharedMut;
use super::{Buffer, Weight, folded};
use crate::ops::folded::RowMoments;
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};
use rayon::prelude::*;
use std::ops::Range;

/// Elements of the weight that are packed together: 16 MiB, about the size of a last-level cache.
const PACKED: usize = 4 << 20;
/// Rows of a task's block: whole tiles of most instruction sets.
const BLOCK_ROWS: usize = 126;
/// Columns of a task's block.
const BLOCK_COLUMNS: usize = 256;
/// Steps of k in one product: this much of a block of x and of a panel fit together into the second-level cache.
const BLOCK_K: usize = 768;
/// Up to this many rows, the weight is read once and not packed.
const NARROW_ROWS: usize = 8;
/// Up to this many rows, a task computes all rows and packs the columns that it uses. With so few rows, writing a
/// shared packed weight to memory and reading it back would cost more.
const FEW_ROWS: usize = 512;
/// Columns of such a task: their sums and their part of the weight fit together into the second-level cache.
const FEW_COLUMNS: usize = 64;

/// Computes [`Linear`].
pub(super) fn linear(op: &Linear, args: LinearArgs<'_, Buffer, Weight>) {
    let LinearArgs { x, weight, bias, gate, norm, moments, out } = args;
    if op.rows == 0 || op.out_features == 0 {
        return;
    }
    let place = op.place();
    let bias = bias.map(Weight::to_f32);
    let x = &x[place.x_row * op.in_features..][..op.rows * op.in_features];
    // Inner products sum in another order than tiles, so the size of the whole product decides, not of the part.
    let narrow = place.whole_rows <= NARROW_ROWS;
    let mut copy = None;
    let call = Call {
        op,
        x: if narrow { Rows { values: x, stride: op.in_features } } else { spread(x, op.in_features, &mut copy) },
        weight,
        bias: bias.as_deref().map(|bias| &bias[place.weight_row..]),
        gate: gate.map(|gate| &**gate),
        norm: norm.map(|norm| Norm {
            statistics: &norm.statistics[2 * place.x_row..],
            columns: &norm.columns[2 * place.weight_row..],
        }),
        out: SharedMut::new(&mut out[place.out_row * op.out_features..][..op.rows * op.out_features]),
        first_gate: place.out_row,
        first_weight: place.weight_row,
        projections: if op.activation == Activation::GatedGeluTanh { 2 } else { 1 },
        micro: Micro::best(),
    };
    match op.rows {
        _ if narrow => call.narrow(),
        ..=FEW_ROWS => call.few(),
        _ => call.wide(),
    }
    if let Some(moments) = moments {
        let pairs = 2 * RowMoments { rows: 1, channels: op.out_features }.groups();
        let stored = &out[place.out_row * op.out_features..][..op.rows * op.out_features];
        folded::moments_of(stored, op.out_features, &mut moments[place.out_row * pairs..][..op.rows * pairs]);
    }
}

/// The arguments of one call. A gated product has two `projections`, u and v; others have one.
struct Call<'a> {
    op: &'a Linear,
    x: Rows<'a>,
    weight: &'a Weight,
    bias: Option<&'a [f32]>,
    gate: Option<&'a [f32]>,
    norm: Option<Norm<'a>>,
    out: SharedMut<'a>,
    /// Index of the first row among the rows of the gate.
    first_gate: usize,
    /// The row of the weight for the first column.
    first_weight: usize,
    projections: usize,
    micro: &'static Micro,
}

/// A norm that is folded into the weight, from the call's first row and first column on.
struct Norm<'a> {
    /// Mean and inverse deviation of each row.
    statistics: &'a [f32],
    /// Sum and offset of each column.
    columns: &'a [f32],
}

impl Norm<'_> {
    /// Norms the sums of a row's `columns`.
    #[inline(always)]
    fn apply(&self, row: usize, columns: Range<usize>, sums: &mut [f32]) {
        let [mean, inverse] = [0, 1].map(|i| self.statistics[2 * row + i]);
        let pairs = self.columns[2 * columns.start..2 * columns.end].chunks_exact(2);
        sums.iter_mut().zip(pairs).for_each(|(sum, pair)| *sum = (*sum - mean * pair[0]) * inverse + pair[1]);
    }
}

/// A block of the result.
#[derive(Clone, Debug)]
struct Block {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// A range of k in packed panels of `steps`.
#[derive(Clone, Copy, Debug)]
struct Panels {
    steps: usize,
    segment: Segment,
}

impl Call<'_> {
    /// For few rows: inner products with rows of the weight, which are widened a few at a time.
    fn narrow(&self) {
        /// Columns of a task: one cache line of the output.
        const COLUMNS: usize = 16;
        let k = self.op.in_features;
        let segments = [Segment { a: 0, b: 0, len: k }];
        (0..self.op.out_features.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
            let columns = task * COLUMNS..((task + 1) * COLUMNS).min(self.op.out_features);
            let mut weight = Scratch::new(DOT_COLUMNS * k);
            let mut sums = [[0.0; NARROW_ROWS * COLUMNS]; 2];
            for (half, sums) in sums.iter_mut().enumerate().take(self.projections) {
                for some in cuts(columns.len(), DOT_COLUMNS) {
                    math::widest(
                        #[inline(always)]
                        || {
                            for (row, weight) in some.clone().zip(weight.chunks_exact_mut(k)) {
                                let row = half * self.op.out_features + columns.start + row;
                                self.weight.widen(self.first_weight + row, 0, weight);
                            }
                        },
                    );
                    for rows in cuts(self.op.rows, self.micro.dot_rows()) {
                        let x = Rows { values: &self.x.values[rows.start * k..], ..self.x };
                        let weight = Rows { values: &weight, stride: k };
                        let sums = RowsMut { values: &mut sums[rows.start * COLUMNS + some.start..], stride: COLUMNS };
                        self.micro.dot([rows.len(), some.len()], x, weight, &segments, sums, false);
                    }
                }
            }
            let [u, v] = &mut sums;
            self.store(&Block { rows: 0..self.op.rows, columns }, [u, v], COLUMNS);
        });
    }

    /// For hundreds of rows: every task multiplies all rows by a few columns, which it packs range by range.
    fn few(&self) {
        let (k, n) = (self.op.in_features, self.op.out_features);
        (0..n.div_ceil(FEW_COLUMNS)).into_par_iter().for_each(|task| {
            let columns = task * FEW_COLUMNS..((task + 1) * FEW_COLUMNS).min(n);
            let block = Block { rows: 0..self.op.rows, columns };
            let stride = self.micro.packed_columns(block.columns.len());
            let mut packed = Scratch::new(stride * k.min(BLOCK_K));
            let mut sums = Scratch::new(self.projections * self.op.rows * stride);
            let (u, v) = sums.split_at_mut(self.op.rows * stride);
            for ks in cuts(k, BLOCK_K) {
                let x = Rows { values: &self.x.values[ks.start..], ..self.x };
                for (half, sums) in [&mut *u, &mut *v].into_iter().enumerate().take(self.projections) {
                    let packed = &mut packed[..stride * ks.len()];
                    let panels = self.micro.panels(block.columns.len());
                    for panel in panels {
                        let packed = &mut packed[panel.column * ks.len()..][..panel.width * ks.len()];
                        self.pack_panel(half * n + block.columns.start, panel, ks.clone(), packed);
                    }
                    let part = Panels { steps: ks.len(), segment: Segment { a: 0, b: 0, len: ks.len() } };
                    self.product(&block, x, packed, part, RowsMut { values: sums, stride }, ks.start > 0);
                }
            }
            self.store(&block, [u, v], stride);
        });
    }

    /// For many rows: blocks of packed columns, each used by all rows.
    fn wide(&self) {
        let (k, n) = (self.op.in_features, self.op.out_features);
        let most = (PACKED / (k * self.projections)).max(1).next_multiple_of(BLOCK_COLUMNS);
        let mut packed = Scratch::new(self.projections * self.micro.packed_columns(n.min(most)) * k);
        for start in (0..n).step_by(most) {
            let columns = start..n.min(start + most);
            let half = self.micro.packed_columns(columns.len()) * k;
            let packed = &mut packed[..self.projections * half];
            for (h, packed) in packed.chunks_exact_mut(half).enumerate() {
                self.pack(h * n + columns.start, columns.len(), packed);
            }
            let blocks: Vec<Block> = cuts(self.op.rows, BLOCK_ROWS)
                .flat_map(|rows| {
                    let columns =
                        columns.clone().step_by(BLOCK_COLUMNS).map(|at| at..columns.end.min(at + BLOCK_COLUMNS));
                    columns.map(move |columns| Block { rows: rows.clone(), columns })
                })
                .collect();
            blocks.par_iter().for_each(|block| {
                let from = (block.columns.start - start) * k;
                self.block(block, packed.chunks_exact(half).map(|half| &half[from..]));
            });
        }
    }

    /// Packs `columns` rows of the weight from `first` on.
    fn pack(&self, first: usize, columns: usize, packed: &mut [f32]) {
        let k = self.op.in_features;
        let panels: Vec<Panel> = self.micro.panels(columns).collect();
        let tasks = panels.into_par_iter().zip(packed.par_chunks_mut(self.micro.width() * k));
        tasks.for_each(|(panel, packed)| self.pack_panel(first, panel, 0..k, packed));
    }

    /// Packs steps `ks` of one panel of the rows from `first` on.
    fn pack_panel(&self, first: usize, panel: Panel, ks: Range<usize>, packed: &mut [f32]) {
        /// Steps of k that are widened together.
        const STEPS: usize = 128;
        let mut widened = Scratch::new(panel.width * STEPS);
        for (i, packed) in packed.chunks_mut(panel.width * STEPS).enumerate() {
            math::widest(
                #[inline(always)]
                || {
                    for (j, row) in widened.chunks_exact_mut(STEPS).enumerate().take(panel.columns) {
                        let row = &mut row[..packed.len() / panel.width];
                        let from = self.first_weight + first + panel.column + j;
                        self.weight.widen(from, ks.start + i * STEPS, row);
                    }
                },
            );
            micro::pack_panel(Rows { values: &widened, stride: STEPS }, panel.columns, panel.width, packed);
        }
    }

    /// Computes one block: the product with the packed columns of each projection, then the store.
    fn block<'b>(&self, block: &Block, projections: impl Iterator<Item = &'b [f32]>) {
        let stride = self.micro.packed_columns(block.columns.len());
        let area = block.rows.len() * stride;
        let mut sums = Scratch::new(self.projections * area);
        let (u, v) = sums.split_at_mut(area);
        let projections: Vec<_> = projections.collect();
        for ks in cuts(self.op.in_features, BLOCK_K) {
            let x = Rows { values: &self.x.values[block.rows.start * self.x.stride + ks.start..], ..self.x };
            let segment = Segment { a: 0, b: ks.start, len: ks.len() };
            let part = Panels { steps: self.op.in_features, segment };
            for (packed, sums) in projections.iter().zip([&mut *u, &mut *v]) {
                self.product(block, x, packed, part, RowsMut { values: sums, stride }, ks.start > 0);
            }
        }
        self.store(block, [u, v], stride);
    }

    /// Writes the product over a range of k to the sums of one projection, or `add`s it to them.
    fn product(&self, block: &Block, x: Rows<'_>, packed: &[f32], part: Panels, sums: RowsMut<'_>, add: bool) {
        for panel in self.micro.panels(block.columns.len()) {
            let packed = &packed[panel.column * part.steps..][..panel.width * part.steps];
            for rows in cuts(block.rows.len(), self.micro.tile_rows()) {
                let x = Rows { values: &x.values[rows.start * x.stride..], ..x };
                let sums = &mut sums.values[rows.start * sums.stride + panel.column..];
                let sums = RowsMut { values: sums, stride: self.micro.packed_columns(block.columns.len()) };
                self.micro.tile([rows.len(), panel.width], x, packed, &[part.segment], sums, add);
            }
        }
    }

    /// Applies bias and activation to a block's sums (u, v), whose rows are `stride` apart, and stores the result.
    fn store(&self, block: &Block, [u, v]: [&mut [f32]; 2], stride: usize) {
        let (n, width) = (self.op.out_features, block.columns.len());
        math::widest(
            #[inline(always)]
            || {
                for (i, row) in block.rows.clone().enumerate() {
                    let u = &mut u[i * stride..][..width];
                    let at = row * n + block.columns.start;
                    // SAFETY: `narrow`, `few` and `wide` cut the result into blocks that share no element, and each
                    // task has one of them. Its rows share none either: validation has checked that rows·columns is the
                    // size of a buffer, so `at` does not overflow.
                    let out = unsafe { self.out.slice(at..at + width) };
                    if let Some(norm) = &self.norm {
                        norm.apply(row, block.columns.clone(), u);
                    }
                    if let Some(bias) = self.bias {
                        add(u, &bias[block.columns.clone()]);
                    }
                    match self.op.activation {
                        Activation::None => {}
                        Activation::Silu => u.iter_mut().for_each(|u| *u = math::silu(*u)),
                        Activation::GeluTanh => u.iter_mut().for_each(|u| *u = math::gelu_tanh(*u)),
                        Activation::GatedGeluTanh => {
                            let v = &mut v[i * stride..][..width];
                            if let Some(bias) = self.bias {
                                add(v, &bias[n..][block.columns.clone()]);
                            }
                            u.iter_mut().zip(v).for_each(|(u, v)| *u = math::gelu_tanh(*u) * *v);
                        }
                    }
                    match self.op.store {
                        Store::Overwrite => out.copy_from_slice(u),
                        Store::Add => add(out, u),
                        Store::AddGated { rows_per_gate, gate_stride, gate_offset } => {
                            let gate = self.gate.expect("validated: a gated store has its gate");
                            let sample = (self.first_gate + row) / rows_per_gate;
                            let first = sample * gate_stride + gate_offset + block.columns.start;
                            let gate = &gate[first..first + width];
                            out.iter_mut().zip(gate).zip(u).for_each(|((out, gate), u)| *out += gate * *u);
                        }
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

/// x, or a copy whose rows do not conflict in the cache.
fn spread<'a>(x: &'a [f32], k: usize, copy: &'a mut Option<Scratch>) -> Rows<'a> {
    /// Elements between copied rows: one cache line, so that neighbouring rows fall into different sets.
    const PADDING: usize = 16;
    if !conflicts(k) {
        return Rows { values: x, stride: k };
    }
    let stride = k + PADDING;
    let copy = copy.insert(Scratch::new(x.len() / k * stride));
    copy.par_chunks_exact_mut(stride).zip(x.par_chunks_exact(k)).for_each(|(to, x)| to[..k].copy_from_slice(x));
    Rows { values: copy, stride }
}

/// Whether the rows of one tile, `stride` elements apart, fall into so few sets of a first-level cache (64 sets of
/// eight lines of 16 elements) that they evict each other.
fn conflicts(stride: usize) -> bool {
    let mut sets = [0; 64];
    (0..14).for_each(|row| sets[row * stride / 16 % 64] += 1);
    sets.into_iter().max() > Some(8)
}
