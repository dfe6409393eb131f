//! Attention in the shapes of the models, on a GPU in the shapes of 65 and 221 frames of 512×512. Throughput is in
//! operations (G elements/s are GFLOP/s), for temporal attention in bytes.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::attention::{Attention, AttentionArgs, TokenLayout};

/// Name, inner, heads, head_dim, queries and keys. q, k and v are separate buffers, with tokens in rows. "masked": all
/// inner sequences share the keys, which have a mask.
type Shape = (&'static str, usize, usize, usize, usize, usize);

/// Two samples of 17 and of 56 latent frames of 64×64, and a window of the VAE.
const GPU_SHAPES: [Shape; 8] = [
    ("spatial 1024, 34 frames", 34, 16, 72, 1024, 1024),
    ("spatial 1024, 112 frames", 112, 16, 72, 1024, 1024),
    ("cross 120", 112, 16, 72, 1024, 120),
    ("masked 300", 112, 16, 72, 1024, 300),
    ("temporal 17", 2048, 16, 72, 17, 17),
    ("temporal 56", 2048, 16, 72, 56, 56),
    ("text 300", 1, 64, 64, 300, 300),
    ("vae 1024, 17 frames", 17, 1, 512, 1024, 1024),
];

const CPU_SHAPES: [Shape; 6] = [
    ("spatial 1024", 1, 16, 72, 1024, 1024),
    ("spatial 256", 4, 16, 72, 256, 256),
    ("cross 120", 1, 16, 72, 1024, 120),
    ("temporal 17", 256, 16, 72, 17, 17),
    ("text 300", 1, 64, 64, 300, 300),
    ("vae 1024", 1, 1, 512, 1024, 1024),
];

fn masked(name: &str) -> bool {
    name.starts_with("masked")
}

fn describe(&(name, inner, heads, head_dim, queries, keys): &Shape) -> Attention {
    let row = heads * head_dim;
    // Temporal sequences interleave: each position has one, and its tokens are a frame apart.
    let temporal = name.starts_with("temporal");
    let layout = |tokens: usize| TokenLayout {
        offset: 0,
        outer_stride: 0,
        inner_stride: if temporal { row } else { tokens * row },
        token_stride: if temporal { inner * row } else { row },
    };
    let of_keys =
        TokenLayout { inner_stride: if masked(name) { 0 } else { layout(keys).inner_stride }, ..layout(keys) };
    Attention {
        outer: 1,
        inner,
        heads,
        head_dim,
        queries,
        keys,
        scale: 1.0 / (head_dim as f32).sqrt(),
        q: layout(queries),
        k: of_keys,
        v: of_keys,
        out: layout(queries),
        rope_group: head_dim,
    }
}

fn run<B: Target>(criterion: &mut Criterion, backend: &B, shapes: &[Shape]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "attention");
    let upload = |len: usize| backend.upload(&values(len)).unwrap();
    for shape in shapes {
        let op = describe(shape);
        let count = |tokens: usize| op.inner * tokens * op.heads * op.head_dim;
        let [q, k, v] = [op.queries, op.keys, op.keys].map(|tokens| upload(count(tokens)));
        let mut out = backend.alloc(count(op.queries)).unwrap();
        let scores = op.heads * op.queries * op.keys;
        let bias = shape.0.starts_with("text").then(|| backend.upload_f32(&values(scores)).unwrap());
        let mask = masked(shape.0).then(|| backend.upload_f32(&vec![0.0; op.keys]).unwrap());
        // With a few dozen tokens, the traffic of a sequence takes longer than its arithmetic.
        let temporal = shape.0.starts_with("temporal");
        let work = if temporal { Work::Bytes(op.bytes(B::ELEMENT)) } else { Work::Flops(op.flops()) };
        bench(&mut group, backend, &ceiling, shape.0, work, || {
            let args = AttentionArgs::new([&q, &k, &v], &mut out);
            backend.attention(&op, AttentionArgs { bias: bias.as_ref(), mask: mask.as_ref(), ..args }).unwrap();
        });
    }
}

fn attention(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &GPU_SHAPES),
        None => run(criterion, &Cpu::new(), &CPU_SHAPES),
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
