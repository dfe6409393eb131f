//! Reading `config.json` files.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::path::Path;

/// What is wrong with the first size that lies outside of its range. The upper ends are far above any published model: what is
/// beyond is a slip or an attack, and products of the sizes would overflow.
pub(crate) fn out_of_range(sizes: &[(&str, usize, RangeInclusive<usize>)]) -> Option<String> {
    let (name, size, range) = sizes.iter().find(|(_, size, range)| !range.contains(size))?;
    Some(format!("{name} is {size}, expected {} to {}", range.start(), range.end()))
}

/// The error for a text that is no JSON.
pub(crate) fn not_json(path: &Path, error: &serde_json::Error) -> Error {
    Error::config(path, format!("is no JSON, or only a part of it: {error}; download it again"))
}

/// A config that knows what it cannot be.
pub trait Config: DeserializeOwned {
    /// What is wrong with the values, if anything; the engine relies on everything this allows.
    fn problem(&self) -> Option<String>;
}

/// Reads and checks a config. Unknown keys are ignored; a missing key, a value of the wrong kind or an unknown class
/// name is an error that names it.
///
/// # Errors
/// [`Error::Config`] if it is missing, is no JSON, or holds what no model of this kind can have; [`Error::Io`] if it
/// cannot be read.
pub fn read<C: Config>(path: &Path) -> Result<C> {
    let missing = || Error::config(path, "is missing; every part of a model has a config.json beside its weights");
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => Error::io("cannot read", path)(error),
    })?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| not_json(path, &error))?;
    let config: C = serde_json::from_value(value).map_err(|error| Error::config(path, error.to_string()))?;
    match config.problem() {
        Some(problem) => Err(Error::config(path, problem)),
        None => Ok(config),
    }
}
