//! Memory and copies.

use super::put;
use crate::Outcome;
use crate::settings::Plant;
use crate::state::{State, in_context, initialized, not_modelled};
use crate::work::{Host, Source, Work};
use cudarc::driver::sys::{CUmemPool_attribute, CUresult};
use std::ffi::{c_int, c_uint, c_void};

/// The handle of the GPU's only pool.
const POOL: usize = 8;

fn check_pool(pool: usize) -> Outcome<()> {
    if pool == POOL { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut usize, device: c_int) -> CUresult {
    initialized("cuDeviceGetDefaultMemPool", |_| {
        if device != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_DEVICE);
        }
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(pool, POOL) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemPoolSetAttribute(pool: usize, attribute: c_uint, value: *mut c_void) -> CUresult {
    initialized("cuMemPoolSetAttribute", |state| {
        check_pool(pool)?;
        if attribute != CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_uint {
            return Err(not_modelled(&format!("attribute {attribute} of a pool")));
        }
        if value.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: this attribute is a `cuuint64_t`.
        state.pool.threshold = unsafe { value.cast::<u64>().read_unaligned() };
        Ok(())
    })
}

/// Memory whose free has not run is in use.
#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: usize, kept: usize) -> CUresult {
    initialized("cuMemPoolTrimTo", |state| {
        check_pool(pool)?;
        let State { pool, streams, .. } = state;
        pool.trim(kept as u64, |point| streams.reached(point));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    in_context("cuMemGetInfo_v2", |state| {
        let (left, all) = state.pool.info();
        // SAFETY: the caller passes null or room for each result.
        unsafe { put(free, left).and_then(|()| put(total, all)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: usize) -> CUresult {
    in_context("cuMemAllocAsync", |state| {
        state.streams.end(stream)?;
        // With seed 0 or 1, memory is used again whenever it may be.
        let reuse = state.settings.seed < 2 || !state.streams.chance.one_in(4);
        let State { pool, streams, .. } = state;
        let found = match pool.allocate(bytes, stream, reuse, |point| streams.reached(point)) {
            Ok(found) => found,
            Err(code) => return state.refuse(code, &format!("an allocation of {bytes} bytes")),
        };
        state.streams.put(stream, Work::Allocate { address: found, bytes })?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(address, found) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, stream: usize) -> CUresult {
    in_context("cuMemFreeAsync", |state| {
        state.streams.end(stream)?;
        if !state.pool.allocated(address) {
            return state.refuse(CUresult::CUDA_ERROR_INVALID_VALUE, "a free of memory that is not allocated");
        }
        if state.plants(Plant::FreeAtOnce) {
            state.pool.lose(address);
            return Ok(());
        }
        let end = state.streams.put(stream, Work::Free(address))?;
        state.pool.release(address, end)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint) -> CUresult {
    in_context("cuMemHostAlloc", |state| {
        if flags != 0 {
            return Err(not_modelled("pinned memory with flags"));
        }
        if bytes == 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let found = state.pinned.allocate(bytes);
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(address, std::ptr::with_exposed_provenance_mut(found)) }
    })
}

/// The call need not wait for copies that use the memory; they fail if they run later.
#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: *mut c_void) -> CUresult {
    in_context("cuMemFreeHost", |state| state.pinned.free(address.addr()))
}

impl State {
    /// Fails unless the host has allocated these bytes of the GPU.
    fn check_copy(&self, address: u64, bytes: usize) -> Outcome<()> {
        match self.pool.holds(address, bytes) {
            true => Ok(()),
            false => self.refuse(CUresult::CUDA_ERROR_INVALID_VALUE, "a copy to or from memory that is not allocated"),
        }
    }

    fn host(&self, address: *const c_void, bytes: usize) -> Host {
        let address = address.expose_provenance();
        Host { address, bytes, pinned: self.pinned.holds(address, bytes) }
    }
}

/// A copy from pinned memory reads it when it runs. For pageable memory, the driver "may synchronize with the stream and
/// stage the copy into pinned memory" ("API synchronization behavior"), so the copy may read it before this call
/// returns, or when it runs.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: usize) -> CUresult {
    in_context("cuMemcpyHtoDAsync_v2", |state| {
        let end = state.streams.end(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        state.check_copy(to, bytes)?;
        let host = state.host(from, bytes);
        let (now, waits) = match state.settings.seed {
            0 => (false, false),
            1 => (true, false),
            _ => (state.streams.chance.one_in(2), state.streams.chance.one_in(2)),
        };
        if host.pinned || !now {
            return state.streams.put(stream, Work::ToGpu { to, from: Source::Host(host) }).map(drop);
        }
        if waits {
            state.synchronize(end)?;
        }
        // SAFETY: the caller passes this many bytes.
        let staged = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
        state.streams.put(stream, Work::ToGpu { to, from: Source::Staged(staged) }).map(drop)
    })
}

/// A copy writes the host's memory when it runs. For pageable memory, the call "might be synchronous with respect to
/// host" ("API synchronization behavior").
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: usize) -> CUresult {
    in_context("cuMemcpyDtoHAsync_v2", |state| {
        state.streams.end(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        state.check_copy(from, bytes)?;
        let host = state.host(to, bytes);
        let end = state.streams.put(stream, Work::ToHost { to: host, from })?;
        let waits = !host.pinned && state.settings.seed > 1 && state.streams.chance.one_in(2);
        if waits { state.synchronize(end) } else { Ok(()) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: usize) -> CUresult {
    in_context("cuMemsetD8Async", |state| {
        state.streams.end(stream)?;
        state.check_copy(to, bytes)?;
        state.explain(&format!("{bytes} bytes are set to {value}"));
        state.streams.put(stream, Work::Fill { to, value, bytes }).map(drop)
    })
}
