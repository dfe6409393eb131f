//! All integration tests, in one binary: it links once and runs in parallel.

/// Layers, lengths and rules of the sources.
mod architecture;

/// The command line: every command, and every bad input with its error line.
mod cli;

/// Inputs that fuzzing has kept, for every parser of foreign bytes.
mod corpora;

/// The GPU device and the whole program, on a stand-in for NVIDIA's driver.
#[cfg(target_os = "linux")]
mod driver;

/// Edits of clips: what is kept, and what an edit has in common with sampling.
mod edits;

/// Hashes of the bits of each layer on the emulator.
mod fingerprints;

/// Kernels on the emulator against the CPU backend.
mod kernels;

/// The engine as another program calls it.
mod library;

/// Memory plans and arenas.
mod memory;

/// Properties of whole models.
mod model;

/// Every operation of the CPU backend against the naive formula, over ragged shapes.
mod ops;

/// The promises of docs/reliability.md, and the tests that hold them.
mod reliability;

/// The ten samplers and their noise against PyTorch and diffusers.
mod sampler;

/// Fewer evaluations: which calls are evaluated, and what stays the same.
mod shortcuts;

/// The scripts that check a GPU on a machine without cargo, with a mock program.
#[cfg(target_os = "linux")]
mod scripts;

/// Captions and tokens, compared with the original.
mod text;

/// Golden folders of the PyTorch original through `osp::verify`.
mod verify;

/// Checkpoints on disk: the valid ones, and the errors for the others.
mod weights;

/// Clips through every file format, and files that are damaged.
mod video;
