//! The T5 tokenizer: a SentencePiece Unigram model with a hundred extra tokens.

use super::sentencepiece::{Model, SPACE, SPACES};
use super::tokenizer_json::{self, Parts};
use crate::error::{Error, Result};
use crate::reading;
use std::path::{Path, PathBuf};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{self, Precompiled, Replace, Strip, replace::ReplacePattern};
use tokenizers::pre_tokenizers::{
    self,
    metaspace::{Metaspace, PrependScheme},
};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper};

/// Id of `<pad>`, which fills a sequence to its length.
pub const PAD: u32 = 0;
/// Id of `</s>`, which ends every text.
pub const END: u32 = 1;

/// Id of `<unk>`, which stands for everything that has no token.
const UNKNOWN: u32 = 2;

/// Tokens `<extra_id_0>` (the last id) to `<extra_id_99>` that T5 adds to the model's vocabulary.
const EXTRA_TOKENS: usize = 100;
/// The most bytes of a tokenizer's file. The published ones have a fifth.
const MOST: u64 = 16 << 20;

/// A function that makes a tokenizer from a file's bytes.
type Reader = fn(&[u8]) -> tokenizers::Result<tokenizers::Tokenizer>;

/// The files that can hold a tokenizer, the preferred one first, each with its reader.
const READERS: [(&str, Reader); 2] = [("spiece.model", from_sentencepiece), ("tokenizer.json", from_json)];

/// The files that can hold a tokenizer, the preferred one first.
pub const FILES: [&str; 2] = [READERS[0].0, READERS[1].0];

/// Whether a file or a link is there. A link to nothing counts, too: reading it reports what is missing.
fn is_there(file: &Path) -> bool {
    file.exists() || file.is_symlink()
}

/// Text to token ids.
pub struct Tokenizer {
    file: PathBuf,
    inner: tokenizers::Tokenizer,
}

/// The tokens of a text, cut or padded to the length that the text encoder receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, [`END`] among them, then [`PAD`].
    pub ids: Vec<u32>,
    /// The number of `ids` before the padding.
    pub unmasked: usize,
    /// The number of `ids` that stand for characters without a token.
    pub unknown: usize,
    /// The part of the text that was cut off, for a warning; `None` if nothing was.
    pub cut: Option<String>,
}

impl Tokenizer {
    /// Opens `spiece.model` of a text encoder's folder, else `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Weight`] if there is neither or the file is damaged, [`Error::Io`] if it cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        for (name, reader) in READERS {
            let file = folder.join(name);
            if !is_there(&file) {
                continue;
            }
            let bytes = reading::bytes(&file, MOST).map_err(Error::io("cannot read", &file))?;
            let inner = reader(&bytes).and_then(check).map_err(|problem| {
                Error::weight(&file, "", format!("not a usable T5 tokenizer: {problem}; fetch the file again"))
            })?;
            return Ok(Self { file, inner });
        }
        let problem = "no tokenizer: it has neither spiece.model nor tokenizer.json; copy one of them there";
        Err(Error::weight(folder, "", problem))
    }

    /// Whether a folder has a file that [`Self::open`] reads.
    pub fn is_in(folder: &Path) -> bool {
        READERS.iter().any(|(name, _)| is_there(&folder.join(name)))
    }

    /// The file that this tokenizer was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The number of tokens in the vocabulary: every id is less.
    pub fn tokens(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |last| last as usize + 1)
    }

    /// All token ids of a text, with [`END`] after them.
    ///
    /// # Errors
    /// [`Error::Weight`] if the tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, true).map_err(|error| self.error(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of a text, cut or padded to `length`.
    ///
    /// # Errors
    /// [`Error::Usage`] if `length` leaves no room for [`END`], else those of [`Tokenizer::encode`].
    pub fn encode_padded(&self, text: &str, length: usize) -> Result<Tokens> {
        if length == 0 {
            return Err(Error::Usage("the token count is 0, expected at least 1".into()));
        }
        let mut ids = self.encode(text)?;
        let mut cut = None;
        if ids.len() > length {
            let lost = &ids[length - 1..ids.len() - 1];
            cut = Some(self.inner.decode(lost, false).map_err(|error| self.error(error))?);
            ids.truncate(length - 1);
            ids.push(END);
        }
        let unmasked = ids.len();
        let unknown = ids.iter().filter(|&&id| id == UNKNOWN).count();
        ids.resize(length, PAD);
        Ok(Tokens { ids, unmasked, unknown, cut })
    }

    fn error(&self, problem: tokenizers::Error) -> Error {
        Error::weight(&self.file, "", format!("cannot tokenize: {problem}"))
    }
}

/// Builds the tokenizer to which the original converts `spiece.model`.
fn from_sentencepiece(bytes: &[u8]) -> tokenizers::Result<tokenizers::Tokenizer> {
    let Model { mut pieces, charsmap } = Model::parse(bytes)?;
    let unknown = pieces.vocabulary[pieces.unknown].0.clone();
    pieces.vocabulary.extend((0..EXTRA_TOKENS).rev().map(|number| (extra_token(number), 0.0)));
    let special =
        ["<pad>".to_owned(), "</s>".to_owned(), unknown].into_iter().chain((0..EXTRA_TOKENS).map(extra_token));
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if !charsmap.is_empty() {
        normalizers.push(Precompiled::from(&charsmap)?.into());
    }
    normalizers.push(Strip::new(false, true).into());
    normalizers.push(Replace::new(ReplacePattern::Regex(SPACES.into()), SPACE.to_string())?.into());
    build(Parts {
        pieces,
        added: special.map(|token| AddedToken::from(token, true)).collect(),
        normalizers,
        pre_tokenizers: vec![Metaspace::new(SPACE, PrependScheme::Always, true).into()],
    })
}

/// Builds the tokenizer of a file in the format of the `tokenizers` library.
fn from_json(bytes: &[u8]) -> tokenizers::Result<tokenizers::Tokenizer> {
    build(tokenizer_json::parse(bytes)?)
}

fn build(parts: Parts) -> tokenizers::Result<tokenizers::Tokenizer> {
    let Parts { pieces, added, normalizers, pre_tokenizers } = parts;
    let spaces = Metaspace::new(SPACE, PrependScheme::Always, true);
    let end = TemplateProcessing::builder().try_single("$A </s>")?.special_tokens(vec![("</s>", END)]).build()?;
    let unigram = Unigram::from(pieces.vocabulary, Some(pieces.unknown), false)?;
    let mut tokenizer = tokenizers::Tokenizer::new(unigram);
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(normalizers)))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(pre_tokenizers)));
    tokenizer.with_decoder(Some(spaces)).with_post_processor(Some(end));
    tokenizer.add_tokens(added)?;
    Ok(tokenizer)
}

fn extra_token(number: usize) -> String {
    format!("<extra_id_{number}>")
}

/// Checks what the text encoder relies on.
fn check(tokenizer: tokenizers::Tokenizer) -> tokenizers::Result<tokenizers::Tokenizer> {
    for (token, id) in [("<pad>", PAD), ("</s>", END)] {
        let found = tokenizer.token_to_id(token);
        if found != Some(id) {
            let found = found.map_or("missing".to_owned(), |found| found.to_string());
            return Err(format!("id of {token} is {found}, expected {id}").into());
        }
    }
    let encoding = tokenizer.encode_fast("", true)?;
    if encoding.get_ids() != [END] {
        return Err(format!("an empty text has the ids {:?}, expected [{END}]", encoding.get_ids()).into());
    }
    Ok(tokenizer)
}
