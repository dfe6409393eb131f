//! `embedding` and `add_rows`: look up rows, and add rows.

use super::{Buffer, Weight, math};
use crate::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use rayon::prelude::*;

/// The least rows of a task: with fewer, starting the task costs more than its work.
const ROWS: usize = 16;

pub(super) fn embedding(op: &Embedding, args: EmbeddingArgs<'_, Buffer, Weight>) {
    let EmbeddingArgs { ids, table, out } = args;
    if out.is_empty() {
        return;
    }
    let rows = out.par_chunks_mut(op.channels).with_min_len(ROWS);
    rows.zip(ids).for_each(|(row, &id)| table.widen(id as usize, 0, row));
}

pub(super) fn add_rows(op: &AddRows, AddRowsArgs { table, x }: AddRowsArgs<'_, Buffer>) {
    if x.is_empty() {
        return;
    }
    x.par_chunks_mut(op.channels).with_min_len(ROWS).enumerate().for_each(|(index, row)| {
        let start = index / op.inner % op.rows * op.channels;
        let addend = &table[start..start + op.channels];
        math::widest(
            #[inline(always)]
            || row.iter_mut().zip(addend).for_each(|(value, add)| *value += add),
        );
    });
}
