//! Converts between the engine's NTHWC order and NCTHW, the order of checkpoints, noise, golden data and latent files.

/// `[channels, positions]` → `[positions, channels]`. One sample has frames·rows·columns positions.
pub fn nhwc_from_nchw<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    transposed(values, channels)
}

/// `[positions, channels]` → `[channels, positions]`.
pub fn nchw_from_nhwc<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    transposed(values, values.len() / channels)
}

/// `[rows, columns]` → `[columns, rows]`.
pub(crate) fn transposed<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    let mut turned = values.to_vec();
    transpose(values, rows, &mut turned);
    turned
}

/// Writes `from`, `[rows, columns]`, to `to` as `[columns, rows]`.
pub(crate) fn transpose<T: Copy>(from: &[T], rows: usize, to: &mut [T]) {
    /// Rows that are read together: few enough that all of their columns stay in the first-level cache.
    const BLOCK: usize = 64;
    if from.is_empty() {
        return;
    }
    let columns = from.len() / rows;
    for (block, from) in from.chunks(BLOCK * columns).enumerate() {
        for (column, to) in to.chunks_mut(rows).enumerate() {
            let to = &mut to[block * BLOCK..];
            to.iter_mut().zip(from[column..].iter().step_by(columns)).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_orders_of_a_small_example() {
        let values: Vec<u32> = (0..12).collect();
        let turned = nhwc_from_nchw(&values, 3);
        assert_eq!(turned, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(nchw_from_nhwc(&turned, 3), values);
        assert_eq!((nhwc_from_nchw::<u32>(&[], 3), nchw_from_nhwc::<u32>(&[], 3)), (vec![], vec![]));
    }

    proptest! {
        /// Every value is where the definition of the two orders puts it, also for more rows than a block has.
        #[test]
        fn both_directions_follow_the_definition(channels in 1..150_usize, positions in 1..150_usize) {
            let values: Vec<usize> = (0..channels * positions).collect();
            let (last, first) = (nhwc_from_nchw(&values, channels), nchw_from_nhwc(&values, channels));
            for (channel, position) in values.iter().map(|i| (i / positions, i % positions)) {
                prop_assert_eq!(last[position * channels + channel], channel * positions + position);
                prop_assert_eq!(first[channel * positions + position], position * channels + channel);
            }
        }
    }
}
