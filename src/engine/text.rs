//! Tokens to text embeddings.

use super::captions::{Captions, Wanted};
use super::evaluation::branches;
use super::finite::{Made, blame};
use super::text_cache::{Key, TextCache};
use super::{Observer, Settings, Stage, tick};
use crate::backend::Backend;
use crate::checkpoint::Component;
use crate::error::Result;
use crate::memory::MemoryOptions;
use crate::model::t5::{self, Caption, T5, T5Config};
use std::collections::HashMap;

/// The text of one request, on the host.
#[derive(Clone, Debug)]
pub struct Text {
    /// Tokens of the caption, `</s>` included.
    pub tokens: usize,
    /// Embeddings, `[samples, tokens, d_model]`: with guidance the negative prompt's first, then the caption's.
    pub embeddings: Vec<f32>,
    /// Whether all of them came from the cache.
    pub cached: bool,
    /// That of an edit's source prompt.
    pub source: Option<Box<Text>>,
}

impl Text {
    /// Zeros in place of embeddings, for runs that only count.
    pub(crate) fn counted(tokens: usize, settings: &Settings, channels: usize) -> Self {
        let source = settings.source().map(|source| Box::new(Self::counted(tokens, &source, channels)));
        Self { tokens, embeddings: vec![0.0; branches(settings) * tokens * channels], cached: false, source }
    }
}

/// The embeddings of a run's captions; some may be missing.
pub(crate) struct Texts<'a> {
    captions: &'a [Captions],
    /// Embeddings, and whether they came from the cache.
    known: HashMap<&'a Wanted, (Vec<f32>, bool)>,
    /// The missing captions, each once.
    missing: Vec<&'a Wanted>,
    channels: usize,
}

impl<'a> Texts<'a> {
    /// All captions are missing.
    pub fn new(captions: &'a [Captions], channels: usize) -> Self {
        let mut missing: Vec<&Wanted> = Vec::new();
        for wanted in captions.iter().flat_map(Captions::all) {
            if !missing.contains(&wanted) {
                missing.push(wanted);
            }
        }
        Self { captions, known: HashMap::new(), missing, channels }
    }

    /// Reads embeddings from `cache`.
    pub fn look_up(&mut self, cache: &TextCache, key: &Key) {
        for wanted in std::mem::take(&mut self.missing) {
            match cache.get(&key.of(wanted), [wanted.kept, self.channels]) {
                Some(embeddings) => drop(self.known.insert(wanted, (embeddings, true))),
                None => self.missing.push(wanted),
            }
        }
    }

    /// The captions that the encoder must encode.
    pub fn missing(&self) -> &[&'a Wanted] {
        &self.missing
    }

    /// Adds the encoder's outputs, in the order of [`Self::missing`], and writes them to the cache.
    pub fn add(&mut self, encoded: Vec<Vec<f32>>, cache: Option<(&TextCache, &Key)>, observer: &mut dyn Observer) {
        let new = std::mem::take(&mut self.missing).into_iter().zip(encoded);
        let new: Vec<_> = new.collect();
        if let Some((cache, key)) = cache {
            let files = new.iter().map(|(wanted, embeddings)| (key.of(wanted), &**embeddings));
            cache.put_all(files, self.channels, observer);
        }
        self.known.extend(new.into_iter().map(|(wanted, embeddings)| (wanted, (embeddings, false))));
    }

    /// The texts of all requests, once no caption is missing.
    pub fn into_texts(self) -> Vec<Text> {
        self.captions.iter().map(|captions| self.text(captions)).collect()
    }

    fn text(&self, captions: &Captions) -> Text {
        let found: Vec<_> = captions.samples.iter().map(|wanted| &self.known[wanted]).collect();
        Text {
            tokens: captions.tokens,
            embeddings: found.iter().flat_map(|(embeddings, _)| embeddings).copied().collect(),
            cached: captions.all().all(|wanted| self.known[wanted].1),
            source: captions.source.as_ref().map(|source| Box::new(self.text(source))),
        }
    }
}

/// The encoder's output at the needed positions of each caption. Without captions nothing is loaded.
pub(crate) fn embed<B: Backend>(
    backend: &B,
    part: &Component<T5Config>,
    wanted: &[&Wanted],
    savings: MemoryOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f32>>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let model = T5::load(&part.config, &*part.source, backend, savings.stream_text)?;
    observer.begin(Stage::Text, t5::units(&part.config, wanted.len()));
    let captions: Vec<Caption> = wanted.iter().map(|wanted| wanted.caption.clone()).collect();
    let hidden = model.encode(backend, &captions, &mut || tick(observer))?;
    let channels = part.config.d_model;
    let axes = [("token", 0), ("channel", channels)];
    let made = Made { stage: Stage::Text.name().into(), what: "the embedding of a caption", axes: &axes };
    let kept = |(hidden, wanted): (&B::Buffer, &&Wanted)| {
        let mut out = vec![0.0; wanted.kept * channels];
        backend.download(hidden, 0, &mut out)?;
        made.check(&out, f32::MAX).map(|()| out)
    };
    let embeddings = hidden.iter().zip(wanted).map(kept).collect::<Result<_>>().map_err(|error| blame(error, part))?;
    observer.end();
    Ok(embeddings)
}
