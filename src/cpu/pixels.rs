//! `from_bytes`, `to_bytes`: pixels made of bytes, and bytes of pixels.

use super::{Buffer, math};
use crate::ops::pixels::{FromBytesArgs, ToBytes, ToBytesArgs};
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

pub(super) fn to_bytes(op: &ToBytes, ToBytesArgs { x }: ToBytesArgs<'_, Buffer>) -> Vec<u8> {
    let x = &x[op.offset..op.offset + op.len];
    let mut bytes = vec![0; op.len];
    bytes.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| {
        math::widest(
            #[inline(always)]
            || {
                for (byte, &value) in out.iter_mut().zip(x) {
                    // The cast truncates and sends NaN, which `clamp` passes on, to 0.
                    *byte = ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0) as u8;
                }
            },
        );
    });
    bytes
}
