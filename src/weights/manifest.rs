//! The manifest of a model: names and shapes of the tensors that its checkpoint must hold.

use super::{Params, Role, Source};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// One expected tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
}

/// Records the tensors that a model asks for, and loads nothing.
#[derive(Debug, Default)]
pub struct CheckpointManifest {
    /// In the order in which the model asks for them.
    pub tensors: Vec<Expected>,
}

impl Params<()> for CheckpointManifest {
    fn get(&mut self, names: &[String], shape: &[usize], _: Role) -> Result<()> {
        let expected = |name: &String| Expected { name: name.clone(), shape: shape.to_vec() };
        self.tensors.extend(names.iter().map(expected));
        Ok(())
    }
}

impl CheckpointManifest {
    /// The number of parameters in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
    }

    /// Every difference between `source` and this manifest: missing and unexpected tensors, wrong shapes, and stored
    /// types that cannot hold parameters. `ignored` selects tensors that may exist and are not read.
    pub fn problems(&self, source: &dyn Source, ignored: impl Fn(&str) -> bool) -> Vec<Error> {
        let entries = source.entries();
        let found: HashMap<&str, _> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let file = source.path();
        let mut problems = Vec::new();
        for expected in &self.tensors {
            match found.get(expected.name.as_str()) {
                None => {
                    let problem = format!("is missing; expected shape {:?}", expected.shape);
                    problems.push(Error::weight(file, &expected.name, problem));
                }
                Some(entry) if entry.shape != expected.shape => {
                    let problem = format!("has shape {:?}, expected {:?}", entry.shape, expected.shape);
                    problems.push(Error::weight(file, &expected.name, problem));
                }
                Some(entry) if !entry.dtype.is_float() => {
                    let problem = format!("is stored as {}, expected f32, f16 or bf16", entry.dtype.name());
                    problems.push(Error::weight(file, &expected.name, problem));
                }
                Some(_) => {}
            }
        }
        let expected: HashMap<&str, ()> = self.tensors.iter().map(|tensor| (tensor.name.as_str(), ())).collect();
        for entry in entries.iter().filter(|entry| !expected.contains_key(entry.name.as_str()) && !ignored(&entry.name))
        {
            let problem = format!(
                "does not belong to this model (shape {:?}); is it the checkpoint of another config?",
                entry.shape
            );
            problems.push(Error::weight(file, &entry.name, problem));
        }
        problems
    }

    /// Fails with the first of [`Self::problems`] and the number of the others.
    ///
    /// # Errors
    /// [`Error::Weight`] if there is a problem.
    pub fn check(&self, source: &dyn Source, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let mut problems = self.problems(source, ignored);
        if problems.is_empty() {
            return Ok(());
        }
        let more = problems.len() - 1;
        let mut first = problems.swap_remove(0);
        if let (Error::Weight { problem, .. }, true) = (&mut first, more > 0) {
            problem.push_str(&format!(" (and {more} more problems)"));
        }
        Err(first)
    }
}
