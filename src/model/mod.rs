//! The three models, each a sequence of the operations of [`crate::backend::Backend`].
//!
//! A model's `build` asks for its parameters by name and shape, so the same code plans a checkpoint, checks it and
//! loads it (see [`crate::weights`]); its fields are generic over what a parameter is.

pub mod config;
pub mod latte;
mod layers;
pub mod t5;
pub mod vae;
