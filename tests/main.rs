//! All integration tests, in one binary: it links once and runs in parallel.

/// Layers, lengths and words of the sources.
mod architecture;

/// The command line: every command, and every bad input with its one line.
mod cli;

/// The device that is a GPU, on a driver that is none.
mod driver;

/// Kernels on the emulator against the CPU backend.
mod kernels;

/// The engine as another program calls it.
mod library;

/// Memory, planned and handed out.
mod memory;

/// Properties of whole models.
mod model;

/// Every operation of the CPU backend against the naive formula, over ragged shapes.
mod ops;

/// The ten samplers and their noise against PyTorch and diffusers.
mod sampler;

/// What checks a GPU on a machine without cargo, with a stand-in for the program.
#[cfg(target_os = "linux")]
mod scripts;

/// Captions and tokens against the original.
mod text;

/// Golden folders of the PyTorch original through `osp::verify`.
mod verify;

/// Checkpoints on disk: what fits, and what is said of what does not.
mod weights;

/// Clips through every file format, and files that are damaged.
mod video;
