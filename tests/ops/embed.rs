//! Look-up and adding of tables.

use super::refusal::refused;
use super::values::{parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use osp::tensor::DType;
use proptest::prelude::*;

proptest! {
    #[test]
    fn embedding_copies_rows(ids in prop::collection::vec(0..23u32, 0..50), channels in 1..70usize, half in any::<bool>()) {
        let cpu = Cpu::new();
        let (tensor, table) = parameter(1, &[23, channels], if half { DType::Bf16 } else { DType::F32 });
        let op = Embedding { tokens: ids.len(), vocabulary: 23, channels };
        let mut out = cpu.alloc(ids.len() * channels).unwrap();
        cpu.embedding(&op, EmbeddingArgs { ids: &ids, table: &cpu.weight(vec![tensor]).unwrap(), out: &mut out }).unwrap();
        let expected: Vec<f32> =
            ids.iter().flat_map(|&id| table[id as usize * channels..][..channels].to_vec()).collect();
        prop_assert_eq!(&out[..], &expected[..]);
    }

    #[test]
    fn add_rows_repeats_the_table(
        (outer, rows, inner, channels) in (1..4usize, 1..9usize, 1..9usize, 1..70usize)
    ) {
        let cpu = Cpu::new();
        let (before, table) = (values(1, outer * rows * inner * channels), values(2, rows * channels));
        let mut x = cpu.upload(&before).unwrap();
        let op = AddRows { outer, rows, inner, channels };
        cpu.add_rows(&op, AddRowsArgs { table: &cpu.upload(&table).unwrap(), x: &mut x }).unwrap();
        let row = |i: usize| i / channels / inner % rows;
        let expected: Vec<f32> =
            (0..before.len()).map(|i| before[i] + table[row(i) * channels + i % channels]).collect();
        prop_assert_eq!(&x[..], &expected[..]);
    }
}

#[test]
fn embed_refuses_wrong_sizes_and_unknown_ids() {
    let cpu = Cpu::new();
    let table = cpu.weight(vec![parameter(1, &[5, 3], DType::F32).0]).unwrap();
    let op = Embedding { tokens: 2, vocabulary: 5, channels: 3 };
    let mut out = cpu.alloc(6).unwrap();
    assert_eq!(refused(cpu.embedding(&op, EmbeddingArgs { ids: &[0, 5], table: &table, out: &mut out })), "ids");
    assert_eq!(refused(cpu.embedding(&op, EmbeddingArgs { ids: &[0], table: &table, out: &mut out })), "ids");
    assert_eq!(
        refused(
            cpu.embedding(
                &Embedding { channels: 4, ..op },
                EmbeddingArgs { ids: &[0, 1], table: &table, out: &mut out }
            )
        ),
        "table"
    );
    assert_eq!(
        refused(cpu.embedding(&op, EmbeddingArgs { ids: &[0, 1], table: &table, out: &mut cpu.alloc(7).unwrap() })),
        "out"
    );
    let add = AddRows { outer: 1, rows: 2, inner: 1, channels: 3 };
    let rows = cpu.upload(&[0.0; 6]).unwrap();
    assert_eq!(refused(cpu.add_rows(&AddRows { inner: 2, ..add }, AddRowsArgs { table: &rows, x: &mut out })), "x");
    assert_eq!(
        refused(cpu.add_rows(&AddRows { rows: 1, inner: 2, ..add }, AddRowsArgs { table: &rows, x: &mut out })),
        "table"
    );
}
