//! `attention`: the softmax of exact scores, with masks, biases and rotation.

use super::super::trial::{Body, host};
use super::super::values::{rounded, values};
use super::Known;
use super::bounded::{Bounded, Exact, Precision, SMALLEST, UNIT};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::attention::{Attention, AttentionArgs, LOWEST_MASK, TokenLayout};

/// What makes scores hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scores {
    /// Nothing.
    Plain,
    /// All keys score equally, so every key is the maximum.
    Equal,
    /// Scores differ by more than the exponential's range.
    Steep,
    /// Each key scores higher than those before it, so every tile has a new maximum; by more than the exponential's
    /// range in all.
    Rising,
    /// Each key scores lower than those before it.
    Falling,
    /// q and k have parts that cancel.
    Cancelling,
}

/// The mask of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    None,
    /// −∞ for some keys.
    Some,
    /// −∞ for all keys but the last, so whole tiles have no maximum.
    AllButLast,
    /// −∞ for all keys but the first.
    AllButFirst,
    /// −10,000 for all keys, as if the caption were empty.
    Low,
    /// [`LOWEST_MASK`] for all keys.
    Lowest,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    heads: usize,
    pub head_dim: usize,
    queries: usize,
    pub keys: usize,
    pub scores: Scores,
    values: Kind,
    mask: Mask,
    bias: bool,
    rope: bool,
    seed: u64,
}

/// The operands: q, k, v `[tokens, heads, head_dim]`, and the others as in [`AttentionArgs`].
pub(super) struct Inputs {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    bias: Option<Vec<f32>>,
    mask: Option<Vec<f32>>,
    rope: Option<Vec<f32>>,
}

impl Case {
    pub fn inputs(&self, half: Half) -> Inputs {
        let Self { heads, head_dim, queries, keys, seed, .. } = *self;
        let row = heads * head_dim;
        let [q, k] = [(seed, queries), (seed + 1, keys)].map(|(seed, tokens)| {
            let x = values(seed, tokens * row).into_iter().enumerate();
            let x: Vec<f32> = x.map(|(i, v)| self.feature(i % row % head_dim, i / row, seed == self.seed, v)).collect();
            rounded(&x, half)
        });
        Inputs {
            q,
            k,
            v: fill(self.values, seed + 2, keys * row, row, half),
            bias: self.bias.then(|| values(seed + 3, heads * queries * keys)),
            mask: self.added_by_mask(),
            rope: self.rope.then(|| rotations(queries, head_dim)),
        }
    }

    /// A feature of a query or of a key, of the plain value `v`.
    fn feature(&self, feature: usize, token: usize, of_query: bool, v: f32) -> f32 {
        let root = (self.head_dim as f32).sqrt();
        let place = (token % self.keys) as f32 / self.keys as f32;
        match self.scores {
            Scores::Plain => 2.0 * v,
            Scores::Equal => 1.0,
            Scores::Steep => 16.0 * v,
            // Queries are positive, so scores follow the keys.
            Scores::Rising | Scores::Falling if of_query => 4.0 + v,
            Scores::Rising => 160.0 / root * place + 0.01 * v,
            Scores::Falling => -160.0 / root * place + 0.01 * v,
            Scores::Cancelling => {
                let sign = if feature < self.head_dim / 2 || of_query { 1.0 } else { -1.0 };
                sign * 16.0 + v / 8.0
            }
        }
    }

    fn added_by_mask(&self) -> Option<Vec<f32>> {
        let keys = self.keys;
        let hidden = |hide: &dyn Fn(usize) -> bool| {
            Some((0..keys).map(|key| if hide(key) { f32::NEG_INFINITY } else { 0.0 }).collect())
        };
        match self.mask {
            Mask::None => None,
            Mask::Some => hidden(&|key| key * key % 3 == 1),
            Mask::AllButLast => hidden(&|key| key + 1 < keys),
            Mask::AllButFirst => hidden(&|key| key > 0),
            Mask::Low => Some(vec![-10_000.0; keys]),
            Mask::Lowest => Some(vec![LOWEST_MASK; keys]),
        }
    }

    fn descriptor(&self) -> Attention {
        let row = self.heads * self.head_dim;
        let layout =
            |tokens: usize| TokenLayout { offset: 0, outer_stride: tokens * row, inner_stride: 0, token_stride: row };
        Attention {
            outer: 1,
            inner: 1,
            heads: self.heads,
            head_dim: self.head_dim,
            queries: self.queries,
            keys: self.keys,
            scale: (self.head_dim as f32).sqrt().recip(),
            q: layout(self.queries),
            k: layout(self.keys),
            v: layout(self.keys),
            out: layout(self.queries),
            rope_group: self.head_dim,
        }
    }

    /// A token's features of a head, rotated if there is a table. A kernel rounds rotated features to 16 bits.
    fn features(&self, x: &[f32], token: usize, head: usize, rope: Option<&[f32]>, stored: Precision) -> Vec<Bounded> {
        let d = self.head_dim;
        let x: Vec<_> = x[(token * self.heads + head) * d..][..d].iter().map(|&x| Bounded::exactly(x)).collect();
        let Some(rope) = rope else { return x };
        let turn = |i: usize| Bounded::exactly(rope[token * 2 * d + i]);
        let turned = |i: usize| {
            let (cosine, sine) = (turn(i), turn(d + i));
            let turned = if i < d / 2 {
                x[i].times(cosine).minus(x[i + d / 2].times(sine))
            } else {
                x[i].times(cosine).plus(x[i - d / 2].times(sine))
            };
            turned.stored(stored)
        };
        (0..d).map(turned).collect()
    }

    /// The output of a query and head.
    fn attend(&self, inputs: &Inputs, query: usize, head: usize, stored: Precision) -> Vec<Bounded> {
        let Self { heads, head_dim, queries, keys, .. } = *self;
        let rope = inputs.rope.as_deref();
        let q = self.features(&inputs.q, query, head, rope, stored);
        let scale = Bounded::exactly((head_dim as f32).sqrt().recip());
        let score = |key: usize| {
            let k = self.features(&inputs.k, key, head, rope, stored);
            // A backend may scale the queries before, which rounds each term once more.
            let products: Vec<_> = q.iter().zip(&k).map(|(&q, &k)| q.times(k)).collect();
            let mut score = Bounded::product(&products).times(scale);
            if let Some(bias) = &inputs.bias {
                score = score.plus(Bounded::exactly(bias[(head * queries + query) * keys + key]));
            }
            match &inputs.mask {
                Some(mask) if mask[key] == f32::NEG_INFINITY => Bounded { value: f64::NEG_INFINITY, error: 0.0 },
                Some(mask) => score.plus(Bounded::exactly(mask[key])),
                None => score,
            }
        };
        let scores: Vec<_> = (0..keys).map(score).collect();
        let value = |key: usize, feature: usize| inputs.v[(key * heads + head) * head_dim + feature];
        weighted(&scores, head_dim, value, stored)
    }
}

/// Σ_j softmax(scores)_j · value(j, feature) for each feature.
///
/// Scores are converted to units of log 2 in up to four roundings, as is the maximum, and their difference changes a
/// weight by as much; the exponential costs four units. Weights are rounded to 16 bits before they meet the values.
/// Each new maximum, at most one in 16 keys, rescales earlier sums by an exponential and a product. A total has no terms
/// that cancel.
fn weighted(
    scores: &[Bounded],
    features: usize,
    value: impl Fn(usize, usize) -> f32,
    stored: Precision,
) -> Vec<Bounded> {
    let largest = scores.iter().copied().fold(scores[0], |a, b| if b.value > a.value { b } else { a });
    if largest.error > 1.0 {
        return (0..features).map(|feature| any_mean(scores, |key| value(key, feature), stored)).collect();
    }
    let rescaled = 8.0 * (scores.len() / 16 + 1) as f64;
    let weight = |score: &Bounded| {
        if score.value == f64::NEG_INFINITY {
            return Bounded::exactly(0.0);
        }
        let roundings = 4.0 * (score.value.abs() + largest.value.abs()) + 4.0 + rescaled;
        let error = score.error + largest.error + roundings * UNIT;
        let weight = (score.value - largest.value).exp();
        Bounded { value: weight, error: weight * error.exp_m1() + SMALLEST }
    };
    let weights: Vec<_> = scores.iter().map(weight).collect();
    let additions = scores.len() as f64;
    let total = Bounded::sum(&weights, additions);
    let output = |feature: usize| {
        let product = |(key, weight): (usize, &Bounded)| {
            let (weight, v) = (weight.stored(stored), f64::from(value(key, feature)));
            Bounded { value: weight.value * v, error: weight.error * v.abs() }
        };
        let products: Vec<_> = weights.iter().enumerate().map(product).collect();
        Bounded::product(&products).over(total)
    };
    (0..features).map(output).collect()
}

/// Any mean of the values: the mask has left nothing of the scores in f32, and only their weights are unknown.
fn any_mean(scores: &[Bounded], value: impl Fn(usize) -> f32, stored: Precision) -> Bounded {
    let met = scores.iter().enumerate().filter(|(_, score)| score.value > f64::NEG_INFINITY);
    let (least, most) = met
        .map(|(key, _)| f64::from(value(key)))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |ends, value| (ends.0.min(value), ends.1.max(value)));
    let size = Bounded::exactly(least.abs().max(most.abs())).stored(stored);
    let sum = Bounded::product(&vec![size; scores.len()]);
    Bounded { value: (least + most) / 2.0, error: (most - least) / 2.0 + 2.0 * sum.error / scores.len() as f64 }
}

/// Cosines and sines of `[tokens, 2, head_dim]`, equal for the halves of a head.
fn rotations(tokens: usize, head_dim: usize) -> Vec<f32> {
    let angle = |token: usize, feature: usize| {
        token as f32 * 10_000f32.powf(-((feature % (head_dim / 2)) as f32) * 2.0 / head_dim as f32)
    };
    let row = |token: usize| {
        let angles = (0..head_dim).map(move |feature| angle(token, feature));
        angles.clone().map(f32::cos).chain(angles.map(f32::sin)).collect::<Vec<_>>()
    };
    (0..tokens).flat_map(row).collect()
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (op, inputs) = (self.descriptor(), self.inputs(half));
        let [q, k, v] = [backend.upload(&inputs.q)?, backend.upload(&inputs.k)?, backend.upload(&inputs.v)?];
        let single = |values: &Option<Vec<f32>>| values.as_ref().map(|values| backend.upload_f32(values)).transpose();
        let (bias, mask, rope) = (single(&inputs.bias)?, single(&inputs.mask)?, single(&inputs.rope)?);
        let (bias, mask, rope) = (bias.as_ref(), mask.as_ref(), rope.as_ref());
        let mut out = backend.alloc(inputs.q.len())?;
        backend.attention(&op, AttentionArgs { q: &q, k: &k, v: &v, bias, mask, rope, out: &mut out })?;
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let scores = [Scores::Steep, Scores::Rising, Scores::Equal, Scores::Cancelling, Scores::Falling, Scores::Plain];
        let masks = [Mask::None, Mask::AllButLast, Mask::Low, Mask::Some, Mask::AllButFirst, Mask::Lowest];
        let scores = draw.turn(&scores);
        let head_dim = draw.pick(&[8, 16, 40, 64, 72, 72, 128, 136]);
        let narrow = head_dim <= 128;
        // Steep scores of rotated features would make their rounding to 16 bits visible.
        let rope = narrow && scores == Scores::Plain && draw.coin();
        let keys = draw.size(if narrow { 129 } else { 65 });
        let queries = if rope { keys } else { draw.pick(&[1, 5, 16, 17, 33, 70]) };
        let kinds = [Kind::Plain, Kind::Edge, Kind::Cancelling, Kind::Denormal, Kind::Tail];
        Self {
            heads: draw.pick(&[1, 2]),
            head_dim,
            queries,
            keys,
            scores,
            values: draw.pick(&kinds),
            mask: if narrow { draw.pick(&masks) } else { Mask::None },
            bias: narrow && draw.coin(),
            rope,
            seed: draw.next() >> 1,
        }
    }

    fn has_variants(&self) -> bool {
        [64, 72].contains(&self.head_dim) && !self.bias && !self.rope
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let inputs = self.inputs(half);
        let rows = (0..self.queries * self.heads).map(|i| (i / self.heads, i % self.heads));
        let values = rows.flat_map(|(query, head)| self.attend(&inputs, query, head, precision)).collect();
        Exact::numbers(values, precision)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    /// How many cases with these scores and this mask are refused, if `weigh` makes weights of a row of scores.
    fn refused_weights(scores: &[Scores], mask: Mask, weigh: impl Fn(&[f32]) -> Vec<f32>) -> [usize; 2] {
        let plain = |case: &Case| {
            let keys = case.keys > 16 && !case.bias && !case.rope;
            keys && case.mask == mask && case.values == Kind::Plain && scores.contains(&case.scores)
        };
        refused(plain, |case| {
            let (inputs, d) = (case.inputs(Half::F16), case.head_dim);
            let head = |token: usize, head: usize| (token * case.heads + head) * d..(token * case.heads + head + 1) * d;
            let mut out = Vec::new();
            for (query, at) in (0..case.queries * case.heads).map(|i| (i / case.heads, i % case.heads)) {
                let score = |key: usize| {
                    let pairs = inputs.q[head(query, at)].iter().zip(&inputs.k[head(key, at)]);
                    let masked = inputs.mask.as_ref().map_or(0.0, |mask| mask[key]);
                    pairs.map(|(q, k)| q * k).sum::<f32>() / (d as f32).sqrt() + masked
                };
                let weights = weigh(&(0..case.keys).map(score).collect::<Vec<_>>());
                let total: f32 = weights.iter().sum();
                out.extend((0..d).map(|feature| {
                    let values = (0..case.keys).map(|key| inputs.v[head(key, at)][feature]);
                    values.zip(&weights).map(|(value, weight)| value * weight).sum::<f32>() / total
                }));
            }
            out
        })
    }

    fn largest(scores: &[f32]) -> f32 {
        scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    fn right(scores: &[f32]) -> Vec<f32> {
        scores.iter().map(|score| (score - largest(scores)).exp()).collect()
    }

    const HOSTILE: [Scores; 5] = [Scores::Steep, Scores::Rising, Scores::Equal, Scores::Cancelling, Scores::Falling];

    #[test]
    fn the_softmax_in_f32_is_accepted() {
        for mask in [Mask::None, Mask::Some, Mask::AllButLast, Mask::AllButFirst, Mask::Low] {
            assert_eq!(refused_weights(&HOSTILE, mask, right)[0], 0, "{mask:?}");
        }
    }

    #[test]
    fn a_softmax_without_the_maximum_is_refused_where_scores_are_large() {
        let without = |scores: &[f32]| scores.iter().map(|score| score.exp()).collect();
        let [refused, all] = refused_weights(&[Scores::Steep, Scores::Rising], Mask::None, without);
        assert!(refused > all / 2, "{refused} of {all}");
        assert_eq!(refused_weights(&[Scores::Plain], Mask::None, without)[0], 0);
        let [refused, all] = refused_weights(&HOSTILE, Mask::Low, without);
        assert_eq!(refused, all);
    }

    /// The softmax over tiles of 16 keys, which subtracts the largest score up to now even where it is −∞.
    #[test]
    fn tiles_without_a_maximum_are_noticed() {
        let by_tiles = |scores: &[f32]| {
            let (mut weights, mut before): (Vec<f32>, f32) = (Vec::new(), f32::NEG_INFINITY);
            for tile in scores.chunks(16) {
                let now = before.max(largest(tile));
                weights.iter_mut().for_each(|weight| *weight *= (before - now).exp());
                weights.extend(tile.iter().map(|score| (score - now).exp()));
                before = now;
            }
            weights
        };
        let [refused, all] = refused_weights(&HOSTILE, Mask::AllButLast, by_tiles);
        assert_eq!(refused, all);
        assert_eq!(refused_weights(&HOSTILE, Mask::None, by_tiles)[0], 0);
    }

    #[test]
    fn equal_maxima_that_count_once_are_refused() {
        let once = |scores: &[f32]| {
            let mut weights = right(scores);
            let first = weights.iter().position(|&weight| weight == 1.0);
            weights
                .iter_mut()
                .enumerate()
                .filter(|(i, weight)| **weight == 1.0 && Some(*i) != first)
                .for_each(|(_, w)| *w = 0.0);
            weights
        };
        let [refused, all] = refused_weights(&[Scores::Equal], Mask::None, once);
        assert_eq!(refused, all);
        assert_eq!(refused_weights(&[Scores::Plain], Mask::None, once)[0], 0);
    }
}
