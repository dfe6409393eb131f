//! `kernels/finite.cu`: it must find NaN and infinities in every place of a block, in both precisions, and must not
//! report a finite number.

use super::Work;
use super::trial::{Body, Trial};
use super::values::{half_values, values};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::finite::{BLOCK, Finite, FiniteArgs};
use half::{bf16, f16};

/// Values of which NaN or infinities replace some.
#[derive(Clone, Debug)]
struct Case {
    op: Finite,
    /// Elements of the buffer.
    len: usize,
    single: bool,
    strange: Vec<(usize, f32)>,
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let mut x = if self.single { values(1, self.len) } else { half_values(1, self.len, half) };
        for &(place, value) in &self.strange {
            x[place] = value;
        }
        let x = if self.single { backend.upload_f32(&x) } else { backend.upload(&x) }?;
        counts(backend, &self.op, &x)
    }
}

/// The counts, which f32 holds exactly.
fn counts<B: Backend>(backend: &B, op: &Finite, x: &B::Buffer) -> Result<Vec<f32>> {
    let mut counts = backend.finite(op, FiniteArgs { x })?;
    let words = counts.bytes()?.chunks_exact(4).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
    Ok(words.map(|bytes| u32::from_le_bytes(bytes) as f32).collect())
}

const STRANGE: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn the_first_value_that_is_not_finite_is_found(trial: &mut Trial) -> Result<()> {
    // By vectors, and ragged by the length or by the offset.
    for (offset, len) in [(0, 3 * BLOCK), (8, 5000), (0, 8), (0, 5001), (3, 2 * BLOCK), (16, 1), (0, 0)] {
        for single in [true, false] {
            let op = Finite { offset, len };
            // The kernel must not look at elements outside of its range.
            let outside = [(offset + len, f32::NAN)];
            let inside = [0, 1, 7, 8, 255, 1023, 1024, 2047, 2048, len.saturating_sub(1)];
            let inside = inside.iter().filter(|&&at| at < len).zip(STRANGE.iter().cycle());
            for strange in inside.map(|(at, &value)| vec![(offset + at, value)]).chain([Vec::new()]) {
                let strange = [strange, outside.to_vec()].concat();
                trial.exactly_the_cpu(&Case { op, len: offset + len + 1, single, strange })?;
            }
        }
    }
    Ok(())
}

fn the_first_of_several_is_found(trial: &mut Trial) -> Result<()> {
    for (len, single) in [(2 * BLOCK, true), (2 * BLOCK, false), (2 * BLOCK - 3, true), (2 * BLOCK - 3, false)] {
        let strange = [(1500, f32::NAN), (700, f32::INFINITY), (701, f32::NAN), (2900, f32::NEG_INFINITY)].to_vec();
        trial.exactly_the_cpu(&Case { op: Finite { offset: 0, len }, len, single, strange })?;
    }
    Ok(())
}

/// Values of every kind of a type, each in its own block.
#[derive(Clone, Debug)]
struct Alone {
    stride: usize,
}

impl Body for Alone {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let value = |bits| match half {
            Half::F16 => f16::from_bits(bits).to_f32(),
            Half::Bf16 => bf16::from_bits(bits).to_f32(),
        };
        let bits: Vec<u16> =
            (0..=u16::MAX).step_by(self.stride).chain([0x7BFF, 0x7C00, 0x7C01, 0x7F7F, 0x7F80]).collect();
        let mut x = vec![0.5; bits.len() * BLOCK];
        bits.iter().zip(x.chunks_exact_mut(BLOCK)).for_each(|(&bits, block)| block[77] = value(bits));
        counts(backend, &Finite { offset: 0, len: x.len() }, &backend.upload(&x)?)
    }
}

fn no_finite_number_is_reported(trial: &mut Trial) -> Result<()> {
    trial.exactly_the_cpu(&Alone { stride: 331 })
}

/// The prediction of a step, and the frames of a window.
pub(super) fn work() -> Vec<Work> {
    let case = |len, single| Case { op: Finite { offset: 0, len }, len, single, strange: Vec::new() };
    vec![
        Work::of("4x17x64x64 of f32", case(4 * 17 * 64 * 64, true)),
        Work::of("65x256x256 pixels", case(65 * 256 * 256 * 3, false)),
    ]
}

checks! {
    the_first_value_that_is_not_finite_is_found,
    the_first_of_several_is_found,
    no_finite_number_is_reported,
}
