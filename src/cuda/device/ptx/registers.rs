//! The registers of a warp: a row of 32 lanes for each, so that an instruction is a loop over the lanes.

use super::program::{Instruction, Slot};

/// Lanes of a warp.
pub const LANES: usize = 32;
/// All lanes of a warp.
pub const ALL: u32 = u32::MAX;

/// The values of a 16- or 32-bit register. The upper half of a 16-bit register is zero.
pub type Row = [u32; LANES];
/// The values of a 64-bit register.
pub type WideRow = [u64; LANES];

/// The registers of a warp.
#[derive(Debug, Default)]
pub struct Registers {
    pub words: Vec<Row>,
    pub doubles: Vec<WideRow>,
    /// One bit for each lane.
    pub predicates: Vec<u32>,
    /// For each register of all three kinds, the lanes whose value depends on nothing but what was written. A compiler
    /// may compute with other values, as long as it does not use the results.
    pub defined: Vec<u32>,
    /// The lanes in which the last instruction divided by zero.
    pub undefined: Option<u32>,
}

/// Writes the results of the lanes in `mask`.
#[inline(always)]
fn write<T: Copy>(out: &mut [T; LANES], mask: u32, value: impl Fn(usize) -> T) {
    if mask == ALL {
        for (lane, out) in out.iter_mut().enumerate() {
            *out = value(lane);
        }
    } else {
        for (lane, out) in out.iter_mut().enumerate() {
            if mask >> lane & 1 != 0 {
                *out = value(lane);
            }
        }
    }
}

/// The lanes for which `holds`.
#[inline(always)]
fn lanes_where(holds: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(holds(lane)) << lane)
}

#[inline(always)]
pub fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// The bits of a result; every NaN is the canonical one.
#[inline(always)]
pub fn bits(value: f32) -> u32 {
    if value.is_nan() { 0x7FFF_FFFF } else { value.to_bits() }
}

/// Products and sums, rounded once, of three rows. Without the host's instructions for them, each would be a call.
struct Fused([Row; 3]);

impl pulp::WithSimd for Fused {
    type Output = Row;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Row {
        let [a, b, c] = self.0;
        let mut out = [0; LANES];
        for lane in 0..LANES {
            out[lane] = bits(float(a[lane]).mul_add(float(b[lane]), float(c[lane])));
        }
        out
    }
}

impl Registers {
    /// Registers to which nothing was written.
    pub fn new(words: usize, doubles: usize, predicates: usize) -> Self {
        Self {
            words: vec![[0; LANES]; words],
            doubles: vec![[0; LANES]; doubles],
            predicates: vec![0; predicates],
            defined: vec![0; words + doubles + predicates],
            undefined: None,
        }
    }

    #[inline(always)]
    fn word(&self, slot: Slot) -> Row {
        self.words[slot.row as usize]
    }

    #[inline(always)]
    fn double(&self, slot: Slot) -> WideRow {
        self.doubles[slot.row as usize]
    }

    /// A predicate's lanes.
    #[inline(always)]
    pub fn predicate(&self, slot: Slot) -> u32 {
        self.predicates[slot.row as usize]
    }

    #[inline(always)]
    fn set_words(&mut self, slot: Slot, mask: u32, value: impl Fn(usize) -> u32) {
        write(&mut self.words[slot.row as usize], mask, value);
    }

    #[inline(always)]
    fn set_doubles(&mut self, slot: Slot, mask: u32, value: impl Fn(usize) -> u64) {
        write(&mut self.doubles[slot.row as usize], mask, value);
    }

    /// Sets a predicate in the lanes of `mask`.
    #[inline(always)]
    pub fn set_predicate(&mut self, slot: Slot, mask: u32, value: u32) {
        let row = &mut self.predicates[slot.row as usize];
        *row = *row & !mask | value & mask;
    }

    #[inline(always)]
    pub fn one(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32) -> u32) {
        let a = self.word(i.s[0]);
        self.set_words(i.d[0], mask, |lane| f(a[lane]));
    }

    #[inline(always)]
    pub fn two(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32) -> u32) {
        let (a, b) = (self.word(i.s[0]), self.word(i.s[1]));
        self.set_words(i.d[0], mask, |lane| f(a[lane], b[lane]));
    }

    #[inline(always)]
    pub fn three(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32, u32) -> u32) {
        let [a, b, c] = [i.s[0], i.s[1], i.s[2]].map(|slot| self.word(slot));
        self.set_words(i.d[0], mask, |lane| f(a[lane], b[lane], c[lane]));
    }

    #[inline(always)]
    pub fn four(&mut self, i: &Instruction, mask: u32, f: impl Fn([u32; 4]) -> u32) {
        let s = [i.s[0], i.s[1], i.s[2], i.s[3]].map(|slot| self.word(slot));
        self.set_words(i.d[0], mask, |lane| f(s.map(|row| row[lane])));
    }

    #[inline(always)]
    pub fn wide_one(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64) -> u64) {
        let a = self.double(i.s[0]);
        self.set_doubles(i.d[0], mask, |lane| f(a[lane]));
    }

    #[inline(always)]
    pub fn wide_two(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64, u64) -> u64) {
        let (a, b) = (self.double(i.s[0]), self.double(i.s[1]));
        self.set_doubles(i.d[0], mask, |lane| f(a[lane], b[lane]));
    }

    #[inline(always)]
    pub fn wide_three(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64, u64, u64) -> u64) {
        let [a, b, c] = [i.s[0], i.s[1], i.s[2]].map(|slot| self.double(slot));
        self.set_doubles(i.d[0], mask, |lane| f(a[lane], b[lane], c[lane]));
    }

    /// A shift of 64 bits by a 32-bit distance.
    #[inline(always)]
    pub fn wide_shift(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64, u32) -> u64) {
        let (a, b) = (self.double(i.s[0]), self.word(i.s[1]));
        self.set_doubles(i.d[0], mask, |lane| f(a[lane], b[lane]));
    }

    #[inline(always)]
    pub fn widen(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32) -> u64) {
        let a = self.word(i.s[0]);
        self.set_doubles(i.d[0], mask, |lane| f(a[lane]));
    }

    #[inline(always)]
    pub fn widen_two(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32) -> u64) {
        let (a, b) = (self.word(i.s[0]), self.word(i.s[1]));
        self.set_doubles(i.d[0], mask, |lane| f(a[lane], b[lane]));
    }

    #[inline(always)]
    pub fn widen_add(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32, u64) -> u64) {
        let (a, b, c) = (self.word(i.s[0]), self.word(i.s[1]), self.double(i.s[2]));
        self.set_doubles(i.d[0], mask, |lane| f(a[lane], b[lane], c[lane]));
    }

    #[inline(always)]
    pub fn narrow(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64) -> u32) {
        let a = self.double(i.s[0]);
        self.set_words(i.d[0], mask, |lane| f(a[lane]));
    }

    #[inline(always)]
    pub fn compare(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32) -> bool) {
        let (a, b) = (self.word(i.s[0]), self.word(i.s[1]));
        self.set_predicate(i.d[0], mask, lanes_where(|lane| f(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn compare_wide(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64, u64) -> bool) {
        let (a, b) = (self.double(i.s[0]), self.double(i.s[1]));
        self.set_predicate(i.d[0], mask, lanes_where(|lane| f(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn logic(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32) -> u32) {
        let value = f(self.predicate(i.s[0]), self.predicate(i.s[1]));
        self.set_predicate(i.d[0], mask, value);
    }

    /// A quotient or remainder. PTX does not define it for a divisor of zero.
    #[inline(always)]
    pub fn divide(&mut self, i: &Instruction, mask: u32, f: impl Fn(u32, u32) -> u32) {
        let b = self.word(i.s[1]);
        self.undefined = Some(lanes_where(|lane| b[lane] == 0)).filter(|lanes| lanes & mask != 0);
        self.two(i, mask, |a, b| if b == 0 { 0 } else { f(a, b) });
    }

    /// As [`Self::divide`], for 64 bits.
    #[inline(always)]
    pub fn divide_wide(&mut self, i: &Instruction, mask: u32, f: impl Fn(u64, u64) -> u64) {
        let b = self.double(i.s[1]);
        self.undefined = Some(lanes_where(|lane| b[lane] == 0)).filter(|lanes| lanes & mask != 0);
        self.wide_two(i, mask, |a, b| if b == 0 { 0 } else { f(a, b) });
    }

    /// `selp`: the first source where the predicate holds, else the second.
    pub fn select(&mut self, i: &Instruction, mask: u32) {
        let (a, b, chosen) = (self.word(i.s[0]), self.word(i.s[1]), self.predicate(i.s[2]));
        self.set_words(i.d[0], mask, |lane| if chosen >> lane & 1 != 0 { a[lane] } else { b[lane] });
    }

    /// As [`Self::select`], for 64 bits.
    pub fn select_wide(&mut self, i: &Instruction, mask: u32) {
        let (a, b, chosen) = (self.double(i.s[0]), self.double(i.s[1]), self.predicate(i.s[2]));
        self.set_doubles(i.d[0], mask, |lane| if chosen >> lane & 1 != 0 { a[lane] } else { b[lane] });
    }

    /// Two 16-bit registers as the halves of a 32-bit one, the lower first.
    pub fn pack(&mut self, i: &Instruction, mask: u32) {
        self.two(i, mask, |low, high| low & 0xFFFF | high << 16);
    }

    /// The halves of a 32-bit register, the lower first.
    pub fn unpack(&mut self, i: &Instruction, mask: u32) {
        let a = self.word(i.s[0]);
        self.set_words(i.d[0], mask, |lane| a[lane] & 0xFFFF);
        self.set_words(i.d[1], mask, |lane| a[lane] >> 16);
    }

    /// Two 32-bit registers as the halves of a 64-bit one, the lower first.
    pub fn pack_wide(&mut self, i: &Instruction, mask: u32) {
        self.widen_two(i, mask, |low, high| u64::from(low) | u64::from(high) << 32);
    }

    /// The halves of a 64-bit register, the lower first.
    pub fn unpack_wide(&mut self, i: &Instruction, mask: u32) {
        let a = self.double(i.s[0]);
        self.set_words(i.d[0], mask, |lane| a[lane] as u32);
        self.set_words(i.d[1], mask, |lane| (a[lane] >> 32) as u32);
    }

    /// The product of f32 and a sum, rounded once.
    pub fn fused(&mut self, i: &Instruction, mask: u32) {
        let [a, b, c] = [i.s[0], i.s[1], i.s[2]].map(|slot| self.word(slot));
        let result = pulp::Arch::new().dispatch(Fused([a, b, c]));
        self.set_words(i.d[0], mask, |lane| result[lane]);
    }
}
