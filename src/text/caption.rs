//! Caption cleaning. The captions of the training set were cleaned this way, so prompts must be, too.
//!
//! The steps come from DeepFloyd IF; Open-Sora-Plan copied them. They were found by looking at web captions, not
//! designed: some undo others, and several work only because of earlier steps. Order, quirks and the second pass belong
//! to the model's input format, so nothing here must be simplified.

use super::{html, python};
use fancy_regex::Regex;
use std::sync::LazyLock;

/// Cleans a prompt: runs all steps twice.
pub fn clean(text: &str) -> String {
    clean_once(&clean_once(text))
}

/// The minimum, for runs without cleaning: lower case, without white space at the ends.
pub fn lower(text: &str) -> String {
    python::strip(&text.to_lowercase()).to_owned()
}

/// One step of cleaning.
enum Step {
    /// Every match of the pattern (in Python's dialect) becomes the replacement.
    Replace(&'static str, &'static str),
    /// A step that no pattern can do.
    Apply(fn(&str) -> String),
}

use Step::{Apply, Replace};

/// A bare host name and its path, unless `@` follows; a query string stays.
macro_rules! host {
    () => {
        r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?(?!@))"
    };
}

/// All steps in order, each with its purpose or an example.
#[rustfmt::skip]
const STEPS: &[Step] = &[
    // Addresses and markup.
    Apply(python::unquote_plus),                            // a%20b+c
    Apply(|text| python::strip(text).to_lowercase()),
    Replace(r"<person>", "person"),                         // stands for a name; the HTML parser would drop it
    Replace(concat!(r"\b(?:https?:(?:/{1,3}|[a-zA-Z0-9%])|", host!()), ""),
    Replace(concat!(r"\b(?:www:(?:/{1,3}|[a-zA-Z0-9%])|", host!()), ""),
    Apply(html::text),
    Replace(r"@[\w\d]+\b", ""),                             // @nickname

    // CJK, a block at a time.
    Replace(r"[\u{31c0}-\u{31ef}]+", ""),                   // strokes
    Replace(r"[\u{31f0}-\u{31ff}]+", ""),                   // Katakana phonetic extensions
    Replace(r"[\u{3200}-\u{32ff}]+", ""),                   // enclosed letters and months
    Replace(r"[\u{3300}-\u{33ff}]+", ""),                   // compatibility
    Replace(r"[\u{3400}-\u{4dbf}]+", ""),                   // ideographs, extension A
    Replace(r"[\u{4dc0}-\u{4dff}]+", ""),                   // Yijing hexagrams
    Replace(r"[\u{4e00}-\u{9fff}]+", ""),                   // ideographs

    // One form of dashes and quotes.
    Replace(concat!(r"[\u{2d}\u{58a}\u{5be}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2e17}\u{2e1a}\u{2e3a}\u{2e3b}\u{2e40}",
                    r"\u{301c}\u{3030}\u{30a0}\u{fe31}\u{fe32}\u{fe58}\u{fe63}\u{ff0d}]+"), "-"),
    Replace(r"[`´«»“”¨]", "\""),
    Replace(r"[‘’]", "'"),
    Replace(r"&quot;?", ""),
    Replace(r"&amp", ""),

    // Numbers, identifiers and files.
    Replace(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),    // an IP address
    Replace(r"\d:\d\d\s+$", ""),                            // the time a message was sent
    Replace(r"\\n", " "),                                   // an escaped line break
    Replace(r"#\d{1,3}\b", ""),
    Replace(r"#\d{5,}\b", ""),
    Replace(r"\b\d{6,}\b", ""),
    Replace(r"[\S]+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),

    // Punctuation.
    Replace(r#"["']{2,}"#, "\""),                           // '''
    Replace(r"[.]{2,}", " "),                               // ...
    Replace(r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),       // ***
    Replace(r"\s+\.\s+", " "),
    Apply(split_slug),
    Apply(fix_text),                                        // mojibake, ligatures, width, controls, NFC
    Apply(|text| htmlize::unescape(htmlize::unescape(text)).into_owned()),

    // Identifiers again: letters and digits mixed.
    Replace(r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),              // jc6640
    Replace(r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),              // jc6640vc
    Replace(r"\b\d+[a-zA-Z]+\d+\b", ""),                    // 6640vc231

    // Phrases of shops and download pages.
    Replace(r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    Replace(r"(?:free\s)?download(?:\sfree)?", ""),
    Replace(r"\bclick\b\s(?:for|on)\s\w+", ""),
    Replace(r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?", ""),
    Replace(r"\bpage\s+\d+\b", ""),
    Replace(r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "), // j2d1a2a
    Replace(r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),            // 3x4, with a Latin or a Cyrillic letter or a cross

    // Spacing.
    Replace(r"\b\s+:\s+", ": "),
    Replace(r"(\D[,./])\b", "$1 "),                         // snow.their
    Replace(r"\s+", " "),

    // The ends.
    Replace(r#"^["']([\s\S]+)["']$"#, "$1"),
    Replace(r"^['_,\-:;]", ""),
    Replace(r"['_,\-:+]$", ""),
    Replace(r"^\.\S+$", ""),
    Apply(|text| python::strip(text).to_owned()),
];

/// The compiled patterns, `None` where a step has none.
static PATTERNS: LazyLock<Vec<Option<Regex>>> = LazyLock::new(|| {
    let pattern = |step: &Step| match step {
        Replace(pattern, _) => Some(python::pattern(pattern)),
        Apply(_) => None,
    };
    STEPS.iter().map(pattern).collect()
});

fn clean_once(text: &str) -> String {
    STEPS.iter().zip(PATTERNS.iter()).fold(text.to_owned(), |text, (step, pattern)| match (step, pattern) {
        // The only possible error is a match so long that the matcher's stack is full: a million characters without a
        // space. No step is worth a failure there.
        (Replace(_, replacement), Some(pattern)) => match pattern.try_replacen(&text, 0, *replacement) {
            Ok(replaced) => replaced.into_owned(),
            Err(_) => text,
        },
        (Apply(function), _) => function(&text),
        (Replace(..), None) => unreachable!("every Replace has a pattern"),
    })
}

/// Splits `this-is-my-cute-cat` and `this_is_my_cute_cat`: more than three of these signs become spaces.
fn split_slug(text: &str) -> String {
    let sign = ['-', '_'];
    if text.matches(sign).count() > 3 { text.replace(sign, " ") } else { text.to_owned() }
}

/// `fix_text` of ftfy 6.1.
fn fix_text(text: &str) -> String {
    // plsfix cuts longer lines by bytes, through the middle of a character.
    let config = plsfix::TextFixerConfig { max_decode_length: i32::MAX, ..Default::default() };
    // One wide sign, as in (￣▽￣), becomes two characters. plsfix writes only the first of them.
    plsfix::fix_text(&text.replace('\u{ffe3}', " \u{304}"), Some(&config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowering_knows_python_white_space() {
        assert_eq!(lower("\x1c A  Cat\u{85}"), "a  cat");
        assert_eq!(lower("ΟΔΟΣ"), "οδος");
    }

    #[test]
    fn three_signs_do_not_make_a_slug() {
        assert_eq!(split_slug("a-b_c-d"), "a-b_c-d");
        assert_eq!(split_slug("a-b_c-d_e"), "a b c d e");
    }
}
