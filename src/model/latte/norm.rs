//! The norms of the tokens in front of a block's layers: computed in a pass of their own, or folded into the layer behind.
//!
//! A pass reads and writes all tokens. Folding reads and writes the layer's weight instead, and the tokens' moments, which
//! the layer before leaves (see [`crate::ops::folded`]).

use super::inputs::{Inputs, Modulation};
use super::{LatteConfig, Shape};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::layers::{Input, Projection};
use crate::ops::folded::{
    FoldNorm, FoldNormArgs, FoldedNorm, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs,
};
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs};

/// The environment variable that chooses.
const VARIABLE: &str = "OSP_NORMS";

/// Whether norms are folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norms {
    /// Where it moves fewer bytes.
    #[default]
    Cheapest,
    /// Always, for experiments.
    Folded,
    /// Never, for experiments.
    Separate,
}

impl Norms {
    /// What `OSP_NORMS` asks for: `folded`, `separate`, or nothing for the cheapest.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else.
    pub fn of_environment() -> Result<Self> {
        match std::env::var_os(VARIABLE).unwrap_or_default().to_string_lossy().as_ref() {
            "" => Ok(Self::Cheapest),
            "folded" => Ok(Self::Folded),
            "separate" => Ok(Self::Separate),
            other => Err(Error::Usage(format!("{VARIABLE} is {other:?}; use folded, separate, or leave it unset"))),
        }
    }

    /// Whether the norms of an evaluation are folded. By the rows of the whole batch, so that no saving of memory changes
    /// a bit.
    pub(super) fn fold(self, c: &LatteConfig, shape: &Shape) -> bool {
        let (d, rows) = (c.channels(), shape.batch * shape.rows_per_sample());
        // A pass reads and writes all rows. Folding reads and writes the weight, at most [4D, D]. Moments cost an eighth of
        // a pass, and there are two launches instead of one. So the rows must be twice the weight's.
        let pays = rows >= 2 * 4 * d;
        d.is_multiple_of(8) && (self == Self::Folded || self == Self::Cheapest && pays)
    }
}

/// The tokens of an evaluation.
pub(super) struct Tokens<B: Backend> {
    /// `[N, T, S, D]`
    pub h: B::Buffer,
    /// Where norms are folded.
    moments: Option<Moments<B::Buffer>>,
}

/// The moments of the tokens.
struct Moments<Buffer> {
    /// `[N·T·S, groups, 2]`
    buffer: Buffer,
    /// Whether they are those of the tokens as they are now.
    current: bool,
}

impl<B: Backend> Tokens<B> {
    /// `rows` tokens of which moments are taken if norms are `folded`.
    pub fn new(backend: &B, h: B::Buffer, rows: usize, channels: usize, folded: bool) -> Result<Self> {
        let allocate = || {
            let buffer = backend.alloc_f32(RowMoments { rows, channels }.elements())?;
            Ok(Moments { buffer, current: false })
        };
        Ok(Self { h, moments: folded.then(allocate).transpose()? })
    }

    /// The tokens, for a layer that adds to all of them without leaving moments.
    pub fn change(&mut self) -> &mut B::Buffer {
        if let Some(moments) = &mut self.moments {
            moments.current = false;
        }
        &mut self.h
    }

    /// The tokens and their moments, for a layer in front of a norm that adds to all of them, perhaps in parts.
    pub fn change_before_norm(&mut self) -> (&mut B::Buffer, Option<&mut B::Buffer>) {
        let moments = self.moments.as_mut().map(|moments| {
            moments.current = true;
            &mut moments.buffer
        });
        (&mut self.h, moments)
    }

    /// Mean and inverse deviation of each token, `[N·T·S, 2]`; `None` if norms are not folded.
    fn statistics(&mut self, backend: &B, op: &RowStatistics) -> Result<Option<B::Buffer>> {
        let Some(Moments { buffer, current }) = &mut self.moments else { return Ok(None) };
        if !*current {
            backend.row_moments(&op.moments(), RowMomentsArgs { x: &self.h, moments: buffer })?;
            *current = true;
        }
        let mut statistics = backend.alloc_f32(2 * op.rows)?;
        backend.row_statistics(op, RowStatisticsArgs { moments: buffer, statistics: &mut statistics })?;
        Ok(Some(statistics))
    }
}

/// A norm with shift and scale of a block's modulation, in front of a layer.
pub(super) enum Normed<B: Backend> {
    /// The normed tokens.
    Separate(B::Buffer),
    /// The layer that the norm is folded into.
    Folded {
        layer: Projection<B::Weight>,
        /// See [`FoldedNorm`].
        statistics: B::Buffer,
        /// See [`FoldedNorm`].
        columns: B::Buffer,
    },
}

impl<B: Backend> Normed<B> {
    /// The norm of the tokens in front of `layer`, with these vectors of the modulation.
    pub fn before(
        layer: &Projection<B::Weight>,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        [shift, scale]: [usize; 2],
        tokens: &mut Tokens<B>,
    ) -> Result<Self> {
        let d = c.channels();
        let op = RowStatistics { rows: inputs.shape.rows(), channels: d, eps: c.norm_eps };
        let Some(statistics) = tokens.statistics(backend, &op)? else {
            return Ok(Self::Separate(separate(backend, c, inputs, [shift, scale], &tokens.h)?));
        };
        // All samples have one timestep, so the modulation of the first is that of all.
        let Modulation { vectors, .. } = inputs.modulation;
        let [shift, scale] = [shift, scale].map(|vector| inputs.modulation.at(vector, d));
        let mut weight = backend.alloc_weight(&[layer.outputs, layer.inputs])?;
        let mut columns = backend.alloc_f32(2 * layer.outputs)?;
        let op = FoldNorm { in_features: layer.inputs, out_features: layer.outputs, shift, scale };
        let (bias, folded) = (layer.bias.as_ref(), &mut weight);
        let args = FoldNormArgs { weight: &layer.weight, bias, modulation: vectors, folded, columns: &mut columns };
        backend.fold_norm(&op, args)?;
        let layer = Projection { weight, bias: None, inputs: layer.inputs, outputs: layer.outputs };
        Ok(Self::Folded { layer, statistics, columns })
    }

    /// What to run in place of `layer` on the tokens `h`: a layer, and what it multiplies.
    pub fn then<'a>(
        &'a self,
        layer: &'a Projection<B::Weight>,
        h: &'a B::Buffer,
    ) -> (&'a Projection<B::Weight>, Input<'a, B::Buffer>) {
        match self {
            Self::Separate(normed) => (layer, normed.into()),
            Self::Folded { layer, statistics, columns } => {
                (layer, Input { x: h, norm: Some(FoldedNorm { statistics, columns }) })
            }
        }
    }
}

/// The normed tokens, with shift and scale from these vectors of the modulation.
pub(super) fn separate<B: Backend>(
    backend: &B,
    c: &LatteConfig,
    inputs: &Inputs<'_, B::Buffer>,
    [shift, scale]: [usize; 2],
    h: &B::Buffer,
) -> Result<B::Buffer> {
    let (d, rows, modulation) = (c.channels(), inputs.shape.rows(), &inputs.modulation);
    let norm = AdaLayerNorm {
        rows,
        channels: d,
        eps: c.norm_eps,
        rows_per_modulation: inputs.shape.rows_per_sample(),
        modulation_stride: modulation.stride(d),
        shift: modulation.at(shift, d),
        scale: modulation.at(scale, d),
    };
    let mut normed = backend.alloc(rows * d)?;
    backend.ada_layer_norm(&norm, AdaLayerNormArgs { x: h, modulation: modulation.vectors, out: &mut normed })?;
    Ok(normed)
}
