//! Starts the threads that compute.

use osp::{Error, Result, room};
use rayon::ThreadPoolBuilder;
use std::io;

/// More threads than any machine has processors are a typing error, and take minutes to start.
const MOST: usize = 1024;

/// Bytes of a thread's stack, and of what the standard library sets up beside it.
const STACK: usize = (2 << 20) + (64 << 10);

/// The environment variables from which rayon reads the number of threads. The last one has the last word.
const NAMES: [&str; 2] = ["RAYON_RS_NUM_CPUS", "RAYON_NUM_THREADS"];

/// Starts the threads: the number in the environment, else one for each processor.
///
/// # Errors
/// [`Error::Usage`] if the number is not valid or too large, [`Error::Io`] if the system refuses.
pub fn start() -> Result<()> {
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    for name in NAMES {
        let wanted = std::env::var_os(name).unwrap_or_default();
        let wanted = wanted.to_string_lossy();
        // Empty or 0 means one for each processor.
        if !wanted.is_empty() && wanted.parse().map_or(true, |threads: usize| threads > MOST) {
            return Err(Error::Usage(format!("{name} is {wanted:?}: expected a number of threads up to {MOST}")));
        }
        threads = wanted.parse().ok().filter(|&threads| threads > 0).unwrap_or(threads);
    }
    // A thread that has a stack but no more memory would end the process with a panic.
    if (threads * STACK) as u64 > room::addresses() {
        return Err(refused(format!("no memory for the stacks of {threads}")));
    }
    // The system does not report the reason: no memory for the stacks, or too many threads.
    ThreadPoolBuilder::new().build_global().map_err(|error| refused(error.to_string()))
}

fn refused(problem: String) -> Error {
    let refused = io::Error::new(io::ErrorKind::OutOfMemory, format!("{problem}; set RAYON_NUM_THREADS to fewer"));
    Error::io("cannot start", "the threads that compute")(refused)
}
