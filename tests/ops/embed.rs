//! `embedding` and `add_rows`.

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
