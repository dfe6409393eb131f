//! Captions to text embeddings.

use super::text_cache::{Key, TextCache};
use super::{Observer, Request, Stage, tick};
use crate::backend::Backend;
use crate::checkpoint::Part;
use crate::error::Result;
use crate::memory::Savings;
use crate::model::t5::{self, Caption, T5, T5Config};
use crate::text::caption;
use crate::text::tokenizer::Tokenizer;
use std::collections::HashMap;

/// The text of one request, on the host.
#[derive(Clone, Debug)]
pub struct Text {
    /// The caption after cleaning.
    pub cleaned_prompt: String,
    /// Tokens of the caption, `</s>` included.
    pub tokens: usize,
    /// Embeddings, `[samples, tokens, d_model]`: with guidance the negative prompt's first, then the caption's.
    pub embeddings: Vec<f32>,
    /// Whether all of them came from the cache.
    pub cached: bool,
}

/// A caption as the encoder takes it, and how many of its first positions are wanted. Masked tokens change nothing but
/// their own rows, so only as many are encoded as are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub caption: Caption,
    pub kept: usize,
}

/// A request's captions: with guidance the negative prompt first.
struct Words {
    cleaned_prompt: String,
    kept: usize,
    captions: Vec<Wanted>,
}

/// The texts of all requests. Captions that are not in `cache` are encoded together, each once; if all are, the encoder
/// is not loaded.
pub(crate) fn embed<B: Backend>(
    backend: &B,
    part: &Part<T5Config>,
    max_tokens: usize,
    requests: &[Request],
    savings: Savings,
    cache: Option<&TextCache>,
    observer: &dyn Observer,
) -> Result<Vec<Text>> {
    let tokenizer = Tokenizer::open(&part.folder)?;
    let words = |request| words(&tokenizer, request, max_tokens, observer);
    let words: Vec<Words> = requests.iter().map(words).collect::<Result<_>>()?;

    let key = Key::new(&backend.name(), part);
    let mut known: HashMap<&Wanted, (Vec<f32>, bool)> = HashMap::new();
    let mut missing: Vec<&Wanted> = Vec::new();
    for wanted in words.iter().flat_map(|words| &words.captions) {
        if known.contains_key(wanted) || missing.contains(&wanted) {
            continue;
        }
        match cache.and_then(|cache| cache.get(&key.of(wanted), [wanted.kept, part.config.d_model])) {
            Some(embeddings) => drop(known.insert(wanted, (embeddings, true))),
            None => missing.push(wanted),
        }
    }
    if !missing.is_empty() {
        let encoded = encode(backend, part, &missing, savings, observer)?;
        if let Some(cache) = cache {
            let files = missing.iter().zip(&encoded).map(|(wanted, embeddings)| (key.of(wanted), &**embeddings));
            cache.put_all(files, part.config.d_model, observer);
        }
        known.extend(missing.into_iter().zip(encoded.into_iter().map(|embeddings| (embeddings, false))));
    }
    let text = |words: &Words| {
        let found: Vec<_> = words.captions.iter().map(|wanted| &known[wanted]).collect();
        Text {
            cleaned_prompt: words.cleaned_prompt.clone(),
            tokens: words.kept,
            embeddings: found.iter().flat_map(|(embeddings, _)| embeddings).copied().collect(),
            cached: found.iter().all(|(_, cached)| *cached),
        }
    };
    Ok(words.iter().map(text).collect())
}

/// Cleans and cuts a request's captions. Both are cut to the caption's K tokens: at position i the negative prompt gives
/// what the encoder outputs there, padding or not.
fn words(tokenizer: &Tokenizer, request: &Request, max_tokens: usize, observer: &dyn Observer) -> Result<Words> {
    let prepare = |text: &str| if request.clean_caption { caption::clean(text) } else { caption::lower(text) };
    let tokens = |what: &str, text: &str| {
        let tokens = tokenizer.encode_padded(text, max_tokens)?;
        if let Some(cut) = &tokens.cut {
            observer.warn(&format!("the {what} is longer than {max_tokens} tokens; this part of it is cut off: {cut}"));
        }
        Ok(tokens)
    };
    let wanted = |ids: &[u32], unmasked: usize, kept: usize| {
        let length = unmasked.max(kept);
        let mask = (0..length).map(|i| i < unmasked).collect();
        Wanted { caption: Caption { ids: ids[..length].to_vec(), mask }, kept }
    };
    let cleaned_prompt = prepare(&request.prompt);
    let prompt = tokens("caption", &cleaned_prompt)?;
    let kept = prompt.unmasked;
    let mut captions = Vec::new();
    if request.guidance > 1.0 {
        let negative = tokens("negative prompt", &prepare(&request.negative_prompt))?;
        captions.push(wanted(&negative.ids, negative.unmasked, kept));
    }
    captions.push(wanted(&prompt.ids, kept, kept));
    Ok(Words { cleaned_prompt, kept, captions })
}

/// The encoder's output at the kept positions of each caption.
fn encode<B: Backend>(
    backend: &B,
    part: &Part<T5Config>,
    wanted: &[&Wanted],
    savings: Savings,
    observer: &dyn Observer,
) -> Result<Vec<Vec<f32>>> {
    let model = T5::load(&part.config, &*part.source, backend, savings.stream_text)?;
    observer.begin(Stage::Text, t5::units(&part.config, wanted.len()));
    let captions: Vec<Caption> = wanted.iter().map(|wanted| wanted.caption.clone()).collect();
    let hidden = model.encode(backend, &captions, &mut || tick(observer))?;
    let kept = |(hidden, wanted): (&B::Buffer, &&Wanted)| {
        let mut out = vec![0.0; wanted.kept * part.config.d_model];
        backend.download(hidden, 0, &mut out).map(|()| out)
    };
    let embeddings = hidden.iter().zip(wanted).map(kept).collect::<Result<_>>()?;
    observer.end();
    Ok(embeddings)
}
