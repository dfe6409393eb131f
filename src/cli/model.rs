//! Finds and opens the model.

use super::args::{ComponentArgs, ModelArgs, weight_source};
use super::console::Console;
use osp::checkpoint::{BESIDE, Need, Opening, WeightSource};
use osp::weights::hub;
use osp::{Error, Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const DEMO: &str = "assets/demo";

/// The model's folder that the user names, else the demo model's.
fn folder(args: &ModelArgs) -> Result<PathBuf> {
    let missing = || Error::config(DEMO, "the demo model is missing; name a model with --model DIR or OSP_MODEL");
    args.model.clone().or_else(of_environment).or_else(demo).ok_or_else(missing)
}

/// The model in `OSP_MODEL`; `None` if it is not set or empty.
fn of_environment() -> Option<PathBuf> {
    std::env::var_os("OSP_MODEL").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The demo model: beside the program, in a folder above it, or in the source tree of the build.
fn demo() -> Option<PathBuf> {
    let program = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let above = program.iter().flat_map(|program| program.ancestors().skip(1));
    let places = above.chain([Path::new(env!("CARGO_MANIFEST_DIR"))]);
    places.map(|place| place.join(DEMO)).find(|folder| folder.is_dir())
}

/// The existing files of the model and of its components in other folders. [`open`] reports missing files.
pub fn files(args: &ModelArgs, components: &ComponentArgs) -> Vec<PathBuf> {
    let folders = [folder(args).ok(), components.text_encoder.clone()].into_iter().flatten();
    folders.filter_map(|folder| hub::locate(&folder).ok()).flat_map(|folder| files_in(&folder)).collect()
}

/// The files of a model or of one component, in `folder` and its subfolders.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = list(folder).partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| list(folder)));
    files.retain(|file| file.file_name().is_some_and(|name| is_file(&name.to_string_lossy())));
    files
}

/// Whether a file of this name belongs to a model.
fn is_file(name: &str) -> bool {
    const ENDINGS: [&str; 4] = [".safetensors", ".bin", ".ckpt", ".index.json"];
    BESIDE.contains(&name) || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The options that choose the model, by name, for a later run in any folder.
pub fn noted(args: &ModelArgs, components: &ComponentArgs) -> [(&'static str, Option<String>); 4] {
    // A name in the hub's cache is no path.
    let place =
        |path: &PathBuf| if path.exists() { std::path::absolute(path).unwrap_or(path.clone()) } else { path.clone() };
    let text = |path: PathBuf| place(&path).into_os_string().into_string().ok();
    let weights =
        if let WeightSource::Synthetic(seed) = args.weights { Some(format!("synthetic:{seed}")) } else { None };
    [
        ("model", args.model.clone().or_else(of_environment).and_then(text)),
        ("text_encoder", components.text_encoder.clone().and_then(text)),
        ("transformer", components.transformer.clone()),
        ("weights", weights),
    ]
}

/// The options that an earlier run noted, if the user names no model.
pub fn or_noted(
    args: &ModelArgs,
    components: &ComponentArgs,
    noted: impl Fn(&str) -> Option<String>,
) -> (ModelArgs, ComponentArgs) {
    let noted = |name| Some(name).filter(|_| args.model.is_none()).and_then(&noted);
    let weights = noted("weights").and_then(|source| weight_source(&source).ok()).unwrap_or(args.weights);
    let model = ModelArgs { model: args.model.clone().or_else(|| noted("model").map(PathBuf::from)), weights };
    let text_encoder = components.text_encoder.clone().or_else(|| noted("text_encoder").map(PathBuf::from));
    let transformer = components.transformer.clone().or_else(|| noted("transformer"));
    (model, ComponentArgs { text_encoder, transformer })
}

/// Opens the model, with the checks that `need` requires, and prints the notice of its maker.
pub fn open(args: &ModelArgs, components: &ComponentArgs, need: Need, console: &Console) -> Result<Model> {
    let opening = Opening {
        text_encoder: components.text_encoder.clone(),
        transformer: components.transformer.clone(),
        weights: args.weights,
        need,
    };
    let model = opening.open(folder(args)?)?;
    if let Some(notice) = &model.defaults.notice {
        console.note(notice);
    }
    Ok(model)
}

/// Fingerprints of the weights that made an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fingerprints {
    text_encoder: Option<String>,
    transformer: Option<String>,
    vae: Option<String>,
}

impl Fingerprints {
    /// Those that are known, by component.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { text_encoder, transformer, vae } = self;
        let all = [("text encoder", text_encoder), ("transformer", transformer), ("vae", vae)];
        all.into_iter().filter_map(|(name, weights)| Some((name, weights.as_deref()?)))
    }

    /// The fingerprints of all components that are open.
    pub fn of(model: &Model) -> Self {
        Self {
            text_encoder: model.text_encoder.as_ref().map(|part| part.source.fingerprint()),
            transformer: model.transformer.as_ref().map(|part| part.source.fingerprint()),
            vae: model.vae.as_ref().map(|part| part.source.fingerprint()),
        }
    }
}
