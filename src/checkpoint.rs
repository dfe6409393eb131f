//! A model's folder: where its parts lie, what their configs say, and whether the weights fit them.

use crate::error::{Error, Result};
use crate::model::config::{self, Config};
use crate::model::latte::{self, LatteConfig};
use crate::model::t5::{self, T5Config};
use crate::model::vae::{self, LATENT_CHANNELS, SPATIAL_FACTOR, TEMPORAL_FACTOR, VaeConfig};
use crate::sampler::{Kind, validate_guidance};
use crate::text::tokenizer::Tokenizer;
use crate::weights::plan::Plan;
use crate::weights::shapes::Shapes;
use crate::weights::synthetic::Synthetic;
use crate::weights::{Files, Source};
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightSource {
    /// The files of the folder (or its `synthetic.json`).
    Files,
    /// The synthetic recipe with this seed, shapes from the configs: full-size runs without a download.
    Synthetic(u64),
    /// None: shapes from the configs alone, for runs that only count.
    Shapes,
}

/// What a request gets where the user says nothing; follows the model.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Frames.
    pub frames: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// Sampler.
    pub sampler: Kind,
    /// Steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// A sentence to show with every run, where the model's `sampling.json` has one.
    pub notice: Option<String>,
}

/// One part of a model: its folder, its config and its weights, checked against each other.
pub struct Part<C> {
    /// Folder.
    pub folder: PathBuf,
    /// Parsed `config.json`.
    pub config: C,
    /// Weights; every tensor's name and shape fits the config.
    pub source: Box<dyn Source>,
}

/// A model on disk. Parts that a command does not need are not opened.
pub struct Checkpoint {
    /// T5, its folder holding the tokenizer too.
    pub text_encoder: Option<Part<T5Config>>,
    /// LatteT2V.
    pub transformer: Option<Part<LatteConfig>>,
    /// CausalVideoVAE.
    pub vae: Option<Part<VaeConfig>>,
    /// The text encoder's, where prompts are to be read.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Defaults of a request.
    pub defaults: Defaults,
}

/// Which parts to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// All three and the tokenizer, whatever a prompt needs.
    Sampling,
    /// All three.
    Models,
    /// The VAE alone. The folder may then be the VAE's own.
    Vae,
}

/// A config that a model is built from: its plan, and what its checkpoints may hold besides.
pub trait PartConfig: Config {
    /// What the config calls the model: `_class_name`, or `model_type` for T5.
    const CLASS: &'static str;
    /// What people call the part.
    const NAME: &'static str;
    /// What its weight files are called, without what follows the first dot.
    const STEM: &'static str = "diffusion_pytorch_model";
    /// The tensors of a checkpoint. `source`, if there is one, decides between equivalent names.
    fn plan(&self, source: Option<&dyn Source>) -> Plan;
    /// Whether a tensor may be there and is not read.
    fn ignored(name: &str) -> bool;
    /// Checks what else of the part is in its folder.
    ///
    /// # Errors
    /// Those of reading it. What is not there is no error.
    fn check_beside(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}

impl PartConfig for T5Config {
    const CLASS: &'static str = "t5";
    const NAME: &'static str = "text encoder";
    const STEM: &'static str = "model";

    fn plan(&self, source: Option<&dyn Source>) -> Plan {
        t5::plan(self, source.map_or("shared.weight", t5::embedding_name))
    }

    fn ignored(name: &str) -> bool {
        t5::ignored(name)
    }

    fn check_beside(&self, folder: &Path) -> Result<()> {
        if Tokenizer::is_in(folder) { tokenizer(self, folder).map(drop) } else { Ok(()) }
    }
}

impl PartConfig for LatteConfig {
    const CLASS: &'static str = "LatteT2V";
    const NAME: &'static str = "transformer";

    fn plan(&self, _: Option<&dyn Source>) -> Plan {
        latte::plan(self)
    }

    fn ignored(name: &str) -> bool {
        latte::ignored(name)
    }
}

impl PartConfig for VaeConfig {
    const CLASS: &'static str = "CausalVAEModel";
    const NAME: &'static str = "vae";

    fn plan(&self, _: Option<&dyn Source>) -> Plan {
        vae::plan(self)
    }

    fn ignored(name: &str) -> bool {
        vae::ignored(name)
    }
}

impl Checkpoint {
    /// Opens the model in `folder`. `text_encoder`: T5's folder if it is not `folder/text_encoder`. `transformer`: the
    /// subfolder with the transformer if there are several.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Weight`] say which part is missing or does not fit.
    pub fn open(
        folder: &Path,
        text_encoder: Option<&Path>,
        transformer: Option<&str>,
        weights: WeightSource,
        need: Need,
    ) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::config(
                folder,
                "is not a folder; give the one that holds vae/, a transformer and text_encoder/",
            ));
        }
        let itself = need == Need::Vae && class_of(folder)?.as_deref() == Some(VaeConfig::CLASS);
        let vae: Part<VaeConfig> =
            Part::open(&if itself { folder.to_path_buf() } else { folder.join("vae") }, weights)?;
        check_latents(&vae)?;
        let (transformer, text_encoder) = match need {
            Need::Vae => (None, None),
            Need::Models | Need::Sampling => {
                let transformer: Part<LatteConfig> = Part::open(&transformer_folder(folder, transformer)?, weights)?;
                let own = folder.join("text_encoder");
                let text_encoder: Part<T5Config> = Part::open(text_encoder.unwrap_or(&own), weights)?;
                check_fit(&transformer, &text_encoder, &vae)?;
                (Some(transformer), Some(text_encoder))
            }
        };
        let tokenizer = match &text_encoder {
            Some(part) if need == Need::Sampling => Some(Arc::new(tokenizer(&part.config, &part.folder)?)),
            _ => None,
        };
        let defaults =
            Defaults::read(folder, transformer.as_ref().map(|part| &part.config), vae.config.spatial_factor())?;
        Ok(Self { text_encoder, transformer, vae: Some(vae), tokenizer, defaults })
    }

    /// The same without values, for runs that only count.
    pub fn shapes(&self) -> Self {
        Self {
            text_encoder: self.text_encoder.as_ref().map(Part::shapes),
            transformer: self.transformer.as_ref().map(Part::shapes),
            vae: self.vae.as_ref().map(Part::shapes),
            tokenizer: self.tokenizer.clone(),
            defaults: self.defaults.clone(),
        }
    }
}

/// Sizes in which the parts must agree.
fn check_fit(transformer: &Part<LatteConfig>, text_encoder: &Part<T5Config>, vae: &Part<VaeConfig>) -> Result<()> {
    let (captions, text) = (transformer.config.caption_channels, text_encoder.config.d_model);
    if captions != text {
        let problem = format!(
            "caption_channels is {captions}, but d_model of the text encoder in {} is {text}",
            text_encoder.folder.display()
        );
        return Err(Error::config(transformer.folder.join("config.json"), problem));
    }
    let (latent, embedded) = (transformer.config.in_channels, vae.config.embed_dim);
    if latent != embedded {
        let problem =
            format!("in_channels is {latent}, but embed_dim of the VAE in {} is {embedded}", vae.folder.display());
        return Err(Error::config(transformer.folder.join("config.json"), problem));
    }
    Ok(())
}

/// Requests and latent files count on the latents of the published VAEs.
fn check_latents(vae: &Part<VaeConfig>) -> Result<()> {
    let VaeConfig { embed_dim, .. } = vae.config;
    let found = (embed_dim, vae.config.spatial_factor(), vae.config.temporal_factor());
    if found == (LATENT_CHANNELS, SPATIAL_FACTOR, TEMPORAL_FACTOR) {
        return Ok(());
    }
    let text = |(channels, space, time)| format!("{channels} channels of {space}x{space} pixels and {time} frames");
    let expected = text((LATENT_CHANNELS, SPATIAL_FACTOR, TEMPORAL_FACTOR));
    let problem = format!("makes latents with {}, expected {expected}", text(found));
    Err(Error::config(vae.folder.join("config.json"), problem))
}

/// The tokenizer in a text encoder's folder, all of whose tokens have an embedding.
///
/// # Errors
/// Those of [`Tokenizer::open`]; [`Error::Config`] if it has more tokens than the encoder.
pub fn tokenizer(config: &T5Config, folder: &Path) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::open(folder)?;
    let (found, most) = (tokenizer.tokens(), config.vocab_size);
    if found > most {
        let problem = format!("vocab_size is {most}, less than the {found} tokens of {}", tokenizer.file().display());
        return Err(Error::config(folder.join("config.json"), problem));
    }
    Ok(tokenizer)
}

/// The class that a folder's `config.json` names; none if there is no such file, or it names none.
///
/// # Errors
/// [`Error::Io`] and [`Error::Config`] if there is one that cannot be read: what is damaged is not absent.
pub fn class_of(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("config.json");
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| config::not_json(&path, &error))?;
    let class = value.get("_class_name").or_else(|| value.get("model_type"));
    Ok(class.and_then(|class| class.as_str()).map(str::to_owned))
}

/// Whether weights lie in a folder, under a name that only weights have.
pub fn has_weights(folder: &Path) -> bool {
    WEIGHT_FILES.iter().chain(&PICKLE_FILES).any(|name| is_there(&folder.join(name)))
}

/// Whether there is a file, or a link to nothing: opening that says what is missing.
pub fn is_there(path: &Path) -> bool {
    path.is_symlink() || path.is_file()
}

/// The text of a file that need not be there. A link to nothing is there, and damaged.
fn read_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        Err(error) => Err(Error::config(path, format!("cannot be read: {error}"))),
    }
}

/// The subfolder with the transformer: the one named, or the only one there is.
fn transformer_folder(folder: &Path, name: Option<&str>) -> Result<PathBuf> {
    if let Some(name) = name {
        return Ok(folder.join(name));
    }
    let mut found = transformers(folder)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(no_transformer(folder)),
        _ => {
            let names: Vec<_> =
                found.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
            Err(Error::Usage(format!(
                "{} holds several transformers; choose one with --transformer: {}",
                folder.display(),
                names.join(", ")
            )))
        }
    }
}

/// The error for a model without one.
pub fn no_transformer(folder: &Path) -> Error {
    Error::config(folder, "holds no transformer: no subfolder's config.json has the _class_name LatteT2V")
}

/// Subfolders that hold a transformer, in name order; also those, beside the other two parts, that have weights or a
/// `config.json` and do not say what they are, so that opening them says what is wrong.
pub fn transformers(folder: &Path) -> Result<Vec<PathBuf>> {
    let others = [folder.join("vae"), folder.join("text_encoder")];
    let candidate = |path: &PathBuf| match class_of(path) {
        Ok(Some(class)) => class == LatteConfig::CLASS,
        Ok(None) | Err(_) => !others.contains(path) && (path.join("config.json").is_file() || has_weights(path)),
    };
    Ok(subfolders(folder)?.into_iter().filter(candidate).collect())
}

/// What is in a folder, in name order.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("cannot list", folder))?;
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io("cannot list", folder))?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// The folders in a folder, in name order.
pub fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = list(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

impl<C: PartConfig> Part<C> {
    /// Opens the part in `folder`: reads the config and checks every tensor's name and shape against it.
    pub fn open(folder: &Path, weights: WeightSource) -> Result<Self> {
        let part = Self::open_unchecked(folder, weights)?;
        part.config.plan(Some(&*part.source)).check(&*part.source, C::ignored)?;
        Ok(part)
    }

    /// The same without checking the tensors, for listing what is wrong with them.
    pub fn open_unchecked(folder: &Path, weights: WeightSource) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::config(
                folder,
                format!("is missing; it should hold the {}: config.json and weights", C::NAME),
            ));
        }
        let config: C = config::read(&folder.join("config.json"))?;
        let source = match weights {
            WeightSource::Files => open_weights(folder)?,
            WeightSource::Synthetic(seed) => Box::new(Synthetic::new(folder, seed, config.plan(None).tensors)),
            WeightSource::Shapes => Box::new(Shapes::new(folder, config.plan(None).tensors)),
        };
        Ok(Self { folder: folder.to_path_buf(), config, source })
    }

    /// The same without values.
    pub fn shapes(&self) -> Self
    where
        C: Clone,
    {
        let source = Box::new(Shapes::new(&self.folder, self.config.plan(Some(&*self.source)).tensors));
        Self { folder: self.folder.clone(), config: self.config.clone(), source }
    }

    /// Opens the part whose weights are in `file`, its config beside it, as [`Self::open`] does.
    pub fn open_file(file: &Path) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let config: C = config::read(&folder.join("config.json"))?;
        let source = Files::open(file)?;
        config.plan(Some(&source)).check(&source, C::ignored)?;
        Ok(Self { folder: folder.to_path_buf(), config, source: Box::new(source) })
    }
}

/// Names of weight files in the order of preference.
const WEIGHT_FILES: [&str; 5] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "synthetic.json",
];

/// What golden folders hold beside weights.
const GOLDEN_FILES: [&str; 2] = ["cases.safetensors", "trace.safetensors"];

/// The same for PyTorch's pickles, which are looked for where there is nothing else.
const PICKLE_FILES: [&str; 4] = [
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Opens the weights of a folder.
fn open_weights(folder: &Path) -> Result<Box<dyn Source>> {
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

/// The file with the weights, or the index of several: under a published name, else the only one of its kind.
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

/// `sampling.json` of a model: what its makers recommend. Every key is optional.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampling {
    sampler: Option<String>,
    steps: Option<usize>,
    guidance_scale: Option<f32>,
    notice: Option<String>,
}

impl Defaults {
    /// Checks a model's `sampling.json`, if it has one.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with it.
    pub fn check(folder: &Path) -> Result<()> {
        Self::read(folder, None, SPATIAL_FACTOR).map(drop)
    }

    /// Frames and size from the transformer's config; sampler, steps and guidance from `sampling.json`, else those of the
    /// original's scripts.
    fn read(folder: &Path, transformer: Option<&LatteConfig>, spatial_factor: usize) -> Result<Self> {
        let path = folder.join("sampling.json");
        let fault = |error: Error| Error::config(&path, error.to_string());
        let sampling: Sampling = match read_if_there(&path)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| Error::config(&path, error.to_string()))?,
            None => Sampling::default(),
        };
        let sampler: Kind = sampling.sampler.map_or(Ok(Kind::Pndm), |name| name.parse().map_err(fault))?;
        let steps = sampling.steps.unwrap_or(150);
        sampler.schedule(steps).map_err(fault)?;
        let guidance = sampling.guidance_scale.unwrap_or(7.5);
        validate_guidance(guidance).map_err(fault)?;
        let [height, width] =
            transformer.map_or([64; 2], |config| config.sample_size).map(|side| side * spatial_factor);
        Ok(Self {
            frames: transformer.map_or(65, LatteConfig::frames),
            height,
            width,
            sampler,
            steps,
            guidance,
            notice: sampling.notice,
        })
    }
}
