//! `osp`: an inference engine for Open-Sora-Plan v1.1.0 text-to-video.
//!
//! The way of the data: prompt → [`text`] (cleaning, tokens) → T5 ([`model`]) → [`sampler`] steps over LatteT2V
//! ([`model`]) → CausalVideoVAE with temporal rollback tiling ([`model`]) → [`video`] file. [`pipeline`] ties it
//! together. Models are sequences of the fused operations of [`backend::Backend`]; [`ops`] says what each operation is,
//! [`cpu`] computes it, [`cuda`] runs it as kernels of our own, and [`profile`] counts and times it.

#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

pub mod arriving;
pub mod backend;
pub mod checkpoint;
pub mod cpu;
pub mod cuda;
pub mod error;
pub mod layout;
pub mod memory;
pub mod model;
pub mod ops;
pub mod pipeline;
pub mod preset;
pub mod profile;
pub mod program;
pub mod sampler;
pub mod selftest;
pub mod staged;
pub mod tensor;
pub mod text;
pub mod verify;
pub mod video;
pub mod weights;

pub use error::{Error, Result};
