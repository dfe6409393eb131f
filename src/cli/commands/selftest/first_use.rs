//! The first use of a GPU by this program under this driver: the kernels are tested before they compute results.

use super::process::{Problem, Runner, Tested};
use super::{STEMS, Where};
use crate::cli::console::Console;
use crate::cli::interrupt;
use osp::cuda::Variant;
use osp::cuda::device::driver_version;
use osp::program;
use osp::reading::{self, TEXT};
use osp::{Error, Result, staged};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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

/// Tests all kernels on the GPU of this name, unless they were tested before or `OSP_SELFTEST` is 0. A kernel of Hopper's that
/// fails costs a note, because another one runs in its place.
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
        console.note(&format!(
            "kernel {kernel} fails its test on {gpu}, so {} is the default there; run osp selftest for details",
            Variant::Sm80
        ));
    }
    Ok(())
}

/// Whether a complete test on the GPU of this name is stored, and found no fault in this variant of the kernels.
pub fn passed(gpu: &str, variant: Variant) -> bool {
    let verdict = folder().and_then(|folder| known(&folder, &subject(gpu)));
    verdict.is_some_and(|verdict| verdict.failed.iter().all(|kernel| Variant::of_kernel(kernel) != variant))
}

/// Stores the result of a complete test: the kernels that failed. A test of which checks are missing has no result.
pub fn remember(gpu: &str, wrong: Vec<String>, problems: &[Problem]) {
    let of = subject(gpu);
    if let (Ok(failed), Some(folder)) = (failures(wrong, problems), folder()) {
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

/// The kernels that fail in a quick test.
fn quickly() -> Result<Vec<String>> {
    let mut failed = Vec::new();
    let runner = Runner::new(Where::Cuda, true)?.deciding();
    runner.test_all(&STEMS.map(str::to_owned), &mut |_, Tested { findings, problems, .. }| {
        interrupt::check()?;
        let wrong = findings.into_iter().filter(|(_, finding)| finding.failure.is_some()).map(|(kernel, _)| kernel);
        failed.extend(failures(wrong.collect(), &problems).map_err(unfinished)?);
        Ok(())
    })?;
    Ok(failed)
}

/// The kernels that fail: those with wrong results, and all of Hopper's in a file if one of them did not finish. If any other check did
/// not finish, the test has no result, because kernels that always run were not tested: the error is the check.
fn failures(wrong: Vec<String>, problems: &[Problem]) -> std::result::Result<Vec<String>, &Problem> {
    let of_hopper = |problem: &Problem| problem.variant == Some(Variant::Sm90);
    match problems.iter().find(|problem| !of_hopper(problem)) {
        Some(problem) => Err(problem),
        None => {
            let ended: BTreeSet<String> = problems.iter().map(|problem| format!("{}_sm90_*", problem.stem)).collect();
            Ok(wrong.into_iter().chain(ended).collect())
        }
    }
}

/// That a check did not finish is an error, not a result to remember: memory may have been short.
fn unfinished(Problem { stem, problem, .. }: &Problem) -> Error {
    Error::Device(format!(
        "the kernels of {stem} could not be tested: {problem}; use --device cpu, or skip the test with OSP_SELFTEST=0"
    ))
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
    fn a_test_that_leaves_kernels_for_every_gpu_untested_has_no_result() {
        let problem = |stem: &str, variant| Problem {
            stem: stem.to_owned(),
            check: "parts".to_owned(),
            problem: "did not finish within 10 s".to_owned(),
            variant,
        };
        let wrong = || vec!["linear_sm90_small_f16".to_owned()];
        assert_eq!(failures(wrong(), &[]).unwrap(), wrong());
        // Wrong results do not hide that others are missing.
        for variant in [None, Some(Variant::Sm80)] {
            let problems = [problem("gemm", Some(Variant::Sm90)), problem("norm", variant)];
            let missing = failures(wrong(), &problems).unwrap_err();
            assert!(
                unfinished(missing).to_string().contains("the kernels of norm could not be tested: did not finish")
            );
        }
        // Other kernels run in place of Hopper's, and the next run must not wait for the hang again.
        let hopper = [problem("gemm", Some(Variant::Sm90)), problem("attention", Some(Variant::Sm90))];
        let failed = failures(wrong(), &hopper).unwrap();
        assert_eq!(failed, ["linear_sm90_small_f16", "attention_sm90_*", "gemm_sm90_*"]);
        assert!(failed.iter().all(|kernel| Variant::of_kernel(kernel) == Variant::Sm90));
    }

    #[test]
    fn without_a_cache_every_run_tests() {
        assert!(settled(None, "any", || Ok(Vec::new())).unwrap().is_empty());
        assert_eq!(settled(None, "any", || Ok(vec!["norm".into()])).unwrap(), ["norm"]);
    }
}
