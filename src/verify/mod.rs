//! `osp verify`: golden folders, what the PyTorch original computed, run through the engine and compared.
//!
//! A golden folder holds a tiny model, inputs, and the original's outputs in float64 (stored as float32). Which kind it
//! is follows from its files alone, so folders made with other sizes, seeds, windows, samplers or step counts work too.

mod autoencoder;
mod golden;
mod pipeline;
mod samplers;
mod text;
mod tolerance;
mod transformer;

pub use tolerance::Precision;

use crate::backend::Backend;
use crate::checkpoint::{PartConfig, class_of};
use crate::error::{Error, Result};
use crate::memory::Savings;
use crate::model::latte::LatteConfig;
use crate::model::t5::T5Config;
use crate::model::vae::VaeConfig;
use crate::weights::plan::Plan;
use golden::Golden;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One comparison.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// Golden folder.
    pub folder: PathBuf,
    /// Case and tensor, e.g. `video.decoded`.
    pub case: String,
    /// What `error` measures, e.g. `relative L2`.
    pub measure: &'static str,
    /// Found.
    pub error: f64,
    /// Allowed; for a PSNR the least, otherwise the most.
    pub tolerance: f64,
    /// Within the tolerance.
    pub passed: bool,
}

/// What a golden folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Autoencoder,
    Transformer,
    TextEncoder,
    Captions,
    Samplers,
    Noise,
    Pipeline,
    Manifests,
}

/// Finds every golden folder at or below `root`, in name order, damaged ones among them.
///
/// # Errors
/// [`Error::Usage`] if there is none, [`Error::Io`] if a folder cannot be listed.
pub fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(root, &mut found)?;
    if found.is_empty() {
        let path = root.display();
        return Err(Error::Usage(format!(
            "{path} holds no golden folder: none of its folders has a cases.json, captions.json or manifest"
        )));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    // What cannot be told now is told when the folder is run.
    if !matches!(kind_of(folder), Ok(None)) {
        found.push(folder.to_path_buf());
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("cannot list", folder))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().try_for_each(|folder| collect(folder, found))
}

/// What a folder holds, or `None` if that is no golden data.
///
/// # Errors
/// It does, but its files do not say of what.
fn kind_of(folder: &Path) -> Result<Option<Kind>> {
    if folder.join("captions.json").is_file() {
        return Ok(Some(Kind::Captions));
    }
    if !folder.join("cases.json").is_file() {
        return Ok(manifests(folder).next().map(|_| Kind::Manifests));
    }
    let config = folder.join("config.json");
    match class_of(folder).as_deref() {
        Some(VaeConfig::CLASS) => return Ok(Some(Kind::Autoencoder)),
        Some(LatteConfig::CLASS) => return Ok(Some(Kind::Transformer)),
        Some(T5Config::CLASS) => return Ok(Some(Kind::TextEncoder)),
        _ if config.is_file() => return Err(Error::config(config, "names no model that this engine has")),
        _ => {}
    }
    if folder.join("vae").is_dir() {
        return Ok(Some(Kind::Pipeline));
    }
    let golden = Golden::open(folder)?;
    let has = |field: &str| golden.cases().any(|(_, case)| case.get(field).is_some());
    Ok(match (has("timesteps"), has("seed")) {
        (true, _) => Some(Kind::Samplers),
        (_, true) => Some(Kind::Noise),
        _ => None,
    })
}

/// Runs every case of one golden folder, handing over each result as it is there.
///
/// # Errors
/// Those of reading the folder and of the backend. A case that misses its tolerance is no error but a result.
pub fn run<B: Backend>(
    folder: &Path,
    backend: &B,
    precision: Precision,
    savings: Savings,
    report: &mut dyn FnMut(CaseResult),
) -> Result<()> {
    let kind = kind_of(folder)?.ok_or_else(|| Error::Usage(format!("{} is not a golden folder", folder.display())))?;
    let mut check = Check { folder, precision, savings, report };
    match kind {
        Kind::Autoencoder => autoencoder::run(backend, &mut check),
        Kind::Transformer => transformer::run(backend, &mut check),
        Kind::TextEncoder => text::encoder(backend, &mut check),
        Kind::Captions => text::captions(&mut check),
        Kind::Samplers => samplers::run(backend, &mut check),
        Kind::Noise => samplers::noise(&mut check),
        Kind::Pipeline => pipeline::run(backend, &mut check),
        Kind::Manifests => check_manifests(&mut check),
    }
}

/// A folder under check, and where its results go.
struct Check<'a> {
    folder: &'a Path,
    precision: Precision,
    savings: Savings,
    report: &'a mut dyn FnMut(CaseResult),
}

impl Check<'_> {
    /// Reports an error that must be at most `tolerance`. NaN never passes.
    fn at_most(&mut self, case: impl Into<String>, measure: &'static str, error: f64, tolerance: f64) {
        let folder = self.folder.to_path_buf();
        (self.report)(CaseResult { folder, case: case.into(), measure, error, tolerance, passed: error <= tolerance });
    }

    /// Reports a quality that must be at least `tolerance`.
    fn at_least(&mut self, case: impl Into<String>, measure: &'static str, error: f64, tolerance: f64) {
        let folder = self.folder.to_path_buf();
        (self.report)(CaseResult { folder, case: case.into(), measure, error, tolerance, passed: error >= tolerance });
    }
}

/// ‖found − expected‖ / ‖expected‖, in f64; infinite if the lengths differ.
fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let square = |value: f64| value * value;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(a as f64 - b as f64)).sum();
    let norm: f64 = expected.iter().map(|&value| square(value as f64)).sum();
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

/// Files that list the tensors of a published checkpoint.
fn manifests(folder: &Path) -> impl Iterator<Item = (PathBuf, Manifest)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.into_iter().filter_map(|path| {
        let manifest = serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
        Some((path, manifest))
    })
}

#[derive(serde::Deserialize)]
struct Manifest {
    config: serde_json::Value,
    tensors: BTreeMap<String, Vec<usize>>,
}

/// What the models ask for against what the published checkpoints hold.
fn check_manifests(check: &mut Check<'_>) -> Result<()> {
    for (path, manifest) in manifests(check.folder) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let class = manifest.config.get("_class_name").and_then(|class| class.as_str());
        let differences = match class {
            Some(VaeConfig::CLASS) => differences::<VaeConfig>(&path, manifest)?,
            Some(LatteConfig::CLASS) => differences::<LatteConfig>(&path, manifest)?,
            _ => differences::<T5Config>(&path, manifest)?,
        };
        check.at_most(name, "tensors that differ", differences as f64, 0.0);
    }
    Ok(())
}

/// Tensors that are in one of plan and manifest only, or have two shapes.
fn differences<C: PartConfig>(path: &Path, manifest: Manifest) -> Result<usize> {
    let config: C = serde_json::from_value(manifest.config).map_err(|error| Error::config(path, error.to_string()))?;
    let Plan { tensors } = config.plan(None);
    let planned: BTreeMap<String, Vec<usize>> = tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let absent = planned.iter().filter(|(name, shape)| manifest.tensors.get(*name) != Some(shape)).count();
    let unknown = manifest.tensors.keys().filter(|name| !planned.contains_key(*name) && !C::ignored(name)).count();
    Ok(absent + unknown)
}
