//! Between the checkpoint's NCTHW order, which noise, golden data and latent files have, and the engine's NTHWC.

/// `[channels, positions]` → `[positions, channels]`, positions being frames·rows·columns of one sample.
pub fn nhwc_from_nchw<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let positions = values.len() / channels;
    (0..values.len()).map(|i| values[(i % channels) * positions + i / channels]).collect()
}

/// `[positions, channels]` → `[channels, positions]`.
pub fn nchw_from_nhwc<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let positions = values.len() / channels;
    (0..values.len()).map(|i| values[(i % positions) * channels + i / positions]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_directions_undo_each_other() {
        let values: Vec<u32> = (0..12).collect();
        let turned = nhwc_from_nchw(&values, 3);
        assert_eq!(turned[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(nchw_from_nhwc(&turned, 3), values);
    }
}
