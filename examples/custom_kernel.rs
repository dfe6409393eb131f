//! Kernels of your own beside the program's: are they right, and are they faster?
//!
//! ```sh
//! nvcc -std=c++20 -O3 -arch=sm_90a -cubin kernels/gemm.cu -o mine.cubin
//! cargo run --release --example custom_kernel -- gemm mine.cubin
//! ```
//!
//! 1. [`Replacement::read`] looks at the file, without a GPU: is it whole, does it hold every kernel of `kernels/STEM.cu`?
//! 2. [`Driver::open_with`] opens the GPU twice, with the program's own kernels and with those of the file.
//! 3. [`selftest::checks`] tries those of the file against the CPU; an error is given as a part of what is allowed.
//! 4. [`selftest::work`] is what the published models ask of them; both do it in turn, and a [`Recorder`] times every launch.
//!
//! Where there is no GPU the first step is all. Exit codes are those of `osp`: 1 if a kernel is wrong, 2 if the file is.

use osp::cuda::device::{Device, Driver, Replacement, entry_points};
use osp::cuda::{Cuda, Half};
use osp::profile::{Profiled, Recorder, Timing};
use osp::selftest::{self, Trial};
use osp::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Times each piece of work is timed on either side, after one that does not count.
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
        return Err(Error::Usage("expected a file of kernels and what takes its place: gemm mine.cubin".into()));
    };
    let replacement = Replacement::read(stem, Path::new(file))?;
    let names = entry_points(stem).expect("it was read for this stem");
    match replacement.shows_entry_points() {
        true => println!("{file} holds all {} kernels of kernels/{stem}.cu", names.len()),
        false => println!("{file} is a whole fat binary; only a driver sees which kernels it holds"),
    }

    let ours = match Driver::open_with(Vec::new()) {
        Err(Error::Device(problem)) => {
            println!("nothing more can be known here: {problem}");
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

/// Prints what the self-test finds of the kernels `names`, and counts those that are wrong.
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
        // With cold caches, as between the layers of a model.
        launches.set_timing(Timing::Cold);
        Self { kernels: Cuda::new(Arc::new(Profiled::new(device, launches.clone())), Self::TYPE), launches }
    }

    /// Microseconds that the kernels `names` take for a piece of work; `None` if it needs none of them.
    fn time(&self, work: &selftest::Work, names: &[&str]) -> Result<Option<f64>> {
        work.run(&self.kernels, Self::TYPE)?;
        let records = self.launches.take();
        let times =
            records.iter().filter(|record| names.contains(&record.name.as_str())).filter_map(|record| record.time);
        Ok(times.map(|time| 1e6 * time.as_secs_f64()).reduce(|sum, time| sum + time))
    }
}

/// Prints the time of each piece of work on both sides, which take turns: a card that grows warm slows both.
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
