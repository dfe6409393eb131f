use super::{from_fn, noise, smooth};
use osp::Error;
use osp::video::Clip;
use osp::video::metrics::{Motion, psnr, psnr_where, ssim, warp_error, warp_error_along};

#[test]
fn psnr_follows_its_formula_and_pools_errors_over_frames() {
    let black = from_fn(2, 4, 4, |_, _, _, _| 0);
    let second_frame_off_by_5 = from_fn(2, 4, 4, |time, _, _, _| 5 * time as u8);
    let scores = psnr(&black, &second_frame_off_by_5).unwrap();
    let expected = |squared_error: f64| 10.0 * (255.0 * 255.0 / squared_error).log10();
    assert!(scores.frames[0].is_infinite() && scores.frames[0] > 0.0);
    assert!((scores.frames[1] - expected(25.0)).abs() < 1e-9);
    assert!((scores.overall - expected(12.5)).abs() < 1e-9);
    assert_eq!(psnr(&black, &black).unwrap().overall, f64::INFINITY);
}

/// SSIM of a channel of a frame, window by window.
fn plain_ssim(a: &Clip, b: &Clip, frame: usize, channel: usize) -> f64 {
    let sides = [a.height, a.width].map(|side| if side >= 11 { 11 } else { side - (side + 1) % 2 });
    let gauss = |at: usize, side: usize| (-(at as f64 - (side / 2) as f64).powi(2) / 4.5).exp();
    let (mut sum, mut windows) = (0.0, 0);
    for top in 0..=a.height - sides[0] {
        for left in 0..=a.width - sides[1] {
            let mut all = Vec::new();
            for y in 0..sides[0] {
                for x in 0..sides[1] {
                    let at = ((top + y) * a.width + left + x) * 3 + channel;
                    let weight = gauss(y, sides[0]) * gauss(x, sides[1]);
                    all.push((weight, f64::from(a.frame(frame)[at]), f64::from(b.frame(frame)[at])));
                }
            }
            let total: f64 = all.iter().map(|(weight, ..)| weight).sum();
            let mean = |of: &dyn Fn(f64, f64) -> f64| all.iter().map(|&(w, a, b)| w * of(a, b)).sum::<f64>() / total;
            let (mean_a, mean_b) = (mean(&|a, _| a), mean(&|_, b| b));
            let variances = mean(&|a, b| (a - mean_a).powi(2) + (b - mean_b).powi(2));
            let covariance = mean(&|a, b| (a - mean_a) * (b - mean_b));
            let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
            sum += (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
                / ((mean_a.powi(2) + mean_b.powi(2) + c1) * (variances + c2));
            windows += 1;
        }
    }
    sum / f64::from(windows)
}

#[test]
fn ssim_follows_its_formula_also_in_frames_smaller_than_the_window() {
    for (height, width) in [(16, 20), (11, 11), (12, 5), (4, 30), (1, 1), (2, 3)] {
        let (a, b) = (smooth(2, height, width), noise(2, height, width));
        let scores = ssim(&a, &b).unwrap();
        for frame in 0..2 {
            let expected = (0..3).map(|channel| plain_ssim(&a, &b, frame, channel)).sum::<f64>() / 3.0;
            assert!((scores.frames[frame] - expected).abs() < 1e-9, "{height}x{width}");
        }
        assert!((scores.overall - (scores.frames[0] + scores.frames[1]) / 2.0).abs() < 1e-12);
    }
}

#[test]
fn equal_clips_have_ssim_1_exactly() {
    let clip = noise(2, 30, 17);
    let scores = ssim(&clip, &clip).unwrap();
    assert_eq!((scores.frames, scores.overall), (vec![1.0, 1.0], 1.0));
}

#[test]
fn clips_of_different_shape_are_not_compared() {
    let clip = noise(2, 8, 8);
    for other in [noise(1, 8, 8), noise(2, 8, 9), noise(2, 9, 8)] {
        assert!(matches!(psnr(&clip, &other), Err(Error::Shape { .. })));
        let error = ssim(&clip, &other).unwrap_err().to_string();
        assert!(error.contains("2 frames of 8x8"), "{error}");
    }
}

#[test]
fn psnr_of_selected_pixels_ignores_all_others() {
    let black = from_fn(3, 2, 3, |_, _, _, _| 0);
    // The left column differs by 10, the others by 200.
    let other = from_fn(3, 2, 3, |_, _, x, _| if x == 0 { 10 } else { 200 });
    let decibels = |squared_error: f64| 10.0 * (255.0 * 255.0 / squared_error).log10();
    // All of the first frame, the left column of the second, nothing of the third.
    let selected: Vec<bool> = (0..18).map(|pixel| pixel < 6 || (pixel < 12 && pixel % 3 == 0)).collect();
    let scores = psnr_where(&black, &other, &selected).unwrap();
    assert_eq!(scores.frames[0], psnr(&black, &other).unwrap().frames[0]);
    assert!((scores.frames[1] - decibels(100.0)).abs() < 1e-9);
    assert!(scores.frames[2].is_nan());
    let all = (2.0 * 100.0 + 4.0 * 200.0 * 200.0 + 2.0 * 100.0) / 8.0;
    assert!((scores.overall - decibels(all)).abs() < 1e-9);
    assert!(psnr_where(&black, &other, &[false; 18]).unwrap().overall.is_nan());
    assert_eq!(psnr_where(&black, &other, &[true; 18]).unwrap(), psnr(&black, &other).unwrap());
    let error = psnr_where(&black, &other, &[true; 17]).unwrap_err().to_string();
    assert!(error.contains("17 values") && error.contains("3x2x3"), "{error}");
}

/// A pattern on black that moves down and to the right by whole pixels, far from the edges.
fn moving(frames: usize, [down, right]: [usize; 2]) -> Clip {
    from_fn(frames, 61, 70, |time, y, x, channel| {
        let (y, x) = (y.wrapping_sub(12 + time * down), x.wrapping_sub(11 + time * right));
        if y < 17 && x < 19 { (40 + y * 11 + x * 7 + y * x * 5 + channel * 60) as u8 } else { 0 }
    })
}

#[test]
fn what_moves_by_whole_pixels_has_no_warp_error() {
    for by in [[0, 0], [1, 2], [0, 7], [7, 0], [6, 5]] {
        assert_eq!(warp_error(&moving(4, by)), Some(0.0), "{by:?}");
    }
    assert!(warp_error(&moving(4, [8, 0])).unwrap() > 0.001, "farther than blocks are looked for");
    assert!(warp_error(&noise(3, 40, 40)).unwrap() > 0.05);
    for one in [noise(1, 40, 40), noise(1, 1, 1)] {
        assert_eq!(warp_error(&one), None);
        assert_eq!(warp_error_along(&one, &one).unwrap(), None);
    }
}

#[test]
fn the_motion_of_one_clip_is_applied_to_the_other() {
    let source = moving(4, [2, 3]);
    let negative = from_fn(4, 61, 70, |time, y, x, channel| 255 - source.frame(time)[(y * 70 + x) * 3 + channel]);
    assert_eq!(warp_error_along(&source, &negative).unwrap(), Some(0.0));
    assert!(warp_error_along(&source, &moving(4, [3, 2])).unwrap().unwrap() > 0.001);
    // Flicker is no motion: frames that are lighter and darker in turn differ by 30 everywhere.
    let flicker = from_fn(4, 61, 70, |time, _, _, _| 100 + 30 * (time % 2) as u8);
    assert!((warp_error_along(&source, &flicker).unwrap().unwrap() - (30.0f64 / 255.0).powi(2)).abs() < 1e-12);
    let still = moving(4, [0, 0]);
    assert_eq!(Motion::of(&source).warp_error(&still).unwrap(), warp_error_along(&source, &still).unwrap());
    for other in [noise(3, 61, 70), noise(4, 70, 61)] {
        assert!(matches!(warp_error_along(&source, &other), Err(Error::Shape { .. })));
        assert!(matches!(Motion::of(&source).warp_error(&other), Err(Error::Shape { .. })));
    }
}

/// The warp error by its definition: pixel by pixel, every displacement.
fn plain_warp_error(motion_of: &Clip, clip: &Clip) -> f64 {
    let (height, width) = (clip.height as i32, clip.width as i32);
    let at = |clip: &Clip, time: usize, y: i32, x: i32, channel: i32| {
        i32::from(clip.frame(time)[((y * width + x) * 3 + channel) as usize])
    };
    let (mut sum, mut values) = (0, 0);
    for time in 0..clip.frames - 1 {
        for (top, left) in (0..height).step_by(8).flat_map(|top| (0..width).step_by(8).map(move |left| (top, left))) {
            let (bottom, right) = (height.min(top + 8), width.min(left + 8));
            let block = |clip: &Clip, dy: i32, dx: i32, of: fn(i32) -> i32| -> i32 {
                let pixels = (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x)));
                let values = pixels.flat_map(|(y, x)| (0..3).map(move |channel| (y, x, channel)));
                values.map(|(y, x, c)| of(at(clip, time, y + dy, x + dx, c) - at(clip, time + 1, y, x, c))).sum()
            };
            let moves = (-7..=7).flat_map(|dy| (-7..=7).map(move |dx| (dy, dx)));
            let inside = |&(dy, dx): &(i32, i32)| {
                top + dy >= 0 && left + dx >= 0 && bottom + dy <= height && right + dx <= width
            };
            let cost = |&(dy, dx): &(i32, i32)| (block(motion_of, dy, dx, i32::abs), dy * dy + dx * dx);
            let (dy, dx) = moves.filter(inside).min_by_key(cost).expect("no motion is inside");
            sum += i64::from(block(clip, dy, dx, |difference| difference * difference));
            values += i64::from((bottom - top) * (right - left) * 3);
        }
    }
    sum as f64 / values as f64 / 65_025.0
}

#[test]
fn the_warp_error_follows_its_definition_at_ragged_edges() {
    for (frames, height, width) in [(3, 8, 8), (2, 13, 19), (3, 5, 30), (2, 1, 1), (2, 17, 3), (2, 24, 25)] {
        let (a, b) = (smooth(frames, height, width), noise(frames, height, width));
        for (motion_of, clip) in [(&a, &a), (&b, &b), (&a, &b), (&b, &a)] {
            let found = warp_error_along(motion_of, clip).unwrap().unwrap();
            let expected = plain_warp_error(motion_of, clip);
            assert!((found - expected).abs() < 1e-12, "{height}x{width}: {found} {expected}");
        }
    }
}
