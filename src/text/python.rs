//! Where Python's `re` and `str` differ from Rust's patterns and strings.

use fancy_regex::{Regex, RegexBuilder};

/// `\s` in Python: Unicode white space and the four separators of ASCII, which Rust does not count.
const SPACE: &str = r"[\s\x1c-\x1f]";
/// `\S` in Python.
const NOT_SPACE: &str = r"[^\s\x1c-\x1f]";
/// `\w` in Python: letters, numbers of every kind (`½` and `²` too) and `_`. Rust's `\w` also matches combining marks
/// and joiners, but only decimal numbers.
const WORD: &str = r"[\p{L}\p{N}_]";
/// `\b` in Python: between a `\w` and something else, or an end.
const BOUNDARY: &str = r"(?:(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_])|(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_]))";

/// Compiles a pattern whose `\b`, `\s`, `\S` and `\w` mean what they mean to Python's `re`.
///
/// # Panics
/// If the pattern is malformed: all patterns are constants of this crate.
pub(super) fn pattern(pattern: &str) -> Regex {
    let mut translated = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            translated.push(character);
            continue;
        }
        match characters.next() {
            Some('b') => translated.push_str(BOUNDARY),
            Some('s') => translated.push_str(SPACE),
            Some('S') => translated.push_str(NOT_SPACE),
            Some('w') => translated.push_str(WORD),
            other => translated.extend([character].into_iter().chain(other)),
        }
    }
    // No limit, as in Python: a caption that is half cleaned would be worse than slow cleaning.
    RegexBuilder::new(&translated).backtrack_limit(usize::MAX).build().expect("the patterns are well-formed")
}

/// `str.isspace` of one character.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// `str.strip`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `urllib.parse.unquote_plus`: `+` is a space, `%xx` a byte of UTF-8; invalid UTF-8 becomes U+FFFD.
pub(super) fn unquote_plus(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Escapes within one run of ASCII form characters together; an unescaped character beside them does not.
        let ascii = rest.find(|c: char| !c.is_ascii()).unwrap_or(rest.len());
        decoded.push_str(&String::from_utf8_lossy(&unquote_ascii(&rest.as_bytes()[..ascii])));
        rest = &rest[ascii..];
        let other = rest.find(|c: char| c.is_ascii()).unwrap_or(rest.len());
        decoded.push_str(&rest[..other]);
        rest = &rest[other..];
    }
    decoded
}

fn unquote_ascii(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| (byte as char).to_digit(16)).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_spaces_are_what_they_are_in_python() {
        let word = pattern(r"^\w$");
        for (character, expected) in
            [("½", true), ("²", true), ("é", true), ("_", true), ("\u{301}", false), ("‿", false)]
        {
            assert_eq!(word.is_match(character).unwrap(), expected, "{character}");
        }
        let space = pattern(r"^[\s]$");
        for character in ["\x1c", "\u{85}", "\u{a0}", "\u{3000}", "\n"] {
            assert!(space.is_match(character).unwrap());
            assert_eq!(strip(&format!("{character}x{character}")), "x");
        }
        assert!(!space.is_match("\u{200b}").unwrap());
        assert!(pattern(r"^\\n$").is_match(r"\n").unwrap());
    }

    #[test]
    fn escapes_become_characters() {
        assert_eq!(unquote_plus("a+b%20c"), "a b c");
        assert_eq!(unquote_plus("%C3%A9%c3%a9"), "éé");
        assert_eq!(unquote_plus("%C3é%A9"), "\u{fffd}é\u{fffd}");
        assert_eq!(unquote_plus("100% %4 %zz %"), "100% %4 %zz %");
        assert_eq!(unquote_plus("%2B"), "+");
    }
}
