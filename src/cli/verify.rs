//! `osp verify`: the engine against what the PyTorch original computed.

use super::console::{Colour, Console, duration};
use super::device::{Chosen, DeviceArgs};
use super::interrupt;
use osp::backend::Backend;
use osp::memory::Savings;
use osp::verify::{self, CaseResult, Precision};
use osp::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  osp verify tests/golden
  osp verify tests/golden/latte tests/golden/vae_v110 --json
  osp verify tests/golden --least-memory

Exit code 1 if any check fails; with --quiet only failed checks and the total are printed.";

/// Compares what this machine computes with what the PyTorch original did
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Golden folders, or folders that contain some
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Save as much memory as can be, which must not change a bit
    #[arg(long)]
    least_memory: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// All checks, for machines.
#[derive(Serialize)]
struct Report<'a> {
    device: String,
    cases: Vec<Case<'a>>,
    passed: usize,
    failed: usize,
    seconds: f64,
}

#[derive(Serialize)]
struct Case<'a> {
    folder: &'a Path,
    case: &'a str,
    measure: &'static str,
    error: f64,
    tolerance: f64,
    passed: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let mut folders = Vec::new();
    for root in &args.folders {
        folders.extend(verify::find(root)?);
    }
    let device = args.device.open(console)?;
    let savings = if args.least_memory { Savings::MOST } else { Savings::NONE };
    let start = Instant::now();
    let mut results = Vec::new();
    for folder in &folders {
        interrupt::check()?;
        results.extend(match &device {
            Chosen::Cpu(cpu) => check_folder(folder, cpu, Precision::F32, savings, console)?,
            Chosen::Emulated(kernels) => check_folder(folder, &kernels.video(), kernels.precision(), savings, console)?,
            Chosen::Gpu(kernels) => check_folder(folder, &kernels.video(), kernels.precision(), savings, console)?,
        });
    }
    let failed = results.iter().filter(|result| !result.passed).count();
    if console.json() {
        let cases = results.iter().map(Case::from).collect();
        let (passed, seconds) = (results.len() - failed, start.elapsed().as_secs_f64());
        console.json_result(&Report { device: device.name(), cases, passed, failed, seconds })?;
    } else {
        console.result(total(results.len(), failed, start.elapsed()))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::Failed(format!("{failed} of {} checks failed", results.len()))),
    }
}

/// Runs the cases of one folder, and prints a line for each as soon as its result is there.
fn check_folder<B: Backend>(
    folder: &Path,
    backend: &B,
    precision: Precision,
    savings: Savings,
    console: &Console,
) -> Result<Vec<CaseResult>> {
    let mut results: Vec<CaseResult> = Vec::new();
    let mut printed = Ok(());
    verify::run(folder, backend, precision, savings, &mut |result| {
        let silent = console.json() || (console.quiet() && result.passed);
        if !silent && printed.is_ok() {
            printed = console.result(line(&result, console));
        }
        results.push(result);
    })?;
    printed?;
    Ok(results)
}

/// A line of the table. Columns have fixed widths, because lines are printed before the next result is known.
fn line(result: &CaseResult, console: &Console) -> String {
    let verdict =
        if result.passed { console.coloured("pass", Colour::Green) } else { console.coloured("FAIL", Colour::Red) };
    let folder = result.folder.file_name().unwrap_or(result.folder.as_os_str()).to_string_lossy();
    let what = format!("{folder}  {}", result.case);
    let (error, tolerance) = (number(result.error), number(result.tolerance));
    format!("{verdict}  {what:<50}  {:<22}  {error:>7} of {tolerance}", result.measure)
}

/// A short form of a number that is 0 or of any magnitude.
fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}

fn total(count: usize, failed: usize, time: Duration) -> String {
    let verdict = if failed == 0 { "all passed".to_owned() } else { format!("{failed} FAILED") };
    format!("{count} checks, {verdict}, in {}", duration(time))
}

impl<'a> From<&'a CaseResult> for Case<'a> {
    fn from(result: &'a CaseResult) -> Self {
        let CaseResult { folder, case, measure, error, tolerance, passed } = result;
        Self { folder, case, measure, error: *error, tolerance: *tolerance, passed: *passed }
    }
}
