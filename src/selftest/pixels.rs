//! `kernels/pixels.cu`: pixels of every byte there is, in every place of a vector and ragged.

use super::Work;
use super::trial::{Body, Trial, host};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::pixels::{FromBytes, FromBytesArgs};

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
    // By vectors and ragged: within a block, across blocks, one element, none.
    for len in [8, 24, 6152, 257, 2047, 3, 1, 0] {
        trial.exactly_the_cpu_rounded(&Pixels { first: 100, len })?;
    }
    Ok(())
}

/// A window of a clip that comes from the host.
pub(super) fn work() -> Vec<Work> {
    vec![Work::of("65x256x256 pixels from bytes", Pixels { first: 0, len: 65 * 256 * 256 * 3 })]
}

checks! {
    from_bytes_gives_the_pixels_of_the_cpu,
}
