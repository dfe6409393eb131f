//! The norms against their formulas in f64.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use osp::tensor::DType;
use proptest::prelude::*;

/// Rows whose means are far from 0, compared with their spread.
fn rows(rows: usize, channels: usize) -> Vec<f32> {
    let mut x = values(1, rows * channels);
    for (row, x) in x.chunks_exact_mut(channels).enumerate() {
        x.iter_mut().for_each(|value| *value += (row % 7) as f32 - 3.0);
    }
    x
}

/// Mean and 1/√(variance + eps).
fn moments(row: &[f32], eps: f32) -> (f64, f64) {
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / row.len() as f64;
    (mean, 1.0 / (variance + f64::from(eps)).sqrt())
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1..200usize, Just(1152), Just(4096)]
}

fn ada(op: &AdaLayerNorm, x: &[f32], modulation: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let mut out = cpu.alloc(x.len()).unwrap();
    let (x, modulation) = (cpu.upload(x).unwrap(), cpu.upload(modulation).unwrap());
    cpu.ada_layer_norm(op, AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut out }).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn ada_layer_norm_is_the_formula(samples in 1..4usize, each in 1..30usize, channels in channels(), gap in 0..9usize) {
        let op = AdaLayerNorm {
            rows: samples * each,
            channels,
            eps: 1e-6,
            rows_per_modulation: each,
            modulation_stride: 3 * channels + gap,
            shift: gap,
            scale: 2 * channels,
        };
        prop_assume!(channels > 1);
        let x = rows(op.rows, channels);
        let modulation = values(2, samples * op.modulation_stride);
        let moments: Vec<_> = x.chunks_exact(channels).map(|row| moments(row, op.eps)).collect();
        let expected: Vec<f64> = (0..x.len()).map(|i| {
            let (row, channel) = (i / channels, i % channels);
            let (mean, inverse) = moments[row];
            let own = &modulation[row / each * op.modulation_stride..];
            let (shift, scale) = (f64::from(own[op.shift + channel]), f64::from(own[op.scale + channel]));
            (f64::from(x[i]) - mean) * inverse * (1.0 + scale) + shift
        }).collect();
        assert_close(&ada(&op, &x, &modulation), &expected, 2e-5);
    }

    #[test]
    fn layer_norm_and_rms_norm_are_the_formulas(count in 1..40usize, channels in channels(), half in any::<bool>()) {
        prop_assume!(channels > 1);
        let (cpu, x) = (Cpu::new(), rows(count, channels));
        let dtype = if half { DType::F16 } else { DType::F32 };
        let (weight_tensor, weight) = parameter(2, &[channels], dtype);
        let (bias_tensor, bias) = parameter(3, &[channels], dtype);
        let [device_weight, device_bias] = [weight_tensor, bias_tensor].map(|tensor| cpu.weight(vec![tensor]).unwrap());
        let device_x = cpu.upload(&x).unwrap();

        let mut out = cpu.alloc(x.len()).unwrap();
        let op = LayerNorm { rows: count, channels, eps: 1e-5 };
        cpu.layer_norm(&op, LayerNormArgs { x: &device_x, weight: &device_weight, bias: &device_bias, out: &mut out }).unwrap();
        let moments: Vec<_> = x.chunks_exact(channels).map(|row| moments(row, op.eps)).collect();
        let expected: Vec<f64> = (0..x.len()).map(|i| {
            let (mean, inverse) = moments[i / channels];
            let channel = i % channels;
            (f64::from(x[i]) - mean) * inverse * f64::from(weight[channel]) + f64::from(bias[channel])
        }).collect();
        assert_close(&out, &expected, 2e-5);

        let op = RmsNorm { rows: count, channels, eps: 1e-6 };
        cpu.rms_norm(&op, RmsNormArgs { x: &device_x, weight: &device_weight, out: &mut out }).unwrap();
        let square = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / channels as f64;
        let squares: Vec<f64> = x.chunks_exact(channels).map(square).collect();
        let expected: Vec<f64> = (0..x.len()).map(|i| {
            f64::from(x[i]) / (squares[i / channels] + f64::from(op.eps)).sqrt() * f64::from(weight[i % channels])
        }).collect();
        assert_close(&out, &expected, 2e-6);
    }
}

#[test]
fn the_norms_do_not_depend_on_the_number_of_threads() {
    let op = AdaLayerNorm {
        rows: 333,
        channels: 129,
        eps: 1e-6,
        rows_per_modulation: 111,
        modulation_stride: 258,
        shift: 0,
        scale: 129,
    };
    on_one_and_three_threads(|| ada(&op, &rows(333, 129), &values(2, 3 * 258)));
}

#[test]
fn a_row_of_one_value_becomes_the_shift() {
    let op = AdaLayerNorm {
        rows: 2,
        channels: 3,
        eps: 1e-6,
        rows_per_modulation: 2,
        modulation_stride: 6,
        shift: 0,
        scale: 3,
    };
    let modulation = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    assert_eq!(ada(&op, &[5.0; 6], &modulation), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}
