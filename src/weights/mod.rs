//! Sources of parameters: safetensors files, PyTorch's pickles, the synthetic recipe, or shapes without values.
//!
//! A model asks for its parameters by name and shape through [`Params`]. With a [`manifest::CheckpointManifest`] the
//! model's code lists what a checkpoint must hold; with a [`load::Loader`] it loads the tensors to a device. So names
//! and shapes are written once, in the models, and a checkpoint is checked as a whole before anything is loaded.

mod files;
pub mod hub;
pub mod load;
pub mod manifest;
mod mapped;
mod pickle;
mod safetensors;
pub mod shapes;
pub mod strange;
pub mod synthetic;
mod table;
pub mod write;

pub use files::Files;

use crate::error::Result;
use crate::tensor::{DType, Tensor};
use std::path::Path;

/// The use of a parameter, which decides its layout on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The layout of the checkpoint: vectors, linear layers `[out, in]`, embedding tables.
    Plain,
    /// A convolution, `[cout, cin, kt, kh, kw]` or `[cout, cin, kh, kw]` in the checkpoint, channels last on the
    /// device: `[cout, kt, kh, kw, cin]`.
    Convolution,
    /// The patch embedding's convolution, `[cout, cin, kh, kw]` in the checkpoint, `[cout, kh, kw, cin]` on the device.
    Patches,
    /// A 1×1(×1) convolution that runs as a linear layer: `[cout, cin, 1, …]` in the checkpoint, `[cout, cin]` on the
    /// device.
    Pointwise,
    /// A depth-wise convolution, `[channels, 1, k…]` in the checkpoint, `[channels, k…]` on the device.
    Depthwise,
}

/// Gives parameters by name. `W` is the caller's type of a parameter.
pub trait Params<W> {
    /// The tensors `names`, each of the checkpoint shape `shape`, stacked along the first axis.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] if a tensor is missing or has another shape; the source's and the backend's.
    fn get(&mut self, names: &[String], shape: &[usize], role: Role) -> Result<W>;
}

/// [`Params`] below a prefix of names.
pub struct Scope<'a, W> {
    params: &'a mut dyn Params<W>,
    prefix: String,
}

impl<'a, W> Scope<'a, W> {
    /// The scope of all names.
    pub fn root(params: &'a mut dyn Params<W>) -> Self {
        Self { params, prefix: String::new() }
    }

    /// The scope `self.name`.
    pub fn at(&mut self, name: impl AsRef<str>) -> Scope<'_, W> {
        let prefix = self.join(name.as_ref());
        Scope { params: &mut *self.params, prefix }
    }

    fn join(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// The tensor `name`, of checkpoint shape `shape`.
    ///
    /// # Errors
    /// As for [`Params::get`].
    pub fn get(&mut self, name: &str, shape: &[usize], role: Role) -> Result<W> {
        let name = self.join(name);
        self.params.get(&[name], shape, role)
    }

    /// The tensor `name`, in the checkpoint's layout.
    ///
    /// # Errors
    /// As for [`Params::get`].
    pub fn plain(&mut self, name: &str, shape: &[usize]) -> Result<W> {
        self.get(name, shape, Role::Plain)
    }

    /// Several tensors of one shape, stacked along the first axis.
    ///
    /// # Errors
    /// As for [`Params::get`].
    pub fn stacked(&mut self, names: &[&str], shape: &[usize]) -> Result<W> {
        let names: Vec<String> = names.iter().map(|name| self.join(name)).collect();
        self.params.get(&names, shape, Role::Plain)
    }
}

/// A checkpoint: named tensors, each of which is read when it is requested.
pub trait Source: Send + Sync {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Every tensor: name, dtype and shape, in the order of the file.
    fn entries(&self) -> Vec<Entry>;

    /// The tensor `name`, or `None`.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] if the file's length has changed since it was opened, [`crate::Error::Io`] if the
    /// length cannot be read.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>>;

    /// A short text that distinguishes checkpoints, for records.
    fn fingerprint(&self) -> String;

    /// A text that changes whenever a value may have changed, for caches that outlive a run.
    fn identity(&self) -> String {
        self.fingerprint()
    }
}

/// A line of a checkpoint's table of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Stored type.
    pub dtype: DType,
    /// Checkpoint shape.
    pub shape: Vec<usize>,
}
