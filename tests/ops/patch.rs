//! Patches to tokens and back.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use osp::tensor::DType;
use proptest::prelude::*;

fn embed(op: &PatchEmbed, x: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let weight = cpu.weight(vec![parameter(2, &[op.cout, op.patch, op.patch, op.cin], DType::F32).0]).unwrap();
    let bias = cpu.weight(vec![parameter(3, &[op.cout], DType::F32).0]).unwrap();
    let mut out = cpu.alloc(op.frames * op.tokens() * op.cout).unwrap();
    let x = cpu.upload(x).unwrap();
    cpu.patch_embed(op, PatchEmbedArgs { x: &x, weight: &weight, bias: &bias, out: &mut out }).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn patch_embed_is_a_strided_convolution(
        (frames, rows, columns, patch) in (1..4usize, 1..6usize, 1..6usize, 1..4usize),
        (cin, cout) in (1..6usize, 1..80usize),
    ) {
        let op = PatchEmbed { frames, height: rows * patch, width: columns * patch, cin, cout, patch };
        let x = values(1, frames * op.height * op.width * cin);
        let weight = parameter(2, &[cout, patch, patch, cin], DType::F32).1;
        let bias = parameter(3, &[cout], DType::F32).1;
        let expected: Vec<f64> = (0..frames * op.tokens() * cout).map(|i| {
            let (o, token) = (i % cout, i / cout);
            let (frame, row, column) = (token / op.tokens(), token % op.tokens() / columns, token % columns);
            let mut sum = f64::from(bias[o]);
            for p in 0..patch {
                for q in 0..patch {
                    let pixel = (frame * op.height + row * patch + p) * op.width + column * patch + q;
                    for c in 0..cin {
                        sum += f64::from(x[pixel * cin + c]) * f64::from(weight[((o * patch + p) * patch + q) * cin + c]);
                    }
                }
            }
            sum
        }).collect();
        assert_close(&embed(&op, &x), &expected, 2e-6);
    }

    #[test]
    fn unpatchify_puts_every_kept_channel_in_its_place(
        (frames, rows, columns, patch) in (1..4usize, 1..6usize, 1..6usize, 1..4usize),
        (kept, more) in (1..6usize, 0..6usize),
    ) {
        let (cpu, channels) = (Cpu::new(), kept + more);
        let op = Unpatchify { frames, rows, columns, patch, channels, kept };
        let pixels = frames * rows * columns * patch * patch;
        let x = values(1, pixels * channels);
        let mut out = cpu.alloc(pixels * kept).unwrap();
        cpu.unpatchify(&op, UnpatchifyArgs { x: &cpu.upload(&x).unwrap(), out: &mut out }).unwrap();
        let expected: Vec<f32> = (0..pixels * kept).map(|i| {
            let (c, pixel) = (i % kept, i / kept);
            let (width, height) = (columns * patch, rows * patch);
            let (frame, y, column) = (pixel / width / height, pixel / width % height, pixel % width);
            let token = (frame * rows + y / patch) * columns + column / patch;
            x[((token * patch + y % patch) * patch + column % patch) * channels + c]
        }).collect();
        prop_assert_eq!(&out[..], &expected[..]);
    }
}

#[test]
fn patch_embed_does_not_depend_on_the_number_of_threads() {
    let op = PatchEmbed { frames: 3, height: 16, width: 12, cin: 4, cout: 144, patch: 2 };
    on_one_and_three_threads(|| embed(&op, &values(1, 3 * 16 * 12 * 4)));
}
