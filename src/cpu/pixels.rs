//! `from_bytes`: bytes made pixels.

use super::{Buffer, math};
use crate::ops::pixels::FromBytesArgs;
use rayon::prelude::*;

/// Pixels' values that one task converts.
const BLOCK: usize = 16384;

pub(super) fn from_bytes(FromBytesArgs { bytes, out }: FromBytesArgs<'_, Buffer>) {
    out.par_chunks_mut(BLOCK).zip(bytes.par_chunks(BLOCK)).for_each(|(out, bytes)| {
        math::widest(
            #[inline(always)]
            || out.iter_mut().zip(bytes).for_each(|(value, &byte)| *value = f32::from(byte) / 127.5 - 1.0),
        );
    });
}
