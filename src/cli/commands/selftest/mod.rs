//! `osp selftest`: tests the program's kernels on this machine against the CPU.

mod first_use;
mod process;

pub use first_use::{passed, tried};

use crate::cli::console::{Colour, Console};
use crate::cli::units::duration;
use clap::ValueEnum;
#[cfg(feature = "ptx")]
use osp::cuda::device::{Compiled, PtxMachine};
use osp::cuda::device::{Device, Driver, Emulated};
use osp::cuda::{Variant, check_environment};
use osp::selftest::{FACTS, Findings, STEMS, Trial, checks};
use osp::{Error, Result};
use process::{Event, Problem, Runner};
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLES: &str = "\
Each file of kernels is tested in a separate process: a kernel that crashes the driver does not stop \
the tests of the others.

Examples:
  osp selftest
  osp selftest gemm conv3d --json
  osp selftest --device emulated --quick

Exit code 1 if a kernel fails, 3 without a GPU. With --quiet, only failures and the total are printed.";

/// Tests this program's kernels on this machine against the CPU: ragged shapes, parts, and equal bits
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files of kernels to test, such as gemm [default: all], or `facts`: tests what the kernels assume about a GPU,
    /// such as the arithmetic of matrix products, on a million tiles
    #[arg(value_name = "STEM", value_parser = clap::builder::PossibleValuesParser::new(STEMS.iter().chain([&FACTS])))]
    stems: Vec<String>,
    /// Test only two cases of each kernel: seconds instead of a minute
    #[arg(long)]
    quick: bool,
    /// Where the kernels run: on a GPU, or on the emulator, which is slow and strict
    #[cfg_attr(feature = "ptx", doc = "[or as PTX on the CPU, by the error policy or bit for bit as on the emulator]")]
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: Where,
    /// For this program and for tools that inspect a process: test in this process, from the check of this number on
    #[arg(long, value_name = "FIRST", hide = true)]
    here: Option<usize>,
    /// For this program: leave out the kernels of this variant, which have ended or hung an earlier process
    #[arg(long, value_name = "VARIANT", hide = true, requires = "here")]
    without: Option<Variant>,
}

impl Args {
    /// Whether the tests run in child processes, which must not outlive this one.
    pub fn starts_processes(&self) -> bool {
        self.here.is_none()
    }
}

/// The device on which kernels are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Where {
    Cuda,
    Emulated,
    /// The PTX that is shipped, on the CPU.
    #[cfg(feature = "ptx")]
    Ptx,
    /// PTX that rounds as the emulator does, on the CPU, with the bits of both compared after each launch.
    #[cfg(feature = "ptx")]
    PtxBits,
}

impl Where {
    /// The name on the command line.
    fn name(self) -> String {
        self.to_possible_value().expect("no device is hidden").get_name().to_owned()
    }
}

/// All results, as JSON.
#[derive(Serialize)]
struct Report {
    device: String,
    quick: bool,
    kernels: Vec<Line>,
    problems: Vec<Problem>,
    passed: usize,
    failed: usize,
    seconds: f64,
}

/// The result of a kernel.
#[derive(Serialize)]
struct Line {
    stem: String,
    kernel: String,
    cases: usize,
    /// Largest error as a fraction of the tolerance.
    worst: f64,
    /// Number of wrong results.
    wrong: usize,
    failure: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    check_environment()?;
    if let Some(first) = args.here {
        return here(args, first, console);
    }
    let (start, runner) = (Instant::now(), Runner::new(args.device, args.quick)?);
    let (mut device, mut kernels, mut problems) = (None, Vec::new(), Vec::new());
    let all = STEMS.map(str::to_owned);
    let stems = if args.stems.is_empty() { &all[..] } else { &args.stems };
    runner.test_all(stems, &mut |stem, tested| {
        if device.is_none() {
            console.note(&format!("device: {}", tested.device));
        }
        device.get_or_insert(tested.device);
        let lines = lines(stem, tested.findings);
        print(&lines, &tested.problems, console)?;
        kernels.extend(lines);
        problems.extend(tested.problems);
        Ok(())
    })?;
    let failed = kernels.iter().filter(|line| line.failure.is_some()).count();
    let (passed, time) = (kernels.len() - failed, start.elapsed());
    let verdict = verdict(kernels.len(), failed, &problems);
    if args.device == Where::Cuda && args.stems.is_empty() {
        let wrong = kernels.iter().filter(|line| line.failure.is_some()).map(|line| line.kernel.clone()).collect();
        first_use::remember(device.as_deref().unwrap_or_default(), wrong, &problems);
    }
    if console.json() {
        let device = device.unwrap_or_default();
        let (quick, seconds) = (args.quick, time.as_secs_f64());
        console.json_result(&Report { device, quick, kernels, problems, passed, failed, seconds })?;
    } else {
        let text = verdict.as_ref().map_or_else(Error::to_string, |()| format!("{passed} kernels, all passed"));
        console.result(format!("{text}, in {}", duration(time)))?;
    }
    verdict
}

fn verdict(kernels: usize, failed: usize, problems: &[Problem]) -> Result<()> {
    match (failed, problems) {
        (0, []) => Ok(()),
        (0, problems) => Err(Error::Failed(format!("{} checks did not finish", problems.len()))),
        _ => Err(Error::Failed(format!("{failed} of {kernels} kernels failed"))),
    }
}

fn lines(stem: &str, findings: Findings) -> Vec<Line> {
    let line = |(kernel, finding): (String, osp::selftest::Finding)| Line {
        stem: stem.to_owned(),
        kernel,
        cases: finding.cases,
        worst: finding.worst,
        wrong: finding.failed,
        failure: finding.failure,
    };
    findings.into_iter().map(line).collect()
}

/// Prints one line for each kernel, and one for each check that did not finish.
fn print(lines: &[Line], problems: &[Problem], console: &Console) -> Result<()> {
    if console.json() {
        return Ok(());
    }
    for Line { kernel, cases, worst, wrong, failure, .. } in lines {
        match failure {
            Some(failure) => {
                let fail = console.coloured("FAIL", Colour::Red);
                console.result(format!("{fail}  {kernel:<40}  {wrong} wrong: {}", cut(failure)))?;
            }
            None if console.quiet() => {}
            None => {
                let pass = console.coloured("pass", Colour::Green);
                let error = if *worst == 0.0 { "equal bits".into() } else { format!("{worst:.2} of allowed") };
                let plural = if *cases == 1 { "" } else { "s" };
                console.result(format!("{pass}  {kernel:<40}  {error:<15} {cases:>3} case{plural}"))?;
            }
        }
    }
    problems.iter().try_for_each(|Problem { stem, check, problem, .. }| {
        let fail = console.coloured("FAIL", Colour::Red);
        console.result(format!("{fail}  {stem}, {check}: {}", cut(problem)))
    })
}

/// Start and end of a message: it begins with a long case, and ends with what is wrong.
fn cut(text: &str) -> String {
    const ENDS: usize = 150;
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= 2 * ENDS {
        return text.to_owned();
    }
    let [start, end] = [&characters[..ENDS], &characters[characters.len() - ENDS..]].map(String::from_iter);
    format!("{start} … {end}")
}

/// Tests in this process.
fn here(args: &Args, first: usize, console: &Console) -> Result<()> {
    if args.stems.is_empty() {
        return Err(Error::Usage("--here needs the names of files of kernels".into()));
    }
    match args.device {
        Where::Cuda => {
            let hint = "--device emulated tests the kernels on the CPU";
            let driver = Arc::new(Driver::open().map_err(|error| error.instead(hint))?);
            console.json_result(&Event::Device(driver.name()))?;
            tell_all(args, first, || Trial::new(driver.clone()), console)
        }
        Where::Emulated => {
            let seeds: &[u64] = if args.quick { &[1] } else { &[0, 1, 2] };
            console.json_result(&Event::Device(Emulated::new(0).name()))?;
            tell_all(args, first, || Trial::emulated(seeds), console)
        }
        #[cfg(feature = "ptx")]
        Where::Ptx | Where::PtxBits => here_as_ptx(args, first, console),
    }
}

/// Tests the PTX of the kernels in this process.
#[cfg(feature = "ptx")]
fn here_as_ptx(args: &Args, first: usize, console: &Console) -> Result<()> {
    // Races show under every order.
    let seeds: &[u64] = if args.quick { &[1] } else { &[0, 1] };
    let machine = |&seed: &u64| match args.device {
        Where::PtxBits => PtxMachine::new(Compiled::Separate, seed).map(PtxMachine::comparing),
        _ => PtxMachine::new(Compiled::Shipped, seed),
    };
    let machines = seeds.iter().map(|seed| Ok(Arc::new(machine(seed)?) as Arc<dyn Device>));
    let machines = machines.collect::<Result<Vec<_>>>()?;
    console.json_result(&Event::Device(machines[0].name()))?;
    tell_all(args, first, || Trial::of(&machines), console)
}

fn tell_all(args: &Args, first: usize, trial: impl Fn() -> Trial, console: &Console) -> Result<()> {
    args.stems.iter().try_for_each(|stem| {
        let trial = if args.quick { trial().quick() } else { trial() };
        let trial = args.without.into_iter().fold(trial, Trial::without);
        tell(stem, first, trial.telling(tell_case), console)
    })
}

/// Prints the line of a case. If its reader is gone, the check's next line finds that.
fn tell_case(variant: Variant, words: &str) {
    let line = serde_json::to_string(&Event::Case { variant, words: cut(words) }).expect("a case is a string");
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a file's checks and prints one line for each event.
fn tell(stem: &str, first: usize, mut trial: Trial, console: &Console) -> Result<()> {
    let checks = checks(stem).expect("the command line accepts only known files");
    for (number, check) in checks.iter().enumerate().skip(first) {
        console.json_result(&Event::Begin { number, check: check.name.to_owned() })?;
        let outcome = check.run(&mut trial);
        console.json_result(&Event::Found(trial.findings().clone()))?;
        match outcome {
            Ok(()) => {}
            // Later results would say nothing about the kernels.
            Err(error @ Error::Device(_)) => return Err(error),
            Err(error) => console.json_result(&Event::Problem(error.to_string()))?,
        }
    }
    console.json_result(&Event::End)
}
