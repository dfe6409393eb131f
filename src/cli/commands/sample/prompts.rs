//! The videos that a user asks for: prompts of the command line, or a list in a file.

use super::list::{Wish, read};
use super::{Material, RunArgs};
use crate::cli::args::SizeArgs;
use crate::cli::console::Console;
use crate::cli::interrupt;
use crate::cli::made::{Made, settings_of};
use crate::cli::model::Fingerprints;
use osp::engine::Settings;
use osp::{Error, Model, Result};

/// What is asked for.
pub struct Asked<'a> {
    pub wishes: Vec<Wish>,
    pub size: &'a SizeArgs,
    pub material: Material<'a>,
    /// The settings of another video, which hold where nothing else is said.
    pub like: Option<Settings>,
    /// What that video says about itself.
    made: Option<Made>,
}

impl<'a> Asked<'a> {
    /// What the arguments ask for.
    pub fn of(args: &RunArgs, size: &'a SizeArgs, material: Material<'a>) -> Result<Self> {
        let like = args.like.as_deref().map(|path| interrupt::while_reading(|| settings_of(path)));
        let (like, made) = like.transpose()?.unzip();
        let wishes = match (&args.prompts, &like) {
            (Some(path), _) => interrupt::while_reading(|| read(path))?,
            (None, Some(like)) if args.prompt.is_empty() => vec![Wish::new(&like.prompt, None)],
            (None, None) if args.prompt.is_empty() => {
                let problem = "no prompt is given: say \"what to show\", or use --prompts FILE";
                return Err(Error::Usage(problem.into()));
            }
            (None, _) => args.prompt.iter().map(|prompt| Wish::new(prompt, None)).collect(),
        };
        let default = like.as_ref().map_or(0, |like| like.seed);
        let seeds = if args.seed.is_empty() { &[default][..] } else { &args.seed };
        Ok(Self { wishes: seeded(wishes, seeds)?, size, material, like, made: made.flatten() })
    }

    /// Says so if the other video was made with other weights, or, of an edit, from other pixels.
    pub fn compare(&self, model: &Model, console: &Console) {
        if self.made.as_ref().is_some_and(|made| made.weights != Fingerprints::of(model)) {
            console.note("the other video was made with other weights; a repetition will differ");
        }
        let edit = self.like.as_ref().and_then(|like| like.edit.as_ref());
        for what in edit.map(|edit| self.material.differs(edit)).unwrap_or_default() {
            console.note(&format!("the other video was made with another {what}; a repetition will differ"));
        }
    }
}

/// The wishes with their seeds: one for all, or one for each; or several of one wish.
fn seeded(wishes: Vec<Wish>, all: &[u64]) -> Result<Vec<Wish>> {
    let (prompts, seeds) = (wishes.len(), all.len());
    let count = prompts.max(seeds);
    if [prompts, seeds].iter().any(|&len| len != 1 && len != count) {
        return Err(Error::Usage(format!(
            "there are {prompts} prompts and {seeds} seeds: give one seed, or one for each prompt"
        )));
    }
    let seeded = |(wish, seed): (&Wish, &u64)| Wish { seed: wish.seed.or(Some(*seed)), ..wish.clone() };
    Ok(wishes.iter().cycle().zip(all.iter().cycle()).take(count).map(seeded).collect())
}
