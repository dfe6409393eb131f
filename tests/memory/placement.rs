use osp::cuda::device::Event;
use osp::memory::plan::{ALIGNMENT, MemoryPlan};
use proptest::prelude::*;

/// A log of buffers. Of each: its size, the number of later allocations that it outlives, and whether it is a
/// parameter.
fn log(buffers: &[(usize, usize, bool)]) -> Vec<Event> {
    let mut gone: Vec<Vec<usize>> = vec![Vec::new(); buffers.len() + 1];
    for (index, &(_, outlived, _)) in buffers.iter().enumerate() {
        gone[(index + outlived + 1).min(buffers.len())].push(index);
    }
    let address = |index: usize| (index as u64 + 1) << 32;
    let mut log = Vec::new();
    for (now, &(bytes, _, weight)) in buffers.iter().enumerate() {
        log.extend(gone[now].iter().map(|&index| Event::Free { address: address(index) }));
        log.push(Event::Alloc { address: address(now), bytes, weight });
    }
    log
}

/// Checks the properties of every plan.
fn check(plan: &MemoryPlan, buffers: &[(usize, usize, bool)]) {
    assert_eq!(plan.buffers.len(), buffers.len());
    for (index, (planned, &(bytes, outlived, weight))) in plan.buffers.iter().zip(buffers).enumerate() {
        assert_eq!((planned.bytes, planned.weight), (bytes, weight));
        assert_eq!(planned.life, index..(index + outlived + 1).min(buffers.len()));
        assert_eq!(planned.offset % ALIGNMENT, 0);
        assert!(planned.offset + planned.room() <= plan.bytes && planned.room() >= bytes as u64);
        for other in &plan.buffers[..index] {
            let together = other.life.end > planned.life.start;
            let apart =
                other.offset + other.room() <= planned.offset || planned.offset + planned.room() <= other.offset;
            assert!(!together || apart, "{other:?} and {planned:?} overlap");
        }
    }
    let alive = |at: usize| plan.buffers.iter().filter(move |buffer| buffer.life.contains(&at));
    let most = (0..buffers.len()).map(|at| alive(at).map(|buffer| buffer.room()).sum::<u64>()).max().unwrap_or(0);
    assert_eq!(plan.peak.bytes, most);
    assert_eq!(plan.peak.by.iter().map(|(_, bytes)| bytes).sum::<u64>(), most);
    assert!(plan.bytes >= most && (plan.weights() + plan.activations()) >= most);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_two_live_buffers_overlap(
        buffers in prop::collection::vec((0usize..5000, prop_oneof![4 => 0usize..6, 1 => 0usize..200], any::<bool>()), 0..120)
    ) {
        check(&MemoryPlan::of(&log(&buffers)), &buffers);
    }
}

#[test]
fn an_empty_log_needs_no_bytes_and_one_buffer_needs_its_size() {
    assert_eq!(MemoryPlan::of(&[]).bytes, 0);
    let plan = MemoryPlan::of(&log(&[(0, 0, false)]));
    assert_eq!((plan.bytes, plan.peak.bytes), (ALIGNMENT, ALIGNMENT));
}

#[test]
fn a_chain_of_layers_needs_its_two_largest_neighbours() {
    let sizes = [100, 700, 300, 900, 200, 800].map(|lines| lines * ALIGNMENT as usize);
    let plan = MemoryPlan::of(&log(&sizes.map(|bytes| (bytes, 1, false))));
    assert_eq!(plan.bytes, 1200 * ALIGNMENT);
    assert_eq!(plan.peak.by, [("unused", 1200 * ALIGNMENT)]);
}

#[test]
fn labels_and_launches_come_from_the_log() {
    let launch = Event::Launch { kernel: "b", grid: [1; 3], flops: 5, bytes: 7 };
    let log = [
        Event::Alloc { address: 256, bytes: 256, weight: true },
        launch.clone(),
        Event::Alloc { address: 1024, bytes: 1000, weight: false },
        Event::FirstUse { address: 1024, by: "b" },
        launch.clone(),
        Event::Free { address: 1024 },
        launch,
    ];
    let plan = MemoryPlan::of(&log);
    assert_eq!((plan.buffers[0].label, plan.buffers[1].label), ("weights", "b"));
    assert_eq!((plan.buffers[0].launches.clone(), plan.buffers[1].launches.clone()), (0..3, 1..2));
    assert_eq!(plan.peak.by, [("b", 1024), ("weights", 256)]);
    assert_eq!((plan.peak.weights, plan.peak.launch, plan.bytes), (256, 1, 1280));
    let work = osp::memory::plan::Work::of(&log);
    assert_eq!((work.launches(), work.flops(), work.bytes()), (3, 15, 21));
    assert_eq!(work.bound(|flops, bytes| (flops + bytes) as f64), 36.0);
}

/// A hundred thousand buffers, as in a long run: parameters, then equal steps.
#[test]
fn a_long_run_is_placed_in_seconds_and_without_waste() {
    let mut buffers: Vec<(usize, usize, bool)> = (0..700).map(|i| (1000 * (i % 37), 200_000, true)).collect();
    let step = |i: usize| (1 << (8 + i * 7 % 12), [0, 1, 3, 12, 40][i % 5], false);
    buffers.extend((0..100_000).map(|i| step(i % 650)));
    let events = log(&buffers);
    let start = std::time::Instant::now();
    let plan = MemoryPlan::of(&events);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert!(plan.bytes <= plan.peak.bytes * 21 / 20, "{} for {}", plan.bytes, plan.peak.bytes);
}
