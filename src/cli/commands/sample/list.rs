//! Lists of videos in a file: a prompt on each line, or JSON objects.

use crate::cli::size::Size;
use osp::reading;
use osp::sampler::SamplerKind;
use osp::{Error, Result};
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The most bytes of a list: half a million prompts.
const MOST_BYTES: u64 = 64 << 20;

/// A video that is asked for. The options say what it leaves open.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    pub prompt: String,
    pub negative_prompt: Option<String>,
    /// Set by the options if the list has none.
    #[serde(default, deserialize_with = "seed")]
    pub seed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    pub frames: Option<usize>,
    #[serde(default, deserialize_with = "text")]
    pub size: Option<Size>,
    #[serde(default, deserialize_with = "whole")]
    pub steps: Option<usize>,
    #[serde(default, deserialize_with = "number")]
    pub guidance: Option<f32>,
    #[serde(default, deserialize_with = "text")]
    pub sampler: Option<SamplerKind>,
    pub output: Option<PathBuf>,
    /// Its line, if it is asked for in a file.
    #[serde(skip)]
    pub line: Option<usize>,
}

/// Reads a seed as the option does: a negative one has the bits of an unsigned one.
fn seed<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a seed: a whole number of 64 bits, such as 42 or -1")]
    enum Seed {
        Positive(u64),
        Negative(i64),
    }
    Ok(Some(match Seed::deserialize(from)? {
        Seed::Positive(seed) => seed,
        Seed::Negative(seed) => seed.cast_unsigned(),
    }))
}

/// Reads a whole number. The library's own words are those of its language.
fn whole<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<usize>, D::Error> {
    usize::deserialize(from).map(Some).map_err(|_| serde::de::Error::custom("expected a whole number"))
}

/// Reads a number.
fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<f32>, D::Error> {
    f32::deserialize(from).map(Some).map_err(|_| serde::de::Error::custom("expected a number"))
}

/// Reads a text as the option does.
fn text<'de, D: Deserializer<'de>, T: FromStr<Err = Error>>(from: D) -> std::result::Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|error: Error| serde::de::Error::custom(format!("{text:?}: {error}")))
}

impl Wish {
    /// Nothing but a prompt.
    pub fn new(prompt: &str, line: Option<usize>) -> Self {
        Self {
            prompt: prompt.to_owned(),
            negative_prompt: None,
            seed: None,
            frames: None,
            size: None,
            steps: None,
            guidance: None,
            sampler: None,
            output: None,
            line,
        }
    }
}

/// The lines of a file that are not blank: JSON objects if its name ends in `.jsonl`, or if it is stdin and begins with one; else prompts.
pub fn read(path: &Path) -> Result<Vec<Wish>> {
    let text = reading::piped_text(path, MOST_BYTES).map_err(Error::io("cannot read", path))?;
    let text = text.trim_start_matches('\u{feff}');
    let are_objects = match reading::is_stdin(path) {
        true => text.trim_start().starts_with('{'),
        false => path.extension().is_some_and(|ending| ending == "jsonl"),
    };
    let wishes = if are_objects { objects(text, path)? } else { lines(text) };
    if wishes.is_empty() {
        return Err(Error::Usage(format!("{} holds no prompts: write one on each line", path.display())));
    }
    Ok(wishes)
}

fn lines(text: &str) -> Vec<Wish> {
    // Line ends of every system count, including the single carriage returns of old ones.
    let text = text.replace("\r\n", "\n");
    let lines = text.split(['\n', '\r']).map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(index, line)| Wish::new(line, Some(index + 1))).collect()
}

fn objects(text: &str, path: &Path) -> Result<Vec<Wish>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let object = |(index, line): (usize, &str)| {
        let line_number = index + 1;
        // Serde would take an array for the object.
        if !line.trim_start().starts_with('{') {
            let problem = "expected a JSON object, such as {\"prompt\": \"a cat\"}";
            return Err(Error::Usage(format!("{}, line {line_number}: {problem}", path.display())));
        }
        let wish: Wish = serde_json::from_str(line).map_err(|error| {
            // Its own line number is that in the object, always 1.
            let said = error.to_string();
            let said = said.split(" at line 1 column").next().unwrap_or_default();
            let said =
                said.replace("expected usize", "expected a whole number").replace("expected f32", "expected a number");
            let column = error.column();
            Error::Usage(format!("{}, line {line_number}, column {column}: {said}", path.display()))
        })?;
        Ok(Wish { line: Some(line_number), ..wish })
    };
    lines.map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_objects(text: &str) -> Result<Vec<Wish>> {
        objects(text, Path::new("list.jsonl"))
    }

    #[test]
    fn an_object_may_say_everything_or_only_the_prompt() {
        let wishes = read_objects(concat!(
            "{\"prompt\": \"a cat\"}\n\n",
            "{\"prompt\": \"a \\\"dog\\\"\\n\", \"negative_prompt\": \"\", \"seed\": -1, \"frames\": 17, \"size\": \"64x48\", ",
            "\"steps\": 3, \"guidance\": 1.5, \"sampler\": \"PNDM\", \"output\": \"dog.gif\"}\r\n",
        ));
        let wishes = wishes.unwrap();
        assert_eq!((wishes[0].prompt.as_str(), wishes[0].seed, wishes[0].line), ("a cat", None, Some(1)));
        let dog = &wishes[1];
        assert_eq!((dog.prompt.as_str(), dog.negative_prompt.as_deref()), ("a \"dog\"\n", Some("")));
        assert_eq!((dog.seed, dog.frames, dog.steps), (Some(u64::MAX), Some(17), Some(3)));
        assert_eq!((dog.size, dog.sampler), (Some(Size { height: 64, width: 48 }), Some(SamplerKind::Pndm)));
        assert_eq!((dog.guidance, dog.output.as_deref(), dog.line), (Some(1.5), Some(Path::new("dog.gif")), Some(3)));
    }

    #[test]
    fn a_wrong_object_is_named_by_its_line() {
        for (text, said) in [
            ("{\"prompt\": \"a\"}\na dog", "line 2: expected a JSON object"),
            ("[\"a\", null, 1]", "line 1: expected a JSON object"),
            ("{\"prompt\": \"a\"", "line 1, column 14: EOF"),
            ("{\"seed\": 1}", "line 1, column 11: missing field `prompt`"),
            ("{\"prompt\": \"a\", \"step\": 3}", "unknown field `step`, expected one of `prompt`"),
            ("{\"prompt\": \"a\", \"seed\": 1.5}", "expected a seed"),
            ("{\"prompt\": \"a\", \"seed\": 18446744073709551616}", "expected a seed"),
            ("{\"prompt\": \"a\", \"steps\": -1}", "expected a whole number"),
            ("{\"prompt\": \"a\", \"guidance\": \"usize\"}", "expected a number"),
            ("{\"prompt\": \"a\", \"size\": \"64\"}", "\"64\": expected rows and columns"),
            ("{\"prompt\": \"a\", \"sampler\": \"best\"}", "best"),
            ("{\"prompt\": \"a\", \"prompt\": \"b\"}", "duplicate field `prompt`"),
            ("{\"prompt\": \"a\"} {\"prompt\": \"b\"}", "trailing characters"),
        ] {
            let error = read_objects(text).unwrap_err().to_string();
            assert!(error.contains("list.jsonl, line") && error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn lines_end_as_on_any_system() {
        let found: Vec<_> =
            lines("a cat\r\n\r\n  a dog \ra cow").into_iter().map(|wish| (wish.line, wish.prompt)).collect();
        let expected = [(1, "a cat"), (3, "a dog"), (4, "a cow")].map(|(line, prompt)| (Some(line), prompt.to_owned()));
        assert_eq!(found, expected);
    }
}
