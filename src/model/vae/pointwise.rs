//! Convolutions that are linear layers.

use super::features::{Features, Piece};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::gemm::{Linear, LinearArgs, Store};
use crate::weights::{Role, Scope};

/// A 1×1(×1) convolution with bias, run as a linear layer on every position.
#[derive(Debug)]
pub(super) struct Pointwise<W> {
    weight: W,
    bias: W,
    cin: usize,
    cout: usize,
}

impl<W> Pointwise<W> {
    /// The convolution `scope`, stored with `axes` axes.
    pub fn build(mut scope: Scope<'_, W>, cin: usize, cout: usize, axes: usize) -> Result<Self> {
        let mut shape = vec![1; axes];
        shape[..2].copy_from_slice(&[cout, cin]);
        let weight = scope.get("weight", &shape, Role::Pointwise)?;
        Ok(Self { weight, bias: scope.plain("bias", &[cout])?, cin, cout })
    }

    /// A piece of `cout` channels; `positions` are those of a frame.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, x: &Piece<B>, positions: usize) -> Result<Piece<B>> {
        let rows = x.frames * positions;
        let mut data = backend.alloc(rows * self.cout)?;
        let op = Linear::new(rows, self.cin, self.cout);
        backend.linear(&op, self.args(&x.data, &mut data))?;
        Ok(Piece { data, frames: x.frames, moments: Vec::new() })
    }

    /// Runs on a video in one piece.
    pub fn whole<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<B::Buffer> {
        let rows = x.frames * x.positions();
        let mut out = backend.alloc(rows * self.cout)?;
        let op = Linear::new(rows, self.cin, self.cout);
        backend.linear(&op, self.args(x.data(), &mut out))?;
        Ok(out)
    }

    /// `out += x·Wᵀ + b`, both in one piece.
    pub fn add<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>, out: &mut Features<B>) -> Result<()> {
        let op = Linear::new(x.frames * x.positions(), self.cin, self.cout).store(Store::Add);
        backend.linear(&op, self.args(x.data(), out.data_mut()))
    }

    fn args<'a, Buffer>(&'a self, x: &'a Buffer, out: &'a mut Buffer) -> LinearArgs<'a, Buffer, W> {
        LinearArgs { bias: Some(&self.bias), ..LinearArgs::new(x, &self.weight, out) }
    }
}
