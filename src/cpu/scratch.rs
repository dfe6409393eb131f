//! Working memory of the operations: packed weights and blocks of sums. Freed memory is kept for the next call, because
//! fresh pages cost more than the work on them.

use bytemuck::{Pod, Zeroable};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// A cache line, so that vector loads of packed operands never straddle two.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// The most lines that are kept: 64 MiB.
const KEPT: usize = 1 << 20;

/// Freed pieces, the oldest first.
static FREE: Mutex<VecDeque<Vec<Line>>> = Mutex::new(VecDeque::new());

/// f32 values, aligned to a cache line.
#[derive(Debug)]
pub(super) struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// `len` unspecified values: the smallest freed piece that holds them and is at most twice as large, or a new one.
    pub(super) fn new(len: usize) -> Self {
        let needed = len.div_ceil(size_of::<Line>() / size_of::<f32>());
        let mut free = FREE.lock().expect("no panic while the list is locked");
        let fits = |lines: &Vec<Line>| (needed..=2 * needed).contains(&lines.len());
        let fit = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].len());
        let lines = fit.and_then(|i| free.remove(i));
        drop(free);
        let mut scratch = Self { lines: lines.unwrap_or_else(|| vec![Line::zeroed(); needed]), len };
        if cfg!(debug_assertions) {
            scratch.fill(f32::NAN);
        }
        scratch
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut free = FREE.lock().expect("no panic while the list is locked");
        free.push_back(std::mem::take(&mut self.lines));
        let mut kept: usize = free.iter().map(Vec::len).sum();
        while kept > KEPT
            && let Some(oldest) = free.pop_front()
        {
            kept -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_reused() {
        // Other tests, which run beside this one, need pieces of less than half of this.
        let piece = Scratch::new(5_000_011);
        let address = piece.as_ptr() as usize;
        assert_eq!((address % 64, piece.len()), (0, 5_000_011));
        drop(piece);
        assert_eq!(Scratch::new(4_900_003).as_ptr() as usize, address);
    }
}
