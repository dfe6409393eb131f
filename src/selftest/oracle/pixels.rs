//! `from_bytes` and `to_bytes`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision, Stored};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};

#[derive(Clone, Copy, Debug)]
pub(super) enum Case {
    /// Bytes that grow by `step` from one to the next.
    From {
        len: usize,
        step: u8,
    },
    To {
        op: ToBytes,
        kind: Kind,
        seed: u64,
    },
}

const KINDS: [Kind; 6] = [Kind::Special, Kind::Plain, Kind::Zeros, Kind::Denormal, Kind::Large, Kind::Edge];

fn bytes(len: usize, step: u8) -> Vec<u8> {
    (0..len).map(|i| step.wrapping_mul(i as u8)).collect()
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        match *self {
            Self::From { len, step } => {
                let mut out = backend.alloc(len)?;
                backend.from_bytes(&FromBytes { len }, FromBytesArgs { bytes: &bytes(len, step), out: &mut out })?;
                host(backend, &out)
            }
            Self::To { op, kind, seed } => {
                let x = backend.upload(&fill(kind, seed, op.offset + op.len, 8, half))?;
                let mut bytes = backend.to_bytes(&op, ToBytesArgs { x: &x })?;
                Ok(bytes.bytes()?.iter().map(|&byte| f32::from(byte)).collect())
            }
        }
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        if draw.coin() {
            return Self::From { len: draw.pick(&[256, 1, 8, 2049]), step: draw.pick(&[1, 3, 255]) };
        }
        let op = ToBytes { offset: draw.pick(&[0, 8, 3]), len: draw.pick(&[1, 8, 257, 2048]) };
        Self::To { op, kind: draw.turn(&KINDS), seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        match *self {
            // A quotient, or a product with the reciprocal, which is rounded, too; then the difference.
            Self::From { len, step } => {
                let pixel = |byte: u8| {
                    let level = f64::from(byte) / 127.5;
                    Bounded::rounded(level, 0.0, 2.0).minus(Bounded::exactly(1.0))
                };
                Exact::numbers(bytes(len, step).into_iter().map(pixel).collect(), precision)
            }
            Self::To { op, kind, seed } => {
                let byte = |&x: &f32| {
                    if x.is_nan() {
                        return Bounded::exactly(0.0);
                    }
                    let half = Bounded::exactly(0.5);
                    let level = Bounded::exactly(f64::from(x).clamp(-2.0, 2.0)).times(half).plus(half);
                    level.times(Bounded::exactly(255.0))
                };
                let x = fill(kind, seed, op.offset + op.len, 8, half);
                Exact { values: x[op.offset..].iter().map(byte).collect(), stored: Stored::Byte }
            }
        }
    }
}
