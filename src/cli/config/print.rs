//! Prints the options in effect as a file.

use super::{excludes, explicit, is_flag, options};
use clap::{Arg, ArgMatches, Command};
use osp::{Error, Result};
use std::borrow::Cow;
use toml::de::DeValue;

/// A file with which `--config` repeats a run of the command that `given` has. Options without value are comments.
pub fn print(osp: &Command, given: &ArgMatches) -> Result<String> {
    let mut osp = osp.clone();
    osp.build();
    let (name, given) = given.subcommand().expect("clap requires a command");
    let command = osp.find_subcommand(name).expect("clap found this command");
    let typed = explicit(command, given);
    let mut lines = vec![format!("[{name}]")];
    for arg in command.get_positionals().filter(|arg| typed.contains(arg)) {
        let shown = arg.get_value_names().and_then(<[_]>::first).map_or(arg.get_id().as_str(), |name| name.as_str());
        lines.push(format!("# {shown}, on the command line: {}", list(values(arg, given)?)));
    }
    for (name, arg) in options(command) {
        // Written down, a default that another option excludes would be a conflict.
        let hidden = !typed.contains(&arg) && typed.iter().any(|other| excludes(command, arg, other));
        lines.push(match value(arg, given)?.filter(|_| !hidden) {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} = …  # {}", summary(arg)),
        });
    }
    Ok(lines.join("\n"))
}

/// The option's value in TOML, if it has one.
fn value(arg: &Arg, given: &ArgMatches) -> Result<Option<String>> {
    if is_flag(arg) {
        return Ok(given.get_flag(arg.get_id().as_str()).then(|| "true".to_owned()));
    }
    let values = values(arg, given)?;
    Ok((!values.is_empty()).then(|| list(values)))
}

/// The argument's values in TOML.
fn values(arg: &Arg, given: &ArgMatches) -> Result<Vec<String>> {
    let raw = given.get_raw(arg.get_id().as_str()).into_iter().flatten();
    let problem = || Error::Usage(format!("{arg}: TOML holds only UTF-8, and the value is something else"));
    raw.map(|value| value.to_str().map(literal).ok_or_else(problem)).collect()
}

/// One value, or an array of several.
fn list(mut values: Vec<String>) -> String {
    if values.len() == 1 { values.remove(0) } else { format!("[{}]", values.join(", ")) }
}

/// A number that TOML reads as the same text, else a string.
fn literal(text: &str) -> String {
    let begins = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    let read = match DeValue::parse(text).map(toml::Spanned::into_inner) {
        Ok(DeValue::Integer(number)) if number.radix() == 10 => Cow::Owned(number.as_str().to_owned()),
        Ok(DeValue::Float(number)) => Cow::Owned(number.as_str().to_owned()),
        _ => Cow::Borrowed(""),
    };
    if begins && read == text { text.to_owned() } else { quoted(text) }
}

/// A string of TOML. All escapes of JSON are some of TOML, too, but TOML escapes one more character.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// The first line of the option's help.
fn summary(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    help.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_were_typed_and_all_else_is_a_string() {
        for number in ["0", "-1", "7.5", "18446744073709551615", "1e3"] {
            assert_eq!(literal(number), number);
        }
        for text in
            ["", "auto", "0x10", "+5", "1_000", "05", "1.", ".5", "inf", "true", "512x512", "2026-11-29", "a b", "-"]
        {
            assert_eq!(literal(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn strings_read_as_they_were() {
        for text in ["a \"cat\"", "C:\\models", "two\nlines", "\u{7f}\u{1}\t", "größer 🐈", "it's", "# no comment"]
        {
            let quoted = quoted(text);
            assert!(!quoted.contains('\n'), "{quoted}");
            let read = DeValue::parse(&quoted).unwrap().into_inner();
            assert!(matches!(&read, DeValue::String(same) if same == text), "{text:?}: {quoted}");
        }
    }
}
