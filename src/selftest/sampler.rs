//! `kernels/sampler.cu`: every number of terms, and every mix of f32 and 16-bit buffers. The sum has the CPU's bits,
//! rounded once if the output is 16-bit. What is held has the CPU's bits under every mask.

use super::Work;
use super::trial::{Body, Trial, ensure, host};
use super::values::{half_values, values};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};

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
        // With a negative coefficient, this product is −0. Added to zero it must give +0.
        if x.len() > 1 {
            x[0] = 0.0;
        }
        x
    }

    fn single(&self, place: usize) -> bool {
        self.singles >> place & 1 == 1
    }

    /// Compares the bits of the sum with the CPU's, rounded once if the output is 16-bit.
    fn check(&self, trial: &mut Trial) -> Result<()> {
        if self.single(8) { trial.exactly_the_cpu(self) } else { trial.exactly_the_cpu_rounded(self) }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let upload = |term| {
            let x = self.input(term, half);
            if self.single(term) { backend.upload_f32(&x) } else { backend.upload(&x) }
        };
        let inputs: Vec<B::Buffer> = (0..self.coefficients.len()).map(upload).collect::<Result<_>>()?;
        let mut out = if self.single(8) { backend.alloc_f32(self.len) } else { backend.alloc(self.len) }?;
        let op = Combine { len: self.len, coefficients: &self.coefficients, clamp: self.clamp };
        backend.combine(&op, CombineArgs { inputs: &inputs.iter().collect::<Vec<_>>(), out: &mut out })?;
        host(backend, &out)
    }
}

fn coefficients(terms: usize) -> Vec<f32> {
    values(77, terms).iter().map(|x| 3.0 * x).collect()
}

const ALL: Singles = 0x1FF;

fn states_are_combined_to_the_bit(trial: &mut Trial) -> Result<()> {
    for terms in 1..=8 {
        for len in [1, 7, 256, 1028, 1030] {
            for clamp in [None, Some(0.75)] {
                Case { len, coefficients: coefficients(terms), clamp, singles: ALL }.check(trial)?;
            }
        }
    }
    Ok(())
}

fn buffers_of_both_precisions_mix(trial: &mut Trial) -> Result<()> {
    for terms in [1, 2, 5, 8] {
        for len in [31, 64] {
            // No buffer is f32; only the output; only the inputs; every other one; the last input and the output.
            for singles in [0, 0x100, 0xFF, 0x155, 0x0AA, 0x180] {
                Case { len, coefficients: coefficients(terms), clamp: Some(1.5), singles }.check(trial)?;
            }
        }
    }
    Ok(())
}

fn a_product_of_minus_zero_becomes_zero(trial: &mut Trial) -> Result<()> {
    for singles in [ALL, 0] {
        Case { len: 4, coefficients: vec![-1.0], clamp: None, singles }.check(trial)?;
    }
    Ok(())
}

fn the_clamp_passes_nan_and_stops_infinities(trial: &mut Trial) -> Result<()> {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5];
    trial.each(&x, |kernels, _| {
        let mut out = kernels.alloc_f32(4)?;
        let op = Combine { len: 4, coefficients: &[1.0], clamp: Some(2.0) };
        kernels.combine(&op, CombineArgs { inputs: &[&kernels.upload_f32(&x)?], out: &mut out })?;
        let out = host(kernels, &out)?;
        ensure(out[0].is_nan() && out[1..] == [2.0, -2.0, 0.5], || format!("{out:?}"))
    })
}

fn combine_accepts_zero_elements(trial: &mut Trial) -> Result<()> {
    trial.each(&"no elements", |kernels, _| {
        let op = Combine { len: 0, coefficients: &[1.0], clamp: None };
        kernels.combine(&op, CombineArgs { inputs: &[&kernels.upload_f32(&[])?], out: &mut kernels.alloc_f32(0)? })
    })
}

#[derive(Clone, Copy, Debug)]
enum Mask {
    /// This weight everywhere.
    Even(f32),
    /// Weights between 0 and 1, and some of each.
    Mixed,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    op: Hold,
    mask: Mask,
}

impl Held {
    fn new(len: usize, mask: Mask) -> Self {
        Self { op: Hold { len, signal: 0.8, noise_level: 0.6 }, mask }
    }

    fn weight(&self) -> Vec<f32> {
        match self.mask {
            Mask::Even(weight) => vec![weight; self.op.len],
            Mask::Mixed => values(4, self.op.len).iter().map(|x| (x + 0.5).clamp(0.0, 1.0)).collect(),
        }
    }
}

impl Body for Held {
    fn run<B: Backend>(&self, backend: &B, _: Half) -> Result<Vec<f32>> {
        let state = |seed| backend.upload_f32(&values(seed, self.op.len));
        let (original, noise, mut sample) = (state(1)?, state(2)?, state(3)?);
        let weight = backend.upload_f32(&self.weight())?;
        let args = HoldArgs { original: &original, noise: &noise, weight: &weight, sample: &mut sample };
        backend.hold(&self.op, args)?;
        host(backend, &sample)
    }
}

fn masks_hold_a_clip_to_the_bit(trial: &mut Trial) -> Result<()> {
    for len in [1, 7, 256, 1028, 1030] {
        for mask in [Mask::Mixed, Mask::Even(1.0), Mask::Even(0.0), Mask::Even(0.3)] {
            trial.exactly_the_cpu(&Held::new(len, mask))?;
        }
    }
    Ok(())
}

fn hold_accepts_zero_elements(trial: &mut Trial) -> Result<()> {
    trial.each(&"no elements", |kernels, half| Held::new(0, Mask::Mixed).run(kernels, half).map(drop))
}

/// A step of 17 and of 56 frames.
pub(super) fn work() -> Vec<Work> {
    let case =
        |frames: usize| Case { len: frames * 4 * 64 * 64, coefficients: coefficients(4), clamp: None, singles: ALL };
    let held = |frames: usize| Held::new(frames * 4 * 64 * 64, Mask::Mixed);
    vec![
        Work::of("4 states of 4x17x64x64", case(17)),
        Work::of("4 states of 4x56x64x64", case(56)),
        Work::of("a mask over 4x17x64x64", held(17)),
        Work::of("a mask over 4x56x64x64", held(56)),
    ]
}

checks! {
    states_are_combined_to_the_bit,
    buffers_of_both_precisions_mix,
    a_product_of_minus_zero_becomes_zero,
    the_clamp_passes_nan_and_stops_infinities,
    combine_accepts_zero_elements,
    masks_hold_a_clip_to_the_bit,
    hold_accepts_zero_elements,
}
