//! Prompts to the tokens that the text encoder takes.

use super::{Observer, Request};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::t5::Caption;
use crate::text::tokenizer::Tokenizer;

/// A caption as the encoder takes it, and how many of its first positions are wanted. Masked tokens change nothing but
/// their own rows, so only as many are encoded as are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The caption.
    pub caption: Caption,
    /// Positions.
    pub kept: usize,
}

/// What the text encoder is given for one request.
#[derive(Clone, Debug)]
pub struct Captions {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Tokens of the caption, `</s>` included: K.
    pub tokens: usize,
    /// With guidance the negative prompt, then the caption.
    pub samples: Vec<Wanted>,
}

impl Captions {
    /// The tokens of a request. Both captions are cut to the caption's K tokens: at position i the negative prompt gives
    /// what the encoder outputs there, padding or not.
    pub(crate) fn of(
        tokenizer: &Tokenizer,
        max_tokens: usize,
        request: &Request,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let encode = |name: &str, text: &str| {
            let tokens = tokenizer.encode_padded(text, max_tokens)?;
            if let Some(cut) = &tokens.cut {
                observer
                    .warn(&format!("the {name} is longer than {max_tokens} tokens; this part of it is cut off: {cut}"));
            }
            match tokens.unknown {
                0 => {}
                1 => observer.warn(&format!("a part of the {name} is unknown to the text encoder, and means nothing")),
                more => observer
                    .warn(&format!("{more} parts of the {name} are unknown to the text encoder, and mean nothing")),
            }
            Ok(tokens)
        };
        let wanted = |ids: &[u32], unmasked: usize, kept: usize| {
            let length = unmasked.max(kept);
            let mask = (0..length).map(|i| i < unmasked).collect();
            Wanted { caption: Caption { ids: ids[..length].to_vec(), mask }, kept }
        };
        let cleaned_prompt = request.prepared(&request.prompt);
        if !cleaned_prompt.chars().any(char::is_alphanumeric) {
            observer.warn(&format!(
                "the caption is {cleaned_prompt:?} and nothing more; is that all that the video should show?"
            ));
        }
        let prompt = encode("caption", &cleaned_prompt)?;
        let tokens = prompt.unmasked;
        let mut samples = Vec::new();
        if request.guidance > 1.0 {
            let negative = request.prepared(&request.negative_prompt);
            if negative.is_empty() && !request.negative_prompt.trim().is_empty() {
                observer.warn(&format!(
                    "nothing is left of the negative prompt {:?} when it is cleaned",
                    request.negative_prompt
                ));
            }
            let negative = encode("negative prompt", &negative)?;
            samples.push(wanted(&negative.ids, negative.unmasked, tokens));
        }
        samples.push(wanted(&prompt.ids, tokens, tokens));
        Ok(Self { cleaned_prompt, tokens, samples })
    }

    /// Captions of so many tokens, for runs that only count.
    pub fn counted(tokens: usize, guidance: f32) -> Self {
        let sample = |id: u32| {
            let caption = Caption { ids: vec![id; tokens], mask: vec![true; tokens] };
            Wanted { caption, kept: tokens }
        };
        let samples = (0..if guidance > 1.0 { 2 } else { 1 }).map(sample).collect();
        Self { cleaned_prompt: String::new(), tokens, samples }
    }
}

/// The tokens of all requests.
///
/// # Errors
/// [`crate::Error::Weight`] if the tokenizer does not cover a text.
pub fn tokenize(checkpoint: &Checkpoint, requests: &[Request], observer: &dyn Observer) -> Result<Vec<Captions>> {
    let tokenizer = checkpoint.tokenizer.as_ref().expect("opened for sampling");
    let transformer = checkpoint.transformer.as_ref().expect("opened for sampling");
    let max_tokens = transformer.config.model_max_length;
    requests.iter().map(|request| Captions::of(tokenizer, max_tokens, request, observer)).collect()
}
