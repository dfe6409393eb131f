//! `kernels/patch.cu`: patches of latents and other patches, with and without incomplete tiles.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
struct Embed(PatchEmbed);

impl Body for Embed {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let weight = |seed, shape: &[usize]| {
            let tensor = Tensor::from_f32(shape, &half_values(seed, shape.iter().product(), half));
            backend.weight(vec![tensor])
        };
        let x = backend.upload(&half_values(1, op.frames * op.height * op.width * op.cin, half))?;
        let (weight, bias) = (weight(2, &[op.cout, op.patch, op.patch, op.cin])?, weight(3, &[op.cout])?);
        let mut out = backend.alloc(op.frames * op.tokens() * op.cout)?;
        backend.patch_embed(op, PatchEmbedArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })?;
        host(backend, &out)
    }
}

#[derive(Clone, Copy, Debug)]
struct Back(Unpatchify);

impl Body for Back {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let pixels = op.frames * op.rows * op.columns * op.patch * op.patch;
        let x = backend.upload(&half_values(1, pixels * op.channels, half))?;
        let mut out = backend.alloc(pixels * op.kept)?;
        backend.unpatchify(op, UnpatchifyArgs { x: &x, out: &mut out })?;
        host(backend, &out)
    }
}

fn patch_embed_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // One frame of 1 token, one of 24, and three of 15: whole tiles of 8 tokens, and incomplete ones.
    for [frames, rows, columns] in [[1, 1, 1], [1, 4, 6], [3, 3, 5]] {
        for (patch, cin, cout) in
            [(2, 4, 4), (2, 4, 8), (2, 4, 144), (2, 4, 1152), (2, 4, 7), (2, 3, 8), (1, 4, 8), (3, 5, 9)]
        {
            let (height, width) = (rows * patch, columns * patch);
            let case = Embed(PatchEmbed { frames, height, width, cin, cout, patch });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn unpatchify_puts_every_kept_channel_in_its_place(trial: &mut Trial) -> Result<()> {
    for [frames, rows, columns] in [[1, 1, 1], [1, 6, 8], [3, 3, 5]] {
        for (patch, channels, kept) in
            [(2, 8, 4), (2, 8, 8), (2, 4, 4), (3, 16, 12), (2, 8, 3), (2, 7, 4), (1, 1, 1), (3, 7, 7), (2, 4, 0)]
        {
            let case = Back(Unpatchify { frames, rows, columns, patch, channels, kept });
            trial.exactly_the_cpu(&case)?;
        }
    }
    Ok(())
}

/// 17 frames of 64×64 latents.
pub(super) fn work() -> Vec<Work> {
    let embed = PatchEmbed { frames: 17, height: 64, width: 64, cin: 4, cout: 1152, patch: 2 };
    let back = Unpatchify { frames: 17, rows: 32, columns: 32, patch: 2, channels: 8, kept: 4 };
    vec![Work::of("17x64x64 latents to tokens", Embed(embed)), Work::of("17x32x32 tokens to latents", Back(back))]
}

checks! {
    patch_embed_agrees_with_the_cpu,
    unpatchify_puts_every_kept_channel_in_its_place,
}
