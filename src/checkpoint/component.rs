//! One component of a model: its config and its weights, checked against each other.

use super::folder::{open_weights, read_if_there};
use crate::error::{Error, Result};
use crate::model::config::{self, Config};
use crate::model::latte::{self, LatteConfig};
use crate::model::t5::{self, T5Config};
use crate::model::vae::{self, Projection, VaeConfig};
use crate::text::tokenizer::Tokenizer;
use crate::weights::manifest::CheckpointManifest;
use crate::weights::shapes::Shapes;
use crate::weights::synthetic::Synthetic;
use crate::weights::{Files, Source};
use std::path::{Path, PathBuf};

/// Where weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightSource {
    /// The files of the folder (or its `synthetic.json`).
    #[default]
    Files,
    /// Generated from this seed, with shapes from the configs: for full-size runs without a download.
    Synthetic(u64),
    /// None: shapes from the configs alone, for runs that only count.
    Shapes,
}

/// One component of a model: its folder, its config and its weights, checked against each other.
pub struct Component<C> {
    /// Folder.
    pub folder: PathBuf,
    /// Parsed `config.json`.
    pub config: C,
    /// Weights; every tensor's name and shape fits the config.
    pub source: Box<dyn Source>,
}

/// The config of a component: which tensors its checkpoint must hold, and which it may hold.
pub trait ComponentConfig: Config {
    /// The config's `_class_name`, or `model_type` for T5.
    const CLASS: &'static str;
    /// The component's name in messages.
    const NAME: &'static str;
    /// The names of its weight files, up to the first dot.
    const STEM: &'static str = "diffusion_pytorch_model";
    /// The tensors of a checkpoint. `source`, if there is one, decides between equivalent names.
    fn manifest(&self, source: Option<&dyn Source>) -> CheckpointManifest;
    /// Whether a checkpoint may hold this tensor although nothing reads it.
    fn ignored(name: &str) -> bool;
    /// Checks the other files of the component, such as its tokenizer.
    ///
    /// # Errors
    /// Those of a file that cannot be read. A missing file is not an error.
    fn check_beside(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}

impl ComponentConfig for T5Config {
    const CLASS: &'static str = "t5";
    const NAME: &'static str = "text encoder";
    const STEM: &'static str = "model";

    fn manifest(&self, source: Option<&dyn Source>) -> CheckpointManifest {
        t5::manifest(self, source.map_or("shared.weight", t5::embedding_name))
    }

    fn ignored(name: &str) -> bool {
        t5::ignored(name)
    }

    fn check_beside(&self, folder: &Path) -> Result<()> {
        if Tokenizer::is_in(folder) { tokenizer(self, folder).map(drop) } else { Ok(()) }
    }
}

impl ComponentConfig for LatteConfig {
    const CLASS: &'static str = "LatteT2V";
    const NAME: &'static str = "transformer";

    fn manifest(&self, _: Option<&dyn Source>) -> CheckpointManifest {
        latte::manifest(self)
    }

    fn ignored(name: &str) -> bool {
        latte::ignored(name)
    }
}

impl ComponentConfig for VaeConfig {
    const CLASS: &'static str = "CausalVAEModel";
    const NAME: &'static str = "vae";

    fn manifest(&self, _: Option<&dyn Source>) -> CheckpointManifest {
        vae::manifest(self)
    }

    fn ignored(name: &str) -> bool {
        vae::ignored(name)
    }

    fn check_beside(&self, folder: &Path) -> Result<()> {
        projection(self, folder).map(drop)
    }
}

/// The projection of latents to colours in a VAE's folder: `preview.json`, if it is there.
fn projection(config: &VaeConfig, folder: &Path) -> Result<Option<Projection>> {
    let path = folder.join("preview.json");
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    let read: Projection = serde_json::from_str(&text).map_err(|error| Error::config(&path, error.to_string()))?;
    match read.problem(config.embed_dim) {
        None => Ok(Some(read)),
        Some(problem) => Err(Error::config(&path, problem)),
    }
}

impl Component<VaeConfig> {
    /// The projection of latents to colours that the VAE comes with, if it does.
    ///
    /// # Errors
    /// [`Error::Config`] for a `preview.json` that is damaged or another VAE's.
    pub fn projection(&self) -> Result<Option<Projection>> {
        projection(&self.config, &self.folder)
    }
}

/// Opens the tokenizer in a text encoder's folder, and checks that every token has an embedding.
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

impl<C: ComponentConfig> Component<C> {
    /// Opens the component in `folder`: reads the config and checks every tensor's name and shape against it.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that is missing or cannot be used, [`Error::Weight`] for weights that are missing,
    /// damaged, or do not fit it.
    pub fn open(folder: &Path, weights: WeightSource) -> Result<Self> {
        let part = Self::open_unchecked(folder, weights)?;
        part.config.manifest(Some(&*part.source)).check(&*part.source, C::ignored)?;
        Ok(part)
    }

    /// As [`Self::open`], without a check of the tensors, to list all their problems.
    ///
    /// # Errors
    /// As for [`Self::open`].
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
            WeightSource::Synthetic(seed) => Box::new(Synthetic::new(folder, seed, config.manifest(None).tensors)),
            WeightSource::Shapes => Box::new(Shapes::new(folder, config.manifest(None).tensors)),
        };
        Ok(Self { folder: folder.to_path_buf(), config, source })
    }

    /// The component with weights that have shapes and no values.
    pub fn shapes(&self) -> Self
    where
        C: Clone,
    {
        let source = Box::new(Shapes::new(&self.folder, self.config.manifest(Some(&*self.source)).tensors));
        Self { folder: self.folder.clone(), config: self.config.clone(), source }
    }

    /// As [`Self::open`], for the weights in `file` and the config beside it.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_file(file: &Path) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let config: C = config::read(&folder.join("config.json"))?;
        let source = Files::open(file)?;
        config.manifest(Some(&source)).check(&source, C::ignored)?;
        Ok(Self { folder: folder.to_path_buf(), config, source: Box::new(source) })
    }
}
