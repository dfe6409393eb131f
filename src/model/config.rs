//! Reading `config.json` files.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// A config that knows what it cannot be.
pub trait Config: DeserializeOwned {
    /// What is wrong with the values, if anything; the engine relies on everything this allows.
    fn problem(&self) -> Option<String>;
}

/// Reads and checks a config. Unknown keys are ignored; a missing key, a value of the wrong kind or an unknown class
/// name is an error that names it.
pub fn read<C: Config>(path: &Path) -> Result<C> {
    let missing = || Error::config(path, "is missing; every part of a model has a config.json beside its weights");
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => Error::io("cannot read", path)(error),
    })?;
    let config: C = serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))?;
    match config.problem() {
        Some(problem) => Err(Error::config(path, problem)),
        None => Ok(config),
    }
}
