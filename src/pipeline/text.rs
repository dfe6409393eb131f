//! Captions to text embeddings.

use super::{Observer, tick};
use crate::backend::Backend;
use crate::checkpoint::Part;
use crate::error::Result;
use crate::model::t5::{T5, T5Config, embedding_name};
use crate::text::caption;
use crate::text::tokenizer::Tokenizer;
use crate::weights::Scope;
use crate::weights::load::Loader;

/// The text of one request, on the host.
#[derive(Clone, Debug)]
pub struct Text {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Tokens of the caption, `</s>` included.
    pub tokens: usize,
    /// Embeddings, `[samples, tokens, d_model]`: with guidance the negative prompt's first, then the caption's.
    pub embeddings: Vec<f32>,
}

/// Tokenizer and T5, loaded.
pub(crate) struct TextStage<W> {
    tokenizer: Tokenizer,
    model: T5<W>,
    channels: usize,
    max_tokens: usize,
}

impl<W> TextStage<W> {
    /// Loads both from the part's folder.
    pub fn load<B: Backend<Weight = W>>(backend: &B, part: &Part<T5Config>, max_tokens: usize) -> Result<Self> {
        let tokenizer = Tokenizer::open(&part.folder)?;
        let embedding = embedding_name(&*part.source);
        let mut loader = Loader::new(&*part.source, backend);
        let model = T5::build(&part.config, embedding, Scope::root(&mut loader))?;
        Ok(Self { tokenizer, model, channels: part.config.d_model, max_tokens })
    }

    /// Units of work of a request.
    pub fn units(&self, guidance: f32) -> u64 {
        let captions = if guidance > 1.0 { 2 } else { 1 };
        captions * self.model.units() as u64
    }

    /// Embeds a caption and, with guidance, the negative prompt. Both are cut to the caption's K tokens: at position i
    /// the negative prompt gives what the encoder outputs there, padding or not.
    pub fn encode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prompt: &str,
        negative: &str,
        clean: bool,
        guidance: f32,
        observer: &dyn Observer,
    ) -> Result<Text> {
        let prepare = |text: &str| if clean { caption::clean(text) } else { caption::lower(text) };
        let cleaned_prompt = prepare(prompt);
        let tokens = self.tokenizer.encode_padded(&cleaned_prompt, self.max_tokens)?;
        if let Some(cut) = &tokens.cut {
            observer.warn(&format!(
                "the caption is longer than {} tokens; this part of it is cut off: {cut}",
                self.max_tokens
            ));
        }
        let kept = tokens.unmasked;
        let mut embeddings = Vec::new();
        if guidance > 1.0 {
            let negative = self.tokenizer.encode_padded(&prepare(negative), self.max_tokens)?;
            if let Some(cut) = &negative.cut {
                observer.warn(&format!(
                    "the negative prompt is longer than {} tokens; this part of it is cut off: {cut}",
                    self.max_tokens
                ));
            }
            embeddings.extend(self.hidden(backend, &negative.ids, negative.unmasked, kept, observer)?);
        }
        embeddings.extend(self.hidden(backend, &tokens.ids, kept, kept, observer)?);
        Ok(Text { cleaned_prompt, tokens: kept, embeddings })
    }

    /// The encoder's output at the first `kept` positions when `unmasked` tokens take part. Masked tokens change nothing
    /// but their own rows, so only as many are computed as are kept.
    fn hidden<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        ids: &[u32],
        unmasked: usize,
        kept: usize,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>> {
        let tokens = unmasked.max(kept);
        let mask: Vec<bool> = (0..tokens).map(|i| i < unmasked).collect();
        let hidden = self.model.encode(backend, &ids[..tokens], &mask, &mut || tick(observer))?;
        let mut out = vec![0.0; kept * self.channels];
        backend.download(&hidden, 0, &mut out)?;
        Ok(out)
    }
}
