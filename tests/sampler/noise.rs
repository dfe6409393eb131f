//! Noise, compared with `torch.randn` on the CPU.

use super::Golden;
use osp::sampler::TorchRng;

/// The golden data has this many values: the first of the first draw, and the last of the second.
const KEPT: usize = 64;

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-6, "{what}: {found} at {index}, not {expected}");
    }
}

#[test]
fn two_draws_of_every_size_equal_those_of_torch() {
    let golden = Golden::open("noise");
    let cases = golden.json.as_object().unwrap();
    assert!(!cases.is_empty());
    for (name, case) in cases {
        let len = case["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).product();
        let mut rng = TorchRng::new(case["seed"].as_u64().unwrap());
        let (first, second) = (rng.randn(len), rng.randn(len));
        let kept = len.min(KEPT);
        assert_close(&first[..kept], &golden.tensor(&format!("{name}.first")), name);
        assert_close(&second[len - kept..], &golden.tensor(&format!("{name}.second")), name);
        let mean_abs = first.iter().map(|x| f64::from(x.abs())).sum::<f64>() / len as f64;
        assert!((mean_abs - case["mean_abs"].as_f64().unwrap()).abs() < 1e-6, "{name}: {mean_abs}");
    }
}

#[test]
fn a_sine_is_kept_for_the_next_single_number_across_larger_draws() {
    // The first values of `torch.randn` for these sizes, with one generator of seed 42.
    let draws = [
        (3, 0.3366904),
        (20, 1.7877893),
        (1, 0.230333),
        (2, -0.3277586),
        (5, 0.2815196),
        (100, 0.3672487),
        (7, 0.526337),
        (1, 0.776387),
        (1, -0.3029157),
    ];
    let mut rng = TorchRng::new(42);
    for (len, first) in draws {
        assert_close(&rng.randn(len)[..1], &[first], &format!("draw of {len}"));
    }
}

#[test]
fn only_the_low_32_bits_of_a_seed_matter() {
    assert_eq!(TorchRng::new(7).randn(100), TorchRng::new(7 + (1 << 40)).randn(100));
    assert_ne!(TorchRng::new(7).randn(100), TorchRng::new(8).randn(100));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let draw = || TorchRng::new(3).randn(100_003);
    let draw_with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(draw);
    assert_eq!(draw_with(1), draw_with(5));
}
