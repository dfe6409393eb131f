//! Temporal resampling against the padded, interpolated and reshaped arrays that define it.

use super::values::{assert_close, on_one_and_three_threads, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::resample::{RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs};
use proptest::prelude::*;

fn average(op: &TimeAverage, x: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let mut out = cpu.alloc(op.out_frames() * op.frame_len).unwrap();
    cpu.time_average(op, TimeAverageArgs { x: &cpu.upload(x).unwrap(), out: &mut out }).unwrap();
    out.to_vec()
}

fn double(op: &TimeDouble, x: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let mut out = cpu.alloc(op.out_frames() * op.frame_len).unwrap();
    cpu.time_double(op, TimeDoubleArgs { x: &cpu.upload(x).unwrap(), out: &mut out }).unwrap();
    out.to_vec()
}

fn regroup(op: &RegroupFrames, x: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let mut out = cpu.alloc(x.len()).unwrap();
    cpu.regroup_frames(op, RegroupFramesArgs { x: &cpu.upload(x).unwrap(), out: &mut out }).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn time_average_is_a_pooling_of_the_padded_video(frames in 1..12usize, frame_len in 1..80usize) {
        let x = values(1, frames * frame_len);
        let padded = [&x[..frame_len], &x[..frame_len], &x].concat();
        let mut expected = Vec::new();
        for window in (0..padded.len() / frame_len - 2).step_by(2) {
            expected.extend((0..frame_len).map(|i| {
                (0..3).map(|tap| f64::from(padded[(window + tap) * frame_len + i])).sum::<f64>() / 3.0
            }));
        }
        assert_close(&average(&TimeAverage { frames, frame_len }, &x), &expected, 1e-6);
    }

    #[test]
    fn time_double_interpolates_all_but_the_first_frame(frames in 1..12usize, frame_len in 1..80usize) {
        let x = values(1, frames * frame_len);
        let slice: Vec<&[f32]> = x.chunks_exact(frame_len).skip(1).collect();
        let mut expected: Vec<f64> = x[..frame_len].iter().map(|&x| f64::from(x)).collect();
        for out in 0..2 * slice.len() {
            // Sampling at (out + ½)/2 − ½ between frame centres, clamped to the slice.
            let at = ((out as f64 + 0.5) / 2.0 - 0.5).clamp(0.0, (slice.len() - 1) as f64);
            let (low, share) = (at.floor() as usize, at.fract());
            let high = (low + 1).min(slice.len() - 1);
            expected.extend((0..frame_len).map(|i| {
                f64::from(slice[low][i]) * (1.0 - share) + f64::from(slice[high][i]) * share
            }));
        }
        assert_close(&double(&TimeDouble { frames, frame_len }, &x), &expected, 1e-6);
    }

    #[test]
    fn regroup_frames_reinterprets_memory(frames in 1..9usize, positions in 1..40usize, channels in 1..40usize) {
        let op = RegroupFrames { frames, positions, channels, inverse: false };
        let x = values(1, frames * positions * channels);
        // The original's memory: [channels, frames, positions], read as [frames, channels, positions].
        let mut memory = Vec::new();
        for (c, t) in (0..channels).flat_map(|c| (0..frames).map(move |t| (c, t))) {
            memory.extend((0..positions).map(|p| x[(t * positions + p) * channels + c]));
        }
        let mut expected = Vec::new();
        for (t, p) in (0..frames).flat_map(|t| (0..positions).map(move |p| (t, p))) {
            expected.extend((0..channels).map(|c| memory[(t * channels + c) * positions + p]));
        }
        let found = regroup(&op, &x);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(regroup(&RegroupFrames { inverse: true, ..op }, &found), x);
    }
}

#[test]
fn frames_of_many_blocks_are_covered_with_any_number_of_threads() {
    let frame_len = 40_001;
    let x = values(1, 4 * frame_len);
    on_one_and_three_threads(|| {
        let means = average(&TimeAverage { frames: 4, frame_len }, &x);
        let doubled = double(&TimeDouble { frames: 4, frame_len }, &x);
        assert_eq!(means[2 * frame_len - 1], (x[frame_len - 1] + x[2 * frame_len - 1] + x[3 * frame_len - 1]) / 3.0);
        assert_eq!(doubled[7 * frame_len - 1], x[4 * frame_len - 1]);
        [means, doubled].concat()
    });
}
