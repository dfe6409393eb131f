//! Captions to text embeddings.

use super::{Observer, Request, tick};
use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, Part};
use crate::error::Result;
use crate::model::t5::{T5, T5Config, embedding_name};
use crate::text::caption;
use crate::text::tokenizer::Tokenizer;
use crate::weights::Scope;
use crate::weights::load::Loader;

/// What the text encoder is given for one request.
#[derive(Clone, Debug)]
pub struct Captions {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Tokens of the caption, `</s>` included: K.
    pub tokens: usize,
    /// With guidance the negative prompt, then the caption: ids, and how many of them are no padding. All are at least K.
    pub samples: Vec<(Vec<u32>, usize)>,
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
        let prepare = |text: &str| if request.clean_caption { caption::clean(text) } else { caption::lower(text) };
        let encode = |name: &str, text: &str| {
            let tokens = tokenizer.encode_padded(text, max_tokens)?;
            if let Some(cut) = &tokens.cut {
                observer
                    .warn(&format!("the {name} is longer than {max_tokens} tokens; this part of it is cut off: {cut}"));
            }
            Ok((tokens.ids, tokens.unmasked))
        };
        let cleaned_prompt = prepare(&request.prompt);
        let caption = encode("caption", &cleaned_prompt)?;
        let tokens = caption.1;
        let mut samples = Vec::new();
        if request.guidance > 1.0 {
            samples.push(encode("negative prompt", &prepare(&request.negative_prompt))?);
        }
        samples.push(caption);
        for (ids, unmasked) in &mut samples {
            // Masked tokens change nothing but their own rows, so only as many are computed as are kept.
            ids.truncate(tokens.max(*unmasked));
        }
        Ok(Self { cleaned_prompt, tokens, samples })
    }

    /// Captions of so many tokens, for runs that only count.
    pub fn counted(tokens: usize, guidance: f32) -> Self {
        let sample = || (vec![0; tokens], tokens);
        let samples = (0..if guidance > 1.0 { 2 } else { 1 }).map(|_| sample()).collect();
        Self { cleaned_prompt: String::new(), tokens, samples }
    }
}

/// The tokens of all requests.
///
/// # Errors
/// Those of reading the tokenizer.
pub fn tokenize(checkpoint: &Checkpoint, requests: &[Request], observer: &dyn Observer) -> Result<Vec<Captions>> {
    let part = checkpoint.text_encoder.as_ref().expect("opened for sampling");
    let transformer = checkpoint.transformer.as_ref().expect("opened for sampling");
    let tokenizer = Tokenizer::open(&part.folder)?;
    let max_tokens = transformer.config.model_max_length;
    requests.iter().map(|request| Captions::of(&tokenizer, max_tokens, request, observer)).collect()
}

/// The text of one request, on the host.
#[derive(Clone, Debug)]
pub struct Text {
    /// Tokens of the caption, `</s>` included.
    pub tokens: usize,
    /// Embeddings, `[samples, tokens, d_model]`: with guidance the negative prompt's first, then the caption's.
    pub embeddings: Vec<f32>,
}

impl Text {
    /// Zeros in place of what the encoder would give, for runs that only count.
    pub(crate) fn counted(captions: &Captions, channels: usize) -> Self {
        let Captions { tokens, samples, .. } = captions;
        Self { tokens: *tokens, embeddings: vec![0.0; samples.len() * tokens * channels] }
    }
}

/// T5, loaded.
pub(crate) struct TextStage<W> {
    model: T5<W>,
    channels: usize,
}

impl<W> TextStage<W> {
    /// Loads it from the part's folder.
    pub fn load<B: Backend<Weight = W>>(backend: &B, part: &Part<T5Config>) -> Result<Self> {
        let embedding = embedding_name(&*part.source);
        let mut loader = Loader::new(&*part.source, backend);
        let model = T5::build(&part.config, embedding, Scope::root(&mut loader))?;
        Ok(Self { model, channels: part.config.d_model })
    }

    /// Units of work of a request.
    pub fn units(&self, captions: &Captions) -> u64 {
        captions.samples.len() as u64 * self.model.units() as u64
    }

    /// Embeds the captions of a request.
    pub fn encode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        captions: &Captions,
        observer: &dyn Observer,
    ) -> Result<Text> {
        let mut embeddings = Vec::new();
        for (ids, unmasked) in &captions.samples {
            embeddings.extend(self.hidden(backend, ids, *unmasked, captions.tokens, observer)?);
        }
        Ok(Text { tokens: captions.tokens, embeddings })
    }

    /// The encoder's output at the first `kept` positions when `unmasked` tokens take part.
    fn hidden<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        ids: &[u32],
        unmasked: usize,
        kept: usize,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>> {
        let mask: Vec<bool> = (0..ids.len()).map(|i| i < unmasked).collect();
        let hidden = self.model.encode(backend, ids, &mask, &mut || tick(observer))?;
        let mut out = vec![0.0; kept * self.channels];
        backend.download(&hidden, 0, &mut out)?;
        Ok(out)
    }
}
