//! Brings a model's tensors from a source to a device, repacked to the engine's layouts.

use super::{Params, Role, Source, Tensor};
use crate::backend::Backend;
use crate::error::{Error, Result};

/// Hands a model its parameters from `source`, on `backend`.
pub struct Loader<'a, B> {
    source: &'a dyn Source,
    backend: &'a B,
    ahead: bool,
}

impl<'a, B: Backend> Loader<'a, B> {
    /// Check the source with [`super::plan::Plan::check`] before: the loader stops at the first fault.
    pub fn new(source: &'a dyn Source, backend: &'a B) -> Self {
        Self { source, backend, ahead: false }
    }

    /// The same for parameters that may still be on their way, see [`Backend::weight_ahead`].
    pub fn ahead(source: &'a dyn Source, backend: &'a B) -> Self {
        Self { source, backend, ahead: true }
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
        if self.ahead { self.backend.weight_ahead(parts) } else { self.backend.weight(parts) }
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
    let shape = [cout, kernel[0], kernel[1], kernel[2], cin];
    if taps == 1 {
        return Tensor { shape: shape.to_vec(), ..tensor.clone() };
    }
    tensor.gather(&shape, |i| {
        let (rest, channel) = (i / cin, i % cin);
        let (out, tap) = (rest / taps, rest % taps);
        (out * cin + channel) * taps + tap
    })
}
