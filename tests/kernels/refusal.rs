//! Operations that kernels do not support, and their errors.

use osp::Error;
use osp::backend::Backend;
use osp::cuda::device::Dry;
use osp::cuda::{Cuda, Half};
use osp::ops::attention::{Attention, AttentionArgs, TokenLayout};
use std::sync::Arc;

fn kernels() -> Cuda {
    Cuda::new(Arc::new(Dry::new()), Half::F16)
}

#[test]
fn attention_of_other_heads_scales_and_strides_is_unsupported() {
    let cuda = kernels();
    let unsupported = |op: &Attention, rope: bool| {
        let qkv = cuda.alloc(100_000).unwrap();
        let table = cuda.alloc_f32(op.queries * 2 * op.head_dim).unwrap();
        let mut out = cuda.alloc(100_000).unwrap();
        let args = AttentionArgs::new([&qkv; 3], &mut out);
        match cuda.attention(op, AttentionArgs { rope: rope.then_some(&table), ..args }) {
            Err(Error::Unsupported(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    // Five tokens of one head, with q, k and v side by side.
    let heads_of = |head_dim: usize| {
        let side_by_side = |offset: usize| TokenLayout {
            offset,
            outer_stride: 5 * 3 * head_dim,
            inner_stride: 5 * 3 * head_dim,
            token_stride: 3 * head_dim,
        };
        Attention {
            outer: 1,
            inner: 1,
            heads: 1,
            head_dim,
            queries: 5,
            keys: 5,
            scale: 0.1,
            q: side_by_side(0),
            k: side_by_side(head_dim),
            v: side_by_side(2 * head_dim),
            out: side_by_side(0),
            rope_group: head_dim,
        }
    };
    let op = heads_of(72);
    assert!(unsupported(&heads_of(520), false).contains("520 features"));
    assert!(unsupported(&heads_of(136), true).contains("136 features per head and a bias"));
    assert!(unsupported(&heads_of(12), false).contains("12 features"));
    assert!(unsupported(&Attention { scale: 0.0, ..op }, false).contains("scale of 0"));
    assert!(unsupported(&Attention { rope_group: 18, ..op }, true).contains("groups of 18"));
    let odd = TokenLayout { token_stride: op.q.token_stride + 4, ..op.q };
    assert!(unsupported(&Attention { q: odd, ..op }, false).contains("a multiple of 8"));
}
