//! Reads a file of options.

use super::{TYPED, is_flag, options};
use clap::{Arg, ArgAction, Command};
use osp::reading::{self, TEXT};
use osp::{Error, Result};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A file of options: its name, and its content.
pub struct File {
    path: PathBuf,
    text: String,
}

/// An option in the file.
pub struct Setting<'c> {
    pub arg: &'c Arg,
    /// Its name.
    pub key: &'c str,
    /// Where in the text it is.
    pub at: usize,
    /// What would be typed on the command line; nothing if it is set to false or to an empty list.
    pub arguments: Vec<String>,
}

impl File {
    pub fn read(path: &Path) -> Result<Self> {
        let text = reading::piped_text(path, TEXT).map_err(Error::io("cannot read", path))?;
        Ok(Self { path: path.to_path_buf(), text })
    }

    /// The settings for `command`: of its table, and of the top level. Names are checked in the whole file.
    pub fn settings<'c>(&self, osp: &'c Command, command: &'c Command) -> Result<[Vec<Setting<'c>>; 2]> {
        let root = DeTable::parse(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong(at, error.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for (key, value) in root.get_ref() {
            let (at, key, value) = (key.span().start, &**key.get_ref(), value.get_ref());
            if let DeValue::Table(table) = value {
                let settings = self.table(osp, at, key, table)?;
                own.extend(settings.into_iter().filter(|_| key == command.get_name()));
            } else if let Some(arg) = find(command, key) {
                shared.push(self.setting(arg, at, value)?);
            } else if !osp.get_subcommands().any(|other| find(other, key).is_some()) {
                let names = osp.get_subcommands().flat_map(options).map(|(name, _)| name);
                return Err(self.unknown(at, "osp has no option", key, names));
            }
        }
        Ok([own, shared])
    }

    /// The settings of the table for the command `name`.
    fn table<'c>(&self, osp: &'c Command, at: usize, name: &str, table: &DeTable<'_>) -> Result<Vec<Setting<'c>>> {
        let Some(command) = osp.find_subcommand(name) else {
            let names = osp.get_subcommands().map(Command::get_name);
            return Err(self.unknown(at, "osp has no command", name, names));
        };
        let mut settings = Vec::new();
        for (key, value) in table {
            let (at, key) = (key.span().start, &**key.get_ref());
            let Some(arg) = find(command, key) else {
                let names = options(command).map(|(name, _)| name);
                return Err(self.unknown(at, &format!("osp {name} has no option"), key, names));
            };
            settings.push(self.setting(arg, at, value.get_ref())?);
        }
        Ok(settings)
    }

    fn setting<'c>(&self, arg: &'c Arg, at: usize, value: &DeValue<'_>) -> Result<Setting<'c>> {
        let key = arg.get_long().expect("options of a file have long names");
        let arguments = arguments(arg, key, value).map_err(|problem| self.wrong(at, format!("{key}: {problem}")))?;
        Ok(Setting { arg, key, at, arguments })
    }

    /// The error about a name that is none of `known`.
    fn unknown<'n>(&self, at: usize, problem: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Error {
        if TYPED.contains(&name) {
            return self.wrong(at, format!("{name} works only on the command line"));
        }
        let nearest = known.min_by_key(|other| distance(other, name)).expect("every command has options");
        self.wrong(at, format!("{problem} {name}; the nearest is {nearest}"))
    }

    /// An error at a place in the text.
    pub fn wrong(&self, at: usize, problem: String) -> Error {
        let line = 1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        Error::Usage(format!("{}, line {line}: {problem}", self.path.display()))
    }
}

/// The command's option of this name.
fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    options(command).find(|(known, _)| *known == name).map(|(_, arg)| arg)
}

/// What would be typed on the command line.
fn arguments(arg: &Arg, key: &str, value: &DeValue<'_>) -> Result<Vec<String>> {
    if is_flag(arg) {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{key}")]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            other => Err(Error::Usage(format!("expected true or false, found {}", kind(other)))),
        };
    }
    let values = match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| scalar(value.get_ref())).collect()
        }
        value => scalar(value).map(|value| vec![value]),
    };
    Ok(values?.into_iter().map(|value| format!("--{key}={value}")).collect())
}

/// A string or a number as on the command line.
fn scalar(value: &DeValue<'_>) -> Result<String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() != 10 => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| Error::Usage(format!("{number} is too large"))),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => Err(Error::Usage(format!("expected one string or number, found {}", kind(other)))),
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// How many characters to insert, remove or replace to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_counts_characters() {
        for (one, other, expected) in
            [("", "", 0), ("", "ab", 2), ("step", "steps", 1), ("sede", "seed", 2), ("größe", "grosse", 3)]
        {
            assert_eq!([distance(one, other), distance(other, one)], [expected; 2], "{one} {other}");
        }
    }
}
