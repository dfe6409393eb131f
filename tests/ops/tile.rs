//! Boxes of videos.

use super::values::{assert_close, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};
use proptest::prelude::*;

fn triple(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 3]> {
    prop::array::uniform3(range)
}

/// Frame, row, column and channel of element `i`.
fn place(i: usize, [_, height, width]: [usize; 3], channels: usize) -> ([usize; 3], usize) {
    let pixel = i / channels;
    ([pixel / width / height, pixel / width % height, pixel % width], i % channels)
}

fn element([_, height, width]: [usize; 3], [frame, row, column]: [usize; 3], channels: usize) -> usize {
    ((frame * height + row) * width + column) * channels
}

fn sum(a: [usize; 3], b: [usize; 3]) -> [usize; 3] {
    [0, 1, 2].map(|axis| a[axis] + b[axis])
}

proptest! {
    #[test]
    fn copy_box_copies_the_box_and_nothing_else(
        (extent, channels) in (triple(0..7), 1..6usize),
        (from, from_more) in (triple(0..4), triple(0..4)),
        (to, to_more) in (triple(0..4), triple(0..4)),
    ) {
        let cpu = Cpu::new();
        let from = BoxAt { size: sum(sum(from, extent), from_more), origin: from };
        let to = BoxAt { size: sum(sum(to, extent), to_more), origin: to };
        let x = values(1, from.size.iter().product::<usize>() * channels);
        let before = values(2, to.size.iter().product::<usize>() * channels);
        let mut out = cpu.upload(&before).unwrap();
        cpu.copy_box(&CopyBox { extent, channels, from, to }, CopyBoxArgs { x: &cpu.upload(&x).unwrap(), out: &mut out }).unwrap();
        for (i, (&found, &before)) in out.iter().zip(&before).enumerate() {
            let (at, channel) = place(i, to.size, channels);
            let inside = (0..3).all(|axis| (to.origin[axis]..to.origin[axis] + extent[axis]).contains(&at[axis]));
            let source = || sum([0, 1, 2].map(|axis| at[axis] - to.origin[axis]), from.origin);
            let expected = if inside { x[element(from.size, source(), channels) + channel] } else { before };
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn blend_box_fades_one_side_and_leaves_the_rest(
        (neighbour, tile, channels) in (triple(1..9), triple(1..9), 1..5usize),
        (rows, part) in (any::<bool>(), 0.0..1.0f64),
    ) {
        let cpu = Cpu::new();
        let axis = if rows { BlendAxis::Rows } else { BlendAxis::Columns };
        let side = if rows { 1 } else { 2 };
        let blend = (part * (neighbour[side].min(tile[side]) + 1) as f64) as usize;
        let x = values(1, neighbour.iter().product::<usize>() * channels);
        let before = values(2, tile.iter().product::<usize>() * channels);
        let mut out = cpu.upload(&before).unwrap();
        let op = BlendBox { neighbour, tile, channels, axis, blend };
        cpu.blend_box(&op, BlendBoxArgs { neighbour: &cpu.upload(&x).unwrap(), tile: &mut out }).unwrap();
        let mut expected = Vec::new();
        for (i, (&found, &before)) in out.iter().zip(&before).enumerate() {
            let (at, channel) = place(i, tile, channels);
            let step = at[side];
            if step >= blend || (0..3).any(|axis| axis != side && at[axis] >= neighbour[axis]) {
                prop_assert_eq!(found, before);
                expected.push(f64::from(before));
                continue;
            }
            let mut source = at;
            source[side] = neighbour[side] - blend + step;
            let share = step as f64 / blend as f64;
            let other = f64::from(x[element(neighbour, source, channels) + channel]);
            expected.push(other * (1.0 - share) + f64::from(before) * share);
        }
        assert_close(&out, &expected, 5e-7);
    }
}
