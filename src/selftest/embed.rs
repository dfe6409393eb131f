//! `kernels/embed.cu`: the kernels for vectors and the ragged ones; added positions, frames and modulations.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use crate::tensor::Tensor;

#[derive(Clone, Debug)]
struct LookUp {
    ids: Vec<u32>,
    channels: usize,
}

const VOCABULARY: usize = 23;

impl Body for LookUp {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self { ids, channels } = self;
        let table = Tensor::from_f32(&[VOCABULARY, *channels], &half_values(1, VOCABULARY * channels, half));
        let table = backend.weight(vec![table])?;
        let op = Embedding { tokens: ids.len(), vocabulary: VOCABULARY, channels: *channels };
        let mut out = backend.alloc(ids.len() * channels)?;
        backend.embedding(&op, EmbeddingArgs { ids, table: &table, out: &mut out })?;
        host(backend, &out)
    }
}

#[derive(Clone, Copy, Debug)]
struct Addition(AddRows);

impl Body for Addition {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let table = backend.upload(&half_values(1, op.rows * op.channels, half))?;
        let len = op.outer * op.rows * op.inner * op.channels;
        let mut x = backend.upload(&half_values(2, len, half))?;
        backend.add_rows(op, AddRowsArgs { table: &table, x: &mut x })?;
        host(backend, &x)
    }
}

fn embedding_copies_rows(trial: &mut Trial) -> Result<()> {
    for channels in [7, 8, 144, 1152, 1153] {
        for ids in [vec![], vec![22], vec![0, 22, 5, 5, 13, 0, 1]] {
            let case = LookUp { ids, channels };
            trial.exactly_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn add_rows_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for channels in [7, 8, 144, 1152] {
        // Spatial positions, frames, a modulation, one row, and all sizes larger than 1.
        for [outer, rows, inner] in [[3, 10, 1], [2, 5, 6], [2, 1, 1], [1, 1, 1], [2, 3, 4]] {
            let case = Addition(AddRows { outer, rows, inner, channels });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

/// The tokens of a caption, and positions added to the tokens of 17 frames.
pub(super) fn work() -> Vec<Work> {
    let ids = (0..120).map(|i| i % VOCABULARY as u32).collect();
    vec![
        Work::of("120 tokens of 4,096 channels", LookUp { ids, channels: 4096 }),
        Work::of(
            "17 frames of 1,024 tokens, 1,152 channels",
            Addition(AddRows { outer: 17, rows: 1024, inner: 1, channels: 1152 }),
        ),
    ]
}

checks! {
    embedding_copies_rows,
    add_rows_agrees_with_the_cpu,
}
