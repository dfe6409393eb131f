//! Starts the threads that compute.

use osp::{Error, Result};
use rayon::ThreadPoolBuilder;
use std::io;

/// More threads than any machine has processors are a typing error, and take minutes to start.
const MOST: usize = 1024;

/// The environment variables from which rayon reads the number of threads.
const NAMES: [&str; 2] = ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"];

/// Starts the threads: the number in the environment, else one for each processor.
///
/// # Errors
/// [`Error::Usage`] if the number is not valid or too large, [`Error::Io`] if the system refuses.
pub fn start() -> Result<()> {
    for name in NAMES {
        let wanted = std::env::var_os(name).unwrap_or_default();
        let wanted = wanted.to_string_lossy();
        // Empty or 0 means one for each processor.
        if !wanted.is_empty() && wanted.parse().map_or(true, |threads: usize| threads > MOST) {
            return Err(Error::Usage(format!("{name} is {wanted:?}: expected a number of threads up to {MOST}")));
        }
    }
    ThreadPoolBuilder::new().build_global().map_err(|error| {
        // The system does not report the reason: no memory for the stacks, or too many threads.
        let refused = io::Error::new(io::ErrorKind::OutOfMemory, format!("{error}; set RAYON_NUM_THREADS to fewer"));
        Error::io("cannot start", "the threads that compute")(refused)
    })
}
