//! Prompts to the tokens of the text encoder.

use super::evaluation::branches;
use super::{Observer, Quiet, Settings, Warning};
use crate::checkpoint::Model;
use crate::error::Result;
use crate::model::t5::Caption;
use crate::text::tokenizer::Tokenizer;

/// What warnings call the prompt.
const CAPTION: &str = "caption";

/// The encoder's input for a caption, and the number of positions that are needed. A masked token changes only its own row, so
/// only the needed positions are encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The caption.
    pub caption: Caption,
    /// Positions.
    pub kept: usize,
}

/// The text encoder's inputs for one video.
#[derive(Clone, Debug, Default)]
pub struct Captions {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Tokens of the caption, `</s>` included: K.
    pub tokens: usize,
    /// With guidance the negative prompt, then the caption.
    pub samples: Vec<Wanted>,
    /// Those of an edit's source prompt.
    pub source: Option<Box<Captions>>,
}

impl Captions {
    /// The tokens of one video, and those of its source prompt.
    pub(crate) fn of(
        tokenizer: &Tokenizer,
        max_tokens: usize,
        settings: &Settings,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let source = settings.source();
        let source = source.map(|source| Self::named("source prompt", tokenizer, max_tokens, &source, observer));
        let source = source.transpose()?.map(Box::new);
        Ok(Self { source, ..Self::named(CAPTION, tokenizer, max_tokens, settings, observer)? })
    }

    /// The tokens of one prompt. Both captions are cut to the caption's K tokens. If the negative prompt is shorter, the encoder's
    /// output at its padding counts.
    fn named(
        name: &'static str,
        tokenizer: &Tokenizer,
        max_tokens: usize,
        settings: &Settings,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let encode = |name: &'static str, text: &str, observer: &mut dyn Observer| {
            let tokens = tokenizer.encode_padded(text, max_tokens)?;
            if let Some(rest) = &tokens.cut {
                observer.warn(&Warning::Cut { text: name, most: max_tokens, rest: rest.clone() });
            }
            if tokens.unknown > 0 {
                observer.warn(&Warning::Unknown { text: name, parts: tokens.unknown });
            }
            Result::Ok(tokens)
        };
        let wanted = |ids: &[u32], unmasked: usize, kept: usize| {
            let length = unmasked.max(kept);
            let mask = (0..length).map(|i| i < unmasked).collect();
            Wanted { caption: Caption { ids: ids[..length].to_vec(), mask }, kept }
        };
        let cleaned_prompt = settings.prepared(&settings.prompt);
        if !cleaned_prompt.chars().any(char::is_alphanumeric) {
            observer.warn(&Warning::BareCaption { text: name, caption: cleaned_prompt.clone() });
        }
        let prompt = encode(name, &cleaned_prompt, observer)?;
        let tokens = prompt.unmasked;
        let mut samples = Vec::new();
        if settings.guidance > 1.0 {
            let negative = settings.prepared(&settings.negative_prompt);
            // It is that of the prompt, and said once.
            let observer: &mut dyn Observer = if name == CAPTION { observer } else { &mut Quiet };
            if negative.is_empty() && !settings.negative_prompt.trim().is_empty() {
                observer.warn(&Warning::EmptyNegativePrompt { prompt: settings.negative_prompt.clone() });
            }
            let negative = encode("negative prompt", &negative, observer)?;
            samples.push(wanted(&negative.ids, negative.unmasked, tokens));
        }
        samples.push(wanted(&prompt.ids, tokens, tokens));
        Ok(Self { cleaned_prompt, tokens, samples, source: None })
    }

    /// The captions of the prompt, then those of the source prompt.
    pub(super) fn all(&self) -> impl Iterator<Item = &Wanted> {
        self.samples.iter().chain(self.source.iter().flat_map(|source| &source.samples))
    }

    /// Tokens of the longer one of the prompt and the source prompt.
    pub fn longest(&self) -> usize {
        self.tokens.max(self.source.as_ref().map_or(0, |source| source.tokens))
    }

    /// Captions of `tokens` tokens without text, for runs that only count.
    pub fn counted(tokens: usize, settings: &Settings) -> Self {
        let all = [Some(branches(settings)), settings.source().as_ref().map(branches)];
        let mut ids = 0..;
        let mut captions = all.into_iter().flatten().map(|count| {
            // Equal captions would be encoded once.
            let sample = |id: u32| {
                let caption = Caption { ids: vec![id; tokens], mask: vec![true; tokens] };
                Wanted { caption, kept: tokens }
            };
            Self { tokens, samples: ids.by_ref().take(count).map(sample).collect(), ..Self::default() }
        });
        let own = captions.next().expect("a video has a prompt");
        Self { source: captions.next().map(Box::new), ..own }
    }
}

/// The tokens of each video; [`crate::Error::Weight`] for one whose texts the tokenizer does not cover.
///
/// # Errors
/// [`crate::Error::Usage`] if the model was opened without a tokenizer or transformer.
pub fn tokenize<'a>(
    model: &Model,
    settings: impl Iterator<Item = &'a Settings>,
    observer: &mut dyn Observer,
) -> Result<Vec<Result<Captions>>> {
    let (tokenizer, transformer) = (model.need_tokenizer()?, model.need_transformer()?);
    let max_tokens = transformer.config.model_max_length;
    Ok(settings.map(|settings| Captions::of(tokenizer, max_tokens, settings, observer)).collect())
}
