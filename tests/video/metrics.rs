use super::{from_fn, noise, smooth};
use osp::Error;
use osp::video::Clip;
use osp::video::metrics::{psnr, ssim};

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
