//! Kernels on the emulator: every kernel against the CPU backend, and checks of their sources.

/// The sources, the contracts in Rust and the docs agree.
mod contract;
/// The device that executes nothing: its refusals and counts.
mod dry;
/// The emulator: faults that it must detect.
mod emulator;
/// The PTX machine, and the kernels' PTX on it.
mod ptx;
/// Operations that kernels do not support, and their errors.
mod refusal;
/// The checks of `osp selftest`.
mod selftest;
