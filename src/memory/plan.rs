//! Turns the log of a rehearsal into a memory plan: an offset in one arena for every buffer.

use super::place::{Item, Placement, place};
use crate::cuda::device::Event;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

/// Buffers start on multiples of this.
pub const ALIGNMENT: u64 = 256;

/// One buffer of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// The requested size.
    pub bytes: usize,
    /// The offset in the arena.
    pub offset: u64,
    /// Its lifetime, counted in allocations: from its own allocation to the first one that may take its place.
    pub life: Range<usize>,
    /// Its lifetime, counted in launches.
    pub launches: Range<usize>,
    /// Whether it is a parameter.
    pub weight: bool,
    /// What first writes to it: a kernel's name, `copy` for the host, `weights` for parameters; `unused` if nothing
    /// does.
    pub label: &'static str,
}

impl PlannedBuffer {
    /// The bytes it takes in the arena. Not 0 even for an empty buffer, which needs a distinct address, too.
    pub fn room(&self) -> u64 {
        (self.bytes.max(1) as u64).next_multiple_of(ALIGNMENT)
    }
}

/// The memory plan of a stage.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Every buffer, in the order in which they are allocated.
    pub buffers: Vec<PlannedBuffer>,
    /// The number of allocations before each landmark.
    pub landmarks: Vec<usize>,
    /// Size of the arena.
    pub bytes: u64,
    /// The moment at which most bytes are alive.
    pub peak: Peak,
}

/// The moment at which most bytes are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Bytes alive, each buffer rounded up to the alignment: no arena can be smaller.
    pub bytes: u64,
    /// Bytes of parameters among them.
    pub weights: u64,
    /// The number of launches before it.
    pub launch: usize,
    /// Bytes by label, most first.
    pub by: Vec<(&'static str, u64)>,
}

impl MemoryPlan {
    /// Plans the memory of a rehearsal, whose log starts at its first event.
    pub fn of(log: &[Event]) -> Self {
        let mut buffers = lifetimes(log);
        let peak = peak(&buffers);
        let items: Vec<Item> =
            buffers.iter().map(|buffer| Item { bytes: buffer.room(), life: buffer.life.clone() }).collect();
        let Placement { offsets, end } = best(&buffers, &items, peak.bytes);
        for (buffer, offset) in buffers.iter_mut().zip(offsets) {
            buffer.offset = offset;
        }
        Self { buffers, landmarks: landmarks(log), bytes: end, peak }
    }

    /// Most bytes of parameters that are alive at once.
    pub fn weights(&self) -> u64 {
        peak_of(&self.buffers, |buffer| buffer.weight).0
    }

    /// Most bytes of everything else that are alive at once.
    pub fn activations(&self) -> u64 {
        peak_of(&self.buffers, |buffer| !buffer.weight).0
    }
}

fn landmarks(log: &[Event]) -> Vec<usize> {
    let mut allocations = 0;
    let mut landmarks = Vec::new();
    for event in log {
        match event {
            Event::Alloc { .. } => allocations += 1,
            Event::Landmark => landmarks.push(allocations),
            _ => {}
        }
    }
    landmarks
}

/// All buffers of a log, not yet placed. A buffer that is never freed lives to the end.
fn lifetimes(log: &[Event]) -> Vec<PlannedBuffer> {
    let mut buffers: Vec<PlannedBuffer> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut launches = 0;
    for event in log {
        match *event {
            Event::Alloc { address, bytes, weight } => {
                places.insert(address, buffers.len());
                let label = if weight { "weights" } else { "unused" };
                let life = buffers.len()..usize::MAX;
                buffers.push(PlannedBuffer { bytes, offset: 0, life, launches: launches..usize::MAX, weight, label });
            }
            Event::Free { address } => {
                let next = buffers.len();
                let index = places.remove(&address).expect("a freed buffer was allocated before");
                (buffers[index].life.end, buffers[index].launches.end) = (next, launches);
            }
            Event::FirstUse { address, by } => buffers[places[&address]].label = by,
            Event::Launch { .. } => launches += 1,
            Event::Landmark => {}
        }
    }
    let all = buffers.len();
    for index in places.into_values() {
        (buffers[index].life.end, buffers[index].launches.end) = (all, launches);
    }
    buffers
}

/// The most bytes that are alive at once, among the buffers that `counts` selects, and the first allocation at which
/// they are.
fn peak_of(buffers: &[PlannedBuffer], counts: impl Fn(&PlannedBuffer) -> bool) -> (u64, usize) {
    let mut change = vec![0i64; buffers.len() + 1];
    for buffer in buffers.iter().filter(|buffer| counts(buffer)) {
        change[buffer.life.start] += buffer.room() as i64;
        change[buffer.life.end] -= buffer.room() as i64;
    }
    let mut alive = 0;
    let alive = change.iter().map(|change| {
        alive += change;
        alive as u64
    });
    alive.enumerate().fold((0, 0), |most, (at, alive)| if alive > most.0 { (alive, at) } else { most })
}

fn peak(buffers: &[PlannedBuffer]) -> Peak {
    let (bytes, at) = peak_of(buffers, |_| true);
    let mut by: HashMap<&'static str, u64> = HashMap::new();
    let alive = || buffers.iter().filter(|buffer| buffer.life.contains(&at));
    for buffer in alive() {
        *by.entry(buffer.label).or_default() += buffer.room();
    }
    let mut by: Vec<(&'static str, u64)> = by.into_iter().collect();
    by.sort_unstable_by_key(|&(label, bytes)| (Reverse(bytes), label));
    let weights = alive().filter(|buffer| buffer.weight).map(PlannedBuffer::room).sum();
    let launch = buffers.get(at).map_or(0, |buffer| buffer.launches.start);
    Peak { bytes, weights, launch, by }
}

/// The smallest of several placements, none of them smaller than `least`.
fn best(buffers: &[PlannedBuffer], items: &[Item], least: u64) -> Placement {
    let time = |index: usize| items[index].life.len() as u128;
    let bytes = |index: usize| u128::from(items[index].bytes);
    // The first order mostly reaches the least. Large buffers find no gap later; long-lived ones block many others;
    // parameters at the bottom leave the rest of the arena to activations.
    let orders: [&dyn Fn(usize) -> [Reverse<u128>; 2]; 4] = [
        &|index| [Reverse(bytes(index)), Reverse(time(index))],
        &|index| [Reverse(u128::from(buffers[index].weight)), Reverse(bytes(index))],
        &|index| [Reverse(time(index)), Reverse(bytes(index))],
        &|index| [Reverse(time(index) * bytes(index)), Reverse(bytes(index))],
    ];
    let mut best: Option<Placement> = None;
    for key in orders {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_cached_key(|&index| key(index));
        let found = place(items, &order);
        if best.as_ref().is_none_or(|best| found.end < best.end) {
            best = Some(found);
        }
        if best.as_ref().is_some_and(|best| best.end <= least) {
            break;
        }
    }
    best.expect("there are several orders")
}

/// The work that a rehearsed stage launches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// (FLOPs, bytes) of a launch → number of such launches.
    costs: HashMap<(u64, u64), u64>,
}

impl Work {
    /// The work of all launches in a log.
    pub fn of(log: &[Event]) -> Self {
        let mut costs = HashMap::new();
        for event in log {
            if let Event::Launch { flops, bytes, .. } = *event {
                *costs.entry((flops, bytes)).or_default() += 1;
            }
        }
        Self { costs }
    }

    /// Launches.
    pub fn launches(&self) -> u64 {
        self.costs.values().sum()
    }

    /// Floating-point operations.
    pub fn flops(&self) -> u64 {
        self.costs.iter().map(|(&(flops, _), &count)| flops * count).sum()
    }

    /// The least bytes that the launches must move.
    pub fn bytes(&self) -> u64 {
        self.costs.iter().map(|(&(_, bytes), &count)| bytes * count).sum()
    }

    /// The sum over all launches of `bound(flops, bytes)`.
    pub fn bound(&self, bound: impl Fn(u64, u64) -> f64) -> f64 {
        let mut costs: Vec<_> = self.costs.iter().collect();
        // The sum of floats depends on the order.
        costs.sort_unstable();
        costs.into_iter().map(|(&(flops, bytes), &count)| count as f64 * bound(flops, bytes)).sum()
    }
}
