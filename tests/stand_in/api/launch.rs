//! Launches.

use crate::Outcome;
use crate::card::{MOST_BLOCK, MOST_GRID, MOST_THREADS};
use crate::state::{State, in_context, not_modelled};
use crate::work::{Call, Work};
use cudarc::driver::sys::CUresult;
use std::ffi::{c_uint, c_void};

/// The call copies the parameters. What is wrong with the call itself is its error; what goes wrong on the GPU is the
/// error of a later call.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: usize,
    params: *const *const c_void,
    extra: *const *const c_void,
) -> CUresult {
    in_context("cuLaunchKernel", |state| {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let (kernel, bytes) = state.launchable(function, grid, block, shared_bytes)?;
        state.streams.end(stream)?;
        if !extra.is_null() {
            return Err(not_modelled("a launch with its parameters in one buffer"));
        }
        if params.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller passes a pointer to each parameter. These kernels have one, of `bytes` bytes.
        let params = unsafe { std::slice::from_raw_parts((*params).cast::<u8>(), bytes) }.to_vec();
        let call = Call { kernel, grid, threads: block.iter().product(), shared_bytes, params };
        state.streams.put(stream, Work::Launch(Box::new(call))).map(drop)
    })
}

/// Whether each number is at least one, and at most its limit.
fn within(numbers: [u32; 3], limits: [u32; 3]) -> bool {
    numbers.iter().zip(limits).all(|(&number, limit)| (1..=limit).contains(&number))
}

impl State {
    /// The kernel of a launch, and the bytes of its parameter. Checks the sizes of the launch.
    fn launchable(
        &mut self,
        function: usize,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
    ) -> Outcome<(String, usize)> {
        let (kernel, limits) = self.function(function)?;
        let (kernel, most_dynamic) = (kernel.to_owned(), limits.most_dynamic);
        let threads = block.iter().fold(1_u32, |product, &threads| product.saturating_mul(threads));
        if !within(grid, MOST_GRID) || !within(block, MOST_BLOCK) || threads > MOST_THREADS {
            let what = format!("{kernel} with a grid of {grid:?} and blocks of {block:?}");
            return self.refuse(CUresult::CUDA_ERROR_INVALID_VALUE, &what);
        }
        if shared_bytes > most_dynamic {
            let what = format!("{kernel} with {shared_bytes} bytes of shared memory, and {most_dynamic} are allowed");
            return self.refuse(CUresult::CUDA_ERROR_INVALID_VALUE, &what);
        }
        let Some((most_threads, bytes)) = self.pool.emulated.kernel(&kernel) else {
            return Err(not_modelled(&format!("the kernel {kernel}, which the emulator lacks,")));
        };
        // A kernel is compiled for its number of threads, and has registers for no more.
        if threads > most_threads {
            let what = format!("{kernel} with {threads} threads");
            return self.refuse(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, &what);
        }
        Ok((kernel, bytes))
    }
}
