//! Instructions that the lanes of a warp execute together.

use super::clocks::{Clocks, WHOLE, Who};
use super::memory::{Accessing, Failed, Memory};
use super::program::{Gather, Instruction, Running, Shuffle, Slot, Space, Vote};
use super::registers::{ALL, LANES, Registers};
use super::shadow::Use;

// SAFETY: the type is that of kernels/emulator/warp.cpp.
unsafe extern "C" {
    /// The emulator's matrix product.
    fn osp_emulator_mma(
        variant: u32,
        a: *const [u32; 4],
        b: *const [u32; 2],
        c: *const [u32; 4],
        d: *mut [u32; 4],
    ) -> bool;
}

/// The lanes that must execute a gathered instruction together.
///
/// # Errors
/// A lane of `mask`, and what is wrong with its mask.
pub fn needed(gather: Gather, i: &Instruction, registers: &Registers, mask: u32) -> Result<u32, Failed> {
    let slot = match gather {
        Gather::SyncWarp | Gather::Shuffle(_) | Gather::Vote(_) | Gather::Elect { .. } => i.read()[i.read().len() - 1],
        _ => return Ok(ALL),
    };
    let needed =
        same(registers, slot, mask).ok_or_else(|| (first(mask), "the lanes name different masks".to_owned()))?;
    match mask & !needed {
        0 => Ok(needed),
        outside => Err((first(outside), "the lane is not in its own mask".to_owned())),
    }
}

/// The lowest lane of a mask.
pub fn first(mask: u32) -> usize {
    mask.trailing_zeros() as usize
}

fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 != 0)
}

/// The value of a register, if it is the same in all lanes of `mask`.
pub fn same(registers: &Registers, slot: Slot, mask: u32) -> Option<u32> {
    let row = &registers.words[slot.row as usize];
    let value = row[first(mask)];
    lanes(mask).all(|lane| row[lane] == value).then_some(value)
}

/// Executes an instruction for the lanes of `mask`, except for barriers and instructions of a warpgroup.
pub fn execute(
    gather: Gather,
    running: Running<'_>,
    registers: &mut Registers,
    memory: &mut Memory<'_>,
    clocks: &mut Clocks,
) -> Result<(), Failed> {
    let Running { i, mask, warp } = running;
    match gather {
        Gather::Barrier { .. } | Gather::ClusterArrive { .. } | Gather::ClusterWait { .. } | Gather::Warpgroup(_) => {}
        Gather::Elect { named } => {
            // The ISA does not say which lane.
            let elected = first(mask);
            registers.set_predicate(i.d[0], mask, 1 << elected);
            if named {
                lanes(mask).for_each(|lane| registers.words[i.d[1].row as usize][lane] = elected as u32);
            }
        }
        Gather::SyncWarp => clocks.meet_lanes(warp, mask),
        Gather::Shuffle(how) => shuffle(how, i, registers, mask)?,
        Gather::Vote(vote) => {
            let votes = registers.predicate(i.s[0]) & mask;
            match vote {
                Vote::All => registers.set_predicate(i.d[0], mask, if votes == mask { ALL } else { 0 }),
                Vote::Any => registers.set_predicate(i.d[0], mask, if votes == 0 { 0 } else { ALL }),
                Vote::Ballot => lanes(mask).for_each(|lane| registers.words[i.d[0].row as usize][lane] = votes),
            }
        }
        Gather::Matrices { count, transposed } => {
            matrices((count.into(), transposed), running, registers, memory, clocks)?;
        }
        Gather::StoreMatrices { count, transposed } => {
            store_matrices((count.into(), transposed), running, registers, memory, clocks)?;
        }
        Gather::Product { variant, deep } => product(variant, deep, i, registers),
    }
    Ok(())
}

/// The lane that a lane reads, and whether the ISA calls it in range. `clamp`: bits 0 to 4 bound the lane, bits 8 to 12
/// divide the warp into segments.
fn partner(how: Shuffle, lane: u32, distance: u32, clamp: u32) -> (u32, bool) {
    let (distance, bound, segment) = (distance & 31, clamp & 31, clamp >> 8 & 31);
    let (least, most) = (lane & segment, lane & segment | bound & !segment);
    let (partner, in_range) = match how {
        Shuffle::Up => (lane.wrapping_sub(distance), lane as i32 - distance as i32 >= most as i32),
        Shuffle::Down => (lane + distance, lane + distance <= most),
        Shuffle::Butterfly => (lane ^ distance, lane ^ distance <= most),
        Shuffle::Index => (least | distance & !segment, least | distance & !segment <= most),
    };
    if in_range { (partner, true) } else { (lane, false) }
}

fn shuffle(how: Shuffle, i: &Instruction, registers: &mut Registers, mask: u32) -> Result<(), Failed> {
    let [values, distances, clamps] = [i.s[0], i.s[1], i.s[2]].map(|slot| registers.words[slot.row as usize]);
    let (mut results, mut found) = ([0; LANES], 0);
    for lane in lanes(mask) {
        let (from, in_range) = partner(how, lane as u32, distances[lane], clamps[lane]);
        if mask >> from & 1 == 0 {
            return Err((lane, format!("it reads lane {from}, which is not in the mask")));
        }
        results[lane] = values[from as usize];
        found |= u32::from(in_range) << lane;
    }
    lanes(mask).for_each(|lane| registers.words[i.d[0].row as usize][lane] = results[lane]);
    if i.written().len() == 2 {
        registers.set_predicate(i.d[1], mask, found);
    }
    Ok(())
}

/// `ldmatrix`: row r of matrix m is at the address of lane 8m + r. The whole warp reads it.
fn matrices(
    (count, transposed): (usize, bool),
    Running { i, warp, .. }: Running<'_>,
    registers: &mut Registers,
    memory: &mut Memory<'_>,
    clocks: &Clocks,
) -> Result<(), Failed> {
    let addresses = registers.words[i.s[0].row as usize];
    for matrix in 0..count {
        let mut rows = [[0u16; 8]; 8];
        for (r, row) in rows.iter_mut().enumerate() {
            let lane = 8 * matrix + r;
            let accessing = Accessing { what: "ldmatrix", of: Use::Read, who: Who { warp, lane: WHOLE }, line: i.line };
            let place = memory.check(Space::Shared, addresses[lane].into(), 16, accessing, clocks);
            let bytes = memory.read(place.map_err(|problem| (lane, problem))?, 16);
            row.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(e, b)| *e = u16::from_le_bytes([b[0], b[1]]));
        }
        let out = &mut registers.words[i.d[matrix].row as usize];
        for (lane, out) in out.iter_mut().enumerate() {
            let (h, t) = (lane / 4, lane % 4);
            let [low, high] = [2 * t, 2 * t + 1].map(|e| if transposed { rows[e][h] } else { rows[h][e] });
            *out = u32::from(low) | u32::from(high) << 16;
        }
    }
    Ok(())
}

/// `stmatrix`, the inverse of `ldmatrix`. Each row is a store of the lane that has its address.
fn store_matrices(
    (count, transposed): (usize, bool),
    Running { i, warp, .. }: Running<'_>,
    registers: &Registers,
    memory: &mut Memory<'_>,
    clocks: &Clocks,
) -> Result<(), Failed> {
    let addresses = registers.words[i.s[0].row as usize];
    for matrix in 0..count {
        let values = &registers.words[i.s[1 + matrix].row as usize];
        for r in 0..8 {
            let lane = 8 * matrix + r;
            let mut bytes = [0; 16];
            for (e, bytes) in bytes.chunks_exact_mut(2).enumerate() {
                let (h, t) = if transposed { (e, r) } else { (r, e) };
                bytes.copy_from_slice(&((values[4 * h + t / 2] >> (16 * (t % 2))) as u16).to_le_bytes());
            }
            let accessing = Accessing { what: "stmatrix", of: Use::Write, who: Who { warp, lane }, line: i.line };
            let place = memory.check(Space::Shared, addresses[lane].into(), 16, accessing, clocks);
            memory.write(place.map_err(|problem| (lane, problem))?, &bytes);
        }
    }
    Ok(())
}

/// `mma` of a 16×8 tile, by the emulator's model of the tensor cores.
fn product(variant: u32, deep: bool, i: &Instruction, registers: &mut Registers) {
    let (of_a, of_b) = if deep { (4, 2) } else { (2, 1) };
    let (mut a, mut b, mut c, mut d) = ([[0; 4]; LANES], [[0; 2]; LANES], [[0; 4]; LANES], [[0; 4]; LANES]);
    for (e, slot) in i.s[..of_a].iter().enumerate() {
        let row = &registers.words[slot.row as usize];
        a.iter_mut().zip(row).for_each(|(a, &value)| a[e] = value);
    }
    for (e, slot) in i.s[of_a..of_a + of_b].iter().enumerate() {
        let row = &registers.words[slot.row as usize];
        b.iter_mut().zip(row).for_each(|(b, &value)| b[e] = value);
    }
    for (e, slot) in i.s[of_a + of_b..of_a + of_b + 4].iter().enumerate() {
        let row = &registers.words[slot.row as usize];
        c.iter_mut().zip(row).for_each(|(c, &value)| c[e] = value);
    }
    // SAFETY: each array has an element for each of the 32 lanes, which the function reads; it writes only `d`, for
    // each lane. An f32 and a word have the same layout.
    let known = unsafe { osp_emulator_mma(variant, a.as_ptr(), b.as_ptr(), c.as_ptr(), d.as_mut_ptr()) };
    assert!(known, "the decoder uses the emulator's numbers of variants");
    for (e, slot) in i.written().iter().enumerate() {
        let row = &mut registers.words[slot.row as usize];
        row.iter_mut().zip(&d).for_each(|(value, d)| *value = d[e]);
    }
}
