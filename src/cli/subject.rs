//! What is counted: a model, by its folder or by the name of a published one, and a request.

use super::args::{ComponentArgs, ModelArgs, SizeArgs};
use super::console::Console;
use super::model;
use clap::Args;
use osp::checkpoint::{Need, WeightSource};
use osp::{Error, Model, Result, preset};
use std::path::PathBuf;

/// What is counted, and needs no weights for that: a model, the size of a video, the length of a caption.
#[derive(Args)]
pub struct SubjectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A published model by name instead of a folder, for what is only counted or has made-up weights: v1.1.0,
    /// v1.1.0-65x512x512 or v1.1.0-221x512x512
    #[arg(long, value_name = "NAME", conflicts_with_all = ["text_encoder", "transformer"])]
    pub preset: Option<String>,
    #[command(flatten)]
    pub parts: ComponentArgs,
    #[command(flatten)]
    pub size: SizeArgs,
    /// Tokens of the caption [default: 120, or the most that the model takes]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
}

/// Tokens of a caption if nothing else is said: a long one.
const TOKENS: usize = 120;

impl SubjectArgs {
    /// Everything that can be wrong before a model is opened.
    pub fn check(&self) -> Result<()> {
        // A model that only the environment names gives way.
        if self.preset.is_some() && self.model.model.is_some() {
            return Err(Error::Usage("--preset and --model name two models; give one".into()));
        }
        if self.tokens == Some(0) {
            return Err(Error::Usage("a caption has at least one token: give --tokens 1 or more".into()));
        }
        Ok(())
    }

    /// The files of the model.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.preset.is_some() { Vec::new() } else { model::files(&self.model, &self.parts) }
    }

    /// The model with its weights; those of a preset are made up.
    pub fn with_weights(&self, console: &Console) -> Result<Model> {
        if let Some(name) = &self.preset {
            let WeightSource::Synthetic(seed) = self.model.weights else {
                let hint = "give --weights synthetic:1, or --device dry to count without any";
                return Err(Error::Usage(format!("a preset has no weights to run with: {hint}")));
            };
            return preset::open_synthetic(name, self.size.frames, seed);
        }
        model::open(&self.model, &self.parts, Need::Models, console)
    }

    /// The model's configs without weights.
    pub fn without_weights(&self, console: &Console) -> Result<Model> {
        if let Some(name) = &self.preset {
            return preset::open(name, self.size.frames);
        }
        let shapes = ModelArgs { model: self.model.model.clone(), weights: WeightSource::Shapes };
        model::open(&shapes, &self.parts, Need::Models, console)
    }

    /// Tokens of the caption.
    pub fn tokens(&self, model: &Model) -> Result<usize> {
        let most = model.transformer.as_ref().map_or(TOKENS, |part| part.config.model_max_length);
        let tokens = self.tokens.unwrap_or(TOKENS.min(most));
        if tokens > most {
            return Err(Error::Usage(format!("--tokens {tokens} is more than the {most} that the model takes")));
        }
        Ok(tokens)
    }
}
