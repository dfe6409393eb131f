//! `linear`: y = f(x·Wᵀ + b), the matrix product of every linear layer, with what follows it fused.

use super::{expect_len, expect_shape, expect_that};
use crate::error::Result;

const OP: &str = "linear";

/// What is applied to the product before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// x·σ(x)
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// The weight's first half of rows makes `u`, the second half `v`; stores `gelu_tanh(u)·v` (T5's feed-forward).
    /// The weight then has `2·out_features` rows.
    GatedGeluTanh,
}

/// Where the result goes.
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

/// Descriptor of `linear`.
///
/// `x [rows, in_features] · weight [out_features, in_features]ᵀ + bias [out_features] → out [rows, out_features]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of `x`: tokens.
    pub rows: usize,
    /// Columns of `x`.
    pub in_features: usize,
    /// Columns of `out`.
    pub out_features: usize,
    /// Applied to the product.
    pub activation: Activation,
    /// Applied when storing.
    pub store: Store,
}

impl Linear {
    /// A plain layer without activation that overwrites `out`.
    pub fn new(rows: usize, in_features: usize, out_features: usize) -> Self {
        Self { rows, in_features, out_features, activation: Activation::None, store: Store::Overwrite }
    }

    /// The same with an activation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The same with another way of storing.
    pub fn store(self, store: Store) -> Self {
        Self { store, ..self }
    }

    /// Rows of the weight: twice `out_features` when gated.
    pub fn weight_rows(&self) -> usize {
        match self.activation {
            Activation::GatedGeluTanh => 2 * self.out_features,
            _ => self.out_features,
        }
    }

    /// Checks element counts and the weight's shape.
    pub fn validate(
        &self,
        x: usize,
        weight: &[usize],
        bias: Option<usize>,
        gate: Option<usize>,
        out: usize,
    ) -> Result<()> {
        expect_that(OP, "in_features", self.in_features > 0, "at least one", self.in_features)?;
        expect_len(OP, "x", x, self.rows * self.in_features)?;
        expect_shape(OP, "weight", weight, &[self.weight_rows(), self.in_features])?;
        if let Some(bias) = bias {
            expect_len(OP, "bias", bias, self.weight_rows())?;
        }
        match (self.store, gate) {
            (Store::AddGated { rows_per_gate, gate_stride, gate_offset }, Some(gate)) => {
                expect_that(
                    OP,
                    "rows_per_gate",
                    rows_per_gate > 0 && self.rows.is_multiple_of(rows_per_gate),
                    "a divisor of rows",
                    rows_per_gate,
                )?;
                let last = (self.rows / rows_per_gate).saturating_sub(1);
                super::expect_at_least(OP, "gate", gate, last * gate_stride + gate_offset + self.out_features)?;
            }
            (store, gate) => {
                let gated = matches!(store, Store::AddGated { .. });
                expect_that(OP, "gate", gated == gate.is_some(), "given if and only if the store is gated", gate)?;
            }
        }
        expect_len(OP, "out", out, self.rows * self.out_features)
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
