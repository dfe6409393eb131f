//! `kernels/distance.cu`: tensors that fill blocks and that do not, by vectors and ragged. Each element must count once,
//! and the sums must not depend on the order of threads.

use super::Work;
use super::trial::{Body, Trial, ensure, ensure_same};
use super::values::{half_values, values};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::distance::{BLOCK, Distance, DistanceArgs};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Several blocks, and the same ragged; a block, and one element less and more; what a block loads at once, and a vector;
/// a vector, and one element less and more; one element and none. A quick trial takes the first two for each kernel.
const LENS: [usize; 12] =
    [2 * BLOCK + 2056, 2 * BLOCK + 301, BLOCK, BLOCK - 1, BLOCK + 1, 2048 + 8, BLOCK - 8, 8, 7, 9, 1, 0];

/// The sums of `a` and `b`.
fn sums<B: Backend>(backend: &B, a: &[f32], b: &[f32]) -> Result<Vec<u8>> {
    let op = Distance { len: a.len() };
    let mut sums = backend.distance(&op, DistanceArgs { a: &backend.upload(a)?, b: &backend.upload(b)? })?;
    Ok(sums.bytes()?.to_vec())
}

fn numbers(sums: &[u8]) -> Vec<f32> {
    sums.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Values that a type holds.
#[derive(Clone, Copy, Debug)]
struct Case {
    len: usize,
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let [a, b] = [1, 2].map(|seed| half_values(seed, self.len, half));
        sums(backend, &a, &b).map(|sums| numbers(&sums))
    }
}

fn sums_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    LENS.into_iter().try_for_each(|len| trial.against_the_cpu(&Case { len }))
}

/// Whole numbers of 64ths, of which f32 holds any sum.
#[derive(Clone, Copy, Debug)]
struct Whole {
    len: usize,
}

impl Body for Whole {
    fn run<B: Backend>(&self, backend: &B, _: Half) -> Result<Vec<f32>> {
        let [a, b] = [1, 2].map(|seed| values(seed, self.len).iter().map(|x| (x * 64.0).round() / 64.0).collect());
        let (a, b): (Vec<f32>, Vec<f32>) = (a, b);
        sums(backend, &a, &b).map(|sums| numbers(&sums))
    }
}

fn every_element_counts_once(trial: &mut Trial) -> Result<()> {
    LENS.into_iter().try_for_each(|len| trial.exactly_the_cpu(&Whole { len }))
}

fn equal_tensors_have_no_distance(trial: &mut Trial) -> Result<()> {
    for len in LENS {
        trial.each(&format!("{len} equal elements"), |kernels, half| {
            let mut a = half_values(1, len, half);
            a.iter_mut().take(1).for_each(|first| *first = 0.0);
            // Zeros of both signs are equal.
            let mut b = a.clone();
            b.iter_mut().take(1).for_each(|first| *first = -0.0);
            let sums = sums(kernels, &a, &b)?;
            let relative = Distance { len }.relative(&sums);
            ensure(relative == 0.0, || format!("equal tensors have the distance {relative}"))?;
            let apart: Vec<f32> = numbers(&sums).into_iter().step_by(2).collect();
            ensure_same(&apart, &vec![0.0; len.div_ceil(BLOCK)], &"Σ|a − b| of equal tensors")
        })?;
    }
    Ok(())
}

fn sums_have_the_same_bits_every_time(trial: &mut Trial) -> Result<()> {
    for len in [2 * BLOCK + 2056, 2 * BLOCK + 301] {
        let case = Case { len };
        let first: RefCell<BTreeMap<&str, Vec<f32>>> = RefCell::default();
        trial.each(&case, |kernels, half| {
            let found = case.run(kernels, half)?;
            ensure_same(&case.run(kernels, half)?, &found, &"the second run")?;
            let mut first = first.borrow_mut();
            ensure_same(
                &found,
                first.entry(half.suffix()).or_insert_with(|| found.clone()),
                &"another order of threads",
            )
        })?;
    }
    Ok(())
}

/// The transformer's tokens of 65 frames of 512×512.
pub(super) fn work() -> Vec<Work> {
    vec![Work::of("17,408 tokens of 1,152", Case { len: 17_408 * 1152 })]
}

checks! {
    sums_agree_with_the_cpu,
    every_element_counts_once,
    equal_tensors_have_no_distance,
    sums_have_the_same_bits_every_time,
}
