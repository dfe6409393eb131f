//! The first use of a GPU by this program under this driver: its kernels are tried before anything is left to them.

use super::process::{Problem, Runner, Tested};
use super::{STEMS, Where};
use crate::cli::console::Console;
use osp::cuda::device::driver_version;
use osp::program;
use osp::{Error, Result, staged};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// What was found, as it is kept in a file.
#[derive(Serialize, Deserialize)]
struct Verdict {
    /// The card, the driver and the program.
    of: String,
    /// The first kernel that was wrong.
    failure: Option<String>,
}

/// Tries all kernels on the GPU of this name, unless that was done before or `OSP_SELFTEST` is 0.
///
/// # Errors
/// [`Error::Device`] names a kernel that is wrong there.
pub fn tried(gpu: &str, console: &Console) -> Result<()> {
    if std::env::var("OSP_SELFTEST").is_ok_and(|value| value == "0") {
        return Ok(());
    }
    let test = || {
        console.note(&format!(
            "first use of {gpu} with this driver and program: testing the kernels (OSP_SELFTEST=0 leaves that out)"
        ));
        quickly()
    };
    match settled(folder().as_deref(), &subject(gpu), test)? {
        None => Ok(()),
        Some(kernel) => Err(Error::Device(format!(
            "kernel {kernel} is wrong on {gpu}; osp selftest says how, and tries again; use --device cpu"
        ))),
    }
}

/// Keeps what a whole test has found.
pub fn remember(gpu: &str, failure: Option<String>) {
    let of = subject(gpu);
    if let Some(folder) = folder() {
        keep(&folder, &Verdict { of, failure });
    }
}

fn subject(gpu: &str) -> String {
    let driver = driver_version().map_or_else(String::new, |(major, minor)| format!("CUDA {major}.{minor}"));
    format!("{gpu}; {driver}; {}", program::identity())
}

fn folder() -> Option<PathBuf> {
    Some(program::cache_folder()?.join("selftest"))
}

/// The first kernel that is wrong in a quick test. A test that did not get to its end says nothing of a kernel that could be
/// remembered: memory may have been short.
fn quickly() -> Result<Option<String>> {
    let (mut wrong, mut unfinished) = (None, None);
    Runner::new(Where::Cuda, true)?.test_all(
        &STEMS.map(str::to_owned),
        &mut |_, Tested { findings, problems, .. }| {
            let found = findings.into_iter().find(|(_, finding)| finding.failure.is_some()).map(|(kernel, _)| kernel);
            wrong = wrong.take().or(found);
            unfinished = unfinished.take().or(problems.into_iter().next());
            Ok(())
        },
    )?;
    match (wrong, unfinished) {
        (None, Some(Problem { stem, problem, .. })) => Err(Error::Device(format!(
            "the kernels of {stem} could not be tested: {problem}; use --device cpu, or leave the test out by OSP_SELFTEST=0"
        ))),
        (wrong, _) => Ok(wrong),
    }
}

/// What is known of a subject, or else what a test finds, which is kept.
fn settled(folder: Option<&Path>, of: &str, test: impl FnOnce() -> Result<Option<String>>) -> Result<Option<String>> {
    if let Some(known) = folder.and_then(|folder| known(folder, of)) {
        return Ok(known.failure);
    }
    let failure = test()?;
    if let Some(folder) = folder {
        keep(folder, &Verdict { of: of.to_owned(), failure: failure.clone() });
    }
    Ok(failure)
}

/// What the file of a subject is called.
fn name(of: &str) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}.json", hasher.finish())
}

/// What cannot be read, or is of something else, counts as not known.
fn known(folder: &Path, of: &str) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_slice(&std::fs::read(folder.join(name(of))).ok()?).ok()?;
    Some(verdict).filter(|verdict| verdict.of == of)
}

/// Where it cannot be written, the next run tests again.
fn keep(folder: &Path, verdict: &Verdict) {
    let text = serde_json::to_vec(verdict).expect("a verdict is two strings");
    let _ = staged::keep(folder, &name(&verdict.of), &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_tested_once_and_another_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("selftest");
        let ask = |of: &str, found: Result<Option<String>>| settled(Some(&folder), of, || found);
        let never = || Err(Error::Failed("tested again".into()));
        assert_eq!(ask("good", Ok(None)).unwrap(), None);
        assert_eq!(ask("good", never()).unwrap(), None);
        assert_eq!(ask("bad", Ok(Some("gemm".into()))).unwrap().as_deref(), Some("gemm"));
        assert_eq!(ask("bad", never()).unwrap().as_deref(), Some("gemm"));
        // A test that was broken off has found nothing.
        assert!(ask("new", Err(Error::Interrupted)).is_err());
        assert_eq!(ask("new", Ok(None)).unwrap(), None);
        // As if another subject had the same hash, and as if the file were damaged.
        std::fs::copy(folder.join(name("bad")), folder.join(name("good"))).unwrap();
        assert_eq!(ask("good", Ok(None)).unwrap(), None);
        std::fs::write(folder.join(name("bad")), "{").unwrap();
        assert_eq!(ask("bad", Ok(None)).unwrap(), None);
    }

    #[test]
    fn without_a_cache_every_run_tests() {
        assert!(settled(None, "any", || Ok(None)).unwrap().is_none());
        assert!(settled(None, "any", || Ok(Some("norm".into()))).unwrap().is_some());
    }
}
