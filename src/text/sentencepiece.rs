//! `spiece.model`: the vocabulary and the text normalisation of a SentencePiece Unigram model.
//!
//! The file is one protocol-buffer message; this module reads the few fields that tokenizing needs. The model that it
//! returns needs no further checks.

/// The pieces of a Unigram model.
pub(super) struct Pieces {
    /// Pieces with their scores (log probabilities), by id.
    pub vocabulary: Vec<(String, f64)>,
    /// Id of the piece that stands for text without a piece.
    pub unknown: usize,
}

/// The content of `spiece.model`.
pub(super) struct Model {
    pub pieces: Pieces,
    /// The character normalisation as compiled by SentencePiece, see [`check_charsmap`]; empty for none.
    pub charsmap: Vec<u8>,
}

/// The character that SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';
/// Several spaces, which become one.
pub(super) const SPACES: &str = " {2,}";
/// Bytes of a piece. The tokenizer keeps pieces in a tree as deep as the longest one, and takes it down recursively.
const MOST_PIECE: usize = 1000;
/// Bytes of all pieces. The tokenizer's tree takes some hundred bytes for each; T5's pieces have a quarter of a million.
const MOST_PIECES: usize = 2 << 20;
/// Bytes of what a character is replaced by. Unicode's longest has 33.
const MOST_REPLACEMENT: usize = 100;
/// Field 3 of a piece.
const UNKNOWN: u64 = 2;
/// Field 3 of the trainer's specification.
const UNIGRAM: u64 = 1;

impl Model {
    /// Reads a model; the error says what is wrong with the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut vocabulary = Vec::new();
        let mut unknown = None;
        let mut charsmap = None;
        for field in fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => {
                    let (text, score, kind) = parse_piece(piece)?;
                    if kind == UNKNOWN {
                        unknown = Some(vocabulary.len());
                    }
                    vocabulary.push((text, score));
                }
                (2, Value::Bytes(trainer)) => check_trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => charsmap = Some(parse_normalizer(normalizer)?),
                _ => {}
            }
        }
        check_pieces(&vocabulary)?;
        let unknown = unknown.ok_or("it has no piece for unknown text")?;
        Ok(Self {
            pieces: Pieces { vocabulary, unknown },
            // The last field that is read: a file without it may have lost pieces, too.
            charsmap: charsmap.ok_or("it ends before the normalizer")?,
        })
    }
}

fn parse_piece(bytes: &[u8]) -> Result<(String, f64, u64), String> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Value::Bytes(piece)) => {
                text = String::from_utf8(piece.to_vec()).map_err(|_| "a piece is not UTF-8")?;
            }
            (2, Value::Fixed32(bits)) => score = f64::from(f32::from_bits(bits)),
            (3, Value::Varint(number)) => kind = number,
            _ => {}
        }
    }
    check_piece(&text, score)?;
    Ok((text, score, kind))
}

/// Checks what the tokenizer relies on.
pub(super) fn check_piece(text: &str, score: f64) -> Result<(), String> {
    match text.len() {
        0 => Err("a piece is empty".into()),
        bytes if bytes > MOST_PIECE => Err(format!("a piece has {bytes} bytes, expected at most {MOST_PIECE}")),
        _ if !score.is_finite() => Err(format!("the score of piece {text:?} is {score}")),
        _ => Ok(()),
    }
}

/// Checks that the tokenizer has room for all pieces.
pub(super) fn check_pieces(vocabulary: &[(String, f64)]) -> Result<(), String> {
    match vocabulary.iter().map(|(piece, _)| piece.len()).sum::<usize>() {
        bytes if bytes > MOST_PIECES => Err(format!("its pieces have {bytes} bytes, expected at most {MOST_PIECES}")),
        _ => Ok(()),
    }
}

fn check_trainer(bytes: &[u8]) -> Result<(), String> {
    for field in fields(bytes) {
        match field? {
            (3, Value::Varint(UNIGRAM)) => {}
            (3, Value::Varint(kind)) => return Err(format!("its model type is {kind}, expected {UNIGRAM} (Unigram)")),
            _ => {}
        }
    }
    Ok(())
}

fn parse_normalizer(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut charsmap = Vec::new();
    for field in fields(bytes) {
        if let (2, Value::Bytes(bytes)) = field? {
            charsmap = bytes.to_vec();
        }
    }
    if !charsmap.is_empty() {
        check_charsmap(&charsmap).ok_or("its character normalisation is damaged")?;
    }
    Ok(charsmap)
}

/// Checks a compiled normalisation; `None` if a look-up could read beyond the table, or a replacement is too long.
///
/// Layout, all little endian: the size of a trie in bytes as u32; the trie, a double array of u32 units; replacements,
/// UTF-8, each ended by a zero byte. From a unit at index i with offset o, byte b leads to the unit at i ^ o ^ b, if
/// the label of that unit is b. The offset of that unit leads to its leaf, if it has one; the leaf holds the position
/// of a replacement.
pub(super) fn check_charsmap(bytes: &[u8]) -> Option<()> {
    let (size, rest) = bytes.split_first_chunk()?;
    let (trie, replacements) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
    let replacements = std::str::from_utf8(replacements).ok()?;
    let (units, []) = trie.as_chunks::<4>() else { return None };
    let unit = |index: usize| units.get(index).map(|&unit| u32::from_le_bytes(unit) as usize);
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);

    let mut seen = vec![false; units.len()];
    let mut bases = vec![offset(unit(0)?)];
    while let Some(base) = bases.pop() {
        // A look-up reads the unit of whatever byte comes next, so all 256 units must exist.
        unit(base | 0xFF)?;
        if std::mem::replace(&mut seen[base], true) {
            continue;
        }
        for byte in 1..=0xFF {
            let index = base ^ byte;
            let child = unit(index)?;
            if child & ((1 << 31) | 0xFF) != byte {
                continue;
            }
            let below = index ^ offset(child);
            if child >> 8 & 1 == 1 {
                let replacement = replacements.get(unit(below)? & ((1 << 31) - 1)..)?.as_bytes();
                let (end, rest) =
                    (replacement.iter().take(MOST_REPLACEMENT + 1).position(|&byte| byte == 0), replacement.len());
                if end.is_none() && rest > MOST_REPLACEMENT {
                    return None;
                }
            }
            bases.push(below);
        }
    }
    Some(())
}

/// A field's value, by wire type.
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value. Ends after the first error.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = next_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field.ok_or_else(|| "it is damaged or not a SentencePiece model".to_owned()))
    })
}

fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = next_varint(bytes)?;
    let value = match tag & 7 {
        0 => Value::Varint(next_varint(bytes)?),
        1 => bytes.split_off(..8).map(|_| Value::Fixed64)?,
        2 => {
            let length = usize::try_from(next_varint(bytes)?).ok()?;
            Value::Bytes(bytes.split_off(..length)?)
        }
        5 => Value::Fixed32(u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn next_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_seven_bits_a_byte() {
        assert_eq!(next_varint(&mut [0x96, 0x01].as_slice()), Some(150));
        assert_eq!(next_varint(&mut [0x80].as_slice()), None);
        assert_eq!(next_varint(&mut [0xFF; 11].as_slice()), None);
    }

    #[test]
    fn pieces_and_replacements_that_take_much_memory_are_refused() {
        let pieces = |count| vec![("a".repeat(MOST_PIECE), 0.0); count];
        assert!(check_pieces(&pieces(2000)).is_ok() && check_pieces(&pieces(2200)).is_err());
        // One byte, 1, leads from the root to unit 1, which has a leaf at unit 0.
        let charsmap = |replacement: usize| {
            let mut units = vec![0u32; 256];
            units[1] = 1 | 1 << 8 | 1 << 10;
            let table: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            [&(table.len() as u32).to_le_bytes()[..], &table, "x".repeat(replacement).as_bytes(), b"\0"].concat()
        };
        assert!(check_charsmap(&charsmap(MOST_REPLACEMENT)).is_some());
        assert!(check_charsmap(&charsmap(MOST_REPLACEMENT + 1)).is_none());
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error() {
        assert!(fields(&[0x0A, 0x05, b'x']).any(|field| field.is_err()));
    }
}
