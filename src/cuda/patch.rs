//! `patch_embed`, `unpatchify`: `kernels/patch.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, Weight, int};
use crate::error::Result;
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};

/// Tokens and channels that one thread of `patch_embed` computes; the ragged kernel computes one element.
const TILE: [usize; 2] = [8, 4];

params! {
    /// See `kernels/patch.cu`.
    PatchEmbedParams {
        x: Address,
        weight: Address,
        bias: Address,
        out: Address,
        count: i32,
        tokens: i32,
        columns: i32,
        cout: i32,
        patch: i32,
        line: i32,
    }
}

params! {
    /// See `kernels/patch.cu`.
    UnpatchifyParams {
        x: Address,
        out: Address,
        count: i32,
        columns: i32,
        patch: i32,
        channels: i32,
        kept: i32,
        padding: i32,
    }
}

/// Launches [`PatchEmbed`].
pub(super) fn patch_embed(cuda: &Cuda, op: &PatchEmbed, args: PatchEmbedArgs<'_, Buffer, Weight>) -> Result<()> {
    let PatchEmbedArgs { x, weight, bias, out } = args;
    let wide = op.patch == 2 && op.cin == 4 && op.cout.is_multiple_of(TILE[1]);
    let tokens = op.frames * op.tokens();
    let count = if wide { tokens.div_ceil(TILE[0]) * (op.cout / TILE[1]) } else { tokens * op.cout };
    let params = PatchEmbedParams {
        x: x.half(),
        weight: weight.address(),
        bias: bias.address(),
        out: out.half(),
        count: int(count)?,
        tokens: int(tokens)?,
        columns: int(op.width / op.patch)?,
        cout: int(op.cout)?,
        patch: int(op.patch)?,
        line: int(op.patch * op.cin)?,
    };
    cuda.launch(&cuda.flat("patch_embed", wide, count, op.flops(), op.bytes(2)), &params)
}

/// Launches [`Unpatchify`].
pub(super) fn unpatchify(cuda: &Cuda, op: &Unpatchify, args: UnpatchifyArgs<'_, Buffer>) -> Result<()> {
    let UnpatchifyArgs { x, out } = args;
    let wide = op.channels.is_multiple_of(4) && op.kept.is_multiple_of(4);
    let count = out.len / if wide { 4 } else { 1 };
    let params = UnpatchifyParams {
        x: x.half(),
        out: out.half(),
        count: int(count)?,
        columns: int(op.columns)?,
        patch: int(op.patch)?,
        channels: int(op.channels)?,
        kept: int(op.kept)?,
        padding: 0,
    };
    cuda.launch(&cuda.flat("unpatchify", wide, count, 0, op.bytes(2)), &params)
}
