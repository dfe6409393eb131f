//! Kernels on the emulator: every one against the CPU backend, and what keeps them in order.

/// Sources, Rust and docs agree.
mod contract;
/// The device that executes nothing: what it refuses, and what it counts.
mod dry;
/// The emulator itself: faults that it must catch.
mod emulator;
/// What kernels cannot, and say so.
mod refusal;
/// The checks of `osp selftest`.
mod selftest;
