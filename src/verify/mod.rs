//! `osp verify`: runs the engine on golden folders, and compares its results with those of the PyTorch original.
//!
//! A golden folder holds a tiny model, inputs, and the original's outputs in float64 (stored as float32). Only its
//! files decide its kind, so folders with other sizes, seeds, windows, samplers or step counts work, too.

mod autoencoder;
mod golden;
mod pipeline;
mod samplers;
mod text;
mod tolerance;
mod transformer;

pub use tolerance::Precision;

use crate::backend::Backend;
use crate::checkpoint::{Component, ComponentConfig, WeightSource, class_of, has_weights, is_there, list, subfolders};
use crate::cuda::{Cuda, Half, Variant};
use crate::engine::{Engine, Processor};
use crate::error::{Error, Result};
use crate::memory::MemoryOptions;
use crate::model::latte::LatteConfig;
use crate::model::t5::T5Config;
use crate::model::vae::VaeConfig;
use crate::profile::{Profiled, Recorder};
use crate::reading::{self, TEXT};
use crate::weights::manifest::CheckpointManifest;
use crate::weights::strange;
use golden::Golden;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One comparison.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// Golden folder.
    pub folder: PathBuf,
    /// Case and tensor, e.g. `video.decoded`.
    pub case: String,
    /// What `error` measures, e.g. `relative L2`.
    pub measure: &'static str,
    /// The measured value.
    pub error: f64,
    /// The bound: for a PSNR the least value, otherwise the most.
    pub tolerance: f64,
    /// Whether the error is within the tolerance.
    pub passed: bool,
}

/// The kind of a golden folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FolderKind {
    Autoencoder,
    Transformer,
    TextEncoder,
    Captions,
    Samplers,
    Noise,
    Pipeline,
    Manifests,
}

/// Finds every golden folder at or below `root`, including damaged ones, in name order.
///
/// # Errors
/// [`Error::Usage`] if there is none, [`Error::Io`] if a folder cannot be listed.
pub fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !list(root)?.is_empty() {
        collect(root, &mut found)?;
    }
    if found.is_empty() {
        let path = root.display();
        return Err(Error::Usage(format!(
            "{path} holds no golden folder: none of its folders has a cases.json, captions.json or manifest"
        )));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    // A folder with an error is kept: the error is reported when the folder is run.
    if !matches!(kind_of(folder), Ok(None)) {
        found.push(folder.to_path_buf());
    }
    // A link may lead back, or anywhere.
    let folders = subfolders(folder)?.into_iter().filter(|folder| !folder.is_symlink());
    folders.into_iter().try_for_each(|folder| collect(&folder, found))
}

/// The kind of a folder; `None` if it holds no golden data.
///
/// # Errors
/// [`Error::Config`] if it holds golden data of an unknown kind, or a file is missing.
fn kind_of(folder: &Path) -> Result<Option<FolderKind>> {
    let has = |name: &str| is_there(&folder.join(name));
    if has("captions.json") {
        return Ok(Some(FolderKind::Captions));
    }
    if !has("cases.json") {
        if let Some(other) =
            ["cases.safetensors", "trace.safetensors", "tokens.json"].into_iter().find(|name| has(name))
        {
            return Err(Error::config(folder.join("cases.json"), format!("is missing beside {other}")));
        }
        // An empty folder among golden data has lost its files.
        if list(folder)?.is_empty() {
            return Err(Error::config(folder, "is an empty folder: its golden data is missing"));
        }
        return Ok(if manifests(folder)?.is_empty() { None } else { Some(FolderKind::Manifests) });
    }
    match class_of(folder)?.as_deref() {
        Some(VaeConfig::CLASS) => return Ok(Some(FolderKind::Autoencoder)),
        Some(LatteConfig::CLASS) => return Ok(Some(FolderKind::Transformer)),
        Some(T5Config::CLASS) => return Ok(Some(FolderKind::TextEncoder)),
        _ if has("config.json") => {
            return Err(Error::config(folder.join("config.json"), "does not name a model of this engine"));
        }
        _ => {}
    }
    let golden = Golden::open(folder)?;
    let has_field = |field: &str| golden.cases().any(|(_, case)| case.get(field).is_some());
    match ["timesteps", "seed", "prompt"].map(has_field) {
        [true, ..] => Ok(Some(FolderKind::Samplers)),
        [_, true, _] => Ok(Some(FolderKind::Noise)),
        [_, _, true] => Ok(Some(FolderKind::Pipeline)),
        _ => Err(Error::config(folder.join("config.json"), "is missing, but cases.json needs a model")),
    }
}

/// Runs every case of one golden folder, and hands over each result at once.
///
/// # Errors
/// Those of reading the folder, and the backend's. A case that exceeds its tolerance is a result, not an error.
pub fn run<B: Backend>(
    folder: &Path,
    backend: &B,
    precision: Precision,
    savings: MemoryOptions,
    report: &mut dyn FnMut(CaseResult),
) -> Result<()> {
    let kind = kind_of(folder)?.ok_or_else(|| Error::Usage(format!("{} is not a golden folder", folder.display())))?;
    let mut check = Check { folder, precision, savings, report };
    match kind {
        FolderKind::Autoencoder => autoencoder::run(backend, &mut check),
        FolderKind::Transformer => transformer::run(backend, &mut check),
        FolderKind::TextEncoder => text::encoder(backend, &mut check),
        FolderKind::Captions => text::captions(&mut check),
        FolderKind::Samplers => samplers::run(backend, &mut check),
        FolderKind::Noise => samplers::noise(&mut check),
        FolderKind::Pipeline => pipeline::run(backend, &mut check),
        FolderKind::Manifests => check_manifests(&mut check),
    }
}

impl Engine {
    /// Runs every case of one golden folder on this engine's device, and hands over each result at once. Returns the
    /// number of launches of each variant of the kernels.
    ///
    /// # Errors
    /// Those of [`run`]; [`Error::Usage`] on a device that executes nothing.
    pub fn verify(
        &self,
        folder: &Path,
        savings: MemoryOptions,
        report: &mut dyn FnMut(CaseResult),
    ) -> Result<BTreeMap<Variant, usize>> {
        let mut launches = BTreeMap::new();
        let [_, half] = self.dtypes();
        let precision = match half {
            Half::F16 => Precision::F16,
            Half::Bf16 => Precision::Bf16,
        };
        match self.processor() {
            Processor::Cpu(cpu) => run(folder, cpu, Precision::F32, savings, report)?,
            Processor::Gpu { device, .. } | Processor::Emulated(device) => {
                let recorder = Recorder::default();
                let device = Arc::new(Profiled::new(device.clone(), recorder.clone()));
                run(folder, &Cuda::new(device, half), precision, savings, report)?;
                for record in recorder.take() {
                    *launches.entry(Variant::of_kernel(&record.name)).or_default() += 1;
                }
            }
            Processor::Dry(_) => {
                return Err(Error::Usage(
                    "a device that executes nothing cannot be verified; choose another device".into(),
                ));
            }
        }
        Ok(launches)
    }
}

/// A folder that is being checked, and the receiver of its results.
struct Check<'a> {
    folder: &'a Path,
    precision: Precision,
    savings: MemoryOptions,
    report: &'a mut dyn FnMut(CaseResult),
}

impl Check<'_> {
    /// Reports an error that must be at most `tolerance`. NaN fails.
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

/// Opens the component in `folder`, and checks that its weights are finite.
fn open<C: ComponentConfig>(folder: &Path) -> Result<Component<C>> {
    let component = Component::open(folder, WeightSource::Files)?;
    all_numbers(&component)?;
    Ok(component)
}

/// Fails if a weight is not finite: no check would mean anything.
fn all_numbers<C: ComponentConfig>(component: &Component<C>) -> Result<()> {
    strange::check(&*component.source, &component.config.manifest(Some(&*component.source)).tensors)
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

/// Manifests of published checkpoints: JSON files with a config and tensors. Damaged JSON counts, too, because it may
/// have been a manifest. JSON beside weights is not a manifest.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = list(folder)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    if folder.join("config.json").exists() || has_weights(folder) {
        paths.clear();
    }
    let other = |path: &PathBuf| {
        let text = reading::text(path, TEXT).ok();
        let value: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(&text).ok());
        value.is_some_and(|value| value.get("config").is_none() && value.get("tensors").is_none())
    };
    paths.retain(|path| !other(path));
    Ok(paths)
}

#[derive(serde::Deserialize)]
struct PublishedManifest {
    config: serde_json::Value,
    tensors: BTreeMap<String, Vec<usize>>,
}

/// Compares the tensors that the models need with those that published checkpoints hold. A damaged manifest is an error
/// after all others are checked.
fn check_manifests(check: &mut Check<'_>) -> Result<()> {
    let mut whole = Ok(());
    for path in manifests(check.folder)? {
        match manifest(&path) {
            Ok(differences) => {
                let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                check.at_most(name, "tensors that differ", differences as f64, 0.0);
            }
            Err(error) => whole = whole.and(Err(error)),
        }
    }
    whole
}

/// The number of tensors that differ between a manifest and the model of its config.
fn manifest(path: &Path) -> Result<usize> {
    let text = reading::text(path, TEXT).map_err(Error::io("cannot read", path))?;
    let manifest: PublishedManifest =
        serde_json::from_str(&text).map_err(|error| Error::config(path, format!("is not a manifest: {error}")))?;
    match manifest.config.get("_class_name").and_then(|class| class.as_str()) {
        Some(VaeConfig::CLASS) => differences::<VaeConfig>(path, manifest),
        Some(LatteConfig::CLASS) => differences::<LatteConfig>(path, manifest),
        _ => differences::<T5Config>(path, manifest),
    }
}

/// The number of tensors that only the model or only the manifest has, or whose shapes differ.
fn differences<C: ComponentConfig>(path: &Path, manifest: PublishedManifest) -> Result<usize> {
    let config: C = serde_json::from_value(manifest.config).map_err(|error| Error::config(path, error.to_string()))?;
    if let Some(problem) = config.problem() {
        return Err(Error::config(path, problem));
    }
    let CheckpointManifest { tensors } = config.manifest(None);
    let planned: BTreeMap<String, Vec<usize>> = tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let absent = planned.iter().filter(|(name, shape)| manifest.tensors.get(*name) != Some(shape)).count();
    let unknown = manifest.tensors.keys().filter(|name| !planned.contains_key(*name) && !C::ignored(name)).count();
    Ok(absent + unknown)
}
