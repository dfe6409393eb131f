//! `kernels/facts_sm90.cu`: facts about Hopper that its kernels rely on. The bits are compared with the emulator's. A
//! device without these kernels passes.

use super::facts::{Operands, ensure_emulated, operands};
use super::trial::Trial;
use crate::cuda::{Cuda, Half, HopperFact, has_facts, hopper_fact};
use crate::error::Result;
use crate::weights::synthetic::splitmix64;

/// Blocks of a fact on a GPU with time for a million tiles, and anywhere else.
const MANY: usize = 1 << 13;
const FEW: usize = 4;

/// Runs a fact on each device that has its kernel.
fn on_hopper(trial: &mut Trial, what: HopperFact, run: impl Fn(&Cuda, Half) -> Result<()>) -> Result<()> {
    trial.each(&what, |kernels, half| if has_facts(kernels) { run(kernels, half) } else { Ok(()) })
}

/// Random words.
fn words(bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8) as u64).flat_map(|i| splitmix64(7, i).to_le_bytes()).take(bytes).collect()
}

fn boxes_have_their_swizzle_and_zeros_outside(trial: &mut Trial) -> Result<()> {
    for before in [0, 3, 8] {
        let what = HopperFact::Box { before };
        on_hopper(trial, what, |kernels, half| {
            let [bytes, ..] = what.bytes(5);
            let x = words(bytes);
            ensure_emulated(kernels, half, |kernels| hopper_fact(kernels, what, 5, [&x, &[], &[]]))
        })?;
    }
    Ok(())
}

/// Compares products of random operands with the emulator's.
fn products(trial: &mut Trial, what: HopperFact, blocks: usize) -> Result<()> {
    on_hopper(trial, what, |kernels, half| {
        let [a, b, c, _] = what.bytes(blocks);
        // Each block of operands takes its turn to be even, spread, cancelling, or any bits.
        let share = |bytes: usize| bytes / blocks;
        let of_half = |operands: Operands, key| operands.half(key, half);
        let mut first = operands(0..blocks, share(a), 1, of_half);
        first.resize(a, 0x3C);
        let second = operands(0..blocks, share(b), 2, of_half);
        let third = operands(0..blocks, share(c), 3, Operands::single);
        ensure_emulated(kernels, half, |kernels| hopper_fact(kernels, what, blocks, [&first, &second, &third]))
    })
}

fn products_of_a_warpgroup_have_the_emulators_bits(trial: &mut Trial) -> Result<()> {
    let blocks = if trial.is_thorough() { MANY } else { FEW };
    products(trial, HopperFact::Group { shift: 0 }, blocks)
}

fn an_operand_may_begin_at_any_row(trial: &mut Trial) -> Result<()> {
    (1..=8).try_for_each(|shift| products(trial, HopperFact::Group { shift }, FEW))
}

fn a_product_reads_part_of_a_panel(trial: &mut Trial) -> Result<()> {
    products(trial, HopperFact::GroupN72, FEW)
}

fn a_product_takes_its_left_factor_from_registers(trial: &mut Trial) -> Result<()> {
    products(trial, HopperFact::GroupLeft, FEW)
}

fn blocks_of_a_cluster_load_for_each_other(trial: &mut Trial) -> Result<()> {
    let rounds = if trial.is_thorough() { 64 } else { 7 };
    let what = HopperFact::Multicast { rounds };
    on_hopper(trial, what, |kernels, half| {
        let [bytes, ..] = what.bytes(4);
        let x = words(bytes);
        ensure_emulated(kernels, half, |kernels| hopper_fact(kernels, what, 4, [&x, &[], &[]]))
    })
}

fn warpgroups_exchange_registers(trial: &mut Trial) -> Result<()> {
    [3, 4].into_iter().try_for_each(|groups| {
        let what = HopperFact::Registers { groups };
        on_hopper(trial, what, |kernels, half| {
            ensure_emulated(kernels, half, |kernels| hopper_fact(kernels, what, 3, [&[], &[], &[]]))
        })
    })
}

checks! {
    boxes_have_their_swizzle_and_zeros_outside,
    products_of_a_warpgroup_have_the_emulators_bits,
    an_operand_may_begin_at_any_row,
    a_product_reads_part_of_a_panel,
    a_product_takes_its_left_factor_from_registers,
    blocks_of_a_cluster_load_for_each_other,
    warpgroups_exchange_registers,
}
