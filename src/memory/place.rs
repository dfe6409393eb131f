//! Finds an offset for each buffer, greedily.
//!
//! Buffers are placed one after the other, each at the lowest offset that is free during its lifetime. A tree over time
//! holds the ranges that are taken, so that a hundred thousand buffers take a second.

use std::ops::Range;

/// A buffer to place: its size and its lifetime.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Bytes, rounded up to the alignment; not 0.
    pub bytes: u64,
    /// Its lifetime; not empty.
    pub life: Range<usize>,
}

/// The offset of each item, and the end of the highest item.
pub(super) struct Placement {
    pub offsets: Vec<u64>,
    pub end: u64,
}

/// Places all items, `order` first to last.
pub(super) fn place(items: &[Item], order: &[usize]) -> Placement {
    let mut tree = Tree::new(items.iter().map(|item| item.life.end).max().unwrap_or(0));
    let mut placement = Placement { offsets: vec![0; items.len()], end: 0 };
    let mut taken = Vec::new();
    for &index in order {
        let Item { bytes, life } = &items[index];
        tree.taken(life, &mut taken);
        let offset = lowest(&mut taken, *bytes);
        tree.take(life, offset..offset + bytes);
        placement.offsets[index] = offset;
        placement.end = placement.end.max(offset + bytes);
    }
    placement
}

/// The lowest offset with `bytes` free bytes.
fn lowest(taken: &mut [Range<u64>], bytes: u64) -> u64 {
    taken.sort_unstable_by_key(|range| range.start);
    let mut offset = 0;
    for range in taken {
        if range.start >= offset + bytes {
            break;
        }
        offset = offset.max(range.end);
    }
    offset
}

/// The ranges of offsets that are taken, over time: a segment tree. Node 1 spans the whole time. The children of node
/// `n` are `2n` and `2n + 1`; each spans a half of its time.
struct Tree {
    leaves: usize,
    /// Ranges that are taken throughout a node's span, unless a node above has them.
    throughout: Vec<Union>,
    /// Ranges that are taken at some time within a node's span, unless a node above has them throughout.
    within: Vec<Union>,
}

impl Tree {
    fn new(times: usize) -> Self {
        let leaves = times.next_power_of_two();
        Self { leaves, throughout: vec![Union::default(); 2 * leaves], within: vec![Union::default(); 2 * leaves] }
    }

    /// The largest nodes whose spans make up `life`.
    fn cover(&self, life: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let (mut start, mut end) = (life.start + self.leaves, life.end + self.leaves);
        std::iter::from_fn(move || {
            while start < end {
                let (left, right) = (start % 2 == 1, end % 2 == 1);
                if left {
                    start += 1;
                    return Some(start - 1);
                }
                if right {
                    end -= 1;
                    return Some(end);
                }
                (start, end) = (start / 2, end / 2);
            }
            None
        })
    }

    /// Appends to `taken` every range that is taken at some time of `life`.
    fn taken(&self, life: &Range<usize>, taken: &mut Vec<Range<u64>>) {
        taken.clear();
        let mut seen = usize::MAX;
        for node in self.cover(life) {
            taken.extend_from_slice(&self.within[node].0);
            // Nodes of a cover share ancestors: the ancestors seen last are not visited again.
            let mut above = node / 2;
            while above > 0 && above != seen {
                taken.extend_from_slice(&self.throughout[above].0);
                above /= 2;
            }
            seen = node / 2;
        }
    }

    fn take(&mut self, life: &Range<usize>, range: Range<u64>) {
        for node in self.cover(life) {
            self.throughout[node].add(range.clone());
            let mut at = node;
            while at > 0 {
                self.within[at].add(range.clone());
                at /= 2;
            }
        }
    }
}

/// Ranges in order, none touching the next.
#[derive(Clone, Debug, Default)]
struct Union(Vec<Range<u64>>);

impl Union {
    fn add(&mut self, range: Range<u64>) {
        let first = self.0.partition_point(|other| other.end < range.start);
        let last = first + self.0[first..].partition_point(|other| other.start <= range.end);
        if first == last {
            self.0.insert(first, range);
            return;
        }
        let joined = self.0[first].start.min(range.start)..self.0[last - 1].end.max(range.end);
        self.0[first] = joined;
        self.0.drain(first + 1..last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_join_ranges_that_touch() {
        let mut union = Union::default();
        for range in [10..20, 30..40, 0..5, 20..25, 50..60] {
            union.add(range);
        }
        assert_eq!(union.0, [0..5, 10..25, 30..40, 50..60]);
        union.add(4..50);
        assert_eq!(union.0, std::iter::once(0..60).collect::<Vec<_>>());
    }

    #[test]
    fn the_lowest_gap_that_is_wide_enough_is_taken() {
        assert_eq!(lowest(&mut [], 7), 0);
        assert_eq!(lowest(&mut [20..30, 2..10, 5..12], 8), 12);
        assert_eq!(lowest(&mut [20..30, 2..10, 5..12], 9), 30);
        assert_eq!(lowest(&mut [20..30, 8..10], 8), 0);
    }

    #[test]
    fn covers_are_exact() {
        let tree = Tree::new(13);
        for (start, end) in (0..13).flat_map(|start| (start + 1..14).map(move |end| (start, end))) {
            let span = |node: usize| {
                let below = tree.leaves >> node.ilog2();
                let first = (node << (tree.leaves.ilog2() - node.ilog2())) - tree.leaves;
                first..first + below
            };
            let mut times: Vec<usize> = tree.cover(&(start..end)).flat_map(span).collect();
            times.sort_unstable();
            assert_eq!(times, (start..end).collect::<Vec<_>>());
        }
    }
}
