//! An output that several tasks write to in parallel, each at ranges that are not contiguous.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice from which several threads may take disjoint ranges.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedMut<'a> {
    first: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: its pointer is that of a `&mut [f32]`, which any thread may own, and `'a` keeps the slice borrowed.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: threads that share it reach elements only through `slice`, whose callers promise that no two of them have the
// same element.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Shares `values`, which stay borrowed for `'a`.
    pub(super) fn new(values: &'a mut [f32]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), borrow: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No element may be in two slices that are alive at the same time.
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: the range lies in the slice, which stays borrowed for `'a`. By the caller's promise, nobody else has
        // one of its elements as long as the result lives.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
