//! `kernels/facts.cu`: facts about a GPU that the kernels rely on. The bits are compared with the emulator's.
//!
//! A GPU may differ and still be right for the other kernels: the emulator's products are Hopper's, and older GPUs
//! round at other places. Then the emulator does not predict the GPU's bits.

use super::trial::Trial;
use crate::cuda::device::Emulated;
use crate::cuda::{Cuda, Fact, Half, fact};
use crate::error::{Error, Result};
use crate::weights::synthetic::splitmix64;
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of each depth and type on a GPU. Two depths and two types together have 2²⁰ tiles.
const BLOCKS: usize = 1 << 15;
/// Blocks of one launch on a GPU, and all blocks on the emulator.
const LAUNCH: usize = 1 << 12;
const FEW: usize = 32;
/// Tiles of a block.
const TILES: usize = 8;

/// How operands are chosen, by tile.
#[derive(Clone, Copy)]
pub(super) enum Operands {
    /// Numbers in [−1, 1).
    Even,
    /// Numbers of very different sizes whose sums stay finite, so that small ones are cut off.
    Spread,
    /// Numbers whose sums nearly cancel.
    Cancelling,
    /// Any bits: also subnormal numbers, infinities and NaN.
    Bits,
}

/// A number in [−1, 1) of 31 bits.
fn unit(bits: u64) -> f32 {
    (bits as u32 as i32) as f32 / (1u32 << 31) as f32
}

impl Operands {
    fn of(tile: usize) -> Self {
        [Self::Even, Self::Spread, Self::Cancelling, Self::Bits][tile % 4]
    }

    /// Element `i` of a tile's a or b.
    pub(super) fn half(self, key: u64, half: Half) -> [u8; 2] {
        let bits = splitmix64(0, key);
        let value = match self {
            Self::Even => unit(bits),
            Self::Spread => unit(bits) * 2f32.powi((bits >> 40 & 15) as i32 - 8),
            // Neighbours in k have opposite signs and nearly the same size.
            Self::Cancelling => (1.0 + unit(bits) / 64.0) * if key & 1 == 0 { 1.0 } else { -1.0 },
            Self::Bits => return (bits as u16).to_le_bytes(),
        };
        match half {
            Half::F16 => f16::from_f32(value).to_le_bytes(),
            Half::Bf16 => bf16::from_f32(value).to_le_bytes(),
        }
    }

    /// Element `i` of a tile's c.
    pub(super) fn single(self, key: u64) -> [u8; 4] {
        let bits = splitmix64(0, key);
        match self {
            Self::Bits => (bits as u32).to_le_bytes(),
            Self::Spread => (unit(bits) * 2f32.powi((bits >> 40 & 31) as i32 - 16)).to_le_bytes(),
            Self::Even | Self::Cancelling => unit(bits).to_le_bytes(),
        }
    }
}

/// The operands of some tiles: `len` bytes for each tile, in elements of `N` bytes. `which` makes a, b and c differ.
pub(super) fn operands<const N: usize>(
    tiles: Range<usize>,
    len: usize,
    which: u64,
    element: impl Fn(Operands, u64) -> [u8; N] + Sync,
) -> Vec<u8> {
    let mut bytes = vec![0; tiles.len() * len];
    bytes.par_chunks_mut(len).zip(tiles).for_each(|(bytes, tile)| {
        let key = which << 60 | (tile as u64) << 16;
        for (i, bytes) in bytes.chunks_exact_mut(N).enumerate() {
            bytes.copy_from_slice(&element(Operands::of(tile), key + i as u64));
        }
    });
    bytes
}

fn products_have_the_emulators_bits(trial: &mut Trial) -> Result<()> {
    let (blocks, launch) = if trial.is_thorough() { (BLOCKS, LAUNCH) } else { (FEW, FEW) };
    for depth in [16, 8] {
        let what = Fact::Product { depth };
        for first in (0..blocks).step_by(launch) {
            trial.each(&(what, first), |kernels, half| {
                let [a, b, c, _] = what.bytes().map(|bytes| bytes / TILES);
                let tiles = first * TILES..(first + launch) * TILES;
                let of_half = |operands: Operands, key| operands.half(key, half);
                let [a, b] = [(a, 1), (b, 2)].map(|(len, which)| operands(tiles.clone(), len, which, of_half));
                let c = operands(tiles, c, 3, Operands::single);
                same(kernels, half, what, launch, [&a, &b, &c])
            })?;
        }
    }
    Ok(())
}

fn copies_of_fewer_bytes_fill_with_zeros(trial: &mut Trial) -> Result<()> {
    let bytes: Vec<u8> = (0..17 * 4096).map(|i| splitmix64(0, i) as u8 | 1).collect();
    trial.each(&Fact::ZeroFill, |kernels, half| same(kernels, half, Fact::ZeroFill, 17, [&bytes, &[], &[]]))
}

fn each_half_of_a_block_has_its_own_barrier(trial: &mut Trial) -> Result<()> {
    trial.each(&Fact::Barriers, |kernels, half| same(kernels, half, Fact::Barriers, 40, [&[], &[], &[]]))
}

/// Fails unless the device and the emulator give the same bits for these inputs.
fn same(kernels: &Cuda, half: Half, what: Fact, blocks: usize, inputs: [&[u8]; 3]) -> Result<()> {
    ensure_emulated(kernels, half, |kernels| fact(kernels, what, blocks, inputs))
}

/// Fails unless a fact has the same bits on the device as on the emulator.
pub(super) fn ensure_emulated(kernels: &Cuda, half: Half, run: impl Fn(&Cuda) -> Result<Vec<u8>>) -> Result<()> {
    let found = run(kernels)?;
    let expected = run(&Cuda::new(Arc::new(Emulated::new(0)), half))?;
    let [found, expected] = [found, expected].map(|bytes| bytemuck::pod_collect_to_vec::<u8, u32>(&bytes));
    let differs = |i: &usize| found[*i] != expected[*i];
    let Some(first) = (0..found.len()).find(differs) else { return Ok(()) };
    let [count, all] = [(0..found.len()).filter(differs).count(), found.len()];
    let [found, expected] =
        [found[first], expected[first]].map(|word| format!("{word:#010x} ({:e})", f32::from_bits(word)));
    let words = format!("{count} of {all} words differ, the first is number {first}");
    Err(Error::Failed(format!("{words}: {found}, the emulator has {expected}")))
}

checks! {
    products_have_the_emulators_bits,
    copies_of_fewer_bytes_fill_with_zeros,
    each_half_of_a_block_has_its_own_barrier,
}
