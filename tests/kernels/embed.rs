//! `kernels/embed.cu`: rows by vectors and ragged; positions, frames and modulations added.

use super::policy::{against_the_cpu, body, exactly_the_cpu, half_values, host};
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::embed::{AddRows, Embedding};
use osp::weights::Tensor;

#[derive(Clone, Debug)]
struct LookUp {
    ids: Vec<u32>,
    channels: usize,
}

const VOCABULARY: usize = 23;

impl LookUp {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let Self { ids, channels } = self;
        let table = Tensor::from_f32(&[VOCABULARY, *channels], &half_values(1, VOCABULARY * channels, half));
        let table = backend.weight(vec![table]).unwrap();
        let op = Embedding { tokens: ids.len(), vocabulary: VOCABULARY, channels: *channels };
        let mut out = backend.alloc(ids.len() * channels).unwrap();
        backend.embedding(&op, ids, &table, &mut out).unwrap();
        host(backend, &out)
    }
}

body!(LookUp);

#[derive(Clone, Copy, Debug)]
struct Addition(AddRows);

impl Addition {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let Self(op) = self;
        let table = backend.upload(&half_values(1, op.rows * op.channels, half)).unwrap();
        let len = op.outer * op.rows * op.inner * op.channels;
        let mut x = backend.upload(&half_values(2, len, half)).unwrap();
        backend.add_rows(op, &table, &mut x).unwrap();
        host(backend, &x)
    }
}

body!(Addition);

#[test]
fn embedding_copies_rows() {
    for channels in [7, 8, 144, 1152, 1153] {
        for ids in [vec![], vec![22], vec![0, 22, 5, 5, 13, 0, 1]] {
            let case = LookUp { ids, channels };
            exactly_the_cpu(&case, &case);
        }
    }
}

#[test]
fn add_rows_agrees_with_the_cpu() {
    for channels in [7, 8, 144, 1152] {
        // Spatial positions, frames, a modulation, all at once.
        for [outer, rows, inner] in [[3, 10, 1], [2, 5, 6], [2, 1, 1], [1, 1, 1], [2, 3, 4]] {
            let case = Addition(AddRows { outer, rows, inner, channels });
            against_the_cpu(&case, &case);
        }
    }
}
