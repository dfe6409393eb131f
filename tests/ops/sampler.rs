//! `combine`, whose definition fixes every bit.

use super::values::{assert_close, values};
use osp::backend::Backend;
use osp::cpu::{Buffer, Cpu};
use osp::ops::sampler::{Combine, CombineArgs};
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
}
