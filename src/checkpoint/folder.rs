//! Finds the components in a model's folder, and the files of their weights.

use crate::error::{Error, Result};
use crate::model::config;
use crate::reading::{self, TEXT};
use crate::weights::synthetic::Synthetic;
use crate::weights::{Files, Source};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Files that belong to weights and lie beside them.
pub const BESIDE: [&str; 9] = [
    "calibration.json",
    "config.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "sampling.json",
    "preview.json",
];

/// The class in a folder's `config.json`; `None` without such a file, or if the file names no class.
///
/// # Errors
/// [`Error::Io`] and [`Error::Config`] if the file exists and cannot be read: a damaged file is not absent.
pub fn class_of(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("config.json");
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| config::not_json(&path, &error))?;
    let class = value.get("_class_name").or_else(|| value.get("model_type"));
    Ok(class.and_then(|class| class.as_str()).map(str::to_owned))
}

/// Whether a folder has a file with a name that only weights have.
pub fn has_weights(folder: &Path) -> bool {
    WEIGHT_FILES.iter().chain(&PICKLE_FILES).any(|name| is_there(&folder.join(name)))
}

/// Whether there is something other than a folder. To open what is no file, such as a dangling link, gives an error with its name.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_dir())
}

/// The text of an optional file. A dangling link is an error.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match reading::text(path, TEXT) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        Err(error) => Err(Error::config(path, format!("cannot be read: {error}"))),
    }
}

/// The entries of a folder, in name order.
///
/// # Errors
/// [`Error::Io`] if it cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("cannot list", folder))?;
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io("cannot list", folder))?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// The folders in a folder, in name order.
///
/// # Errors
/// As for [`list`].
pub fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = list(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// Names of weight files in the order of preference.
const WEIGHT_FILES: [&str; 5] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "synthetic.json",
];

/// Files of golden folders that are not weights.
const GOLDEN_FILES: [&str; 2] = ["cases.safetensors", "trace.safetensors"];

/// Names of PyTorch's pickles in the order of preference; they are used if there is no other file.
const PICKLE_FILES: [&str; 4] = [
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Opens the weights of a folder.
pub(super) fn open_weights(folder: &Path) -> Result<Box<dyn Source>> {
    match weight_file(folder)? {
        Some(path) if path.ends_with("synthetic.json") => Ok(Box::new(Synthetic::open(&path)?)),
        Some(path) => Ok(Box::new(Files::open(&path)?)),
        None => {
            let [diffusers, transformers] = [WEIGHT_FILES[0], WEIGHT_FILES[2]];
            let problem = format!(
                "holds no weights; expected {diffusers} or {transformers}, PyTorch's .bin or .ckpt, or synthetic.json"
            );
            Err(Error::weight(folder, "", problem))
        }
    }
}

/// The file with the weights, or the index of its shards: one with a published name, else the only file of its format.
fn weight_file(folder: &Path) -> Result<Option<PathBuf>> {
    let named = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| is_there(path));
    let only = |ending: &str| -> Result<Option<PathBuf>> {
        let of_golden_data = |path: &PathBuf| GOLDEN_FILES.iter().any(|name| path.ends_with(name));
        let mut found = list(folder)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|found| found == ending) && !of_golden_data(path));
        let first = found.next();
        if found.next().is_some() {
            let problem = format!("holds several .{ending} files and no index that says which belong together");
            return Err(Error::weight(folder, "", problem));
        }
        Ok(first)
    };
    if let Some(path) = named(&WEIGHT_FILES) {
        return Ok(Some(path));
    }
    if let Some(path) = only("safetensors")? {
        return Ok(Some(path));
    }
    if let Some(path) = named(&PICKLE_FILES) {
        return Ok(Some(path));
    }
    if let Some(path) = only("ckpt")? {
        return Ok(Some(path));
    }
    only("bin")
}
