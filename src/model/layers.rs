//! Shared by the models: a linear layer, and blocks that are resident on the device or streamed to it.

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::folded::FoldedNorm;
use crate::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};
use crate::weights::Scope;
use std::fmt;
use std::ops::Range;

/// The rows that a linear layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Rows of the whole product, see [`LinearPart::whole_rows`].
    pub of: usize,
    /// First row in `x`.
    pub x: usize,
    /// First row in `out`.
    pub out: usize,
}

impl From<usize> for Rows {
    /// All rows of both buffers.
    fn from(count: usize) -> Self {
        Self { count, of: count, x: 0, out: 0 }
    }
}

impl Rows {
    /// The part of these rows, with the weight's rows from `weight` on.
    fn part(self, weight: usize) -> LinearPart {
        LinearPart { whole_rows: self.of, x_row: self.x, out_row: self.out, weight_row: weight }
    }

    /// The product of these rows.
    fn place(self, op: Linear) -> Linear {
        if self == Self::from(self.count) { op } else { op.part(self.part(0)) }
    }
}

/// What a linear layer multiplies.
#[derive(Debug)]
pub(super) struct Input<'a, Buffer> {
    pub x: &'a Buffer,
    /// A norm of x that is folded into the layer.
    pub norm: Option<FoldedNorm<'a, Buffer>>,
}

impl<Buffer> Clone for Input<'_, Buffer> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Buffer> Copy for Input<'_, Buffer> {}

impl<'a, Buffer> From<&'a Buffer> for Input<'a, Buffer> {
    fn from(x: &'a Buffer) -> Self {
        Self { x, norm: None }
    }
}

/// How a linear layer adds its result.
#[derive(Debug)]
pub(super) struct Adding<'a, Buffer> {
    /// [`Store::Add`] or [`Store::AddGated`].
    pub store: Store,
    /// The gates, if the store is gated.
    pub gate: Option<&'a Buffer>,
    /// Receives the moments of the sums.
    pub moments: Option<&'a mut Buffer>,
}

impl<Buffer> Adding<'_, Buffer> {
    /// `out += y`
    pub fn plain() -> Self {
        Self { store: Store::Add, gate: None, moments: None }
    }
}

/// A linear layer: `weight [out, in]`, `bias [out]` where the model has one.
#[derive(Debug)]
pub(super) struct Projection<W> {
    pub weight: W,
    pub bias: Option<W>,
    pub inputs: usize,
    pub outputs: usize,
}

/// The layout of the outputs of stacked layers after [`Projection::columns`], in elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// Distance between the outputs of two layers.
    pub layer: usize,
    /// Distance between rows.
    pub row: usize,
}

impl<W> Projection<W> {
    /// The layer `scope`, with a bias if `bias`.
    pub fn build(mut scope: Scope<'_, W>, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let weight = scope.plain("weight", &[outputs, inputs])?;
        let bias = if bias { Some(scope.plain("bias", &[outputs])?) } else { None };
        Ok(Self { weight, bias, inputs, outputs })
    }

    /// Layers `names`, all of one shape, stacked to one layer: their outputs stand side by side.
    pub fn stacked(
        scope: &mut Scope<'_, W>,
        names: &[&str],
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self> {
        let of = |part: &str| names.iter().map(|name| format!("{name}.{part}")).collect::<Vec<_>>();
        let (weights, biases) = (of("weight"), of("bias"));
        let weight = scope.stacked(&weights.iter().map(String::as_str).collect::<Vec<_>>(), &[outputs, inputs])?;
        let bias = match bias {
            true => Some(scope.stacked(&biases.iter().map(String::as_str).collect::<Vec<_>>(), &[outputs])?),
            false => None,
        };
        Ok(Self { weight, bias, inputs, outputs: names.len() * outputs })
    }

    /// `out = activation(x·Wᵀ + b)`.
    pub fn run<'x, B: Backend<Weight = W>>(
        &self,
        backend: &B,
        rows: impl Into<Rows>,
        x: impl Into<Input<'x, B::Buffer>>,
        activation: Activation,
        out: &mut B::Buffer,
    ) -> Result<()>
    where
        B::Buffer: 'x,
    {
        let outputs = if activation == Activation::GatedGeluTanh { self.outputs / 2 } else { self.outputs };
        let rows = rows.into();
        let op = rows.place(Linear::new(rows.count, self.inputs, outputs).activation(activation));
        backend.linear(&op, self.args(x.into(), out))
    }

    /// The operands of a product without gate and moments.
    fn args<'a, Buffer>(
        &'a self,
        Input { x, norm }: Input<'a, Buffer>,
        out: &'a mut Buffer,
    ) -> LinearArgs<'a, Buffer, W> {
        LinearArgs { bias: self.bias.as_ref(), norm, ..LinearArgs::new(x, &self.weight, out) }
    }

    /// `out += x·Wᵀ + b`, or `out += gate·(x·Wᵀ + b)`.
    pub fn add<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        rows: impl Into<Rows>,
        x: &B::Buffer,
        Adding { store, gate, moments }: Adding<'_, B::Buffer>,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let rows = rows.into();
        let op = rows.place(Linear::new(rows.count, self.inputs, self.outputs).store(store));
        backend.linear(&op, LinearArgs { gate, moments, ..self.args(x.into(), out) })
    }

    /// Computes the outputs `columns` of each of `layers` stacked layers. All outputs stand side by side, as after
    /// [`Self::run`]; some outputs stand layer after layer.
    pub fn columns<'x, B: Backend<Weight = W>>(
        &self,
        backend: &B,
        rows: Rows,
        x: impl Into<Input<'x, B::Buffer>>,
        layers: usize,
        columns: &Range<usize>,
        out: &mut B::Buffer,
    ) -> Result<Columns>
    where
        B::Buffer: 'x,
    {
        let x = x.into();
        let (outputs, width) = (self.outputs / layers, columns.len());
        if width == outputs {
            self.run(backend, rows, x, Activation::None, out)?;
            return Ok(Columns { layer: width, row: self.outputs });
        }
        for layer in 0..layers {
            let rows = Rows { out: rows.out + layer * rows.count, ..rows };
            let part = rows.part(layer * outputs + columns.start);
            let op = Linear::new(rows.count, self.inputs, width).part(part);
            backend.linear(&op, self.args(x, out))?;
        }
        Ok(Columns { layer: rows.count * width, row: width })
    }
}

/// Splits `0..len` into at most `count` ranges of nearly equal length; no range is empty.
pub(super) fn ranges(len: usize, count: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let count = count.clamp(1, len.max(1));
    (0..count).map(move |i| i * len / count..(i + 1) * len / count)
}

/// Blocks of a model, or other weights, that are used one after the other.
pub(super) enum Blocks<'a, T> {
    /// On the device.
    Resident(Vec<T>),
    /// Prefetched for each use: the closure loads block i with [`crate::weights::load::Loader::prefetching`].
    Streamed(Box<dyn Fn(usize) -> Result<T> + 'a>),
}

impl<T> Blocks<'_, T> {
    /// Calls `run` with each block of `indices`. Streamed blocks are prefetched while the block before computes: two are on the
    /// device, and none afterwards.
    pub fn each<B: Backend>(
        &self,
        backend: &B,
        mut indices: impl Iterator<Item = usize>,
        mut run: impl FnMut(usize, &T) -> Result<()>,
    ) -> Result<()> {
        let load = match self {
            Self::Resident(blocks) => return indices.try_for_each(|i| run(i, &blocks[i])),
            Self::Streamed(load) => load,
        };
        let mut bring = || indices.next().map(|i| Ok((i, load(i)?))).transpose();
        let mut next = bring()?;
        while let Some((i, block)) = next {
            backend.finish_prefetch()?;
            // The next block is allocated before this block's launches, so its copies do not wait for them.
            next = bring()?;
            run(i, &block)?;
            backend.start_prefetch()?;
        }
        Ok(())
    }
}

impl<T> fmt::Debug for Blocks<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resident(blocks) => write!(f, "{} resident blocks", blocks.len()),
            Self::Streamed(_) => f.write_str("streamed blocks"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn ranges_cover_everything_and_none_is_empty() {
        assert_eq!(ranges(7, 3).collect::<Vec<_>>(), [0..2, 2..4, 4..7]);
        assert_eq!(ranges(2, 8).collect::<Vec<_>>(), [0..1, 1..2]);
        assert!(ranges(5, 0).eq(std::iter::once(0..5)));
    }
}
