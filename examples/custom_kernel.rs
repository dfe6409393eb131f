//! Compares your kernels with the program's: are they right, and are they faster?
//!
//! ```sh
//! nvcc -std=c++20 -O3 -arch=sm_90a -cubin kernels/gemm.cu -o mine.cubin
//! cargo run --release --example custom_kernel -- gemm mine.cubin
//! ```
//!
//! 1. [`Replacement::read`] checks the file without a GPU: is it complete, does it hold every kernel of
//!    `kernels/STEM.cu`?
//! 2. [`Driver::open_with`] opens the GPU twice, with the program's kernels and with the kernels of the file.
//! 3. [`selftest::checks`] compares the kernels of the file with the CPU; errors are fractions of the tolerance.
//! 4. [`selftest::work`] lists the work of the published models; both sides do it in turn, and a [`Recorder`] times
//!    every
//!    launch.
//!
//! Without a GPU only the first step runs. Exit codes are as for `osp`: 1 if a kernel is wrong, 2 if the file is.

use osp::cuda::device::{Device, Driver, Replacement, entry_points};
use osp::cuda::{Cuda, Half};
use osp::profile::{Profiled, Recorder, Timing};
use osp::selftest::{self, Trial};
use osp::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// How often each piece of work is timed on each side, after one run that does not count.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("custom_kernel: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stem, file] = &arguments[..] else {
        return Err(Error::Usage(
            "expected the name of a file of kernels and the file that replaces it, such as: gemm mine.cubin".into(),
        ));
    };
    let replacement = Replacement::read(stem, Path::new(file))?;
    let names = entry_points(stem).expect("the file was read for this stem");
    match replacement.shows_entry_points() {
        true => println!("{file} holds all {} kernels of kernels/{stem}.cu", names.len()),
        false => println!("{file} is a complete fat binary; only a driver can list its kernels"),
    }

    let ours = match Driver::open_with(Vec::new()) {
        Err(Error::Device(problem)) => {
            println!("the other steps need a GPU: {problem}");
            return Ok(());
        }
        driver => Arc::new(driver?),
    };
    let mine = Arc::new(Driver::open_with(vec![replacement])?);
    println!("{}", mine.name());
    let wrong = check(stem, names, mine.clone())?;
    compare(stem, names, [Arm::new(ours), Arm::new(mine)])?;
    if wrong > 0 {
        return Err(Error::Failed(format!("{wrong} kernels of {file} are wrong")));
    }
    Ok(())
}

/// Prints the self-test's results for the kernels `names`, and returns the number of wrong kernels.
fn check(stem: &str, names: &[&str], device: Arc<dyn Device>) -> Result<usize> {
    let mut trial = Trial::new(device);
    for check in selftest::checks(stem).expect("every file of kernels has checks") {
        check.run(&mut trial)?;
    }
    println!("\n{:<40} {:>5} {:>16}", "kernel", "cases", "error of allowed");
    let mut wrong = 0;
    for (kernel, finding) in trial.findings().iter().filter(|(kernel, _)| names.contains(&kernel.as_str())) {
        println!("{kernel:<40} {:>5} {:>16.2}", finding.cases, finding.worst);
        if let Some(failure) = &finding.failure {
            println!("  FAIL: {} wrong, the first: {failure}", finding.failed);
            wrong += 1;
        }
    }
    Ok(wrong)
}

/// One side of the comparison.
struct Arm {
    kernels: Cuda,
    launches: Recorder,
}

impl Arm {
    const TYPE: Half = Half::F16;

    fn new(device: Arc<dyn Device>) -> Self {
        let launches = Recorder::default();
        // With cold caches, as for the layers of a model.
        launches.set_timing(Timing::Cold);
        Self { kernels: Cuda::new(Arc::new(Profiled::new(device, launches.clone())), Self::TYPE), launches }
    }

    /// Microseconds that the kernels `names` take for a piece of work; `None` if it does not use them.
    fn time(&self, work: &selftest::Work, names: &[&str]) -> Result<Option<f64>> {
        work.run(&self.kernels, Self::TYPE)?;
        let records = self.launches.take();
        let times =
            records.iter().filter(|record| names.contains(&record.name.as_str())).filter_map(|record| record.time);
        Ok(times.map(|time| 1e6 * time.as_secs_f64()).reduce(|sum, time| sum + time))
    }
}

/// Prints the time of each piece of work on both sides. The sides take turns, so that a card that gets warm slows both.
fn compare(stem: &str, names: &[&str], arms: [Arm; 2]) -> Result<()> {
    println!("\n{:<50} {:>9} {:>9} {:>6}", "work, in f16", "ours µs", "yours µs", "ratio");
    for work in selftest::work(stem).expect("every file of kernels has a list") {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (arm, times) in arms.iter().zip(&mut times) {
                let time = arm.time(&work, names)?;
                times.extend(time.filter(|_| round > 0));
            }
        }
        if let [Some(ours), Some(mine)] = times.map(median) {
            println!("{:<50} {ours:>9.1} {mine:>9.1} {:>6.3}", work.name, mine / ours);
        }
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
