//! Relative position biases: a learned value per head and bucket of distances.

use super::T5Config;

/// `[heads, tokens, tokens]` from the table `[buckets, heads]`: entry (h, q, k) is that of the bucket of k − q.
pub(super) fn bias(config: &T5Config, table: &[f32], tokens: usize) -> Vec<f32> {
    let heads = config.num_heads;
    let distances = 2 * tokens - 1;
    let buckets: Vec<usize> = (0..distances).map(|i| bucket(config, i as i64 - (tokens as i64 - 1))).collect();
    let mut out = Vec::with_capacity(heads * tokens * tokens);
    for head in 0..heads {
        for query in 0..tokens {
            let first = tokens - 1 - query;
            out.extend(buckets[first..first + tokens].iter().map(|bucket| table[bucket * heads + head]));
        }
    }
    out
}

/// Bucket of a key `distance` tokens after the query. Half of the buckets are for keys after the query, half for keys before it. In
/// each half, the first half of the buckets have one distance each; the others grow logarithmically up to the maximal distance. The
/// computation is in f32, as in the original, so a distance on a boundary gets the same bucket.
fn bucket(config: &T5Config, distance: i64) -> usize {
    let half = config.relative_attention_num_buckets / 2;
    let exact = half / 2;
    let side = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    if distance < exact {
        return side + distance;
    }
    let range = (config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
    let share = (distance as f32 / exact as f32).ln() / range;
    side + (exact + (share * (half - exact) as f32) as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_exact_up_to_seven_then_logarithmic() {
        let json = r#"{"vocab_size":1,"d_model":1,"d_kv":1,"d_ff":1,"num_layers":1,"num_heads":1,"feed_forward_proj":"gated-gelu"}"#;
        let config: T5Config = serde_json::from_str(json).unwrap();
        let buckets =
            [0, -1, -7, -8, -15, -16, -127, -5000, 1, 7, 8, 16, 127, 128].map(|distance| bucket(&config, distance));
        assert_eq!(buckets, [0, 1, 7, 8, 9, 10, 15, 15, 17, 23, 24, 26, 31, 31]);
    }
}
