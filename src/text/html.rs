//! The text of an HTML fragment, as BeautifulSoup with Python's `html.parser` sees it.
//!
//! Captions are rarely HTML: most `<` and `&` in them are typing errors. So the treatment of malformed markup must be
//! the original's; a browser's parser would be better, but wrong here. The reference is the behaviour of Python 3.11.
//! Where Python raises an error (`<![x`), this parser takes the markup for a comment.

use super::python::{is_space, pattern, strip};
use fancy_regex::Regex;
use std::sync::LazyLock;

/// Returns the text of `markup`: without tags, comments, declarations, scripts and styles, with references decoded.
pub fn text(markup: &str) -> String {
    let mut document = Document::default();
    let mut at = 0;
    // The original parser receives the whole text, then it is closed. It stops at the first construct that looks
    // unfinished. Closing resumes there and takes the unfinished construct for text, but may stop once more. The rest
    // is text.
    for closing in [false, true] {
        at += feed(&markup[at..], closing, &mut document);
    }
    document.data(&markup[at..]);
    document.end_data();
    document.text
}

/// How reading continues after a construct.
enum After {
    /// Behind the construct, which has this many bytes.
    Continue(usize),
    /// Stop reading, this many bytes further.
    Stop(usize),
}

use After::{Continue, Stop};

/// Reads `markup` until its end or until a construct stops it; returns where.
fn feed(markup: &str, closing: bool, document: &mut Document) -> usize {
    let mut at = 0;
    loop {
        let rest = &markup[at..];
        let plain = rest.find(['<', '&']).unwrap_or(rest.len());
        let (data, rest) = rest.split_at(plain);
        document.data(data);
        at += plain;
        let after = match rest.bytes().next() {
            None => return at,
            Some(b'<') => angle(rest, closing, document),
            Some(_) => reference(rest, closing, document),
        };
        match after {
            Continue(length) => at += length,
            Stop(length) => return at + length,
        }
    }
}

/// Reads a construct that begins with `<`. The functions it calls return the construct's length, `None` if it is
/// unfinished.
fn angle(rest: &str, closing: bool, document: &mut Document) -> After {
    let length = match rest.as_bytes().get(1) {
        Some(next) if next.is_ascii_alphabetic() => start_tag(rest, document),
        Some(b'/') => end_tag(rest, document),
        Some(b'!') => declaration(rest, document),
        Some(b'?') => document.skip(rest.find('>')),
        Some(_) => {
            document.data("<");
            Some(1)
        }
        None => return Stop(0),
    };
    match length {
        Some(length) => Continue(length),
        None if !closing => Stop(0),
        None => {
            let next = rest[1..].find('>').map(|at| at + 2).or_else(|| rest[1..].find('<').map(|at| at + 1));
            let length = next.unwrap_or(1);
            document.data(&rest[..length]);
            Continue(length)
        }
    }
}

/// Reads `<name attributes>` or `<name attributes/>`.
fn start_tag(rest: &str, document: &mut Document) -> Option<usize> {
    let name_end = rest[1..].find(ends_name).map_or(rest.len(), |at| at + 1);
    let mut at = skip_gap(rest, name_end);
    while let Some(end) = attribute(rest, at) {
        at = skip_gap(rest, end);
    }
    let end = match &rest[at..] {
        tail if tail.starts_with('>') => at + 1,
        tail if tail.starts_with("/>") => at + 2,
        tail if tail.is_empty() || tail.starts_with('=') => return None,
        _ => {
            document.data(&rest[..at]);
            return Some(at);
        }
    };
    let name = rest[1..name_end].to_lowercase();
    let closed = end == at + 2;
    document.start(&name, closed);
    if closed || !["script", "style"].contains(&name.as_str()) {
        return Some(end);
    }
    // Everything up to the closing tag is neither markup nor text.
    let code = match name.as_str() {
        "script" => SCRIPT_END.find(&rest[end..]),
        _ => STYLE_END.find(&rest[end..]),
    };
    Some(code.ok().flatten().map_or(rest.len(), |close| end + close.start()))
}

static SCRIPT_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)</\s*script\s*>"));
static STYLE_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)</\s*style\s*>"));

fn ends_name(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\x0c' | ' ' | '/' | '>' | '\0')
}

/// Skips white space and slashes that do not close the tag.
fn skip_gap(rest: &str, at: usize) -> usize {
    let tail = &rest[at..];
    let is_gap = |&(at, character): &(usize, char)| {
        is_space(character) || (character == '/' && !tail[at + 1..].starts_with('>'))
    };
    at + tail.char_indices().take_while(is_gap).map(|(_, character)| character.len_utf8()).sum::<usize>()
}

/// The end of the attribute that begins at `at`: `name`, `name=value`, `name='value'` or `name="value"`.
fn attribute(rest: &str, at: usize) -> Option<usize> {
    let follows_gap = rest[..at].ends_with(|c: char| is_space(c) || matches!(c, '\'' | '"' | '/'));
    let first = rest[at..].chars().next().filter(|&c| follows_gap && !is_space(c) && c != '/' && c != '>')?;
    let find = |from: usize, stop: fn(char) -> bool| rest[from..].find(stop).map_or(rest.len(), |at| from + at);
    let name_end = find(at + first.len_utf8(), |c| is_space(c) || matches!(c, '/' | '=' | '>'));
    let sign = find(name_end, |c| !is_space(c));
    let sign_end = find(sign, |c| c != '=');
    if sign_end == sign {
        return Some(name_end);
    }
    let value = find(sign_end, |c| !is_space(c));
    let bare_end = |from| find(from, |c| is_space(c) || c == '>');
    let Some(quote) = rest[value..].chars().next().filter(|c| ['\'', '"'].contains(c)) else {
        return Some(bare_end(value));
    };
    match rest[value + 1..].find(quote) {
        Some(length) => Some(value + 1 + length + 1),
        // An unclosed quote does not begin a value. The value is then empty if white space comes before the quote. With
        // several `=`, the value is the last `=` and what follows. Else the attribute has no value.
        None if value > sign_end => Some(value),
        None if sign_end > sign + 1 => Some(bare_end(sign_end - 1)),
        None => Some(name_end),
    }
}

/// Reads `</name>`, or another construct that begins with `</`.
fn end_tag(rest: &str, document: &mut Document) -> Option<usize> {
    let close = rest.find('>')?;
    let inside = &rest[2..close];
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ['-', '.', ':', '_'].contains(&c))
    };
    if is_name(strip(inside)) {
        document.end(&strip(inside).to_lowercase());
    } else if inside.starts_with(|c: char| c.is_ascii_alphabetic()) {
        document.end(&inside[..inside.find(ends_name).unwrap_or(inside.len())].to_lowercase());
    } else if !inside.is_empty() {
        document.end_data();
    }
    Some(close + 1)
}

static COMMENT_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"--\s*>"));
static SECTION_NAME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z][-_.a-zA-Z0-9]*\s*"));
static SECTION_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"\]\s*\]\s*>"));
static CONDITION_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"\]\s*>"));

/// Reads a comment, a document type, a marked section or another construct that begins with `<!`.
fn declaration(rest: &str, document: &mut Document) -> Option<usize> {
    if let Some(comment) = rest.strip_prefix("<!--") {
        let end = COMMENT_END.find(comment).ok()??;
        document.end_data();
        return Some(4 + end.end());
    }
    if let Some(section) = rest.strip_prefix("<![") {
        return marked_section(section, document).map(|length| 3 + length);
    }
    document.skip(rest.find('>'))
}

/// Reads the marked section `name[text]]>`; only `CDATA` is text.
fn marked_section(section: &str, document: &mut Document) -> Option<usize> {
    let name = match SECTION_NAME.find(section).ok()? {
        Some(name) if name.end() == section.len() => return None,
        Some(name) => strip(name.as_str()).to_ascii_lowercase(),
        None if section.is_empty() => return None,
        None => String::new(),
    };
    let end = match name.as_str() {
        "temp" | "cdata" | "ignore" | "include" | "rcdata" => &SECTION_END,
        "if" | "else" | "endif" => &CONDITION_END,
        _ => return document.skip(section.find('>')),
    };
    let end = end.find(section).ok()??;
    document.end_data();
    let content = &section[..end.start()];
    if content.get(..6).is_some_and(|name| name.eq_ignore_ascii_case("cdata[")) {
        document.character_data(&content[6..]);
    }
    Some(end.end())
}

/// Reads a reference, which begins with `&`.
fn reference(rest: &str, closing: bool, document: &mut Document) -> After {
    match rest.as_bytes().get(1) {
        Some(b'#') => numeric_reference(rest, document),
        Some(next) if next.is_ascii_alphabetic() => named_reference(rest, closing, document),
        Some(_) => {
            document.data("&");
            Continue(1)
        }
        None => Stop(0),
    }
}

/// Reads `&#123;` or `&#x1f;`, with or without the semicolon, but not at the very end.
fn numeric_reference(rest: &str, document: &mut Document) -> After {
    let bytes = rest.as_bytes();
    let (start, is_digit): (usize, fn(&u8) -> bool) = match bytes.get(2) {
        Some(b'x' | b'X') => (3, u8::is_ascii_hexdigit),
        _ => (2, u8::is_ascii_digit),
    };
    let end = start + bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    match bytes.get(end) {
        Some(next) if end > start && !next.is_ascii_hexdigit() => {
            document.data(&htmlize::unescape(format!("{};", &rest[..end])));
            Continue(end + usize::from(*next == b';'))
        }
        _ if rest.contains(';') => {
            document.data("&#");
            Stop(2)
        }
        _ => Stop(0),
    }
}

/// Reads `&name;`, with or without the semicolon, but not at the very end.
fn named_reference(rest: &str, closing: bool, document: &mut Document) -> After {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || [b'-', b'.'].contains(byte);
    let run = 1 + rest.bytes().skip(1).take_while(|byte| is_name(byte)).count();
    // At the end of all text, the last `-` or `.` ends the name instead.
    let end = if run < rest.len() { Some(run) } else { rest.rfind(['-', '.']) };
    let Some(end) = end else {
        // If a single letter follows at the very end, the original loses the `&`.
        return Stop(usize::from(closing && rest.len() == 2));
    };
    match htmlize::ENTITIES.get(format!("{};", &rest[..end]).as_bytes()) {
        Some(character) => document.data(&String::from_utf8_lossy(character)),
        None => document.data(&rest[..end]),
    }
    Continue(end + usize::from(rest[end..].starts_with(';')))
}

/// Elements without content: they close themselves.
const EMPTY: [&str; 24] = [
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image", "img", "input",
    "isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source", "spacer", "track", "wbr",
];
/// Elements whose content is not text of the document: code, and the readings beside ruby text.
const HIDDEN: [&str; 5] = ["rp", "rt", "script", "style", "template"];
/// Elements that keep their white space.
const PREFORMATTED: [&str; 2] = ["pre", "textarea"];

/// The document that has been read up to now.
#[derive(Default)]
struct Document {
    text: String,
    /// Text since the last tag or comment.
    pending: String,
    /// Names of the open elements, the innermost last.
    open: Vec<String>,
    /// Empty elements that closed themselves; a later end tag of theirs is ignored.
    closed: Vec<String>,
}

impl Document {
    fn data(&mut self, data: &str) {
        self.pending.push_str(data);
    }

    /// Ends a run of text.
    fn end_data(&mut self) {
        let data = std::mem::take(&mut self.pending);
        if !data.is_empty() && !self.is_inside(&HIDDEN) {
            self.character_data(&data);
        }
    }

    /// Appends text; text of white space only becomes one character.
    fn character_data(&mut self, data: &str) {
        let blank = data.chars().all(|c| matches!(c, ' ' | '\n' | '\t' | '\x0c' | '\r'));
        self.text.push_str(match data {
            data if !blank || self.is_inside(&PREFORMATTED) => data,
            data if data.contains('\n') => "\n",
            _ => " ",
        });
    }

    fn is_inside(&self, names: &[&str]) -> bool {
        self.open.iter().any(|open| names.contains(&open.as_str()))
    }

    /// Passes over a construct without text that ends at `last`, if it ends.
    fn skip(&mut self, last: Option<usize>) -> Option<usize> {
        let last = last?;
        self.end_data();
        Some(last + 1)
    }

    fn start(&mut self, name: &str, closed: bool) {
        self.end_data();
        let empty = EMPTY.contains(&name);
        if !closed && !empty {
            self.open.push(name.to_owned());
        }
        if !closed && empty {
            self.closed.push(name.to_owned());
        }
    }

    /// Closes the innermost element of that name and all inside it, if there is one.
    fn end(&mut self, name: &str) {
        if let Some(at) = self.closed.iter().position(|closed| closed == name) {
            self.closed.remove(at);
            return;
        }
        self.end_data();
        if let Some(at) = self.open.iter().rposition(|open| open == name) {
            self.open.truncate(at);
        }
    }
}
