//! `patch_embed` and `unpatchify`: latent positions to tokens and back.

use super::{Buffer, Weight, math};
use crate::layout::transposed;
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use rayon::prelude::*;

/// The least tokens of a task.
const TOKENS: usize = 16;

pub(super) fn patch_embed(op: &PatchEmbed, args: PatchEmbedArgs<'_, Buffer, Weight>) {
    let PatchEmbedArgs { x, weight, bias, out } = args;
    if out.is_empty() {
        return;
    }
    let columns = op.width / op.patch;
    let line = op.patch * op.cin;
    // [taps, cout], so that the innermost loop runs over neighbouring outputs.
    let by_tap = transposed(&weight.to_f32(), op.cout);
    let bias = bias.to_f32();
    out.par_chunks_mut(op.cout).with_min_len(TOKENS).enumerate().for_each(|(token, out)| {
        // Rows of patches are counted through all frames: every frame holds whole patches.
        let (patch_row, patch_column) = (token / columns, token % columns);
        let pixels = |row| {
            let start = ((patch_row * op.patch + row) * op.width + patch_column * op.patch) * op.cin;
            &x[start..start + line]
        };
        math::widest(
            #[inline(always)]
            || {
                out.copy_from_slice(&bias);
                let values = (0..op.patch).flat_map(pixels);
                for (&value, weights) in values.zip(by_tap.chunks_exact(op.cout)) {
                    out.iter_mut().zip(weights).for_each(|(sum, weight)| *sum = value.mul_add(*weight, *sum));
                }
            },
        );
    });
}

pub(super) fn unpatchify(op: &Unpatchify, UnpatchifyArgs { x, out }: UnpatchifyArgs<'_, Buffer>) {
    if out.is_empty() {
        return;
    }
    let line = op.patch * op.channels;
    let features = op.patch * line;
    // One chunk is a row of positions; rows of tokens are counted through all frames.
    out.par_chunks_mut(op.columns * op.patch * op.kept).enumerate().for_each(|(row, out)| {
        let first = row / op.patch * op.columns * features + row % op.patch * line;
        for (column, pixels) in out.chunks_exact_mut(op.patch * op.kept).enumerate() {
            let token = &x[first + column * features..][..line];
            for (pixel, all) in pixels.chunks_exact_mut(op.kept).zip(token.chunks_exact(op.channels)) {
                pixel.copy_from_slice(&all[..op.kept]);
            }
        }
    });
}
