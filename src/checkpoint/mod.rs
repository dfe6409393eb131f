//! A model's folder: finds its components, reads their configs, and checks the weights.

mod calibration;
mod component;
mod defaults;
mod folder;

pub use calibration::{COEFFICIENTS, Calibrated, Calibration};
pub use component::{Component, ComponentConfig, WeightSource, tokenizer};
pub use defaults::Defaults;
pub use folder::{BESIDE, class_of, has_weights, is_there, list, subfolders};

use crate::error::{Error, Result};
use crate::model::latte::LatteConfig;
use crate::model::t5::T5Config;
use crate::model::vae::{Factors, VaeConfig};
use crate::text::tokenizer::Tokenizer;
use crate::weights::hub;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model on disk. Only the components that are needed are opened ([`Need`]).
pub struct Model {
    /// Its folder, or the name of a preset.
    pub place: PathBuf,
    /// T5, its folder holding the tokenizer too.
    pub text_encoder: Option<Component<T5Config>>,
    /// LatteT2V.
    pub transformer: Option<Component<LatteConfig>>,
    /// CausalVideoVAE.
    pub vae: Option<Component<VaeConfig>>,
    /// The text encoder's tokenizer, if prompts are needed.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Defaults of a request.
    pub defaults: Defaults,
}

/// Which components to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// All three components and the tokenizer: everything that a prompt needs.
    #[default]
    Sampling,
    /// All three components.
    Models,
    /// Only the VAE. The folder may then be that of the VAE itself.
    Vae,
}

/// How to open a model. The default opens everything from one folder.
///
/// ```no_run
/// # fn main() -> osp::Result<()> {
/// use osp::checkpoint::Opening;
///
/// let opening = Opening { transformer: Some("65x512x512".into()), ..Opening::default() };
/// let model = opening.open("models/Open-Sora-Plan-v1.1.0")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Folder or hub name of the text encoder, if it is not `text_encoder` in the model's folder.
    pub text_encoder: Option<PathBuf>,
    /// Subfolder of the transformer, if there are several.
    pub transformer: Option<String>,
    /// Where weights come from.
    pub weights: WeightSource,
    /// Which components to open.
    pub need: Need,
}

impl Opening {
    /// Opens the model in the folder `place`, or of this name (`ORG/NAME`) in the cache of the Hugging Face hub.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Weight`] name the component that is missing or does not fit. [`Error::Ambiguous`] names
    /// the transformers if there are several and none is chosen.
    pub fn open(&self, place: impl AsRef<Path>) -> Result<Model> {
        let folder = hub::locate(place.as_ref())?;
        if !folder.is_dir() {
            let found = if folder.exists() { "is not a folder" } else { "there is no such folder" };
            return Err(Error::config(
                folder,
                format!("{found}; give the one that holds vae/, a transformer and text_encoder/"),
            ));
        }
        let itself = self.need == Need::Vae && class_of(&folder)?.as_deref() == Some(VaeConfig::CLASS);
        let vae: Component<VaeConfig> =
            Component::open(&if itself { folder.clone() } else { folder.join("vae") }, self.weights)?;
        let (transformer, text_encoder) = match self.need {
            Need::Vae => (None, None),
            Need::Models | Need::Sampling => {
                let transformer = Component::open(&self.transformer_in(&folder)?, self.weights)?;
                let text_encoder = Component::open(&self.text_encoder_of(&folder)?, self.weights)?;
                check_fit(&transformer, &text_encoder, &vae)?;
                (Some(transformer), Some(text_encoder))
            }
        };
        let tokenizer = match &text_encoder {
            Some(part) if self.need == Need::Sampling => Some(Arc::new(tokenizer(&part.config, &part.folder)?)),
            _ => None,
        };
        let defaults = Defaults::read(&folder, transformer.as_ref(), Factors::of(&vae.config))?;
        Ok(Model { place: folder, text_encoder, transformer, vae: Some(vae), tokenizer, defaults })
    }

    /// The subfolder of the transformer: the chosen one, or the only one.
    fn transformer_in(&self, folder: &Path) -> Result<PathBuf> {
        if let Some(name) = &self.transformer {
            return Ok(folder.join(name));
        }
        let mut found = transformers(folder)?;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(no_transformer(folder)),
            _ => {
                let names = found.iter().filter_map(|path| path.file_name());
                let names = names.map(|name| name.to_string_lossy().into_owned()).collect();
                Err(Error::Ambiguous { folder: folder.to_path_buf(), what: "transformer", found: names })
            }
        }
    }

    fn text_encoder_of(&self, folder: &Path) -> Result<PathBuf> {
        self.text_encoder.as_deref().map_or_else(|| Ok(folder.join("text_encoder")), hub::locate)
    }
}

impl Model {
    /// Opens a model in the folder `place`, or with this name (`ORG/NAME`) in the cache of the Hugging Face hub.
    ///
    /// # Errors
    /// Those of [`Opening::open`].
    pub fn open(place: impl AsRef<Path>) -> Result<Self> {
        Opening::default().open(place)
    }

    /// Pixels and frames of a latent.
    ///
    /// # Errors
    /// Those of [`Self::need_vae`].
    pub fn factors(&self) -> Result<Factors> {
        Ok(Factors::of(&self.need_vae()?.config))
    }

    /// The text encoder.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model was opened without it.
    pub fn need_text_encoder(&self) -> Result<&Component<T5Config>> {
        self.text_encoder.as_ref().ok_or_else(|| self.lacks("text encoder"))
    }

    /// The transformer.
    ///
    /// # Errors
    /// As for [`Self::need_text_encoder`].
    pub fn need_transformer(&self) -> Result<&Component<LatteConfig>> {
        self.transformer.as_ref().ok_or_else(|| self.lacks("transformer"))
    }

    /// The VAE.
    ///
    /// # Errors
    /// As for [`Self::need_text_encoder`].
    pub fn need_vae(&self) -> Result<&Component<VaeConfig>> {
        self.vae.as_ref().ok_or_else(|| self.lacks("VAE"))
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// As for [`Self::need_text_encoder`].
    pub fn need_tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_deref().ok_or_else(|| self.lacks("tokenizer"))
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Usage(format!("{} was opened without its {what}; open what the work needs", self.place.display()))
    }

    /// The model with weights that have shapes and no values, for runs that only count.
    pub fn shapes(&self) -> Self {
        Self {
            place: self.place.clone(),
            text_encoder: self.text_encoder.as_ref().map(Component::shapes),
            transformer: self.transformer.as_ref().map(Component::shapes),
            vae: self.vae.as_ref().map(Component::shapes),
            tokenizer: self.tokenizer.clone(),
            defaults: self.defaults.clone(),
        }
    }
}

/// The error for a model without a transformer.
pub fn no_transformer(folder: &Path) -> Error {
    Error::config(folder, "holds no transformer: no subfolder's config.json has the _class_name LatteT2V")
}

/// Subfolders that hold a transformer, in name order. A subfolder with weights or a `config.json` of no known class counts too,
/// unless it belongs to another component: to open it gives an error that says what is wrong.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed.
pub fn transformers(folder: &Path) -> Result<Vec<PathBuf>> {
    let others = [folder.join("vae"), folder.join("text_encoder")];
    let candidate = |path: &PathBuf| match class_of(path) {
        Ok(Some(class)) => class == LatteConfig::CLASS,
        Ok(None) | Err(_) => !others.contains(path) && (path.join("config.json").is_file() || has_weights(path)),
    };
    Ok(subfolders(folder)?.into_iter().filter(candidate).collect())
}

/// The most position biases of the text encoder, which has one for each head and pair of tokens. The published one has six million.
const MOST_BIASES: usize = 1 << 28;

/// Checks the sizes in which the components must agree.
fn check_fit(
    transformer: &Component<LatteConfig>,
    text_encoder: &Component<T5Config>,
    vae: &Component<VaeConfig>,
) -> Result<()> {
    let (captions, text) = (transformer.config.caption_channels, text_encoder.config.d_model);
    if captions != text {
        let problem = format!(
            "caption_channels is {captions}, but d_model of the text encoder in {} is {text}",
            text_encoder.folder.display()
        );
        return Err(Error::config(transformer.folder.join("config.json"), problem));
    }
    let (tokens, heads) = (transformer.config.model_max_length, text_encoder.config.num_heads);
    if heads * tokens * tokens > MOST_BIASES {
        let most = (MOST_BIASES / heads).isqrt();
        let problem =
            format!("model_max_length is {tokens}, expected at most {most} for {heads} heads of the text encoder");
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
