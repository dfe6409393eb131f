//! The threads that compute.

use osp::{Error, Result};
use rayon::ThreadPoolBuilder;
use std::io;

/// More threads than any machine's processors are a slip of the fingers, and take minutes to start.
const MOST: usize = 1024;

/// Names by which rayon is told how many.
const NAMES: [&str; 2] = ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"];

/// Starts the threads. The environment may say how many; otherwise each processor gets one.
///
/// # Errors
/// [`Error::Usage`] if that is no number or an absurd one, [`Error::Io`] if the system refuses.
pub fn start() -> Result<()> {
    for name in NAMES {
        let wanted = std::env::var_os(name).unwrap_or_default();
        let wanted = wanted.to_string_lossy();
        // Nothing, or 0, is one a processor.
        if !wanted.is_empty() && wanted.parse().map_or(true, |threads: usize| threads > MOST) {
            return Err(Error::Usage(format!("{name} is {wanted:?}: expected a number of threads up to {MOST}")));
        }
    }
    ThreadPoolBuilder::new().build_global().map_err(|error| {
        // The system does not say whether it has no memory for their stacks, or too many threads.
        let refused = io::Error::new(io::ErrorKind::OutOfMemory, format!("{error}; set RAYON_NUM_THREADS to fewer"));
        Error::io("cannot start", "the threads that compute")(refused)
    })
}
