//! How an edit uses its clip.

use clap::ValueEnum;
use osp::engine::Method;
use osp::{Error, Result};

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
    /// Whether the clip is asked what it shows.
    pub fn asks_the_clip(&self) -> bool {
        self.source.is_none() && self.method.is_some_and(|name| name != Name::Noise)
    }

    /// The method. `before` is that of a video which is repeated, `shown` what the clip says of itself.
    pub fn method(&self, before: Option<&Method>, shown: Option<&str>) -> Result<Method> {
        let name = self.method.unwrap_or(match before {
            None | Some(Method::Noise) => Name::Noise,
            Some(Method::Inversion { .. }) => Name::Inversion,
            Some(Method::Delta { .. }) => Name::Delta,
        });
        if name == Name::Noise && self.method.is_none() && self.source.is_some() {
            return Err(Error::Usage("--source serves the methods inversion and delta: choose one of them".into()));
        }
        let source = self.source.as_deref().or_else(|| before.and_then(Method::source)).or(shown);
        let source = || {
            let problem = "this method needs --source, a prompt that says what the clip shows";
            source.map(str::to_owned).ok_or_else(|| Error::Usage(problem.into()))
        };
        Ok(match name {
            Name::Noise => Method::Noise,
            Name::Inversion => Method::Inversion { source: source()? },
            Name::Delta => Method::Delta { source: source()? },
        })
    }
}
