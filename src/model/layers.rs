//! What the models share: a linear layer, and the observation of intermediate results.

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::gemm::{Activation, Linear, Store};
use crate::weights::Scope;

/// A linear layer: `weight [out, in]`, `bias [out]` where the model has one.
#[derive(Debug)]
pub(super) struct Projection<W> {
    pub weight: W,
    pub bias: Option<W>,
    pub inputs: usize,
    pub outputs: usize,
}

impl<W> Projection<W> {
    /// The layer `scope`, with a bias if `bias`.
    pub fn build(mut scope: Scope<'_, W>, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let weight = scope.plain("weight", &[outputs, inputs])?;
        let bias = if bias { Some(scope.plain("bias", &[outputs])?) } else { None };
        Ok(Self { weight, bias, inputs, outputs })
    }

    /// Layers `names` of one shape as one: their outputs side by side.
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

    /// `out = activation(x·Wᵀ + b)` for `rows` rows.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        rows: usize,
        x: &B::Buffer,
        activation: Activation,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let outputs = if activation == Activation::GatedGeluTanh { self.outputs / 2 } else { self.outputs };
        let op = Linear::new(rows, self.inputs, outputs).activation(activation);
        backend.linear(&op, x, &self.weight, self.bias.as_ref(), None, out)
    }

    /// `out += x·Wᵀ + b`, or `out += gate·(x·Wᵀ + b)` with a gate buffer and a gated `store`.
    pub fn add<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        rows: usize,
        x: &B::Buffer,
        store: Store,
        gate: Option<&B::Buffer>,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let op = Linear::new(rows, self.inputs, self.outputs).store(store);
        backend.linear(&op, x, &self.weight, self.bias.as_ref(), gate, out)
    }
}
