//! The three models, each a sequence of the operations of [`crate::backend::Backend`].
//!
//! A model's `build` asks for its parameters by name and shape. So the same code lists the tensors of a checkpoint, checks them
//! and loads them (see [`crate::weights`]). The type of a parameter is generic.

pub mod config;
pub mod latte;
mod layers;
pub mod t5;
pub mod vae;
