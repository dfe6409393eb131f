//! One module per operation, named by its stem.

/// Attention in the layouts of the models, with biases, masks and rotation.
mod attention;
/// Causal and depth-wise convolution.
mod conv3d;
/// Sums of differences.
mod distance;
/// Look-up of rows, and addition of rows.
mod embed;
/// Enlargements that are folded into the weight of the convolution behind them.
mod enlarge;
/// NaN and infinities.
mod finite;
/// Norms that are folded into the linear layer behind them.
mod folded;
/// Linear layers.
mod gemm;
/// GroupNorm with and without SiLU.
mod groupnorm;
/// Norms over the channels of a token.
mod norm;
/// Patches to tokens and back.
mod patch;
/// Pixels of bytes, and bytes of pixels.
mod pixels;
/// Wrong operands, on every backend.
mod refusal;
/// Temporal resampling.
mod resample;
/// Linear combinations of states.
mod sampler;
/// Boxes of videos.
mod tile;
/// Helpers that the other modules share.
pub mod values;
