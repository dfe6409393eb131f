//! The first use of a GPU by this program under this driver: the kernels are tested before they compute results.

use super::process::{Problem, Runner, Tested};
use super::{STEMS, Where};
use crate::cli::console::Console;
use osp::cuda::Variant;
use osp::cuda::device::driver_version;
use osp::program;
use osp::reading::{self, TEXT};
use osp::{Error, Result, staged};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The result of a test, as stored in a file.
#[derive(Serialize, Deserialize)]
struct Verdict {
    /// The subject: the card, the driver and the program.
    of: String,
    /// The kernels that failed.
    failed: Vec<String>,
}

/// Tests all kernels on the GPU of this name, unless they were tested before or `OSP_SELFTEST` is 0.
///
/// # Errors
/// [`Error::Device`] names a kernel that fails on this GPU, unless another variant of it can run instead.
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
    let failed = settled(folder().as_deref(), &subject(gpu), test)?;
    let (needed, spare) = failed.iter().partition::<Vec<_>, _>(|kernel| Variant::of_kernel(kernel) == Variant::Sm80);
    if let Some(kernel) = needed.first() {
        return Err(Error::Device(format!(
            "kernel {kernel} fails its test on {gpu}; run osp selftest for details, or use --device cpu"
        )));
    }
    if let Some(kernel) = spare.first() {
        console.note(&format!("kernel {kernel} fails its test on {gpu}; run osp selftest for details"));
    }
    Ok(())
}

/// Whether a complete test on the GPU of this name is stored, and found no fault in this variant of the kernels.
pub fn passed(gpu: &str, variant: Variant) -> bool {
    let verdict = folder().and_then(|folder| known(&folder, &subject(gpu)));
    verdict.is_some_and(|verdict| verdict.failed.iter().all(|kernel| Variant::of_kernel(kernel) != variant))
}

/// Stores the result of a complete test: the kernels that failed.
pub fn remember(gpu: &str, failed: Vec<String>) {
    let of = subject(gpu);
    if let Some(folder) = folder() {
        keep(&folder, &Verdict { of, failed });
    }
}

fn subject(gpu: &str) -> String {
    let driver = driver_version().map_or_else(String::new, |(major, minor)| format!("CUDA {major}.{minor}"));
    format!("{gpu}; {driver}; {}", program::identity())
}

fn folder() -> Option<PathBuf> {
    Some(program::cache_folder()?.join("selftest"))
}

/// The kernels that fail in a quick test. An unfinished test is an error, not a result to remember: memory may
/// have been short.
fn quickly() -> Result<Vec<String>> {
    let (mut wrong, mut unfinished) = (Vec::new(), None);
    Runner::new(Where::Cuda, true)?.test_all(
        &STEMS.map(str::to_owned),
        &mut |_, Tested { findings, problems, .. }| {
            let failed = findings.into_iter().filter(|(_, finding)| finding.failure.is_some());
            wrong.extend(failed.map(|(kernel, _)| kernel));
            unfinished = unfinished.take().or(problems.into_iter().next());
            Ok(())
        },
    )?;
    match unfinished {
        Some(Problem { stem, problem, .. }) if wrong.is_empty() => Err(Error::Device(format!(
            "the kernels of {stem} could not be tested: {problem}; use --device cpu, or skip the test with OSP_SELFTEST=0"
        ))),
        _ => Ok(wrong),
    }
}

/// The stored result for a subject; else the result of `test`, which is then stored.
fn settled(folder: Option<&Path>, of: &str, test: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
    if let Some(known) = folder.and_then(|folder| known(folder, of)) {
        return Ok(known.failed);
    }
    let failed = test()?;
    if let Some(folder) = folder {
        keep(folder, &Verdict { of: of.to_owned(), failed: failed.clone() });
    }
    Ok(failed)
}

/// The name of a subject's file.
fn name(of: &str) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}.json", hasher.finish())
}

/// The stored result; `None` if the file cannot be read or is about another subject.
fn known(folder: &Path, of: &str) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_slice(&reading::bytes(&folder.join(name(of)), TEXT).ok()?).ok()?;
    Some(verdict).filter(|verdict| verdict.of == of)
}

/// Stores a result. If that fails, the next run tests again.
fn keep(folder: &Path, verdict: &Verdict) {
    let text = serde_json::to_vec(verdict).expect("a verdict is strings");
    let _ = staged::keep(folder, &name(&verdict.of), &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_tested_once() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("selftest");
        let ask = |of: &str, found: Result<Vec<String>>| settled(Some(&folder), of, || found);
        let wrong = || vec!["gemm".to_owned()];
        let never = || Err(Error::Failed("tested again".into()));
        assert!(ask("good", Ok(Vec::new())).unwrap().is_empty());
        assert!(ask("good", never()).unwrap().is_empty());
        assert_eq!(ask("bad", Ok(wrong())).unwrap(), wrong());
        assert_eq!(ask("bad", never()).unwrap(), wrong());
        // An interrupted test has no result.
        assert!(ask("new", Err(Error::Interrupted)).is_err());
        assert!(ask("new", Ok(Vec::new())).unwrap().is_empty());
        // The file of another subject with the same hash, and a damaged file.
        std::fs::copy(folder.join(name("bad")), folder.join(name("good"))).unwrap();
        assert!(ask("good", Ok(Vec::new())).unwrap().is_empty());
        std::fs::write(folder.join(name("bad")), "{").unwrap();
        assert!(ask("bad", Ok(Vec::new())).unwrap().is_empty());
    }

    #[test]
    fn without_a_cache_every_run_tests() {
        assert!(settled(None, "any", || Ok(Vec::new())).unwrap().is_empty());
        assert_eq!(settled(None, "any", || Ok(vec!["norm".into()])).unwrap(), ["norm"]);
    }
}
