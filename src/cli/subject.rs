//! Options for commands that count: a model, by its folder or a published model's name, and a request.

use super::args::{ComponentArgs, ModelArgs, SizeArgs, count};
use super::console::Console;
use super::model;
use clap::Args;
use osp::checkpoint::{Need, WeightSource};
use osp::{Error, Model, Result, preset};
use std::path::PathBuf;

/// Options for a count, which needs no weights: a model, the size of a video, the length of a caption.
#[derive(Args)]
pub struct SubjectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Config of a published model instead of a folder, to count or to use synthetic weights: v1.1.0, v1.1.0-65x512x512
    /// or v1.1.0-221x512x512
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "text_encoder", "transformer"])]
    pub preset: Option<String>,
    #[command(flatten)]
    pub components: ComponentArgs,
    #[command(flatten)]
    pub size: SizeArgs,
    /// Tokens of the caption [default: 120, or the model's maximum if that is less]
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    tokens: Option<usize>,
}

/// The default number of tokens: a long caption.
const TOKENS: usize = 120;

impl SubjectArgs {
    /// Checks everything that can be checked before the model is opened.
    pub fn check(&self) -> Result<()> {
        if self.tokens == Some(0) {
            return Err(Error::Usage("a caption has at least one token: give --tokens 1 or more".into()));
        }
        Ok(())
    }

    /// The files of the model.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.preset.is_some() { Vec::new() } else { model::files(&self.model, &self.components) }
    }

    /// The model with its weights; a preset's are synthetic.
    pub fn with_weights(&self, console: &Console) -> Result<Model> {
        if let Some(name) = &self.preset {
            let WeightSource::Synthetic(seed) = self.model.weights else {
                let hint = "give --weights synthetic:1, or --device dry to count without weights";
                return Err(Error::Usage(format!("a preset has no weights: {hint}")));
            };
            return preset::open_synthetic(name, self.size.frames, seed);
        }
        model::open(&self.model, &self.components, Need::Models, console)
    }

    /// The model's configs without weights.
    pub fn without_weights(&self, console: &Console) -> Result<Model> {
        if let Some(name) = &self.preset {
            return preset::open(name, self.size.frames);
        }
        let shapes = ModelArgs { model: self.model.model.clone(), weights: WeightSource::Shapes };
        model::open(&shapes, &self.components, Need::Models, console)
    }

    /// Tokens of the caption.
    pub fn tokens(&self, model: &Model) -> Result<usize> {
        let most = model.transformer.as_ref().map_or(TOKENS, |part| part.config.model_max_length);
        let tokens = self.tokens.unwrap_or(TOKENS.min(most));
        if tokens > most {
            return Err(Error::Usage(format!("--tokens {tokens} is too large: the model allows at most {most}")));
        }
        Ok(tokens)
    }
}
