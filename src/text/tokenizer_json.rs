//! `tokenizer.json`, the format of the `tokenizers` library, as far as T5 uses it.
//!
//! The format describes any tokenizer. This module reads T5's, in the forms in which it is published, and refuses the others: the
//! library trusts a file, and panics where one contradicts itself.

use super::sentencepiece::{Pieces, SPACE, SPACES, check_charsmap, check_piece, check_pieces};
use serde::Deserialize;
use tokenizers::normalizers::{Precompiled, Replace, Strip, replace::ReplacePattern};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

/// What a tokenizer is built from.
pub(super) struct Parts {
    pub pieces: Pieces,
    /// Tokens that a text may spell out. All are pieces.
    pub added: Vec<AddedToken>,
    pub normalizers: Vec<NormalizerWrapper>,
    /// The last one writes and splits at spaces.
    pub pre_tokenizers: Vec<PreTokenizerWrapper>,
}

#[derive(Deserialize)]
struct File {
    model: Unigram,
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<PostProcessor>,
}

#[derive(Deserialize)]
struct Unigram {
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_id: Option<usize>,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Added {
    id: usize,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    Sequence { normalizers: Vec<Normalizer> },
    Precompiled { precompiled_charsmap: String },
    Strip { strip_left: bool, strip_right: bool },
    Replace { pattern: Pattern, content: String },
}

#[derive(Deserialize)]
enum Pattern {
    Regex(String),
    String(String),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    WhitespaceSplit {},
    Metaspace {
        replacement: char,
        add_prefix_space: Option<bool>,
        prepend_scheme: Option<Prepend>,
        split: Option<bool>,
    },
}

/// Where a space is put before a text that has none.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Prepend {
    /// Before the text.
    First,
    Never,
    /// Before the text, and behind each token that it spells out.
    Always,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessor {
    TemplateProcessing { single: Vec<Piece> },
}

#[derive(Deserialize)]
enum Piece {
    Sequence { id: String },
    SpecialToken { id: String },
}

/// The parts of a file's tokenizer; the error says what is wrong with the file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parts, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut pieces = file.model.checked()?;
    let added = added(file.added_tokens, &mut pieces.vocabulary)?;
    let (mut normalizers, mut pre_tokenizers) = (Vec::new(), Vec::new());
    file.normalizer.into_iter().try_for_each(|part| part.add_to(&mut normalizers))?;
    file.pre_tokenizer.into_iter().try_for_each(|part| part.add_to(&mut pre_tokenizers))?;
    if !matches!(pre_tokenizers[..], [.., PreTokenizerWrapper::Metaspace(_)]) {
        return Err("its pre_tokenizer does not end with a Metaspace, as T5's does".into());
    }
    match file.post_processor {
        Some(PostProcessor::TemplateProcessing { single }) if is_text_and_end(&single) => {}
        _ => return Err("its post_processor is not T5's, which puts </s> after a text".into()),
    }
    Ok(Parts { pieces, added, normalizers, pre_tokenizers })
}

impl Unigram {
    fn checked(self) -> Result<Pieces, String> {
        let kind = self.kind.as_deref().unwrap_or("Unigram");
        if kind != "Unigram" || self.byte_fallback {
            let fallback = if self.byte_fallback { " with byte_fallback" } else { "" };
            return Err(format!("its model is a {kind}{fallback}, expected a Unigram"));
        }
        self.vocab.iter().try_for_each(|(piece, score)| check_piece(piece, *score))?;
        check_pieces(&self.vocab)?;
        match self.unk_id {
            Some(unknown) if unknown < self.vocab.len() => Ok(Pieces { vocabulary: self.vocab, unknown }),
            Some(id) => Err(format!("its unk_id is {id}, but it has {} pieces", self.vocab.len())),
            None => Err("it has no unk_id".into()),
        }
    }
}

/// The tokens that a text may spell out. Those that the model lacks join its pieces.
fn added(mut tokens: Vec<Added>, vocabulary: &mut Vec<(String, f64)>) -> Result<Vec<AddedToken>, String> {
    tokens.sort_by_key(|token| token.id);
    let add = |token: Added| {
        check_piece(&token.content, 0.0)?;
        let (id, content) = (token.id, token.content);
        if id == vocabulary.len() {
            vocabulary.push((content.clone(), 0.0));
        }
        match vocabulary.get(id) {
            Some((piece, _)) if *piece == content => {}
            Some((piece, _)) => return Err(format!("its token {id} is both {piece:?} and {content:?}")),
            None => return Err(format!("its added token {content:?} has the id {id}, expected {}", vocabulary.len())),
        }
        let Added { single_word, lstrip, rstrip, normalized, special, .. } = token;
        let token = AddedToken::from(content, special).single_word(single_word);
        Ok(token.lstrip(lstrip).rstrip(rstrip).normalized(normalized))
    };
    tokens.into_iter().map(add).collect()
}

impl Normalizer {
    /// Adds this to others, if it is a part of T5's.
    fn add_to(self, others: &mut Vec<NormalizerWrapper>) -> Result<(), String> {
        others.push(match self {
            Self::Sequence { normalizers } => return normalizers.into_iter().try_for_each(|part| part.add_to(others)),
            Self::Precompiled { precompiled_charsmap } => {
                let table = decode_base64(&precompiled_charsmap).filter(|table| check_charsmap(table).is_some());
                let table = table.ok_or("its character normalisation is damaged")?;
                Precompiled::from(&table).map_err(|error| error.to_string())?.into()
            }
            Self::Strip { strip_left, strip_right } => Strip::new(strip_left, strip_right).into(),
            Self::Replace { pattern: Pattern::Regex(pattern), content } if pattern == SPACES => {
                check_piece(&content, 0.0)?;
                Replace::new(ReplacePattern::Regex(pattern), content).map_err(|error| error.to_string())?.into()
            }
            Self::Replace { pattern: Pattern::Regex(pattern) | Pattern::String(pattern), .. } => {
                return Err(format!("it replaces {pattern:?}, expected {SPACES:?} alone"));
            }
        });
        Ok(())
    }
}

impl PreTokenizer {
    /// Adds this to others, if it is a part of T5's.
    fn add_to(self, others: &mut Vec<PreTokenizerWrapper>) -> Result<(), String> {
        others.push(match self {
            Self::Sequence { pretokenizers } => {
                return pretokenizers.into_iter().try_for_each(|part| part.add_to(others));
            }
            Self::WhitespaceSplit {} => WhitespaceSplit.into(),
            Self::Metaspace { replacement: SPACE, add_prefix_space, prepend_scheme, split } => {
                let scheme = match (add_prefix_space, prepend_scheme) {
                    (Some(false), None | Some(Prepend::Never)) | (_, Some(Prepend::Never)) => PrependScheme::Never,
                    (Some(false), _) => {
                        return Err("its add_prefix_space and prepend_scheme contradict each other".into());
                    }
                    (_, None | Some(Prepend::Always)) => PrependScheme::Always,
                    (_, Some(Prepend::First)) => PrependScheme::First,
                };
                Metaspace::new(SPACE, scheme, split.unwrap_or(true)).into()
            }
            Self::Metaspace { replacement, .. } => {
                return Err(format!("it writes {replacement:?} for a space, expected {SPACE:?}"));
            }
        });
        Ok(())
    }
}

fn is_text_and_end(pieces: &[Piece]) -> bool {
    matches!(pieces, [Piece::Sequence { id: text }, Piece::SpecialToken { id: end }] if text == "A" && end == "</s>")
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let bytes = digits.chunks(4).flat_map(|digits| {
        let bits = digits.iter().fold(0, |bits, &digit| bits << 6 | u32::from(digit)) << (6 * (4 - digits.len()));
        bits.to_be_bytes().into_iter().skip(1).take(digits.len() * 6 / 8)
    });
    Some(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_decoded() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")] {
            assert_eq!(decode_base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode_base64("Zm\u{e9}v"), None);
    }
}
