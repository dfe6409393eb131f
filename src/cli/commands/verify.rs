//! `osp verify`: compares the engine with golden data of the PyTorch original.

use crate::cli::console::{Colour, Console};
use crate::cli::device::DeviceArgs;
use crate::cli::record::lossy;
use crate::cli::units::duration;
use crate::cli::{hints, interrupt};
use osp::cuda::Variant;
use osp::error::one_line;
use osp::memory::MemoryOptions;
use osp::verify::{self, CaseResult};
use osp::{Engine, Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  osp verify tests/golden
  osp verify tests/golden/latte tests/golden/vae_v110 --json
  osp verify tests/golden --least-memory

A folder that cannot be read is an error, but the other folders are still checked. Exit code 5 after such an error, else 1 if a \
check fails. With --quiet, only failed checks and the total are printed.";

/// Compares the results of this machine with those of the PyTorch original
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Golden folders, or folders that contain golden folders
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Use all memory savings, which must not change a bit
    #[arg(long)]
    least_memory: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// All checks, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    device: String,
    /// Launches of each variant of the kernels.
    launches: BTreeMap<&'static str, usize>,
    cases: Vec<Case<'a>>,
    errors: Vec<Problem<'a>>,
    passed: usize,
    failed: usize,
    seconds: f64,
}

#[derive(Serialize)]
struct Case<'a> {
    #[serde(serialize_with = "lossy")]
    folder: &'a Path,
    case: &'a str,
    measure: &'static str,
    error: f64,
    tolerance: f64,
    passed: bool,
}

/// Why a folder could not be checked completely.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(serialize_with = "lossy")]
    folder: &'a Path,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let (mut folders, mut lost) = (Vec::new(), Vec::new());
    for root in &args.folders {
        match verify::find(root) {
            Ok(found) => folders.extend(found),
            Err(error) if args.folders.len() == 1 => return Err(error),
            Err(error) => lost.push((root, error)),
        }
    }
    let engine = args.device.open(console)?;
    let savings = if args.least_memory { MemoryOptions::MOST } else { MemoryOptions::NONE };
    let start = Instant::now();
    let all = folders.len() + lost.len();
    lost.iter().for_each(|(root, error)| console.error(&problem(root, error)));
    let (mut results, mut errors, mut launches) = (Vec::new(), lost, BTreeMap::new());
    for folder in &folders {
        interrupt::check()?;
        match check_folder(folder, &engine, savings, console, &mut results)? {
            Ok(more) => {
                more.into_iter().for_each(|(variant, count)| *launches.entry(variant.name()).or_default() += count)
            }
            Err(error) => {
                console.error(&problem(folder, &error));
                errors.push((folder, error));
            }
        }
    }
    let failed = results.iter().filter(|result| !result.passed).count();
    if console.json() {
        let cases = results.iter().map(Case::from).collect();
        let (passed, seconds) = (results.len() - failed, start.elapsed().as_secs_f64());
        let errors = errors.iter().map(|(folder, error)| Problem { folder, error: error.to_string() }).collect();
        let device = engine.name();
        console.json_result(&Report { device, launches, cases, errors, passed, failed, seconds })?;
    } else {
        if !launches.is_empty() && !console.quiet() {
            let counts: Vec<String> = launches.iter().map(|(name, count)| format!("{count} of {name}")).collect();
            console.result(format!("launches: {}", counts.join(", ")))?;
        }
        console.result(total(results.len(), failed, errors.len(), start.elapsed()))?;
    }
    let checks = format!("{failed} of {} checks failed", results.len());
    match (errors.len(), failed) {
        (0, 0) => Ok(()),
        (0, _) => Err(Error::Failed(checks)),
        (count, _) => Err(Error::Unchecked {
            summary: format!("{count} of {all} folders could not be checked; {checks}"),
            exit_code: worst(errors.iter().map(|(_, error)| error)),
        }),
    }
}

/// The error in one line, which names the folder or a file in it.
fn problem(folder: &Path, error: &Error) -> String {
    let (folder, error) = (folder.display().to_string(), hints::error(error));
    if error.contains(&folder) { error } else { format!("{folder}: {error}") }
}

/// The exit code for all errors: that of damaged data if an error is not the fault of the device or the engine, else
/// the code of the first error.
fn worst<'a>(mut errors: impl Iterator<Item = &'a Error> + Clone) -> u8 {
    /// Bad weights or config.
    const DAMAGED: u8 = 5;
    let of_device = |error: &Error| {
        matches!(error, Error::Device(_) | Error::OutOfMemory { .. } | Error::Launch { .. } | Error::NotFinite { .. })
    };
    if errors.clone().all(of_device) { errors.next().map_or(DAMAGED, Error::exit_code) } else { DAMAGED }
}

/// Runs the cases of one folder, and prints a line for each as soon as it has a result. The inner error concerns only
/// the folder; the outer error ends the run.
fn check_folder(
    folder: &Path,
    engine: &Engine,
    savings: MemoryOptions,
    console: &Console,
    results: &mut Vec<CaseResult>,
) -> Result<Result<BTreeMap<Variant, usize>>> {
    let mut printed = Ok(());
    let checked = engine.verify(folder, savings, &mut |result| {
        let silent = console.json() || (console.quiet() && result.passed);
        if !silent && printed.is_ok() {
            printed = console.result(line(&result, console));
        }
        results.push(result);
    });
    printed?;
    match checked {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        other => Ok(other),
    }
}

/// A line of the table. Columns have fixed widths, because lines are printed before the next result is known.
fn line(result: &CaseResult, console: &Console) -> String {
    let verdict =
        if result.passed { console.coloured("pass", Colour::Green) } else { console.coloured("FAIL", Colour::Red) };
    let folder = result.folder.file_name().unwrap_or(result.folder.as_os_str()).to_string_lossy();
    // Names of a stranger's file do not control the terminal.
    let what = one_line(&format!("{folder}  {}", result.case));
    let (error, tolerance) = (number(result.error), number(result.tolerance));
    format!("{verdict}  {what:<50}  {:<22}  {error:>7} of {tolerance}", result.measure)
}

/// A short form of a number of any magnitude.
fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}

fn total(count: usize, failed: usize, unchecked: usize, time: Duration) -> String {
    let verdict = match (count, failed) {
        (0, _) => "none passed".to_owned(),
        (_, 0) => "all passed".to_owned(),
        _ => format!("{failed} FAILED"),
    };
    let unchecked = match unchecked {
        0 => String::new(),
        1 => ", 1 folder UNCHECKED".to_owned(),
        more => format!(", {more} folders UNCHECKED"),
    };
    format!("{count} checks, {verdict}{unchecked}, in {}", duration(time))
}

impl<'a> From<&'a CaseResult> for Case<'a> {
    fn from(result: &'a CaseResult) -> Self {
        let CaseResult { folder, case, measure, error, tolerance, passed } = result;
        Self { folder, case, measure, error: *error, tolerance: *tolerance, passed: *passed }
    }
}
