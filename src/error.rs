//! The one error type: what went wrong, where, what was found, what was expected, and what to change.

use std::fmt;
use std::path::{Path, PathBuf};

/// Result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, except bugs of this crate: those panic.
///
/// `Display` prints one line; [`Error::exit_code`] is the process's exit code for it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given an argument of the wrong size.
    Shape {
        /// Operation, e.g. `conv3d`.
        op: &'static str,
        /// Which argument of it.
        argument: &'static str,
        /// Elements or shape expected.
        expected: String,
        /// Elements or shape found.
        found: String,
    },
    /// A tensor or a weight file is missing, damaged or not what the config says.
    Weight {
        /// File or folder that was read.
        file: PathBuf,
        /// Tensor, or empty when the file as a whole is at fault.
        tensor: String,
        /// What is wrong: found, expected, and what to do.
        problem: String,
    },
    /// A `config.json` (or another JSON of a checkpoint) cannot be used.
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong: key, found, expected.
        problem: String,
    },
    /// A folder holds several candidates for one component, and the user chose none.
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// The component, e.g. `transformer`.
        what: &'static str,
        /// The candidates' names.
        found: Vec<String>,
    },
    /// Host or device memory ran out.
    OutOfMemory {
        /// Stage of the pipeline.
        stage: String,
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that were free.
        free: u64,
        /// What may help.
        relief: Relief,
    },
    /// No such device, or it does not answer.
    Device(String),
    /// A kernel could not be launched, or failed while it ran.
    Launch {
        /// The kernel's entry point.
        kernel: String,
        /// Blocks.
        grid: [u32; 3],
        /// Threads of a block.
        threads: u32,
        /// Dynamic shared memory of a block, in bytes.
        shared_bytes: u32,
        /// What is wrong.
        problem: String,
    },
    /// Reading or writing a file failed.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed, e.g. `cannot read`.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A video, image or latent file cannot be decoded or encoded.
    Media {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The request itself makes no sense: a wrong option value or combination.
    Usage(String),
    /// The request makes sense, but this engine cannot do it.
    Unsupported(String),
    /// A stage computed NaN or an infinite value.
    NotFinite {
        /// Stage of the pipeline, with the step if the stage has steps.
        stage: String,
        /// The result that holds the value.
        what: String,
        /// Where the first such value is.
        place: String,
        /// The largest finite number of the type in which the device stores activations.
        largest: f32,
    },
    /// The user pressed Ctrl-C.
    Interrupted,
    /// A check of `osp verify` failed.
    Failed(String),
    /// `osp verify` could not check a folder. Checks of other folders may have passed or failed.
    Unchecked {
        /// How many folders it could not check, and which checks failed in the others.
        summary: String,
        /// The exit code of the error that stopped the check.
        exit_code: u8,
    },
}

/// What may help a run that is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// A higher limit.
    Limit,
    /// A higher limit, fewer frames, or a smaller size.
    LimitOrVideo,
    /// A higher limit, or smaller tiles, which change the result.
    LimitOrTiles,
    /// Fewer frames or a smaller size: the device has no more memory.
    Video,
    /// Fewer frames of the clip that is read.
    Clip,
}

impl Error {
    /// Exit code: 1 failure, 2 usage, 3 no such device, 4 out of memory, 5 bad weights or config, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Ambiguous { .. } => 2,
            Self::Device(_) => 3,
            Self::OutOfMemory { .. } => 4,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::OutOfMemory => 4,
            Self::Weight { .. } | Self::Config { .. } => 5,
            Self::Interrupted => 130,
            Self::Unchecked { exit_code, .. } => *exit_code,
            Self::Shape { .. }
            | Self::Launch { .. }
            | Self::Io { .. }
            | Self::Media { .. }
            | Self::Unsupported(_)
            | Self::NotFinite { .. }
            | Self::Failed(_) => 1,
        }
    }

    /// An [`Error::Io`] for `path`; for use in `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// The system has no room for the thread that does `what`; for use in `map_err`. The system does not say whether it lacks memory for the
    /// stack, or has too many threads.
    pub fn no_thread(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("the thread that {what}");
        |error| Self::io("cannot start", what)(std::io::Error::new(std::io::ErrorKind::OutOfMemory, error))
    }

    /// Names the stage in which memory ran out: the device that made the error does not know it.
    pub fn during(self, stage: &str) -> Self {
        match self {
            Self::OutOfMemory { needed, free, relief, .. } => {
                Self::OutOfMemory { stage: stage.to_owned(), needed, free, relief }
            }
            other => other,
        }
    }

    /// Adds to an [`Error::Device`] what can be done without that device.
    pub fn instead(self, hint: &str) -> Self {
        match self {
            Self::Device(reason) => Self::Device(format!("{reason}; {hint}")),
            other => other,
        }
    }

    /// An [`Error::Config`] for `file`.
    pub fn config(file: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Config { file: file.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// An [`Error::Weight`] for `tensor` of `file`.
    pub fn weight(file: impl AsRef<Path>, tensor: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Weight { file: file.as_ref().to_path_buf(), tensor: tensor.into(), problem: problem.into() }
    }

    /// An [`Error::Media`] for `path`.
    pub fn media(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Media { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }
}

/// One line: a message may quote what a file holds, so every control character becomes a space.
pub fn one_line(text: &str) -> String {
    text.trim_end().replace(char::is_control, " ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.text()))
    }
}

impl Error {
    /// The message, with all characters of what it quotes.
    fn text(&self) -> String {
        match self {
            Self::Shape { op, argument, expected, found } => {
                format!("{op}: {argument} has {found}, expected {expected}")
            }
            Self::Weight { file, tensor, problem } if tensor.is_empty() => {
                format!("{}: {problem}", file.display())
            }
            Self::Weight { file, tensor, problem } => format!("{}: tensor {tensor}: {problem}", file.display()),
            Self::Config { file, problem } => format!("{}: {problem}", file.display()),
            Self::Ambiguous { folder, what, found } => {
                format!("{} holds several {what}s; choose one: {}", folder.display(), found.join(", "))
            }
            Self::OutOfMemory { stage, needed, free, relief } => {
                let [needed, free] = [needed, free].map(|bytes| bytes.div_ceil(1 << 20));
                let relief = match relief {
                    Relief::Limit => format!("allow {needed} MiB"),
                    Relief::LimitOrVideo => format!("allow {needed} MiB, or ask for fewer frames or a smaller size"),
                    Relief::LimitOrTiles => {
                        format!("allow {needed} MiB, or choose smaller tiles, which change the result")
                    }
                    Relief::Video => "ask for fewer frames or a smaller size".into(),
                    Relief::Clip => "read fewer of its frames".into(),
                };
                format!("{stage}: out of memory: needs {needed} MiB, {free} MiB are free; {relief}")
            }
            Self::Launch { kernel, grid: [x, y, z], threads, shared_bytes, problem } => {
                format!(
                    "kernel {kernel}, grid {x}x{y}x{z}, {threads} threads, {shared_bytes} bytes of shared memory: {problem}"
                )
            }
            Self::NotFinite { stage, what, place, largest } => {
                let cause = if *largest < f32::from(u16::MAX) {
                    format!("the largest f16 number is {largest}: choose bf16")
                } else {
                    "the stage's inputs or weights lead to values that are too large".to_owned()
                };
                format!("{stage}: {what} is NaN or infinite from {place} on; {cause}")
            }
            Self::Io { path, action, source } => format!("{action} {}: {source}", path.display()),
            Self::Media { path, problem } => format!("{}: {problem}", path.display()),
            Self::Device(text) | Self::Usage(text) | Self::Unsupported(text) | Self::Failed(text) => text.clone(),
            Self::Unchecked { summary, .. } => summary.clone(),
            Self::Interrupted => "interrupted".into(),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_on_their_line() {
        let error = Error::weight("a\nb", "\x1b[31m", "no such\r\u{9b}key\n");
        assert_eq!(error.to_string(), "a b: tensor  [31m: no such  key");
    }
}
