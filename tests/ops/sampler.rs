//! `combine` and `hold`, whose definitions fix every bit.

use super::values::{assert_close, values};
use osp::backend::Backend;
use osp::cpu::{Buffer, Cpu};
use osp::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};
use proptest::prelude::*;

proptest! {
    #[test]
    fn combine_is_a_chain_of_fused_multiply_adds(
        len in prop_oneof![0..100usize, Just(9001)],
        coefficients in prop::collection::vec(-3.0f32..3.0, 1..9),
        clamp in prop::option::of(0.1f32..2.0),
    ) {
        let cpu = Cpu::new();
        let inputs: Vec<Vec<f32>> = (0..coefficients.len()).map(|term| values(term as u64, len)).collect();
        let buffers: Vec<Buffer> = inputs.iter().map(|input| cpu.upload(input).unwrap()).collect();
        let mut out = cpu.alloc(len).unwrap();
        let op = Combine { len, coefficients: &coefficients, clamp };
        cpu.combine(&op, CombineArgs { inputs: &buffers.iter().collect::<Vec<_>>(), out: &mut out }).unwrap();

        let limit = clamp.unwrap_or(f32::INFINITY);
        let terms = |i: usize| coefficients.iter().zip(&inputs).map(move |(&factor, input)| (factor, input[i]));
        let bits: Vec<f32> = (0..len)
            .map(|i| terms(i).fold(0.0f32, |sum, (factor, value)| factor.mul_add(value, sum)).clamp(-limit, limit))
            .collect();
        prop_assert_eq!(&out[..], &bits[..]);

        // After a clamp, values may be far smaller than the terms, and so than the terms' rounding errors.
        if clamp.is_none() {
            let exact = (0..len).map(|i| terms(i).map(|(a, b)| f64::from(a) * f64::from(b)).sum()).collect::<Vec<f64>>();
            assert_close(&out, &exact, 2e-6);
        }
    }

    #[test]
    fn hold_mixes_by_two_fused_multiply_adds(
        len in prop_oneof![0..100usize, Just(9001)],
        signal in 0.0f32..1.0,
        noise_level in 0.0f32..20.0,
    ) {
        let op = Hold { len, signal, noise_level };
        let [original, noise, sample] = inputs(len);
        let weight: Vec<f32> = values(4, len).iter().map(|x| (x + 0.5).clamp(0.0, 1.0)).collect();
        let found = held(op, &weight);

        let bits = |i: usize| weight[i].mul_add(kept(op, i, &original, &noise), (1.0 - weight[i]) * sample[i]);
        prop_assert_eq!(&found, &(0..len).map(bits).collect::<Vec<_>>());

        // Terms may cancel, so the error is a share of their size.
        for i in 0..len {
            let [w, x, n, s] = [weight[i], original[i], noise[i], sample[i]].map(f64::from);
            let terms = [w * f64::from(signal) * x, w * f64::from(noise_level) * n, (1.0 - w) * s];
            let size: f64 = terms.iter().map(|term| term.abs()).sum();
            prop_assert!((f64::from(found[i]) - terms.iter().sum::<f64>()).abs() <= 3e-7 * size, "element {i}");
        }
    }

    #[test]
    fn a_weight_of_one_gives_what_is_kept_and_of_zero_the_sample(
        len in 1..100usize,
        signal in 0.0f32..1.0,
        noise_level in 0.0f32..20.0,
    ) {
        let op = Hold { len, signal, noise_level };
        let [original, noise, sample] = inputs(len);
        let kept: Vec<f32> = (0..len).map(|i| kept(op, i, &original, &noise)).collect();
        prop_assert_eq!(held(op, &vec![1.0; len]), kept);
        prop_assert_eq!(held(op, &vec![0.0; len]), sample);
    }
}

/// The clip, the noise and the sample of [`held`].
fn inputs(len: usize) -> [Vec<f32>; 3] {
    [1, 2, 3].map(|seed| values(seed, len))
}

fn kept(op: Hold, i: usize, original: &[f32], noise: &[f32]) -> f32 {
    op.signal.mul_add(original[i], op.noise_level * noise[i])
}

/// The sample after `hold`.
fn held(op: Hold, weight: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let [original, noise, mut sample] = inputs(op.len).map(|x| cpu.upload_f32(&x).unwrap());
    let weight = cpu.upload_f32(weight).unwrap();
    let args = HoldArgs { original: &original, noise: &noise, weight: &weight, sample: &mut sample };
    cpu.hold(&op, args).unwrap();
    sample.to_vec()
}
