//! `osp` samples videos from text with Open-Sora-Plan v1.1.0: T5 text encoder → LatteT2V diffusion transformer →
//! CausalVideoVAE with temporal rollback tiling. It has hand-written CUDA kernels and a small Rust runtime. It needs no tensor
//! framework and no Python.
//!
//! ```standalone_crate
//! use osp::{Engine, Model, Quiet, Request};
//!
//! fn main() -> osp::Result<()> {
//!     let engine = Engine::auto()?;
//!     let model = Model::open("assets/demo")?;
//!     let request = Request::new("a large red circle moving right on a black background");
//!     let sample = engine.sample(&model, &request, &mut Quiet)?;
//! #     std::env::set_current_dir(std::env::temp_dir()).expect("there is a folder for temporary files");
//!     sample.clip.save("circle.mp4")
//! }
//! ```
//!
//! [`Engine`] also encodes, decodes and reconstructs clips, plans memory, profiles kernels, and verifies a machine against
//! the PyTorch original. An [`Observer`] receives progress and latents, and can cancel. The programs in `examples/` show more;
//! the `osp` program makes the same calls.
//!
//! # The flow of data
//!
//! | step | module |
//! |---|---|
//! | a model's folder: configs, weights, tokenizer | [`checkpoint`], [`weights`]; published configs in [`preset`] |
//! | prompt → clean caption → tokens | [`text`] |
//! | tokens → embeddings (T5) → noise → latent (LatteT2V) → frames (VAE) | [`engine`], with the networks in [`model`] and the schedules in [`sampler`] |
//! | frames → file | [`video`]; outputs appear whole or not at all ([`staged`]) |
//!
//! The networks are sequences of some twenty fused operations. [`ops`] defines each operation, and [`backend`] is the
//! interface. [`cpu`] computes them in f32; [`cuda`] launches kernels for them in f16 or bf16. [`memory`] plans a stage's
//! buffers before it runs. [`profile`] counts and times the launches. [`verify`] compares results with the original, and
//! [`selftest`] compares the kernels with the CPU.
//!
//! # Devices
//!
//! | engine | computes | needs |
//! |---|---|---|
//! | [`Engine::cuda`] | with our kernels on a GPU of sm_80 or newer | an NVIDIA driver, and nvcc when osp is built |
//! | [`Engine::cpu`] | in f32 on all threads of the host | nothing |
//! | [`Engine::emulated`] | with the sources of our kernels, thread by thread, on the host | nothing; slow and strict |
//! | [`Engine::dry`] | nothing; it counts launches, FLOPs, bytes and memory | neither a GPU nor weights |
//! | [`Engine::auto`] | on a GPU if there is one, else on the CPU | |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `cli` (default) | the `osp` program; the library alone needs none of its crates |
//! | `download` | the command `osp download`; without it the crate has no network code |

#![deny(missing_docs, clippy::missing_errors_doc, clippy::print_stdout, clippy::print_stderr)]
#![deny(rustdoc::broken_intra_doc_links)]

pub mod arriving;
pub mod backend;
pub mod checkpoint;
pub mod cpu;
pub mod cuda;
pub mod engine;
pub mod error;
mod hash;
pub mod latent;
pub mod layout;
pub mod memory;
pub mod model;
pub mod ops;
pub mod preset;
pub mod profile;
pub mod program;
pub mod reading;
pub mod room;
pub mod sampler;
pub mod selftest;
pub mod staged;
pub mod state;
pub mod tensor;
pub mod text;
pub mod verify;
pub mod video;
pub mod weights;

pub use checkpoint::Model;
pub use engine::{Engine, Observer, Quiet, Request, Sample};
pub use error::{Error, Relief, Result};
pub use latent::Latent;
pub use video::Clip;
