//! Activation buffers, and the pool that reuses freed buffers: fresh pages cost more than the work on them.

use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::room;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Bytes of a buffer that is large: it asks whether there is room, which reads a dozen small files.
const LARGE: u64 = 8 << 20;

/// f32 values in memory that returns to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// `len` unspecified values.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if a large buffer has no room.
    pub(super) fn new(pool: &Arc<Pool>, len: usize) -> Result<Self> {
        Ok(Self { values: pool.take(len)?, pool: pool.clone() })
    }
}

impl DeviceBuffer for Buffer {
    fn len(&self) -> usize {
        self.values.len()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.values));
    }
}

/// Freed buffers by capacity. Used and freed buffers together never exceed the peak of used bytes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    free_elements: usize,
    used_elements: usize,
    peak_elements: usize,
}

impl Pool {
    /// The most bytes that were in use at once.
    pub(super) fn peak_bytes(&self) -> usize {
        self.state.lock().expect("no panic while the pool is locked").peak_elements * size_of::<f32>()
    }

    /// A vector of `len` elements: the smallest free one that holds them and is at most a quarter larger, or a new one.
    fn take(&self, len: usize) -> Result<Vec<f32>> {
        let mut state = self.state.lock().expect("no panic while the pool is locked");
        let fit = state.free.range(len..=len + len / 4).next().map(|(&capacity, _)| capacity);
        let mut values = match fit {
            Some(capacity) => state.remove(capacity),
            None => Vec::new(),
        };
        if fit.is_none() {
            // Freed buffers of other sizes will hardly be needed soon: free them before the pool grows.
            state.shrink(len);
            state.check(len)?;
            values = vec![0.0; len];
        }
        state.used_elements += values.capacity();
        state.peak_elements = state.peak_elements.max(state.used_elements);
        drop(state);
        values.resize(len, 0.0);
        #[cfg(debug_assertions)]
        values.fill(f32::NAN);
        Ok(values)
    }

    fn give(&self, values: Vec<f32>) {
        let capacity = values.capacity();
        let mut state = self.state.lock().expect("no panic while the pool is locked");
        state.used_elements -= capacity;
        state.free_elements += capacity;
        state.free.entry(capacity).or_default().push(values);
    }
}

impl State {
    fn remove(&mut self, capacity: usize) -> Vec<f32> {
        let list = self.free.get_mut(&capacity).expect("the capacity was just found");
        let values = list.pop().expect("no list in the pool is empty");
        if list.is_empty() {
            self.free.remove(&capacity);
        }
        self.free_elements -= capacity;
        values
    }

    /// Checks that there is room for a large buffer.
    fn check(&self, len: usize) -> Result<()> {
        let bytes = |elements: usize| elements as u64 * size_of::<f32>() as u64;
        let held = bytes(self.used_elements + self.free_elements);
        if bytes(len) < LARGE { Ok(()) } else { room::check("cpu", held, bytes(len)) }
    }

    /// Frees the largest buffers until the total with `len` more elements is within the peak.
    fn shrink(&mut self, len: usize) {
        while self.used_elements + self.free_elements + len > self.peak_elements {
            let Some((&capacity, _)) = self.free.last_key_value() else { return };
            drop(self.remove(capacity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_buffer_is_reused_and_the_pool_never_exceeds_the_peak() {
        let pool = Arc::new(Pool::default());
        let first = Buffer::new(&pool, 1000).unwrap();
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::new(&pool, 900).unwrap();
        assert_eq!(second.as_ptr(), address);
        drop(second);
        drop(Buffer::new(&pool, 10_000).unwrap());
        let state = pool.state.lock().unwrap();
        assert_eq!(state.used_elements, 0);
        assert_eq!((state.free_elements, state.peak_elements), (10_000, 10_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_buffer_beyond_the_memory_of_the_machine_is_an_error() {
        use crate::Error;
        let pool = Arc::new(Pool::default());
        let all = room::Room::now().unwrap().all;
        let failed = Buffer::new(&pool, all as usize / 4 + 1).unwrap_err();
        assert!(matches!(failed, Error::OutOfMemory { needed, free, .. } if needed > all && free <= all), "{failed}");
        drop(Buffer::new(&pool, 1000).unwrap());
    }
}
