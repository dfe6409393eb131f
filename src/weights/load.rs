//! Copies a model's tensors from a source to a device, repacked to the engine's layouts.

use super::{Params, Role, Source};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::layout::transpose;
use crate::tensor::{Bytes, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Loads a model's parameters from `source` to `backend`.
pub struct Loader<'a, B> {
    source: &'a dyn Source,
    backend: &'a B,
    prefetch: bool,
}

impl<'a, B: Backend> Loader<'a, B> {
    /// A loader. Check the source with [`super::manifest::CheckpointManifest::check`] first: the loader stops at the
    /// first error.
    pub fn new(source: &'a dyn Source, backend: &'a B) -> Self {
        Self { source, backend, prefetch: false }
    }

    /// As [`Self::new`], but parameters are prefetched, see [`Backend::prefetch_weight`].
    pub fn prefetching(source: &'a dyn Source, backend: &'a B) -> Self {
        Self { source, backend, prefetch: true }
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let file = self.source.path();
        let tensor = self.source.tensor(name)?;
        let tensor =
            tensor.ok_or_else(|| Error::weight(file, name, format!("is missing; expected shape {shape:?}")))?;
        if tensor.shape != shape {
            return Err(Error::weight(file, name, format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(tensor)
    }
}

impl<B: Backend> Params<B::Weight> for Loader<'_, B> {
    fn get(&mut self, names: &[String], shape: &[usize], role: Role) -> Result<B::Weight> {
        let parts = names.iter().map(|name| Ok(repack(self.read(name, shape)?, role))).collect::<Result<_>>()?;
        if self.prefetch { self.backend.prefetch_weight(parts) } else { self.backend.weight(parts) }
    }
}

/// The engine's layout of a checkpoint tensor.
fn repack(mut tensor: Tensor, role: Role) -> Tensor {
    match role {
        Role::Plain => tensor,
        Role::Depthwise => {
            tensor.shape.remove(1);
            tensor
        }
        Role::Convolution => channels_last(&tensor),
        Role::Patches => {
            tensor = channels_last(&tensor);
            tensor.shape.remove(1);
            tensor
        }
        Role::Pointwise => {
            tensor.shape.truncate(2);
            tensor
        }
    }
}

/// `[cout, cin, (kt,) kh, kw]` → `[cout, kt, kh, kw, cin]`.
fn channels_last(tensor: &Tensor) -> Tensor {
    let (cout, cin) = (tensor.shape[0], tensor.shape[1]);
    let kernel = match tensor.shape[2..] {
        [kt, kh, kw] => [kt, kh, kw],
        [kh, kw] => [1, kh, kw],
        _ => panic!("a convolution's weight has 4 or 5 axes, not {:?}", tensor.shape),
    };
    let taps: usize = kernel.iter().product();
    let shape = vec![cout, kernel[0], kernel[1], kernel[2], cin];
    if taps == 1 || !tensor.has_values() || tensor.is_empty() {
        return Tensor { shape, ..tensor.clone() };
    }
    let bytes = match tensor.dtype.size() {
        1 => taps_first::<1>(&tensor.bytes, cin, taps),
        2 => taps_first::<2>(&tensor.bytes, cin, taps),
        4 => taps_first::<4>(&tensor.bytes, cin, taps),
        _ => taps_first::<8>(&tensor.bytes, cin, taps),
    };
    Tensor { shape, dtype: tensor.dtype, bytes: Bytes::Owned(Arc::new(bytes)) }
}

/// `[…, cin, taps]` → `[…, taps, cin]`, of elements of `N` bytes.
fn taps_first<const N: usize>(bytes: &[u8], cin: usize, taps: usize) -> Vec<u8> {
    let mut out = vec![0; bytes.len()];
    let (to, from) = (out.as_chunks_mut::<N>().0, bytes.as_chunks::<N>().0);
    to.par_chunks_mut(cin * taps).zip(from.par_chunks(cin * taps)).for_each(|(to, from)| transpose(from, cin, to));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use proptest::prelude::*;

    proptest! {
        /// Every element is where the definition of the two layouts puts it, in every stored type.
        #[test]
        fn channels_come_last(cout in 1..4_usize, cin in 1..140_usize, kernel in prop::collection::vec(1..4_usize, 2..=3)) {
            let taps: usize = kernel.iter().product();
            let shape = [vec![cout, cin], kernel].concat();
            for dtype in [DType::U8, DType::Bf16, DType::F32, DType::F64] {
                let size = dtype.size();
                let bytes: Vec<u8> = (0..cout * cin * taps * size).map(|i| (i ^ i >> 8) as u8).collect();
                let tensor = Tensor { shape: shape.clone(), dtype, bytes: Bytes::Owned(Arc::new(bytes)) };
                let found = channels_last(&tensor);
                prop_assert_eq!((found.shape[0], found.shape[4], found.shape.len()), (cout, cin, 5));
                let element = |tensor: &Tensor, i: usize| tensor.bytes[i * size..][..size].to_vec();
                for (out, channel, tap) in (0..cout * cin * taps).map(|i| (i / taps / cin, i / taps % cin, i % taps)) {
                    let (from, to) = ((out * cin + channel) * taps + tap, (out * taps + tap) * cin + channel);
                    prop_assert_eq!(element(&tensor, from), element(&found, to));
                }
            }
        }
    }
}
