//! Every kernel, on the emulator, against the CPU backend.

/// Softmax of scores, times values.
mod attention;
/// Sources, Rust and docs agree.
mod contract;
/// Causal convolutions of videos.
mod conv3d;
/// Keys and values made fewer.
mod depthwise;
/// The device that executes nothing: what it refuses, and what it counts.
mod dry;
/// Look-up, and adding of tables.
mod embed;
/// The emulator itself: faults that it must catch.
mod emulator;
/// Linear layers.
mod gemm;
/// GroupNorm, and its moments.
mod groupnorm;
/// Norms over the channels of a token.
mod norm;
/// Patches to tokens and back.
mod patch;
/// How far a kernel may be from the CPU, and what runs both.
mod policy;
/// Resampling in time.
mod resample;
/// Linear combinations of states.
mod sampler;
/// Boxes of videos, and bytes.
mod tile;
