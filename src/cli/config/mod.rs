//! Options from a file (`--config`), and a file of options (`--print-config`).
//!
//! The file's options become arguments behind the command's name, so the parsers of the command line read them. What the user
//! typed comes first, then the command's table, then the file's top level. An option gives way to one of an earlier place that
//! has the same name or that clap declares a conflict with.

mod file;
mod print;

use super::{Global, claims, one_line};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use file::{File, Setting};
use osp::Error;
pub use print::print;
use std::ffi::OsString;

/// Options that only the command line has.
const TYPED: [&str; 4] = ["config", "print-config", "help", "version"];

/// Why the arguments cannot be used.
pub enum Wrong {
    /// Clap's reason, or the help that the user asked for.
    Arguments(clap::Error),
    /// The file, or one of its options.
    File(Error),
}

impl From<clap::Error> for Wrong {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

/// Parses the process's arguments, with the options of the file that they name.
pub fn parse(osp: &Command, args: &[OsString]) -> std::result::Result<ArgMatches, Wrong> {
    let typed = lenient(osp, args);
    let file = typed.as_ref().and_then(|typed| Global::from_arg_matches(typed).ok()?.config);
    let command = typed.as_ref().and_then(ArgMatches::subcommand);
    let (Some(path), Some((name, typed))) = (file, command) else {
        return Ok(osp.clone().try_get_matches_from(args)?);
    };
    let mut built = osp.clone();
    built.build();
    let command = built.find_subcommand(name).expect("clap found this command");
    let file = File::read(&path)?;
    claims::options_are_from(&path);
    let settings = in_effect(command, typed, file.settings(&built, command)?);
    // The file's options follow the command's name, because behind the arguments might be a `--`.
    let behind = (1..args.len()).find(|&n| lenient(osp, &args[..n]).is_some_and(|some| some.subcommand().is_some()));
    let (before, after) = args.split_at(behind.unwrap_or(args.len()));
    let inserted = settings.iter().flat_map(|setting| &setting.arguments).map(OsString::from);
    let all = before.iter().cloned().chain(inserted).chain(after.iter().cloned());
    osp.clone().try_get_matches_from(all).map_err(|error| blame(error, &file, &settings))
}

/// What can be parsed of the arguments. What the file may still complete is no error, such as an option that is required.
fn lenient(osp: &Command, args: &[OsString]) -> Option<ArgMatches> {
    osp.clone().ignore_errors(true).try_get_matches_from(args).ok()
}

/// The settings that do not give way; `places` begins with those that win.
fn in_effect<'c>(command: &'c Command, typed: &ArgMatches, places: [Vec<Setting<'c>>; 2]) -> Vec<Setting<'c>> {
    let mut earlier: Vec<(&Arg, bool)> = explicit(command, typed).into_iter().map(|arg| (arg, true)).collect();
    let mut kept = Vec::<Setting<'_>>::new();
    for mut settings in places {
        settings.retain(|Setting { arg, .. }| {
            !earlier.iter().any(|&(other, set)| arg.get_id() == other.get_id() || set && excludes(command, arg, other))
        });
        // An option that is set to false excludes nothing, but hides a later true.
        earlier.extend(settings.iter().map(|setting| (setting.arg, !setting.arguments.is_empty())));
        kept.extend(settings);
    }
    kept
}

/// The arguments of the command that were given, as opposed to defaults.
fn explicit<'c>(command: &'c Command, given: &ArgMatches) -> Vec<&'c Arg> {
    let given = given.ids().filter(|id| given.value_source(id.as_str()) == Some(ValueSource::CommandLine));
    // A group has an identifier, too, but is no argument.
    given.filter_map(|id| command.get_arguments().find(|arg| arg.get_id() == id)).collect()
}

/// Whether the command does not take both arguments at once. Only one of them may declare it.
fn excludes(command: &Command, one: &Arg, other: &Arg) -> bool {
    let declares = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|conflict| conflict.get_id() == other.get_id())
    };
    declares(one, other) || declares(other, one)
}

/// The options that a file may hold, by their long names.
fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    named.filter(|(name, arg)| !arg.is_hide_set() && !TYPED.contains(name))
}

/// Whether the option takes no value.
fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Names the place in the file, if one of its settings is wrong.
fn blame(error: clap::Error, file: &File, settings: &[Setting<'_>]) -> Wrong {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => settings.iter().find(|setting| setting.arg.to_string() == *shown),
        _ => None,
    };
    match named {
        Some(setting) => Wrong::File(file.wrong(setting.at, format!("{}: {}", setting.key, one_line(&error)))),
        None => Wrong::Arguments(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use std::fs;

    /// The arguments of `line` after those of a file with this text; the line may name it as FILE.
    fn parsed(text: &str, line: &str) -> std::result::Result<ArgMatches, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        fs::write(&path, text).unwrap();
        let words = line.split(' ').map(|word| if word == "FILE" { path.clone().into() } else { word.into() });
        let said = |wrong| match wrong {
            Wrong::Arguments(error) => format!("clap: {}", one_line(&error)),
            Wrong::File(error) => error.to_string(),
        };
        parse(&Cli::definition(), &words.collect::<Vec<OsString>>()).map_err(said)
    }

    /// The values of an option, as text.
    fn values(text: &str, line: &str, id: &str) -> Vec<String> {
        let given = parsed(text, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let (_, given) = given.subcommand().unwrap();
        given.get_raw(id).into_iter().flatten().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn options_come_from_the_file_unless_they_are_typed() {
        let text = "steps = 7\nguidance = -1.50\nseed = [1, -2, 18446744073709551615]\nquiet = true\nmodel = 'a b'\n";
        let of = |line, id| values(text, line, id);
        assert_eq!(of("osp sample --config FILE cat", "steps"), ["7"]);
        assert_eq!(of("osp sample --config FILE cat", "guidance"), ["-1.50"]);
        assert_eq!(of("osp sample --config FILE cat", "seed"), ["1", "-2", "18446744073709551615"]);
        assert_eq!(of("osp sample --config FILE cat", "quiet"), ["true"]);
        assert_eq!(of("osp sample --config FILE cat", "model"), ["a b"]);
        assert_eq!(of("osp sample --config FILE --steps 3 --seed 5,6 cat", "steps"), ["3"]);
        assert_eq!(of("osp sample --config FILE --steps 3 --seed 5,6 cat", "seed"), ["5", "6"]);
        // The file is found wherever it is named, and its options stand before a `--`.
        assert_eq!(of("osp --config FILE sample -- cat", "steps"), ["7"]);
        assert_eq!(of("osp -q --config=FILE sample cat --config FILE", "steps"), ["7"]);
        assert_eq!(of("osp sample --config FILE -- sample", "prompt"), ["sample"]);
        // A command takes only the options that it has.
        assert_eq!(of("osp decode --config FILE latent -o x.mp4", "model"), ["a b"]);
        assert!(of("osp sample cat", "steps").is_empty());
    }

    #[test]
    fn a_commands_table_wins_over_the_top_level() {
        let text = "tile-size = 64\nno-cache = true\n[decode]\ntile-size = 128\noutput = 'x.gif'\n[sample]\nno-cache = false\n";
        assert_eq!(values(text, "osp sample --config FILE cat", "tile_size"), ["64"]);
        assert_eq!(values(text, "osp sample --config FILE cat", "no_cache"), ["false"]);
        assert_eq!(values(text, "osp decode --config FILE latent", "tile_size"), ["128"]);
        // An option that the command requires may be in the file.
        assert_eq!(values(text, "osp decode --config FILE latent", "output"), ["x.gif"]);
        assert_eq!(values(text, "osp decode --config FILE latent -o y.gif", "output"), ["y.gif"]);
        assert!(
            values("no-tiling = true\n[sample]\ntile-size = 64", "osp sample --config FILE cat", "tile_size") == ["64"]
        );
        assert!(values("encode = true\n[sample]\nsteps = 1", "osp plan --config FILE", "encode") == ["true"]);
    }

    #[test]
    fn options_give_way_to_what_excludes_them() {
        let text = "prompts = 'list.txt'\nshard = '1/2'\nagain = true\nno-tiling = true\nsteps = 5\n";
        assert!(values(text, "osp sample --config FILE cat", "prompts").is_empty());
        assert_eq!(values(text, "osp sample --config FILE", "prompts"), ["list.txt"]);
        assert_eq!(values(text, "osp sample --config FILE", "shard"), ["1/2"]);
        assert_eq!(values(text, "osp sample --config FILE --tile-size 64", "no_tiling"), ["false"]);
        assert!(values(text, "osp sample --config FILE --resume a.state", "steps").is_empty());
        assert!(values("model = 'm'", "osp plan --config FILE --preset v1.1.0", "model").is_empty());
        // An option that is typed may need one of the file.
        assert_eq!(values("prompts = 'list.txt'", "osp sample --config FILE --shard 1/2", "prompts"), ["list.txt"]);
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named_with_its_line() {
        for (text, said) in [
            ("\nstep = 5", "run.toml, line 2: osp has no option step; the nearest is steps"),
            ("[decode]\nsteps = 5", "run.toml, line 2: osp decode has no option steps; the nearest is "),
            ("[smaple]\nsteps = 5", "run.toml, line 1: osp has no command smaple; the nearest is sample"),
            ("[sample]\nconfig = 'a'", "run.toml, line 2: config works only on the command line"),
            ("help = true", "run.toml, line 1: help works only on the command line"),
            ("quiet = true\nsteps = 'many'", "run.toml, line 2: steps: invalid value 'many' for '--steps <N>'"),
            ("seed = [1, 'x']", "run.toml, line 1: seed: invalid value 'x'"),
            ("steps = [5]", "run.toml, line 1: steps: expected one string or number, found an array"),
            ("steps = true", "steps: expected one string or number, found true or false"),
            ("seed = [[1]]", "seed: expected one string or number, found an array"),
            ("steps = 2026-11-29", "steps: expected one string or number, found a date or time"),
            ("quiet = 1", "quiet: expected true or false, found a number"),
            ("[decode]\nno-tiling = 'yes'", "line 2: no-tiling: expected true or false, found a string"),
            (
                "no-tiling = true\ntile-size = 64",
                "run.toml, line 1: no-tiling: the argument '--no-tiling' cannot be used with",
            ),
            ("steps = 5\nsteps = 6", "run.toml, line 2: duplicate key"),
            ("a b", "run.toml, line 1: "),
        ] {
            let error = parsed(text, "osp sample --config FILE cat").unwrap_err();
            assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_on_the_command_line_is_not_the_files_fault() {
        let line = |line| parsed("steps = 5\ncrop = true", line).unwrap_err();
        assert!(line("osp sample --config FILE --guidance x").starts_with("clap: invalid value 'x'"));
        assert!(line("osp sample --config FILE --stepz 3").starts_with("clap: unexpected argument"));
        assert!(line("osp sample --config FILE --config FILE").starts_with("clap: "));
        assert!(line("osp encode --config FILE clip").contains("--output"));
        assert!(line("osp sample --config absent.toml").contains("absent.toml"));
        assert!(line("osp --config FILE").starts_with("clap: "));
    }

    #[test]
    fn a_printed_file_gives_the_same_options() {
        for line in [
            "osp sample a",
            "osp sample --prompts list.txt --shard 1/2 --seed 1,-2 --negative-prompt \"q\" --guidance -1.5 --no-cache",
            "osp sample --resume a.state --quiet",
            "osp reconstruct in.mp4 -o out.mp4 --size 64x64 --crop --mean",
            "osp compare a.mp4 b.mp4 --max-frames 5 --svg c.svg",
            "osp encode in.mp4 -o out.safetensors --seed -1",
            "osp decode in.safetensors -o out.mp4 --no-tiling --memory 2GiB",
            "osp verify golden --least-memory",
            "osp info model --weights synthetic:7",
            "osp plan --preset v1.1.0 --encode --json",
            "osp profile --repeat 3 --device dry --gpu h100",
            "osp convert a -o b --dtype f16 --force",
            "osp download a/b --only vae --only text_encoder",
            "osp selftest gemm --quick",
            "osp doctor",
            "osp completions bash",
            "osp man --dir pages",
        ] {
            let print = |given: &ArgMatches| print(&Cli::definition(), given).unwrap();
            let first = parsed("", line).unwrap();
            let once = print(&first);
            // The command again, with its positional arguments and the file.
            let (name, given) = first.subcommand().unwrap();
            let osp = Cli::definition();
            let positionals = osp.find_subcommand(name).unwrap().get_positionals();
            let typed = positionals.filter_map(|arg| given.get_raw(arg.get_id().as_str())).flatten();
            let typed: Vec<&str> = typed.map(|value| value.to_str().unwrap()).collect();
            let again = [&["osp", name, "--config", "FILE"], &typed[..]].concat().join(" ");
            let twice = parsed(&once, &again).unwrap_or_else(|error| panic!("{line}: {error}\n{once}"));
            assert_eq!(print(&twice), once, "{line}");
        }
    }
}
