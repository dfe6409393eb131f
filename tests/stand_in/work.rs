//! The pieces of work on a stream, and what each does when it runs.

use crate::Outcome;
use crate::state::State;
use crate::streams::Point;
use cudarc::driver::sys::CUresult;
use osp::cuda::device::{Device, Launch};
use std::time::Instant;

/// A piece of work.
pub enum Work {
    /// A copy to the GPU.
    ToGpu {
        to: u64,
        from: Source,
    },
    /// A copy to the host's memory.
    ToHost {
        to: Host,
        from: u64,
    },
    /// Sets bytes of the GPU.
    Fill {
        to: u64,
        value: u8,
        bytes: usize,
    },
    Launch(Box<Call>),
    /// Memory at this address becomes usable.
    Allocate {
        address: u64,
        bytes: usize,
    },
    /// Memory at this address becomes unusable.
    Free(u64),
    Record {
        event: usize,
        point: Point,
    },
    Wait(Point),
}

/// Bytes of the host.
#[derive(Clone, Copy)]
pub struct Host {
    pub address: usize,
    pub bytes: usize,
    /// Whether they were pinned when the copy was called.
    pub pinned: bool,
}

/// Where a copy to the GPU reads.
pub enum Source {
    /// In the host's memory, when it runs.
    Host(Host),
    /// In the driver's own memory.
    Staged(Vec<u8>),
}

/// A launch, with a copy of its parameters.
pub struct Call {
    pub kernel: String,
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared_bytes: u32,
    pub params: Vec<u8>,
}

impl State {
    /// Runs a piece of work.
    pub fn run(&mut self, work: Work) {
        let start = Instant::now();
        let done = match work {
            Work::ToGpu { to, from: Source::Staged(bytes) } => self.pool.write(to, &bytes),
            Work::ToGpu { to, from: Source::Host(host) } => self.copy_in(to, host),
            Work::ToHost { to, from } => self.copy_out(to, from),
            Work::Fill { to, value, bytes } => self.pool.write(to, &vec![value; bytes]),
            Work::Launch(call) => return self.launch(&call),
            Work::Allocate { address, bytes } => return self.pool.begin(address, bytes),
            Work::Free(address) => return self.pool.end(address),
            Work::Record { event, point } => return self.streams.note_time(event, point),
            Work::Wait(_) => return,
        };
        self.streams.worked(start.elapsed());
        if let Err(code) = done {
            self.fail(code, "a copy touches memory that is not allocated");
        }
    }

    /// Whether a copy may touch these bytes of the host. Memory that was pinned is gone once it is freed.
    fn exists(&self, host: Host) -> Outcome<()> {
        let gone = host.pinned && !self.pinned.holds(host.address, host.bytes);
        if gone { Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS) } else { Ok(()) }
    }

    fn copy_in(&mut self, to: u64, host: Host) -> Outcome<()> {
        self.exists(host)?;
        // SAFETY: the caller of the copy keeps pageable memory as it is until the copy is done. Pinned memory exists.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(host.address), host.bytes) };
        self.pool.write(to, bytes)
    }

    fn copy_out(&mut self, host: Host, from: u64) -> Outcome<()> {
        self.exists(host)?;
        let to = std::ptr::with_exposed_provenance_mut(host.address);
        // SAFETY: as in `copy_in`, and nobody reads the memory meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(to, host.bytes) };
        self.pool.read(from, bytes)
    }

    /// Runs a kernel on the emulator.
    fn launch(&mut self, call: &Call) {
        if self.fails_now(&call.kernel) {
            return self.fail(CUresult::CUDA_ERROR_LAUNCH_FAILED, "the settings let this launch fail");
        }
        let launch = Launch {
            kernel: &call.kernel,
            grid: call.grid,
            threads: call.threads,
            shared_bytes: call.shared_bytes,
            params: &call.params,
            // A kernel may touch all live memory.
            fields: &[],
            flops: 0,
            bytes: 0,
            choice: None,
        };
        let start = Instant::now();
        let ran = self.pool.emulated.launch(&launch);
        self.streams.worked(start.elapsed());
        if let Err(error) = ran {
            let problem = error.to_string();
            self.fail(code_for(&problem), &problem);
        }
    }
}

/// The error of a GPU for what the emulator says.
fn code_for(problem: &str) -> CUresult {
    match problem {
        _ if problem.contains("outside of the launch's buffers") => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        _ if problem.contains("not a multiple of") => CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        _ => CUresult::CUDA_ERROR_LAUNCH_FAILED,
    }
}
