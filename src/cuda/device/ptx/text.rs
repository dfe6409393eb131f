//! The text of PTX: its words, and where each entry point stands. The body of an entry point is read on demand.

use std::borrow::Cow;

/// A word of the text, and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    pub text: &'a str,
    pub line: u32,
}

/// A file of PTX.
#[derive(Debug)]
pub struct Text {
    /// Its name, for messages.
    name: String,
    text: Cow<'static, str>,
    /// Name of each entry point, the byte at which its line begins, and the number of that line.
    entries: Vec<(String, usize, u32)>,
}

impl Text {
    /// Finds the entry points of `text`.
    pub fn new(name: impl Into<String>, text: impl Into<Cow<'static, str>>) -> Self {
        let (text, mut entries, mut start) = (text.into(), Vec::new(), 0);
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            let code = line.split("//").next().unwrap_or_default();
            if let Some((_, rest)) = code.split_once(".entry") {
                let end = |c: char| c.is_whitespace() || c == '(';
                let name = rest.trim_start().split(end).next().unwrap_or_default();
                entries.push((name.to_owned(), start, number));
            }
            start += line.len();
        }
        Self { name: name.into(), text, entries }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its entry points.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, ..)| &**name)
    }

    /// The words of an entry point from `.entry` on. The words of later entry points follow.
    pub fn entry(&self, name: &str) -> Option<Words<'_>> {
        let (_, start, line) = self.entries.iter().find(|(entry, ..)| entry == name)?;
        let mut words = Words { rest: &self.text[*start..], line: *line };
        words.find(|word| word.text == ".entry")?;
        Some(words)
    }

    /// The words before the first entry point.
    pub fn head(&self) -> Words<'_> {
        let end = self.entries.first().map_or(self.text.len(), |&(_, start, _)| start);
        Words { rest: &self.text[..end], line: 1 }
    }

    /// A place in the file with the text of its line, for messages.
    pub fn place(&self, line: u32) -> String {
        let text = self.text.lines().nth((line as usize).saturating_sub(1)).unwrap_or_default();
        format!("{}:{line} `{}`", self.name, text.trim())
    }
}

/// The words of a text, without white space and comments.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
    line: u32,
}

impl<'a> Words<'a> {
    /// The words of a text whose first line has number 1.
    #[cfg(test)]
    pub fn of(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count() as u32;
        self.rest = rest;
        skipped
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            let space = self.rest.len() - self.rest.trim_start().len();
            self.skip(space);
            let end = match self.rest {
                comment if comment.starts_with("//") => comment.find('\n'),
                comment if comment.starts_with("/*") => comment.find("*/").map(|at| at + 2),
                _ => return,
            };
            self.skip(end.unwrap_or(self.rest.len()));
        }
    }
}

/// The length of the word at the start of `text`: a name, an opcode with its qualifiers, a number, a string in quotes,
/// or one character.
fn length(text: &str) -> usize {
    if let Some(inside) = text.strip_prefix('"') {
        return inside.find('"').map_or(text.len(), |end| end + 2);
    }
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(&byte) = bytes.get(end) {
        if byte.is_ascii_alphanumeric() || b"_$%.".contains(&byte) {
            end += 1;
        } else if end > 0 && bytes[end..].starts_with(b"::") {
            end += 2;
        } else {
            break;
        }
    }
    if end > 0 { end } else { text.chars().next().map_or(0, char::len_utf8) }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.skip_space();
        let line = self.line;
        let length = length(self.rest);
        (length > 0).then(|| Word { text: self.skip(length), line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_lines_and_no_comments() {
        let words: Vec<Word<'_>> = Words::of("@!%p1 bra $L; // a\n/* b\n */ ld.x::y [%r+-8], 0f3F;").collect();
        let texts: Vec<&str> = words.iter().map(|word| word.text).collect();
        let expected = "@ ! %p1 bra $L ; ld.x::y [ %r + - 8 ] , 0f3F ;";
        assert_eq!(texts, expected.split(' ').collect::<Vec<_>>());
        assert_eq!((words[0].line, words[6].line), (1, 3));
    }

    #[test]
    fn entries_are_found_by_name() {
        let text =
            Text::new("a.ptx", ".version 9.0\n// .entry no\n.visible .entry one(\n)\n{ ret; }\n.entry two { }\n");
        assert_eq!(text.entries().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(text.entry("two").unwrap().next(), Some(Word { text: "two", line: 6 }));
        assert_eq!(text.head().count(), 2);
        assert!(text.entry("no").is_none());
        assert_eq!(text.place(5), "a.ptx:5 `{ ret; }`");
    }
}
