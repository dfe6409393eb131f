//! The places of a tensor's elements in the file, after all claims of the pickle have been checked against the file.

use super::machine::Pickle;
use super::value::{Id, Value, View};
use crate::weights::table::Stored;
use std::collections::HashMap;
use std::ops::Range;

/// The place of `view` in the file.
pub(super) fn place(
    name: &str,
    view: &View<'_>,
    pickle: &Pickle<'_>,
    storages: &HashMap<&str, Range<usize>>,
) -> Result<Stored, String> {
    let View { storage, dtype, .. } = view;
    let key = storage.key;
    let bytes =
        storages.get(key).ok_or_else(|| format!("lies in storage {key:.80}, which the file does not hold"))?.clone();
    let size = dtype.size();
    let held = bytes.len() / size;
    let claimed = usize::try_from(storage.count).ok().and_then(|count| count.checked_mul(storage.size()));
    if claimed.is_none_or(|claimed| claimed > bytes.len()) {
        return Err(format!(
            "lies in storage {key:.80}, which claims {} elements of {} bytes, but the file has {} bytes for it",
            storage.count,
            storage.size(),
            bytes.len()
        ));
    }
    let shape = sizes(pickle, view.shape, "shape")?;
    let strides = sizes(pickle, view.strides, "strides")?;
    if shape.len() != strides.len() {
        return Err(format!("has {} axes and {} strides", shape.len(), strides.len()));
    }
    // `first` of the storage counts elements of the storage; in a storage of bytes, it counts bytes.
    let offset = |first: i64, size: usize| usize::try_from(first).ok().and_then(|first| first.checked_mul(size));
    let start = offset(storage.first, storage.size()).zip(offset(view.first, size));
    let start = start.and_then(|(storage, view)| storage.checked_add(view));
    let past = |what: String| {
        format!("has shape {shape:?} and strides {strides:?}, {what} storage {key:.80} of {held} elements")
    };
    let start = start.filter(|start| *start <= bytes.len()).ok_or_else(|| past("and starts outside of".into()))?;
    if shape.contains(&0) {
        // Whoever multiplies the sizes may meet the zero last.
        let mut above_zero = shape.iter().filter(|&&size| size > 0);
        if above_zero.try_fold(1usize, |all, &size| all.checked_mul(size)).is_none() {
            return Err(format!("has shape {shape:?}, whose sizes have no product"));
        }
        return Ok(Stored { name: name.to_owned(), dtype: *dtype, shape, start: bytes.start, strides: None });
    }
    let last = last_element(&shape, &strides).ok_or_else(|| past("whose elements overlap or lie outside of".into()))?;
    let end =
        last.checked_add(1).and_then(|count| count.checked_mul(size)).and_then(|length| start.checked_add(length));
    if end.is_none_or(|end| end > bytes.len()) {
        return Err(past("whose elements reach beyond".into()));
    }
    let strides = if is_row_major(&shape, &strides) { None } else { Some(strides) };
    Ok(Stored { name: name.to_owned(), dtype: *dtype, shape, start: bytes.start + start, strides })
}

/// PyTorch's limit.
const MOST_AXES: usize = 64;

/// The sizes in a sequence of the pickle.
fn sizes(pickle: &Pickle<'_>, of: Id, what: &str) -> Result<Vec<usize>, String> {
    let Value::Sequence(claimed) = pickle.value(of) else { return Err(format!("has no {what}")) };
    if claimed.len() > MOST_AXES {
        return Err(format!("has a {what} of {} axes, and PyTorch has at most {MOST_AXES}", claimed.len()));
    }
    let size = |id: &Id| match pickle.value(*id) {
        Value::Int(size) => Ok(*size),
        other => Err(format!("has {} in its {what}", other.kind())),
    };
    let claimed = claimed.iter().map(size).collect::<Result<Vec<i64>, _>>()?;
    let sizes = claimed.iter().map(|size| usize::try_from(*size));
    sizes.collect::<Result<_, _>>().map_err(|_| format!("has the {what} {claimed:?}, which is not possible"))
}

/// The index of the last element, counted from the first; `None` if two indices mean the same element, or the index
/// overflows. Without such overlaps, a tensor cannot have more elements than its storage.
fn last_element(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let mut axes: Vec<(usize, usize)> =
        strides.iter().zip(shape).filter(|(_, size)| **size > 1).map(|(stride, size)| (*stride, *size)).collect();
    axes.sort_unstable();
    axes.into_iter().try_fold(0usize, |last, (stride, size)| {
        if stride <= last { None } else { stride.checked_mul(size - 1)?.checked_add(last) }
    })
}

/// Whether the elements are in row-major order, without gaps.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}
