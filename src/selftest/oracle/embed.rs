//! `embedding` and `add_rows`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_MOVES, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
enum Op {
    Rows(Embedding),
    Add(AddRows),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Op,
    kind: Kind,
    seed: u64,
}

const OF_ADDITION: [Kind; 5] = [Kind::Zeros, Kind::Edge, Kind::Denormal, Kind::Tail, Kind::Plain];

impl Case {
    /// The table, and what its rows are added to.
    fn inputs(&self, half: Half) -> [Vec<f32>; 2] {
        let Self { kind, seed, .. } = *self;
        match self.op {
            Op::Rows(op) => [fill(kind, seed, op.vocabulary * op.channels, op.channels, half), Vec::new()],
            Op::Add(op) => {
                let table = fill(kind, seed, op.rows * op.channels, op.channels, half);
                // Steps beyond the largest number are added to it.
                let len = op.outer * op.rows * op.inner * op.channels;
                let x = fill(kind, seed + 1, len, op.channels, half);
                let halved = |value: &f32| if kind == Kind::Edge { value / 2.0 } else { *value };
                [table.iter().map(halved).collect(), x.iter().map(halved).collect()]
            }
        }
    }

    /// Ids from the last to the first, and the first again.
    fn ids(op: &Embedding) -> Vec<u32> {
        (0..op.tokens).map(|token| (op.vocabulary - 1 - token % op.vocabulary) as u32).collect()
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let [table, x] = self.inputs(half);
        match &self.op {
            Op::Rows(op) => {
                let table = backend.weight(vec![Tensor::from_f32(&[op.vocabulary, op.channels], &table)])?;
                let mut out = backend.alloc(op.tokens * op.channels)?;
                backend.embedding(op, EmbeddingArgs { ids: &Self::ids(op), table: &table, out: &mut out })?;
                host(backend, &out)
            }
            Op::Add(op) => {
                let mut x = backend.upload(&x)?;
                backend.add_rows(op, AddRowsArgs { table: &backend.upload(&table)?, x: &mut x })?;
                host(backend, &x)
            }
        }
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let channels = draw.pick(&[8, 7, 144, 1153]);
        let (op, kind) = if draw.coin() {
            let (tokens, vocabulary) = (draw.size(33), draw.pick(&[1, 5, 23]));
            (Op::Rows(Embedding { tokens, vocabulary, channels }), draw.turn(&OF_MOVES))
        } else {
            let [outer, rows, inner] = [draw.pick(&[1, 2]), draw.pick(&[1, 3, 5]), draw.pick(&[1, 4])];
            (Op::Add(AddRows { outer, rows, inner, channels }), draw.turn(&OF_ADDITION))
        };
        Self { op, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let [table, x] = self.inputs(half);
        let values = match &self.op {
            Op::Rows(op) => {
                let row = |id: u32| table[id as usize * op.channels..][..op.channels].iter();
                Self::ids(op).into_iter().flat_map(row).map(|&value| Bounded::exactly(value)).collect()
            }
            Op::Add(op) => {
                let added = |i: usize| table[i / op.channels / op.inner % op.rows * op.channels + i % op.channels];
                x.iter().enumerate().map(|(i, &x)| Bounded::exactly(x).plus(Bounded::exactly(added(i)))).collect()
            }
        };
        Exact::numbers(values, precision)
    }
}
