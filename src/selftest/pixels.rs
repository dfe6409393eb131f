//! `kernels/pixels.cu`: pixels of all 256 bytes, and bytes of all 16-bit values, in every place of a vector and by the
//! ragged kernels.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};
use half::{bf16, f16};

#[derive(Clone, Copy, Debug)]
struct Pixels {
    /// The first byte; each is one more than the one before.
    first: u8,
    len: usize,
}

impl Body for Pixels {
    fn run<B: Backend>(&self, backend: &B, _: Half) -> Result<Vec<f32>> {
        let bytes: Vec<u8> = (0..self.len).map(|i| self.first.wrapping_add(i as u8)).collect();
        let mut out = backend.alloc(self.len)?;
        backend.from_bytes(&FromBytes { len: self.len }, FromBytesArgs { bytes: &bytes, out: &mut out })?;
        host(backend, &out)
    }
}

fn from_bytes_gives_the_pixels_of_the_cpu(trial: &mut Trial) -> Result<()> {
    // Every byte in each of a vector's places.
    for first in 0..8 {
        trial.exactly_the_cpu_rounded(&Pixels { first, len: 256 })?;
    }
    // For both kernels: within a block, across blocks, one element, and none.
    for len in [8, 24, 6152, 257, 2047, 3, 1, 0] {
        trial.exactly_the_cpu_rounded(&Pixels { first: 100, len })?;
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Bytes {
    ops: Vec<ToBytes>,
    x: fn(Half) -> Vec<f32>,
}

impl Body for Bytes {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let x = backend.upload(&(self.x)(half))?;
        let mut bytes = Vec::new();
        for op in &self.ops {
            bytes.extend_from_slice(backend.to_bytes(op, ToBytesArgs { x: &x })?.bytes()?);
        }
        Ok(bytes.into_iter().map(f32::from).collect())
    }
}

/// Every value of a type, with infinities and all kinds of NaN.
fn all_values(half: Half) -> Vec<f32> {
    let value = |bits| match half {
        Half::F16 => f16::from_bits(bits).to_f32(),
        Half::Bf16 => bf16::from_bits(bits).to_f32(),
    };
    (0..=u16::MAX).map(value).collect()
}

fn to_bytes_gives_the_bytes_of_the_cpu(trial: &mut Trial) -> Result<()> {
    let whole = Bytes { ops: vec![ToBytes { offset: 0, len: 1 << 16 }], x: all_values };
    trial.exactly_the_cpu(&whole)?;
    // For the kernel for vectors and, because of the length or of the offset, for the ragged one.
    let parts = [(0, 2056), (8, 16), (16, 3000), (3, 8), (8, 7), (24, 0), (16_384, 40)];
    let ops = parts.map(|(offset, len)| ToBytes { offset, len }).to_vec();
    let parts = Bytes { ops, x: |half| half_values(1, 20_000, half) };
    trial.exactly_the_cpu(&parts)
}

/// A window of a clip from the host, and a window to the host.
pub(super) fn work() -> Vec<Work> {
    const PIXELS: usize = 65 * 256 * 256 * 3;
    let bytes = Bytes { ops: vec![ToBytes { offset: 0, len: PIXELS }], x: |half| half_values(1, PIXELS, half) };
    vec![
        Work::of("65x256x256 pixels from bytes", Pixels { first: 0, len: PIXELS }),
        Work::of("65x256x256 pixels to bytes", bytes),
    ]
}

checks! {
    from_bytes_gives_the_pixels_of_the_cpu,
    to_bytes_gives_the_bytes_of_the_cpu,
}
