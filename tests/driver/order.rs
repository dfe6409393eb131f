//! The order in which streams work: as late or as early as events allow, and no further.

use super::alone;
use super::raw::{self, SUCCESS};
use cudarc::driver::sys::{self, CUresult};

/// Runs `body` under seeds that let everything run late, early, and mixed.
fn under(test: &str, seeds: &[u64], body: fn()) {
    for seed in seeds {
        if alone(&format!("driver::order::{test}"), &format!("seed={seed}"), body).is_none() {
            return;
        }
    }
}

#[test]
fn late_work_reads_pinned_memory_late() {
    under("late_work_reads_pinned_memory_late", &[0], || assert_eq!(reads_after_a_change(), [9, 9]));
}

#[test]
fn early_work_reads_memory_early() {
    under("early_work_reads_memory_early", &[1], || assert_eq!(reads_after_a_change(), [1, 1]));
}

/// Copies pinned and pageable memory, which the host changes afterwards; returns what the GPU has then.
fn reads_after_a_change() -> [u8; 2] {
    raw::open();
    let (stream, host) = (raw::stream(), raw::pinned(1));
    let mut pageable = vec![1];
    let gpu = raw::alloc(2, stream).unwrap();
    host[0] = 1;
    assert_eq!([raw::write(gpu, host, stream), raw::write(gpu + 1, &pageable, stream)], [SUCCESS; 2]);
    (host[0], pageable[0]) = (9, 9);
    // The compiler does not know that the GPU may read it now.
    std::hint::black_box(&pageable);
    raw::bytes(gpu, stream)
}

#[test]
fn mixed_seeds_read_memory_at_both_times() {
    let both = || {
        raw::open();
        let (stream, host) = (raw::stream(), raw::pinned(1));
        let gpu = raw::alloc(1, stream).unwrap();
        let found: Vec<u8> = (0..200)
            .map(|_| {
                host[0] = 1;
                assert_eq!(raw::write(gpu, host, stream), SUCCESS);
                host[0] = 9;
                raw::bytes::<1>(gpu, stream)[0]
            })
            .collect();
        assert!(found.contains(&1) && found.contains(&9), "{found:?}");
    };
    under("mixed_seeds_read_memory_at_both_times", &[2, 3], both);
}

/// A stream waits for the record of an event that was the last at the time of the call.
#[test]
fn a_stream_waits_for_what_was_recorded() {
    let ordered = || {
        raw::open();
        let (first, second, event) = (raw::stream(), raw::stream(), raw::event(2));
        let (from, to) = (raw::alloc(1, first).unwrap(), raw::pinned(1));
        for turn in 0..100 {
            // The copy may read it until both streams are done.
            let source = [turn];
            assert_eq!(raw::write(from, &source, first), SUCCESS);
            raw::record(event, first);
            raw::wait(second, event);
            assert_eq!(raw::read(to, from, second), SUCCESS);
            assert_eq!(raw::synchronize(second), SUCCESS);
            assert_eq!(to[0], turn);
            std::hint::black_box(&source);
            // The next turn overwrites what the second stream has read.
            raw::record(event, second);
            raw::wait(first, event);
        }
    };
    under("a_stream_waits_for_what_was_recorded", &[0, 1, 2, 3, 4, 5], ordered);
}

#[test]
fn a_later_record_does_not_move_a_wait() {
    let kept = || {
        raw::open();
        let (first, second, event) = (raw::stream(), raw::stream(), raw::event(2));
        let memory = raw::alloc(1, first).unwrap();
        raw::record(event, first);
        raw::wait(second, event);
        assert_eq!(raw::write(memory, &[1], first), SUCCESS);
        raw::record(event, first);
        assert_eq!(raw::synchronize(second), SUCCESS);
        // SAFETY: the call takes any handle.
        assert_eq!(unsafe { sys::cuStreamQuery(first) }, CUresult::CUDA_ERROR_NOT_READY, "its copy need not have run");
    };
    under("a_later_record_does_not_move_a_wait", &[0], kept);
}

/// A program that asks in a loop sees an end, even if work runs as late as it may.
#[test]
fn questions_without_a_wait_come_to_an_end() {
    let asked = || {
        raw::open();
        let (first, second, event) = (raw::stream(), raw::stream(), raw::event(2));
        let memory = raw::alloc(4, first).unwrap();
        // SAFETY: the calls take any handle; the memory has four bytes.
        unsafe {
            assert_eq!(sys::cuEventQuery(event), SUCCESS, "it was never recorded");
            assert_eq!(sys::cuMemsetD8Async(memory, 7, 4, first), SUCCESS);
            raw::record(event, first);
            raw::wait(second, event);
            raw::record(event, second);
            assert!((0..10).any(|_| sys::cuEventQuery(event) == SUCCESS));
            assert_eq!([sys::cuStreamQuery(second), sys::cuCtxSynchronize()], [SUCCESS; 2]);
        }
        assert_eq!(raw::bytes(memory, first), [7; 4]);
    };
    under("questions_without_a_wait_come_to_an_end", &[0, 1, 2], asked);
}

/// Memory that was freed has other contents, and the stream that freed it may get it again at once.
#[test]
fn freed_memory_is_handed_out_again_without_its_contents() {
    let reused = || {
        raw::open();
        let stream = raw::stream();
        let first = raw::alloc(100, stream).unwrap();
        assert_eq!(raw::write(first, &[5; 100], stream), SUCCESS);
        assert_eq!(raw::bytes(first, stream), [5; 100]);
        assert_eq!(raw::free(first, stream), SUCCESS);
        let again = raw::alloc(90, stream).unwrap();
        assert_eq!(again, first);
        assert_ne!(raw::bytes(again, stream), [5; 90]);
        // Another stream gets it only after the free has run.
        assert_eq!(raw::free(again, stream), SUCCESS);
        let other = raw::stream();
        let fresh = raw::alloc(90, other).unwrap();
        assert_eq!(raw::synchronize(stream), SUCCESS);
        let late = raw::alloc(90, other).unwrap();
        assert!(fresh != again && late != fresh);
    };
    under("freed_memory_is_handed_out_again_without_its_contents", &[0], reused);
}

/// Closing a stream does not drop its work.
#[test]
fn a_closed_stream_ends_its_work() {
    let closed = || {
        raw::open();
        let (stream, other) = (raw::stream(), raw::stream());
        let memory = raw::alloc(1, stream).unwrap();
        assert_eq!(raw::write(memory, &[3], stream), SUCCESS);
        // SAFETY: the call takes any handle.
        assert_eq!(unsafe { sys::cuStreamDestroy_v2(stream) }, SUCCESS);
        assert_eq!(raw::synchronize(stream), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(raw::bytes(memory, other), [3]);
    };
    under("a_closed_stream_ends_its_work", &[0, 1, 2], closed);
}
