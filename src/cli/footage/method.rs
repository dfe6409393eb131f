//! How an edit uses its clip.

use crate::cli::made::settings_of;
use clap::ValueEnum;
use osp::engine::Method;
use osp::{Error, Result};
use std::path::Path;

/// Options that say how the clip is used.
#[derive(clap::Args)]
pub struct MethodArgs {
    /// How the clip is used [default: noise]
    #[arg(long, value_name = "NAME")]
    method: Option<Name>,
    /// What the clip shows, for the methods inversion and delta [default: the prompt, if osp made the clip and it says so]
    #[arg(long, value_name = "PROMPT")]
    source: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The clip gets noise, which the sampler removes
    Noise,
    /// The clip gets the noise from which the sampler would make it
    Inversion,
    /// The clip moves along the difference of two predictions
    Delta,
}

impl MethodArgs {
    /// The method, if one is asked for; `input` is the clip.
    pub fn method(&self, input: &Path) -> Result<Option<Method>> {
        let name = self.method.unwrap_or(Name::Noise);
        if name == Name::Noise {
            return match self.source {
                None => Ok(self.method.map(|_| Method::Noise)),
                Some(_) => {
                    Err(Error::Usage("--source serves the methods inversion and delta: choose one of them".into()))
                }
            };
        }
        let source = self.source.clone().or_else(|| settings_of(input).ok().map(|(settings, _)| settings.prompt));
        let source = source.ok_or_else(|| {
            Error::Usage(
                "this method needs --source, a prompt that says what the clip shows; the clip itself does not".into(),
            )
        })?;
        Ok(Some(if name == Name::Inversion { Method::Inversion { source } } else { Method::Delta { source } }))
    }
}
