//! Says what a run would do, without work.

use super::jobs::{JobList, Refused};
use super::keeper::is_of;
use super::place;
use crate::cli::console::Console;
use crate::cli::made::in_words;
use crate::cli::record::lossy;
use osp::engine::{Captions, Observer, SavedSettings, tokenize};
use osp::error::one_line;
use osp::{Engine, Error, Model, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::path::Path;

/// What a run would do with a video, as JSON.
#[derive(Serialize, JsonSchema)]
pub struct Would<'a> {
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    output: &'a Path,
    /// `make`, `go on` from a state, or `leave` what is there.
    action: &'static str,
    request: SavedSettings,
    fingerprint: String,
}

/// Prints what a run would do with each video that is `ours`, and how much memory the first takes on a GPU. The videos may be
/// those of a `list` in a file, and with `again` what is there would be made again.
///
/// # Errors
/// [`Error::Failed`] at the end if a video could not be made; those of the tokenizer and of planning.
pub fn run(
    engine: &Engine,
    model: &Model,
    plan: &JobList,
    ours: impl Fn(usize) -> bool,
    (list, again): (bool, bool),
    console: &Console,
) -> Result<()> {
    let refused = plan.refused.iter().filter(|refused| ours(refused.number));
    let mut failed = refused.inspect(|Refused { place, error, .. }| console.failed(place, error)).count();
    let mut jobs = Vec::new();
    for job in plan.jobs.iter().filter(|job| ours(job.number)) {
        match job.task().check_room() {
            Ok(()) => jobs.push(job),
            Err(error) if list => {
                console.failed(&job.place, &error);
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let captions = tokenize(model, jobs.iter().map(|job| &job.settings), &mut &*console)?;
    let captions: Vec<Captions> = captions.into_iter().collect::<Result<_>>()?;
    for job in &jobs {
        let state = place::path(&job.output).is_some_and(|path| is_of(&path, job));
        let action = match again {
            false if job.is_there(model) => "leave",
            false if state => "go on",
            _ => "make",
        };
        if let Some(path) = place::path(&job.output).filter(|path| action == "make" && !state && path.exists()) {
            console.note(&format!("{} is the state of another run, which is put aside", path.display()));
        }
        let (request, fingerprint) = (SavedSettings::from(&job.settings), job.settings.fingerprint(model)?);
        let (output, prompt) = (&*job.output, &job.settings.prompt);
        match console.json() {
            true => console.json_result(&Would { output, action, request, fingerprint })?,
            false => {
                let words = in_words(&job.settings);
                let output = one_line(&output.to_string_lossy());
                console.result(format!("{action:<5}  {output}: {prompt:?}, {words}"))?;
            }
        }
    }
    if let Some(grid) =
        plan.grid.as_ref().filter(|_| failed == 0 && (again || jobs.iter().all(|job| !job.is_there(model))))
    {
        console.note(&format!("{} shows all of them", grid.path.display()));
    }
    if let (Some(job), Some(captions)) = (jobs.first(), captions.first()) {
        let plans = engine.plan(model, &job.settings, captions.longest())?;
        plans.stages().iter().for_each(|(stage, plan)| (&mut &*console).planned(*stage, plan));
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::Failed(format!("{failed} of {} videos could not be made", failed + jobs.len()))),
    }
}

/// The form of what is printed for a video.
pub fn schema(schemas: &mut SchemaGenerator) -> Schema {
    Would::json_schema(schemas)
}
