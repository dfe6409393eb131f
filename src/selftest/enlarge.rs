//! `kernels/enlarge.cu`: enlargements that are folded into the weight behind them.

use super::Work;
use super::trial::{Body, Trial};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
struct Case(FoldEnlargement);

impl Case {
    fn of([cout, kt, cin]: [usize; 3]) -> Self {
        Self(FoldEnlargement { cout, kt, cin })
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op @ FoldEnlargement { cout, kt, cin }) = *self;
        let values = half_values(1, cout * kt * 9 * cin, half);
        let weight = backend.weight(vec![Tensor::from_f32(&[cout, kt, 3, 3, cin], &values)])?;
        let mut folded = backend.alloc_weight(&op.folded_shape())?;
        backend.fold_enlargement(&op, FoldEnlargementArgs { weight: &weight, folded: &mut folded })?;
        backend.weight_values(&folded)
    }
}

fn folded_enlargements_have_the_bits_of_the_cpu(trial: &mut Trial) -> Result<()> {
    // Vectors of less than a block, and of several; channels of whole vectors, and others.
    let sizes = [[1, 1, 8], [5, 3, 40], [33, 1, 72], [9, 2, 264], [1, 1, 1], [4, 2, 7], [37, 1, 12]];
    sizes.into_iter().try_for_each(|size| trial.exactly_the_cpu_rounded(&Case::of(size)))
}

/// The decoder's layers.
pub(super) fn work() -> Vec<Work> {
    vec![
        Work::of("512 to 512 channels", Case::of([512, 1, 512])),
        Work::of("256 to 256 channels", Case::of([256, 1, 256])),
    ]
}

checks! {
    folded_enlargements_have_the_bits_of_the_cpu,
}
