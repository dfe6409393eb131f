//! `linear`: inner products, activations and stores.

use super::super::trial::{Body, host};
use super::super::values::rounded;
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_SUMS, fill, weights};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::folded::FoldedNorm;
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Linear,
    bias: bool,
    /// Whether a norm is folded into the weight.
    norm: bool,
    kind: Kind,
    seed: u64,
}

/// The operands' values.
pub(super) struct Inputs {
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    gate: Vec<f32>,
    before: Vec<f32>,
    /// Mean and inverse deviation of each row, sum and offset of each column. Any numbers are good.
    statistics: Vec<f32>,
    columns: Vec<f32>,
}

/// The most products of a case, so that the emulator takes milliseconds.
const PRODUCTS: usize = 60_000;

impl Case {
    pub fn inputs(&self, half: Half) -> Inputs {
        let Self { op, kind, seed, .. } = *self;
        let (inner, outer) = (op.in_features, op.weight_rows());
        // A gated result is a product of two sums, so each is as large as the root.
        let shrink = if kind == Kind::Large && op.activation == Activation::GatedGeluTanh { 1.0 / 16.0 } else { 1.0 };
        let scaled = |values: Vec<f32>| rounded(&values.iter().map(|value| value * shrink).collect::<Vec<_>>(), half);
        let len = op.rows * op.out_features;
        Inputs {
            x: scaled(fill(kind, seed, op.rows * inner, inner, half)),
            weight: scaled(weights(kind, seed + 1, outer * inner, inner, half)),
            bias: fill(if kind == Kind::Denormal { kind } else { Kind::Plain }, seed + 2, outer, outer, half),
            gate: fill(Kind::Plain, seed + 3, self.gates(), 1, half),
            statistics: fill(Kind::Plain, seed + 5, 2 * op.rows, 1, half),
            columns: fill(Kind::Plain, seed + 6, 2 * outer, 1, half),
            before: fill(if kind == Kind::Edge { Kind::Zeros } else { kind }, seed + 4, len, op.out_features, half),
        }
    }

    /// Elements of the gates.
    fn gates(&self) -> usize {
        match self.op.store {
            Store::AddGated { rows_per_gate, gate_stride, gate_offset } => {
                self.op.rows / rows_per_gate * gate_stride + gate_offset + self.op.out_features
            }
            _ => 0,
        }
    }

    /// Row `row` of x times row `column` of the weight, plus the bias, or normed.
    fn product(&self, inputs: &Inputs, row: usize, column: usize) -> Bounded {
        let inner = self.op.in_features;
        let (x, weight) = (&inputs.x[row * inner..][..inner], &inputs.weight[column * inner..][..inner]);
        let terms: Vec<_> =
            x.iter().zip(weight).map(|(&x, &w)| Bounded::exactly(f64::from(x) * f64::from(w))).collect();
        let product = Bounded::product(&terms);
        if self.norm {
            let pair = |values: &[f32], i: usize| [0, 1].map(|half| Bounded::exactly(values[2 * i + half]));
            let ([mean, inverse], [sum, offset]) = (pair(&inputs.statistics, row), pair(&inputs.columns, column));
            return product.minus(mean.times(sum)).times(inverse).plus(offset);
        }
        if self.bias { product.plus(Bounded::exactly(inputs.bias[column])) } else { product }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (op, inputs) = (&self.op, self.inputs(half));
        let parameter = |shape: &[usize], values: &[f32]| backend.weight(vec![Tensor::from_f32(shape, values)]);
        let weight = parameter(&[op.weight_rows(), op.in_features], &inputs.weight)?;
        let bias = self.bias.then(|| parameter(&[op.weight_rows()], &inputs.bias)).transpose()?;
        let gated = matches!(op.store, Store::AddGated { .. });
        let gate = gated.then(|| backend.upload(&inputs.gate)).transpose()?;
        let mut out = match op.store {
            Store::Overwrite => backend.alloc(inputs.before.len())?,
            Store::Add | Store::AddGated { .. } => backend.upload(&inputs.before)?,
        };
        let (x, bias, gate) = (backend.upload(&inputs.x)?, bias.as_ref(), gate.as_ref());
        let (statistics, columns) = (backend.upload_f32(&inputs.statistics)?, backend.upload_f32(&inputs.columns)?);
        let norm = self.norm.then_some(FoldedNorm { statistics: &statistics, columns: &columns });
        backend.linear(op, LinearArgs { bias, gate, norm, ..LinearArgs::new(&x, &weight, &mut out) })?;
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&OF_SUMS);
        let activations = [Activation::None, Activation::GatedGeluTanh, Activation::Silu, Activation::GeluTanh];
        let (inner, out, rows) = (draw.size(200), draw.size(129), draw.size(129));
        let rows = rows.min(PRODUCTS / (inner * out)).max(1);
        let (activation, gap) = (draw.pick(&activations), draw.pick(&[0, 3, 8]));
        let samples = if rows % 2 == 0 { 2 } else { 1 };
        let gated = Store::AddGated { rows_per_gate: rows / samples, gate_stride: out + gap, gate_offset: gap };
        let store = draw.pick(&[Store::Overwrite, Store::Add, gated]);
        let op = Linear::new(rows, inner, out).activation(activation).store(store);
        let (bias, seed) = (draw.coin(), draw.next() >> 1);
        let norm = activation != Activation::GatedGeluTanh && draw.pick(&[true, false, false]);
        Self { op, bias: bias && !norm, norm, kind, seed }
    }

    fn has_variants(&self) -> bool {
        true
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let (inputs, out) = (self.inputs(half), self.op.out_features);
        let value = |i: usize| {
            let (row, column) = (i / out, i % out);
            let product = self.product(&inputs, row, column);
            let y = match self.op.activation {
                Activation::None => product,
                Activation::Silu => product.silu(),
                Activation::GeluTanh => product.gelu_tanh(),
                Activation::GatedGeluTanh => product.gelu_tanh().times(self.product(&inputs, row, out + column)),
            };
            let before = Bounded::exactly(inputs.before[i]);
            match self.op.store {
                Store::Overwrite => y,
                Store::Add => before.plus(y),
                Store::AddGated { rows_per_gate, gate_stride, gate_offset } => {
                    let gate = inputs.gate[row / rows_per_gate * gate_stride + gate_offset + column];
                    before.plus(Bounded::exactly(gate).times(y))
                }
            }
        };
        Exact::numbers((0..self.op.rows * out).map(value).collect(), precision)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;
    use half::f16;

    /// How many cases of a kind without activation and addition are refused, if `add` sums the products of a row of x
    /// and a row of the weight, and `store` stores the sum.
    fn refused_sums(kind: Kind, add: impl Fn(&[f32], &[f32]) -> f32, store: impl Fn(f32) -> f32) -> [usize; 2] {
        let plain = |case: &Case| {
            let plain = case.op.activation == Activation::None && case.op.store == Store::Overwrite && !case.norm;
            plain && case.kind == kind && case.op.in_features > 1
        };
        refused(plain, |case| {
            let (inputs, inner) = (case.inputs(Half::F16), case.op.in_features);
            let rows = inputs.x.chunks_exact(inner);
            let sums = rows.flat_map(|x| {
                let columns = inputs.weight.chunks_exact(inner).zip(&inputs.bias);
                columns
                    .map(|(weight, bias)| store(add(x, weight) + if case.bias { *bias } else { 0.0 }))
                    .collect::<Vec<_>>()
            });
            sums.collect()
        })
    }

    fn right(x: &[f32], weight: &[f32]) -> f32 {
        x.iter().zip(weight).fold(0.0, |sum, (x, weight)| x.mul_add(*weight, sum))
    }

    #[test]
    fn sums_in_f32_are_accepted_with_every_kind_of_values() {
        for kind in OF_SUMS {
            assert_eq!(refused_sums(kind, right, |sum| sum)[0], 0, "{kind:?}");
        }
    }

    #[test]
    fn sums_in_f16_are_refused_where_terms_cancel() {
        let in_f16 = |x: &[f32], weight: &[f32]| {
            let products = x.iter().zip(weight).map(|(x, weight)| x * weight);
            products.fold(0.0, |sum: f32, product| f16::from_f32(sum + product).to_f32())
        };
        let [refused, all] = refused_sums(Kind::Cancelling, in_f16, |sum| sum);
        assert!(refused > all / 2, "{refused} of {all}");
    }

    #[test]
    fn a_lost_last_term_is_refused() {
        let [refused, all] = refused_sums(Kind::Tail, |x, weight| right(&x[1..], &weight[..x.len() - 1]), |sum| sum);
        assert_eq!(refused, all);
        let shortened = |x: &[f32], weight: &[f32]| right(&x[..x.len() - 1], weight);
        let [refused, all] = refused_sums(Kind::Tail, shortened, |sum| sum);
        assert_eq!(refused, all);
    }

    #[test]
    fn subnormal_results_that_become_zero_are_refused() {
        let flushed = |sum: f32| if sum.abs() < 2f32.powi(-14) { 0.0 } else { sum };
        let [refused, all] = refused_sums(Kind::Denormal, right, flushed);
        assert_eq!(refused, all);
        assert_eq!(refused_sums(Kind::Large, right, flushed)[0], 0);
    }

    #[test]
    fn results_that_stop_at_the_largest_number_are_refused() {
        let stopped = |sum: f32| sum.clamp(-65504.0, 65504.0);
        for kind in [Kind::Edge, Kind::Large] {
            let [refused, all] = refused_sums(kind, right, stopped);
            assert!(refused > all / 4, "{kind:?}: {refused} of {all}");
        }
        assert_eq!(refused_sums(Kind::Plain, right, stopped)[0], 0);
    }

    #[test]
    fn infinity_too_early_is_refused() {
        let early = |sum: f32| if sum.abs() > 65504.0 { f32::INFINITY.copysign(sum) } else { sum };
        assert!(refused_sums(Kind::Edge, right, early)[0] > 0);
    }

    #[test]
    fn the_gated_feed_forward_crosses_the_largest_f16() {
        let gated = |case: &Case| {
            let ungated = matches!(case.op.store, Store::Overwrite);
            case.kind == Kind::Large && case.op.activation == Activation::GatedGeluTanh && ungated
        };
        let cases = (0..4000).map(|number| super::super::Numbered::<Case>::new(number).case).filter(gated).take(10);
        let values: Vec<f64> = cases
            .flat_map(|case| case.exact(Half::F16, Precision::F16).values)
            .map(|exact| exact.value.abs())
            .collect();
        let beyond = values.iter().filter(|&&value| value > 65520.0).count();
        assert!(beyond > 0 && values.len() > 2 * beyond, "{beyond} of {}", values.len());
    }
}
