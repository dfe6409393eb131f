//! Patches to tokens and back, in bytes moved: 5×32×32 latents; on a GPU two samples of 17 and of 56 latent frames of
//! 64×64.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use osp::tensor::Tensor;

const CHANNELS: usize = 1152;

/// `videos`: frames of all samples, and rows (and columns) of a latent frame.
fn run<B: Target>(criterion: &mut Criterion, backend: &B, videos: &[[usize; 2]]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "patch");
    let weight = Tensor::from_f32(&[CHANNELS, 2, 2, 4], &values(CHANNELS * 16));
    let weight = backend.weight(vec![weight]).unwrap();
    let bias = backend.weight(vec![Tensor::from_f32(&[CHANNELS], &values(CHANNELS))]).unwrap();
    for &[frames, side] in videos {
        let pixels = frames * side * side;
        let op = PatchEmbed { frames, height: side, width: side, cin: 4, cout: CHANNELS, patch: 2 };
        let x = backend.upload(&values(pixels * op.cin)).unwrap();
        let mut out = backend.alloc(frames * op.tokens() * op.cout).unwrap();
        let name = format!("patch_embed {frames}x{side}x{side}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.patch_embed(&op, PatchEmbedArgs { x: &x, weight: &weight, bias: &bias, out: &mut out }).unwrap();
        });

        let op = Unpatchify { frames, rows: side / 2, columns: side / 2, patch: 2, channels: 8, kept: 4 };
        let x = backend.upload(&values(pixels * op.channels)).unwrap();
        let mut out = backend.alloc(pixels * op.kept).unwrap();
        let name = format!("unpatchify {frames}x{side}x{side}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.unpatchify(&op, UnpatchifyArgs { x: &x, out: &mut out }).unwrap();
        });
    }
}

fn patch(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &[[34, 64], [112, 64]]),
        None => run(criterion, &Cpu::new(), &[[5, 32]]),
    }
}

criterion_group!(benches, patch);
criterion_main!(benches);
