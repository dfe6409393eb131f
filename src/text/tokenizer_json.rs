//! `tokenizer.json`, the format of the `tokenizers` library, as far as T5 uses it.
//!
//! The format describes any tokenizer. This module reads T5's, in the forms in which it is published, and refuses the others: the
//! library trusts a file, and panics where one contradicts itself. The tokenizer is then built as from `spiece.model`.

use super::sentencepiece::{Model, SPACE, SPACES, check_charsmap, check_piece};
use serde::Deserialize;
use tokenizers::AddedToken;

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
    Strip {},
    Replace { pattern: Pattern },
}

#[derive(Deserialize)]
enum Pattern {
    Regex(String),
    String(String),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    Sequence { pretokenizers: Vec<PreTokenizer> },
    WhitespaceSplit {},
    Metaspace { replacement: char },
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

/// The model of a file, and the tokens that a text may spell out; the error says what is wrong with the file.
pub(super) fn parse(bytes: &[u8]) -> Result<(Model, Vec<AddedToken>), String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let (mut vocabulary, unknown) = file.model.checked()?;
    let added = added(file.added_tokens, &mut vocabulary)?;
    let mut charsmap = None;
    file.normalizer.iter().try_for_each(|normalizer| normalizer.check(&mut charsmap))?;
    file.pre_tokenizer.iter().try_for_each(PreTokenizer::check)?;
    match file.post_processor {
        Some(PostProcessor::TemplateProcessing { single }) if is_text_and_end(&single) => {}
        _ => return Err("its post_processor is not T5's, which puts </s> after a text".into()),
    }
    Ok((Model { vocabulary, unknown, charsmap: charsmap.unwrap_or_default() }, added))
}

impl Unigram {
    /// The pieces, and the id of the one for unknown text.
    fn checked(self) -> Result<(Vec<(String, f64)>, usize), String> {
        let kind = self.kind.as_deref().unwrap_or("Unigram");
        if kind != "Unigram" || self.byte_fallback {
            let fallback = if self.byte_fallback { " with byte_fallback" } else { "" };
            return Err(format!("its model is a {kind}{fallback}, expected a Unigram"));
        }
        self.vocab.iter().try_for_each(|(piece, score)| check_piece(piece, *score))?;
        match self.unk_id {
            Some(id) if id < self.vocab.len() => Ok((self.vocab, id)),
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
    /// Checks that this is a part of T5's, and takes its table.
    fn check(&self, charsmap: &mut Option<Vec<u8>>) -> Result<(), String> {
        match self {
            Self::Sequence { normalizers } => normalizers.iter().try_for_each(|part| part.check(charsmap)),
            Self::Precompiled { .. } if charsmap.is_some() => Err("it has two tables for normalisation".into()),
            Self::Precompiled { precompiled_charsmap } => {
                let table = decode_base64(precompiled_charsmap).filter(|table| check_charsmap(table).is_some());
                *charsmap = Some(table.ok_or("its character normalisation is damaged")?);
                Ok(())
            }
            // The pre-tokenizer takes spaces at the start for one, and the built tokenizer drops those at the end.
            Self::Strip {} => Ok(()),
            Self::Replace { pattern: Pattern::Regex(pattern) } if pattern == SPACES => Ok(()),
            Self::Replace { pattern: Pattern::Regex(pattern) | Pattern::String(pattern) } => {
                Err(format!("it replaces {pattern:?}, expected {SPACES:?} alone"))
            }
        }
    }
}

impl PreTokenizer {
    /// Checks that this is a part of T5's.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Sequence { pretokenizers } => pretokenizers.iter().try_for_each(Self::check),
            Self::WhitespaceSplit {} | Self::Metaspace { replacement: SPACE } => Ok(()),
            Self::Metaspace { replacement } => {
                Err(format!("it writes {replacement:?} for a space, expected {SPACE:?}"))
            }
        }
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
