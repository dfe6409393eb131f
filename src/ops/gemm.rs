//! `linear`: y = f(x·Wᵀ + b), the matrix product of every linear layer, fused with its activation and its store.

use super::folded::{FoldedNorm, RowMoments};
use super::{DeviceBuffer, DeviceWeight, expect_at_least, expect_len, expect_shape, expect_that};
use crate::error::Result;

const OP: &str = "linear";

/// The activation of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// x·σ(x)
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `gelu_tanh(u)·v` of two products (T5's feed-forward): the first `out_features` rows of the weight give `u`, the others `v`.
    /// Weight and bias then have `2·out_features` rows.
    GatedGeluTanh,
}

/// How the result is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `out = y`
    Overwrite,
    /// `out += y`
    Add,
    /// `out += gate·y`. Row r reads its gate at `(r / rows_per_gate)·gate_stride + gate_offset` and the
    /// `out_features − 1` elements after it.
    AddGated {
        /// Rows that share a gate (the tokens of one sample).
        rows_per_gate: usize,
        /// Elements from one sample's gate to the next.
        gate_stride: usize,
        /// Elements to the first gate.
        gate_offset: usize,
    },
}

/// The part of a larger product that a call computes: some of its rows, or some of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearPart {
    /// Rows of the whole product. If two algorithms give different bits, a backend chooses by these and not by the rows of the
    /// part, so a row has the same bits in every part.
    pub whole_rows: usize,
    /// First row of `x` to read.
    pub x_row: usize,
    /// First row of `out` to write; its gate is the gate of that row of the whole.
    pub out_row: usize,
    /// First row of the weight and first element of the bias to use.
    pub weight_row: usize,
}

/// Descriptor of `linear`.
///
/// `x [rows, in_features] · weight [out_features, in_features]ᵀ + bias [out_features] → out [rows, out_features]`. With a gated
/// activation, weight and bias have `2·out_features` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of `x`: tokens.
    pub rows: usize,
    /// Columns of `x`.
    pub in_features: usize,
    /// Columns of `out`.
    pub out_features: usize,
    /// Activation of the product.
    pub activation: Activation,
    /// How the result is stored.
    pub store: Store,
    /// The part to compute, if x, out or weight belong to a larger product.
    pub part: Option<LinearPart>,
}

/// Operands of [`Linear`]. With a part, `x`, `weight`, `bias` and `out` may be longer.
#[derive(Debug)]
pub struct LinearArgs<'a, Buffer, Weight> {
    /// `[rows, in_features]`
    pub x: &'a Buffer,
    /// `[weight_rows, in_features]`
    pub weight: &'a Weight,
    /// `[rows of the weight]`.
    pub bias: Option<&'a Weight>,
    /// The gates of [`Store::AddGated`], at the places that it names; `None` for any other store.
    pub gate: Option<&'a Buffer>,
    /// A norm of x that is folded into the weight. The bias is in its offsets, so there is no other, and no gated
    /// activation.
    pub norm: Option<FoldedNorm<'a, Buffer>>,
    /// Receives the moments of `out`, as [`RowMoments`] makes them. `out_features` is then a multiple of 8, and the
    /// activation is not gated.
    pub moments: Option<&'a mut Buffer>,
    /// `[rows, out_features]`
    pub out: &'a mut Buffer,
}

impl<'a, Buffer, Weight> LinearArgs<'a, Buffer, Weight> {
    /// Operands without bias, gate, norm and moments.
    pub fn new(x: &'a Buffer, weight: &'a Weight, out: &'a mut Buffer) -> Self {
        Self { x, weight, bias: None, gate: None, norm: None, moments: None, out }
    }

    /// Bytes moved at `element` bytes an activation and parameter.
    pub fn bytes(&self, op: &Linear, element: u64) -> u64 {
        let pairs = |count: usize| 8 * count as u64;
        let norm = self.norm.as_ref().map_or(0, |_| pairs(op.rows + op.out_features));
        let moments = self.moments.as_ref().map_or(0, |_| pairs(op.rows * op.moments().groups()));
        op.bytes(element) + norm + moments
    }
}

impl Linear {
    /// A plain layer without activation that overwrites `out`.
    pub fn new(rows: usize, in_features: usize, out_features: usize) -> Self {
        Self { rows, in_features, out_features, activation: Activation::None, store: Store::Overwrite, part: None }
    }

    /// The layer with this activation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The layer with this store.
    pub fn store(self, store: Store) -> Self {
        Self { store, ..self }
    }

    /// The layer as a part of a larger product.
    pub fn part(self, part: LinearPart) -> Self {
        Self { part: Some(part), ..self }
    }

    /// The part to compute; by default the whole.
    pub fn place(&self) -> LinearPart {
        self.part.unwrap_or(LinearPart { whole_rows: self.rows, x_row: 0, out_row: 0, weight_row: 0 })
    }

    /// Rows of the weight: twice `out_features` when gated.
    pub fn weight_rows(&self) -> usize {
        match self.activation {
            Activation::GatedGeluTanh => 2 * self.out_features,
            _ => self.out_features,
        }
    }

    /// The moments of the result.
    pub fn moments(&self) -> RowMoments {
        RowMoments { rows: self.rows, channels: self.out_features }
    }

    /// Checks element counts and the weight's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. There must be features, and a gate if and only if
    /// the store is gated; a part must lie in the whole. Norm and moments must fit the layer.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &LinearArgs<'_, B, W>) -> Result<()> {
        expect_that(OP, "in_features", self.in_features > 0, "at least one", self.in_features)?;
        let place = self.place();
        let expect_rows = if self.part.is_some() { expect_at_least } else { expect_len };
        expect_that(OP, "part.whole_rows", place.whole_rows >= self.rows, "at least the part's", place.whole_rows)?;
        expect_rows(OP, "x", args.x.len(), (place.x_row + self.rows) * self.in_features)?;
        let weight_rows = self.check_weight(args.weight.shape())?;
        if let Some(bias) = args.bias {
            expect_len(OP, "bias", bias.len(), weight_rows)?;
        }
        match (self.store, args.gate.map(DeviceBuffer::len)) {
            (Store::AddGated { rows_per_gate, gate_stride, gate_offset }, Some(gate)) => {
                expect_that(
                    OP,
                    "rows_per_gate",
                    rows_per_gate > 0 && place.whole_rows.is_multiple_of(rows_per_gate),
                    "a divisor of rows",
                    rows_per_gate,
                )?;
                let last = (place.out_row + self.rows).saturating_sub(1) / rows_per_gate;
                expect_at_least(OP, "gate", gate, last * gate_stride + gate_offset + self.out_features)?;
            }
            (store, gate) => {
                let gated = matches!(store, Store::AddGated { .. });
                expect_that(OP, "gate", gated == gate.is_some(), "given if and only if the store is gated", gate)?;
            }
        }
        self.check_norm(args, weight_rows)?;
        let out_rows = place.out_row.saturating_add(self.rows);
        expect_rows(OP, "out", args.out.len(), out_rows.saturating_mul(self.out_features))
    }

    /// Checks a folded norm, and the moments of the result.
    fn check_norm<B: DeviceBuffer, W>(&self, args: &LinearArgs<'_, B, W>, weight_rows: usize) -> Result<()> {
        let (place, gated) = (self.place(), self.activation == Activation::GatedGeluTanh);
        if let Some(norm) = &args.norm {
            expect_that(OP, "norm", !gated && args.bias.is_none(), "neither a gated activation nor a bias", gated)?;
            expect_at_least(OP, "norm.statistics", norm.statistics.len(), 2 * (place.x_row + self.rows))?;
            expect_len(OP, "norm.columns", norm.columns.len(), 2 * weight_rows)?;
        }
        if let Some(moments) = &args.moments {
            let fits = !gated && self.out_features.is_multiple_of(8);
            expect_that(OP, "moments", fits, "a multiple of 8 columns, not gated", self.out_features)?;
            let rows = RowMoments { rows: place.out_row + self.rows, ..self.moments() };
            expect_at_least(OP, "moments", moments.len(), rows.elements())?;
        }
        Ok(())
    }

    /// Checks the weight's shape; returns its rows.
    fn check_weight(&self, weight: &[usize]) -> Result<usize> {
        let &[rows, columns] = weight else {
            return expect_shape(OP, "weight", weight, &[self.weight_rows(), self.in_features]).map(|()| 0);
        };
        let gated = self.activation == Activation::GatedGeluTanh;
        // A part would need two first rows: one for values, one for gates.
        let whole = self.part.is_none() || gated;
        let first = self.place().weight_row;
        expect_that(OP, "part.weight_row", !gated || first == 0, "0 for a gated activation", first)?;
        let expected = if whole { self.weight_rows() } else { rows.max(first + self.weight_rows()) };
        expect_shape(OP, "weight", &[rows, columns], &[expected, self.in_features])?;
        Ok(rows)
    }

    /// Floating-point operations of the product.
    pub fn flops(&self) -> u64 {
        2 * self.rows as u64 * self.in_features as u64 * self.weight_rows() as u64
    }

    /// Bytes moved at `element` bytes an activation and parameter.
    pub fn bytes(&self, element: u64) -> u64 {
        let out = if self.store == Store::Overwrite { 1 } else { 2 };
        let elements =
            self.rows * self.in_features + self.weight_rows() * self.in_features + out * self.rows * self.out_features;
        elements as u64 * element
    }
}
