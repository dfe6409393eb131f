//! Reading `config.json` files.

use crate::error::{Error, Result};
use crate::reading::{self, TEXT};
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::path::Path;

/// Describes the first size outside its range. The upper ends are far above any published model; a larger size is a mistake or an
/// attack, and products of sizes would overflow.
pub(crate) fn out_of_range(sizes: &[(&str, usize, RangeInclusive<usize>)]) -> Option<String> {
    let (name, size, range) = sizes.iter().find(|(_, size, range)| !range.contains(size))?;
    Some(format!("{name} is {size}, expected {} to {}", range.start(), range.end()))
}

/// The error for text that is not JSON.
pub(crate) fn not_json(path: &Path, error: &serde_json::Error) -> Error {
    Error::config(path, format!("is no JSON, or only a part of it: {error}; download it again"))
}

/// A config that checks its values.
pub trait Config: DeserializeOwned {
    /// The first problem of the values, if there is one. The engine handles all values that pass.
    fn problem(&self) -> Option<String>;
}

/// Reads and checks a config. Unknown keys are ignored; a missing key, a value of the wrong kind or an unknown class
/// name is an error that names it.
///
/// # Errors
/// [`Error::Config`] if it is missing, is not JSON, or has invalid values; [`Error::Io`] if it cannot be read.
pub fn read<C: Config>(path: &Path) -> Result<C> {
    let missing = || Error::config(path, "is missing; every part of a model has a config.json beside its weights");
    let text = reading::text(path, TEXT).map_err(|error| match error.kind() {
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
