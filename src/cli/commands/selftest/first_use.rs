//! The first use of a GPU by this program under this driver: the kernels are tested before they compute results.

use super::process::{Problem, Runner, Tested};
use super::{STEMS, Where};
use crate::cli::console::Console;
use osp::cuda::device::driver_version;
use osp::program;
use osp::{Error, Result, staged};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The result of a test, as stored in a file.
#[derive(Serialize, Deserialize)]
struct Verdict {
    /// The subject: the card, the driver and the program.
    of: String,
    /// The first kernel that failed.
    failure: Option<String>,
}

/// Tests all kernels on the GPU of this name, unless they were tested before or `OSP_SELFTEST` is 0.
///
/// # Errors
/// [`Error::Device`] names a kernel that fails on this GPU.
pub fn tried(gpu: &str, console: &Console) -> Result<()> {
    if std::env::var("OSP_SELFTEST").is_ok_and(|value| value == "0") {
        return Ok(());
    }
    let test = || {
        console.note(&format!(
            "first use of {gpu} with this driver and program: testing the kernels (OSP_SELFTEST=0 skips the test)"
        ));
        quickly()
    };
    match settled(folder().as_deref(), &subject(gpu), test)? {
        None => Ok(()),
        Some(kernel) => Err(Error::Device(format!(
            "kernel {kernel} fails its test on {gpu}; run osp selftest for details, or use --device cpu"
        ))),
    }
}

/// Stores the result of a complete test.
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

/// The first kernel that fails in a quick test. An unfinished test is an error, not a result to remember: memory may
/// have been short.
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
            "the kernels of {stem} could not be tested: {problem}; use --device cpu, or skip the test with OSP_SELFTEST=0"
        ))),
        (wrong, _) => Ok(wrong),
    }
}

/// The stored result for a subject; else the result of `test`, which is then stored.
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

/// The name of a subject's file.
fn name(of: &str) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}.json", hasher.finish())
}

/// The stored result; `None` if the file cannot be read or is about another subject.
fn known(folder: &Path, of: &str) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_slice(&std::fs::read(folder.join(name(of))).ok()?).ok()?;
    Some(verdict).filter(|verdict| verdict.of == of)
}

/// Stores a result. If that fails, the next run tests again.
fn keep(folder: &Path, verdict: &Verdict) {
    let text = serde_json::to_vec(verdict).expect("a verdict is two strings");
    let _ = staged::keep(folder, &name(&verdict.of), &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_tested_once() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("selftest");
        let ask = |of: &str, found: Result<Option<String>>| settled(Some(&folder), of, || found);
        let never = || Err(Error::Failed("tested again".into()));
        assert_eq!(ask("good", Ok(None)).unwrap(), None);
        assert_eq!(ask("good", never()).unwrap(), None);
        assert_eq!(ask("bad", Ok(Some("gemm".into()))).unwrap().as_deref(), Some("gemm"));
        assert_eq!(ask("bad", never()).unwrap().as_deref(), Some("gemm"));
        // An interrupted test has no result.
        assert!(ask("new", Err(Error::Interrupted)).is_err());
        assert_eq!(ask("new", Ok(None)).unwrap(), None);
        // The file of another subject with the same hash, and a damaged file.
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
