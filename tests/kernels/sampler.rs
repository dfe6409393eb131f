//! `kernels/sampler.cu`: every number of terms, every mix of f32 and 16-bit buffers. The sum is that of the CPU to the
//! bit, rounded once where the output is 16-bit.

use super::policy::{devices, half_values, host, rounded, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::Half;
use osp::ops::sampler::Combine;

/// Which buffers are f32: bit `i` for input `i`, bit 8 for the output.
type Singles = u32;

#[derive(Clone, Debug)]
struct Case {
    len: usize,
    coefficients: Vec<f32>,
    clamp: Option<f32>,
    singles: Singles,
}

impl Case {
    fn input(&self, term: usize, half: Half) -> Vec<f32> {
        let seed = term as u64 + 1;
        let mut x = if self.single(term) { values(seed, self.len) } else { half_values(seed, self.len, half) };
        // A product of −0, which added to zero is +0.
        x[0] = 0.0;
        x
    }

    fn single(&self, place: usize) -> bool {
        self.singles >> place & 1 == 1
    }

    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let inputs: Vec<B::Buffer> = (0..self.coefficients.len())
            .map(|term| {
                let x = self.input(term, half);
                if self.single(term) { backend.upload_f32(&x) } else { backend.upload(&x) }.unwrap()
            })
            .collect();
        let mut out = if self.single(8) { backend.alloc_f32(self.len) } else { backend.alloc(self.len) }.unwrap();
        let op = Combine { len: self.len, coefficients: &self.coefficients, clamp: self.clamp };
        backend.combine(&op, &inputs.iter().collect::<Vec<_>>(), &mut out).unwrap();
        host(backend, &out)
    }

    #[track_caller]
    fn check(&self) {
        for (cuda, half) in devices() {
            let mut expected = self.run(&Cpu::new(), half);
            if !self.single(8) {
                expected = rounded(&expected, half);
            }
            for (i, (found, expected)) in self.run(&cuda, half).into_iter().zip(expected).enumerate() {
                assert_eq!(found.to_bits(), expected.to_bits(), "{self:?}, {half:?}: {i}: {found}, not {expected}");
            }
        }
    }
}

fn coefficients(terms: usize) -> Vec<f32> {
    values(77, terms).iter().map(|x| 3.0 * x).collect()
}

const ALL: Singles = 0x1FF;

#[test]
fn states_are_combined_to_the_bit() {
    for terms in 1..=8 {
        for len in [1, 7, 256, 1028, 1030] {
            for clamp in [None, Some(0.75)] {
                Case { len, coefficients: coefficients(terms), clamp, singles: ALL }.check();
            }
        }
    }
}

#[test]
fn buffers_of_both_precisions_mix() {
    for terms in [1, 2, 5, 8] {
        for len in [31, 64] {
            // None, the output alone, the inputs alone, every other one, the last input and the output.
            for singles in [0, 0x100, 0xFF, 0x155, 0x0AA, 0x180] {
                Case { len, coefficients: coefficients(terms), clamp: Some(1.5), singles }.check();
            }
        }
    }
}

#[test]
fn a_product_of_minus_zero_becomes_zero() {
    for singles in [ALL, 0] {
        Case { len: 4, coefficients: vec![-1.0], clamp: None, singles }.check();
    }
}

#[test]
fn the_clamp_passes_nan_and_stops_infinities() {
    for (cuda, _) in devices() {
        let x = cuda.upload_f32(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5]).unwrap();
        let mut out = cuda.alloc_f32(4).unwrap();
        cuda.combine(&Combine { len: 4, coefficients: &[1.0], clamp: Some(2.0) }, &[&x], &mut out).unwrap();
        let out = host(&cuda, &out);
        assert!(out[0].is_nan());
        assert_eq!(out[1..], [2.0, -2.0, 0.5]);
    }
}

#[test]
fn nothing_is_combined_without_elements() {
    let (cuda, _) = devices().next().unwrap();
    let empty = cuda.upload_f32(&[]).unwrap();
    let op = Combine { len: 0, coefficients: &[1.0], clamp: None };
    cuda.combine(&op, &[&empty], &mut cuda.alloc_f32(0).unwrap()).unwrap();
}
