//! Adds to errors and warnings of the library the options that help.

use osp::engine::Warning;
use osp::{Error, Relief};

/// An error as one line, with the options that help.
pub fn error(error: &Error) -> String {
    let options = match error {
        Error::OutOfMemory { needed, relief, .. } => {
            let limit = format!("--memory {}MiB", needed.div_ceil(1 << 20));
            match relief {
                Relief::Limit => limit,
                Relief::LimitOrVideo => format!("{limit}; --frames, --size"),
                Relief::LimitOrTiles => format!("{limit}; --tile-size, --tile-frames"),
                Relief::Video => "--frames, --size".to_owned(),
                Relief::Clip => "--max-frames".to_owned(),
            }
        }
        Error::Ambiguous { what: "transformer", .. } => "--transformer".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error} ({options})")
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
    fn options_follow_what_the_library_says() {
        let short = |relief| Error::OutOfMemory { stage: "denoise".into(), needed: 3 << 20, free: 1 << 20, relief };
        assert_eq!(
            error(&short(Relief::LimitOrVideo)),
            "denoise: out of memory: needs 3 MiB, 1 MiB are free; allow 3 MiB, or ask for fewer frames or a smaller \
             size (--memory 3MiB; --frames, --size)"
        );
        assert!(error(&short(Relief::LimitOrTiles)).ends_with("(--memory 3MiB; --tile-size, --tile-frames)"));
        assert!(error(&short(Relief::Clip)).ends_with("1 MiB are free; read fewer of its frames (--max-frames)"));
        let several = ["65x512x512".to_owned(), "221x512x512".to_owned()].to_vec();
        let several = Error::Ambiguous { folder: "models".into(), what: "transformer", found: several };
        assert_eq!(
            error(&several),
            "models holds several transformers; choose one: 65x512x512, 221x512x512 (--transformer)"
        );
        assert_eq!(error(&Error::Interrupted), "interrupted");
    }
}
