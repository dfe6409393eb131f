//! `ada_layer_norm`, `layer_norm`, `rms_norm`: `kernels/norm.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::{Error, Result};
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};

/// Threads of every kernel here.
pub(crate) const THREADS: u32 = 256;

params! {
    /// See `kernels/norm.cu`.
    NormParams {
        x: Address,
        scale: Address,
        bias: Address,
        out: Address,
        rows: i32,
        channels: i32,
        eps: f32,
        rows_per_modulation: i32,
        modulation_stride: i32,
        shift_offset: i32,
        scale_offset: i32,
        padding: i32,
    }
}

/// Which threads share a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Warp,
    Block,
    Ragged,
}

impl Sharing {
    /// For rows of `channels`. `aligned`: all rows and modulation vectors start at multiples of 8 elements.
    fn of(channels: usize, aligned: bool) -> Result<Self> {
        match channels {
            _ if aligned && channels <= 1280 => Ok(Self::Warp),
            _ if aligned && channels <= 8192 => Ok(Self::Block),
            _ if channels <= 4096 => Ok(Self::Ragged),
            _ => Err(Error::Unsupported(format!(
                "norms of {channels} channels: the kernels take at most 8192 if it is a multiple of 8, else 4096"
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Warp => "warp",
            Self::Block => "block",
            Self::Ragged => "ragged",
        }
    }

    fn blocks(self, rows: usize) -> usize {
        if self == Self::Warp { rows.div_ceil(THREADS as usize / 32) } else { rows }
    }
}

fn plan(cuda: &Cuda, op: &str, sharing: Sharing, rows: usize, flops: u64, bytes: u64) -> LaunchPlan {
    let scratch = if sharing == Sharing::Warp { 0 } else { THREADS as usize / 32 * size_of::<f32>() };
    LaunchPlan {
        kernel: format!("{op}_{}_{}", sharing.name(), cuda.half.suffix()),
        grid: [sharing.blocks(rows), 1, 1],
        threads: THREADS,
        shared_bytes: scratch,
        flops,
        bytes,
    }
}

/// Launches [`AdaLayerNorm`].
pub(super) fn ada_layer_norm(cuda: &Cuda, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Buffer>) -> Result<()> {
    let AdaLayerNormArgs { x, modulation, out } = args;
    let aligned = [op.channels, op.modulation_stride, op.shift, op.scale].iter().all(|len| len.is_multiple_of(8));
    let sharing = Sharing::of(op.channels, aligned)?;
    let params = NormParams {
        x: x.half(),
        scale: modulation.half(),
        bias: Address::NULL,
        out: out.half(),
        rows: int(op.rows)?,
        channels: int(op.channels)?,
        eps: op.eps,
        rows_per_modulation: int(op.rows_per_modulation)?,
        modulation_stride: int(op.modulation_stride)?,
        shift_offset: int(op.shift)?,
        scale_offset: int(op.scale)?,
        padding: 0,
    };
    cuda.launch(&plan(cuda, "ada_layer_norm", sharing, op.rows, op.flops(), op.bytes(2)), &params)
}

/// Parameters of a norm with a weight, and a bias if there is one.
fn weighted(
    [rows, channels]: [usize; 2],
    eps: f32,
    x: &Buffer,
    weight: &Weight,
    bias: Option<&Weight>,
    out: &Buffer,
) -> Result<NormParams> {
    Ok(NormParams {
        x: x.half(),
        scale: weight.address(),
        bias: bias.map_or(Address::NULL, Weight::address),
        out: out.half(),
        rows: int(rows)?,
        channels: int(channels)?,
        eps,
        rows_per_modulation: 1,
        modulation_stride: 0,
        shift_offset: 0,
        scale_offset: 0,
        padding: 0,
    })
}

/// Launches [`LayerNorm`].
pub(super) fn layer_norm(cuda: &Cuda, op: &LayerNorm, args: LayerNormArgs<'_, Buffer, Weight>) -> Result<()> {
    let LayerNormArgs { x, weight, bias, out } = args;
    let sharing = Sharing::of(op.channels, op.channels.is_multiple_of(8))?;
    let params = weighted([op.rows, op.channels], op.eps, x, weight, Some(bias), out)?;
    cuda.launch(&plan(cuda, "layer_norm", sharing, op.rows, op.flops(), op.bytes(2)), &params)
}

/// Launches [`RmsNorm`].
pub(super) fn rms_norm(cuda: &Cuda, op: &RmsNorm, args: RmsNormArgs<'_, Buffer, Weight>) -> Result<()> {
    let RmsNormArgs { x, weight, out } = args;
    let sharing = Sharing::of(op.channels, op.channels.is_multiple_of(8))?;
    let params = weighted([op.rows, op.channels], op.eps, x, weight, None, out)?;
    cuda.launch(&plan(cuda, "rms_norm", sharing, op.rows, op.flops(), op.bytes(2)), &params)
}
