//! Norms that are folded into the linear layer behind them, against the formula in f64.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::folded::{
    FoldNorm, FoldNormArgs, FoldedNorm, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs,
};
use osp::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};
use osp::tensor::DType;
use proptest::prelude::*;

const EPS: f32 = 1e-6;

/// Rows whose means are up to three times as large as their spread.
fn rows(rows: usize, channels: usize) -> Vec<f32> {
    let mut x = values(1, rows * channels);
    for (row, x) in x.chunks_exact_mut(channels).enumerate() {
        x.iter_mut().for_each(|value| *value += ((row % 7) as f32 - 3.0) / 2.0);
    }
    x
}

/// The norm of each row, in f64, before scale and shift.
fn normed(x: &[f32], channels: usize) -> Vec<f64> {
    let norm = |row: &[f32]| {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
        row.iter().map(|&x| (f64::from(x) - mean) * inverse).collect::<Vec<_>>()
    };
    x.chunks_exact(channels).flat_map(norm).collect()
}

/// A layer of `stored` parameters behind a norm, by the folded operations.
fn folded(x: &[f32], [inner, outer]: [usize; 2], stored: DType, activation: Activation) -> Vec<f32> {
    let cpu = Cpu::new();
    let rows = x.len() / inner;
    let op = RowStatistics { rows, channels: inner, eps: EPS };
    let (x, mut moments) = (cpu.upload(x).unwrap(), cpu.alloc_f32(op.moments().elements()).unwrap());
    cpu.row_moments(&op.moments(), RowMomentsArgs { x: &x, moments: &mut moments }).unwrap();
    let mut statistics = cpu.alloc_f32(2 * rows).unwrap();
    cpu.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics }).unwrap();
    let weight = cpu.weight(vec![parameter(2, &[outer, inner], stored).0]).unwrap();
    let bias = cpu.weight(vec![parameter(3, &[outer], stored).0]).unwrap();
    let modulation = cpu.upload(&values(4, 2 * inner)).unwrap();
    let (mut made, mut columns) = (cpu.alloc_weight(&[outer, inner]).unwrap(), cpu.alloc_f32(2 * outer).unwrap());
    let op = FoldNorm { in_features: inner, out_features: outer, shift: 0, scale: inner };
    let (bias, modulation) = (Some(&bias), &modulation);
    let args = FoldNormArgs { weight: &weight, bias, modulation, folded: &mut made, columns: &mut columns };
    cpu.fold_norm(&op, args).unwrap();
    let mut out = cpu.alloc(rows * outer).unwrap();
    let norm = Some(FoldedNorm { statistics: &statistics, columns: &columns });
    let op = Linear::new(rows, inner, outer).activation(activation);
    cpu.linear(&op, LinearArgs { norm, ..LinearArgs::new(&x, &made, &mut out) }).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn a_folded_norm_is_the_norm_in_front(count in 1..40usize, eights in 1..30usize, outer in 1..90usize, half: bool) {
        let inner = 8 * eights;
        let (x, stored) = (rows(count, inner), if half { DType::Bf16 } else { DType::F32 });
        let (weight, bias) = (parameter(2, &[outer, inner], stored).1, parameter(3, &[outer], stored).1);
        let modulation = values(4, 2 * inner);
        let input: Vec<f64> = normed(&x, inner).iter().enumerate().map(|(i, value)| {
            let (shift, scale) = (modulation[i % inner], modulation[inner + i % inner]);
            value * (1.0 + f64::from(scale)) + f64::from(shift)
        }).collect();
        let expected: Vec<f64> = (0..count * outer).map(|i| {
            let (row, column) = (i / outer, i % outer);
            let products = input[row * inner..][..inner].iter().zip(&weight[column * inner..][..inner]);
            products.map(|(x, w)| x * f64::from(*w)).sum::<f64>() + f64::from(bias[column])
        }).collect();
        assert_close(&folded(&x, [inner, outer], stored, Activation::None), &expected, 1e-5);
    }
}

#[test]
fn folding_gives_the_same_bits_with_any_number_of_threads() {
    on_one_and_three_threads(|| folded(&rows(600, 144), [144, 432], DType::F32, Activation::GeluTanh));
}

#[test]
fn a_layer_leaves_the_moments_of_its_result() {
    let cpu = Cpu::new();
    for (count, inner, outer) in [(5, 16, 40), (600, 24, 144), (130, 8, 8)] {
        let x = cpu.upload(&values(1, count * inner)).unwrap();
        let weight = cpu.weight(vec![parameter(2, &[outer, inner], DType::F32).0]).unwrap();
        let op = Linear::new(count, inner, outer).store(Store::Add);
        let mut out = cpu.upload(&rows(count, outer)).unwrap();
        let mut moments = cpu.alloc_f32(op.moments().elements()).unwrap();
        for part in [0..2, 2..count] {
            let place = LinearPart { whole_rows: count, x_row: part.start, out_row: part.start, weight_row: 0 };
            let args = LinearArgs { moments: Some(&mut moments), ..LinearArgs::new(&x, &weight, &mut out) };
            cpu.linear(&Linear { rows: part.len(), ..op }.part(place), args).unwrap();
        }
        let expected = out.chunks_exact(outer).flat_map(|row| row.chunks(RowMoments::COLUMNS)).flat_map(|group| {
            let mean = group.iter().map(|&x| f64::from(x)).sum::<f64>() / group.len() as f64;
            [mean, group.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum()]
        });
        assert_close(&moments, &expected.collect::<Vec<_>>(), 1e-6);
    }
}
