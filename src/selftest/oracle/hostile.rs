//! Values that are made to hurt, and sizes around the edges of tiles.

use super::super::values::{rounded, values};
use super::bounded::Precision;
use crate::cuda::Half;

/// Draws the parts of a case; the case's number alone decides what is drawn.
#[derive(Clone, Debug)]
pub(in crate::selftest) struct Draw {
    number: u64,
    state: u64,
}

impl Draw {
    /// The parts of case `number`.
    pub fn of(number: u64) -> Self {
        Self { number, state: number }
    }

    /// The next pseudo-random number: SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }

    /// The number's turn: neighbouring cases take each in order, so few cases take all.
    pub fn turn<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.number % of.len() as u64) as usize]
    }

    /// Whether heads come up.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A size up to `most` just below, at or just above a multiple of what kernels take at once.
    pub fn size(&mut self, most: usize) -> usize {
        const SIZES: [usize; 17] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 72, 127, 129, 200];
        let count = SIZES.iter().filter(|&&size| size <= most).count();
        self.pick(&SIZES[..count])
    }
}

/// What makes values hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selftest) enum Kind {
    /// Nothing: they lie in [−1, 1).
    Plain,
    /// The second half of a row is the first with the other sign. Partial sums are large, the sum is nothing.
    Cancelling,
    /// The last of a row is thousands of times larger than the others.
    Tail,
    /// All of a row are equal.
    Equal,
    /// Their mean is hundreds of times larger than their spread.
    LargeMean,
    /// Subnormal numbers of the type.
    Denormal,
    /// A row's first is the largest number of the type, its second up to two steps of that; the others are zero.
    Edge,
    /// Zeros of both signs, and few others.
    Zeros,
    /// Large, but sums stay in f32.
    Large,
    /// NaN, infinities, zeros, and the extreme numbers of the type.
    Special,
}

/// Kinds that sums of products take.
pub(in crate::selftest) const OF_SUMS: [Kind; 7] =
    [Kind::Cancelling, Kind::Edge, Kind::Tail, Kind::Denormal, Kind::Large, Kind::Zeros, Kind::Plain];

/// Kinds whose bits a move must keep.
pub(in crate::selftest) const OF_MOVES: [Kind; 3] = [Kind::Special, Kind::Zeros, Kind::Denormal];

/// `len` values of a kind in rows of `row`, which `half` holds exactly.
pub(in crate::selftest) fn fill(kind: Kind, seed: u64, len: usize, row: usize, half: Half) -> Vec<f32> {
    let plain = values(seed, len);
    let value = |i: usize| value(kind, &plain, i, row.max(1), half);
    rounded(&(0..len).map(value).collect::<Vec<_>>(), half)
}

fn value(kind: Kind, plain: &[f32], i: usize, row: usize, half: Half) -> f32 {
    let (precision, v, place) = (Precision::from(half), plain[i], i % row);
    let (largest, tiny) = (precision.largest(), precision.step(0.0) as f32);
    match kind {
        Kind::Plain => v,
        Kind::Cancelling if place == row / 2 * 2 => v / 64.0,
        Kind::Cancelling if place < row / 2 => 32.0 + 32.0 * v.abs(),
        Kind::Cancelling => -32.0 - 32.0 * plain[i - row / 2].abs(),
        Kind::Tail if place + 1 == row => 16.0 + 8.0 * v,
        Kind::Tail => v / 256.0,
        Kind::Equal => 4.0 * plain[i - place],
        Kind::LargeMean => 1024.0 + (4.0 * v).floor() * precision.step(1024.0) as f32,
        Kind::Denormal => (v * if half == Half::F16 { 1023.0 } else { 127.0 }).trunc() * tiny,
        Kind::Edge if place == 0 => largest.copysign(f64::from(v)) as f32,
        Kind::Edge if place == 1 => {
            // A whole step beyond the largest bf16 is no number of f32.
            let count = if half == Half::F16 { 7.0 } else { 5.0 };
            let steps = [0.0, 0.25, 0.484_375, 0.5, 0.515_625, 1.0, 2.0][(v.abs() * count) as usize];
            (steps * precision.step(largest)).copysign(f64::from(plain[i - 1])) as f32
        }
        Kind::Edge => 0.0,
        Kind::Zeros => [0.0, -0.0, 0.0, -0.0, v][(v.abs() * 1000.0) as usize % 5],
        Kind::Large => 128.0 * v,
        Kind::Special => {
            let largest = largest as f32;
            let some = [f32::NAN, f32::INFINITY, -f32::INFINITY, 0.0, -0.0, tiny, -tiny, largest, -largest, v];
            some[(v.abs() * 1000.0) as usize % some.len()]
        }
    }
}

/// Weights `[len / row, row]` for rows of a kind: those that keep what hurts in the product.
pub(in crate::selftest) fn weights(kind: Kind, seed: u64, len: usize, row: usize, half: Half) -> Vec<f32> {
    let plain = values(seed, len);
    let value = |i: usize| {
        let place = i % row;
        match kind {
            // Equal weights for what cancels.
            Kind::Cancelling if place >= row / 2 && place < row / 2 * 2 => plain[i - row / 2],
            Kind::Edge if place < 2 => 1.0,
            // With inputs of up to 128, sums lie on both sides of the largest f16.
            Kind::Large => plain[i] * 1024.0 / (row as f32).sqrt(),
            _ => plain[i],
        }
    };
    rounded(&(0..len).map(value).collect::<Vec<_>>(), half)
}
