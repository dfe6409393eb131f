//! Adds to errors and warnings of the library the options that help.

use clap::Command;
use osp::engine::Warning;
use osp::{Error, Relief};
use std::sync::OnceLock;

/// The long options of the command that runs.
static OPTIONS: OnceLock<Vec<String>> = OnceLock::new();

/// From now on, only options of this command are named.
pub fn are_for(command: &Command) {
    let names = command.get_arguments().filter_map(|arg| arg.get_long());
    // A process runs one command.
    let _ = OPTIONS.set(names.map(str::to_owned).collect());
}

/// An error as one line, with the options that help.
pub fn error(error: &Error) -> String {
    let has = |name: &str| OPTIONS.get().is_none_or(|options| options.iter().any(|option| option == name));
    with_options(error, has)
}

/// As [`error`], for a command that has some options.
fn with_options(error: &Error, has: impl Fn(&str) -> bool) -> String {
    let any =
        |names: &[&str]| names.iter().filter(|name| has(name)).map(|name| format!("--{name}")).collect::<Vec<_>>();
    let alternatives = match error {
        Error::OutOfMemory { needed, relief, .. } => {
            let limit =
                any(&["memory"]).into_iter().map(|name| format!("{name} {}MiB", needed.div_ceil(1 << 20))).collect();
            // What decides the length and the size of a video: the request, or the clip that is read.
            let video = any(&["frames", "max-frames", "size"]);
            match relief {
                Relief::Limit => vec![limit],
                Relief::LimitOrVideo => vec![limit, video],
                Relief::LimitOrTiles => vec![limit, any(&["tile-size", "tile-frames"])],
                Relief::Video => vec![video],
                Relief::Clip => vec![any(&["max-frames"])],
            }
        }
        Error::Ambiguous { what: "transformer", .. } => vec![any(&["transformer"])],
        _ => Vec::new(),
    };
    let alternatives = alternatives.into_iter().filter(|names| !names.is_empty()).map(|names| names.join(", "));
    match alternatives.collect::<Vec<String>>().join("; ") {
        none if none.is_empty() => error.to_string(),
        options => format!("{error} ({options})"),
    }
}

/// A warning as one line, with the option that avoids it.
pub fn warning(warning: &Warning) -> String {
    match warning {
        Warning::NotCached(_) => format!("{warning} (--no-cache does without)"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_command_follow_what_the_library_says() {
        let short = |relief| Error::OutOfMemory { stage: "denoise".into(), needed: 3 << 20, free: 1 << 20, relief };
        let sample = |error: &Error| with_options(error, |name| name != "max-frames");
        assert_eq!(
            sample(&short(Relief::LimitOrVideo)),
            "denoise: out of memory: needs 3 MiB, 1 MiB are free; allow 3 MiB, or ask for fewer frames or a smaller \
             size (--memory 3MiB; --frames, --size)"
        );
        assert!(sample(&short(Relief::LimitOrTiles)).ends_with("(--memory 3MiB; --tile-size, --tile-frames)"));
        let encode = |error: &Error| with_options(error, |name| name != "frames");
        assert!(encode(&short(Relief::Clip)).ends_with("1 MiB are free; read fewer of its frames (--max-frames)"));
        assert!(encode(&short(Relief::Video)).ends_with("a smaller size (--max-frames, --size)"));
        let decode = |error: &Error| with_options(error, |name| ["memory", "tile-size"].contains(&name));
        assert!(decode(&short(Relief::Video)).ends_with("ask for fewer frames or a smaller size"));
        let several = ["65x512x512".to_owned(), "221x512x512".to_owned()].to_vec();
        let several = Error::Ambiguous { folder: "models".into(), what: "transformer", found: several };
        assert_eq!(
            sample(&several),
            "models holds several transformers; choose one: 65x512x512, 221x512x512 (--transformer)"
        );
        assert_eq!(sample(&Error::Interrupted), "interrupted");
    }
}
