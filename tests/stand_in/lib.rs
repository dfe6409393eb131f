//! A stand-in for NVIDIA's driver: a `libcuda.so.1` without a GPU. It has the functions that this program calls, keeps
//! to what NVIDIA's documentation allows, and runs the kernels on the emulator. `scripts/stand-in` runs a command on it.
//!
//! A stream is a queue of work. The work runs when the documentation forces it to, or at any call before: the seed
//! decides, so a seed always gives the same order of the same calls. Nothing runs between two calls, and one lock
//! serves all threads.
//!
//! What the stand-in does not model is `CUDA_ERROR_NOT_SUPPORTED`, with a line on stderr that says what it was.
//!
//! | file | holds |
//! |---|---|
//! | `api/` | the exported functions, as thin as they can be |
//! | `settings.rs` | the variable `OSP_STAND_IN` |
//! | `card.rs` | the attributes of the GPU |
//! | `state.rs` | what the process has open; who may call, and which error a call returns |
//! | `streams.rs`, `work.rs` | queues, events, and when work runs; what each piece of work does |
//! | `memory.rs` | memory of the GPU, and pinned memory |
//! | `image/` | fat binaries, machine code and PTX |
//! | `errors.rs` | names and descriptions of errors |

#![allow(non_snake_case, reason = "the driver's names")]

mod api;
mod card;
mod chance;
mod errors;
mod image;
mod memory;
mod settings;
mod state;
mod streams;
mod work;

use cudarc::driver::sys::CUresult;

/// What a call does: the error is what the driver returns.
type Outcome<T> = Result<T, CUresult>;
