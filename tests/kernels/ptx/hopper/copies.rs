//! Bulk copies: plain bytes, boxes with zeros outside and swizzles, multicast, and boxes that are stored.

use super::{Case, MEET, alone, case, dump, prepare, store, wait};

/// Loads a box at coordinates to the start of shared memory, and copies it to out.
fn loads(rank: usize, at: &str, bytes: u32) -> String {
    let prepare = prepare(&[("%r10", 1)]);
    let load = alone(&format!(
        "prefetch.tensormap [%rd3];\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], {bytes};\n\
         cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd3, {{{at}}}], [%r10];"
    ));
    format!("{prepare}{load}{}{}", wait("0", "%r10", 0), dump(64, bytes))
}

#[test]
fn plain_bytes_arrive() {
    let load = alone(
        "add.s64 %rd6, %rd1, 32;\nadd.s32 %r20, %r1, 16;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 48;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd6], 48, [%r10];",
    );
    let body = format!("{}{load}{}{}", prepare(&[("%r10", 1)]), wait("0", "%r10", 0), dump(64, 64));
    assert_eq!(case(64, body).found()[8..32], (16..40).collect::<Vec<u16>>());
}

/// A 4-D tensor of 40·6·5·4 elements, whose element is its number, and a box that leaves it on all sides.
#[test]
fn boxes_are_zero_outside_of_their_tensor() {
    let (sizes, sides) = ([40, 6, 5, 4], [16u32, 4, 2, 3]);
    let strides = vec![48, 48 * 6, 48 * 30];
    let bytes = 2 * sides.iter().product::<u32>();
    for at in [[0, 0, 0, 0], [30, 3, 4, 2], [-3, -1, -1, -2], [40, 0, 0, 0], [24, -2, 3, 1]] {
        let text = at.map(|at: i32| at.to_string()).join(", ");
        let maps = [Some((sizes.to_vec(), strides.clone(), sides.to_vec(), 0)), None];
        let x: Vec<u16> = (0..48 * 120).collect();
        let found = Case { maps, x, out: 1024, ..case(64, loads(4, &text, bytes)) }.found();
        for (number, &element) in found[..bytes as usize / 2].iter().enumerate() {
            let place = [number % 16, number / 16 % 4, number / 64 % 2, number / 128];
            let place: [i32; 4] = std::array::from_fn(|i| at[i] + place[i] as i32);
            let inside = place.iter().zip(sizes).all(|(&place, size)| (0..size as i32).contains(&place));
            let expected = if inside { place[0] + 48 * (place[1] + 6 * (place[2] + 5 * place[3])) } else { 0 };
            assert_eq!(i32::from(element), expected, "{at:?}, element {number}");
        }
    }
}

/// The tables of section 5.5.7: where the piece of 16 bytes `c` of row `r` lies.
#[test]
fn swizzles_exchange_pieces_of_16_bytes() {
    let place = |width: usize, r: usize, c: usize| match width {
        32 => (r * 2 + c) ^ (r / 4 % 2),
        64 => (r * 4 + c) ^ (r / 2 % 4),
        128 => (r * 8 + c) ^ (r % 8),
        _ => unreachable!(),
    };
    for width in [32, 64, 128] {
        let elements = width / 2;
        let maps = [Some((vec![elements, 20], vec![elements], vec![elements as u32, 20], width as u32)), None];
        let bytes = 20 * width as u32;
        let found = Case { maps, out: bytes as usize / 2, ..case(64, loads(2, "0, 0", bytes)) }.found();
        for r in 0..20 {
            for c in 0..width / 16 {
                let expected: Vec<u16> = (0..8).map(|e| (r * elements + 8 * c + e) as u16).collect();
                let at = 8 * place(width, r, c);
                assert_eq!(found[at..at + 8], expected, "{width} bytes, row {r}, piece {c}");
            }
        }
    }
}

#[test]
fn boxes_have_one_to_five_dimensions() {
    for rank in 1..=5 {
        let sizes: Vec<usize> = [16, 3, 2, 2, 2][..rank].to_vec();
        let strides = [16, 48, 96, 192][..rank - 1].to_vec();
        let sides: Vec<u32> = [16, 1, 1, 1, 1][..rank].to_vec();
        // The last row of the tensor.
        let at: Vec<String> =
            sizes.iter().enumerate().map(|(i, size)| if i == 0 { 0 } else { size - 1 }.to_string()).collect();
        let maps = [Some((sizes.clone(), strides, sides, 0)), None];
        let found = Case { maps, ..case(64, loads(rank, &at.join(", "), 32)) }.found();
        let all: usize = sizes.iter().product();
        assert_eq!(found[..16], (all - 16..all).map(|e| e as u16).collect::<Vec<_>>(), "{rank}");
    }
}

/// Two copies are counted by one phase, and a later one by the next.
#[test]
fn phases_count_bytes() {
    let load = |to: u32, from: u32| {
        format!(
            "add.s64 %rd6, %rd1, {from};\nadd.s32 %r20, %r1, {to};\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd6], 16, [%r10];\n"
        )
    };
    let first = alone(&format!(
        "{}mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r10], 16;\n{}mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 16;",
        load(0, 0),
        load(16, 64)
    ));
    let second = alone(&format!("{}mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 16;", load(32, 128)));
    let (begin, waits) = (prepare(&[("%r10", 1)]), [wait("0", "%r10", 0), wait("1", "%r10", 1)]);
    let body = format!("{begin}{first}{}bar.sync 0;\n{second}{}{}", waits[0], waits[1], dump(64, 48));
    let expected: Vec<u16> = (0..8).chain(32..40).chain(64..72).collect();
    assert_eq!(case(64, body).found()[..24], expected);
}

/// Block 0 of each pair sends a row to some blocks, and each of them waits for it at its own barrier.
#[test]
fn multicasts_reach_each_block() {
    for (ranks, receives) in [(3, [true, true]), (2, [false, true]), (1, [true, false])] {
        let expected = receives.map(|receives| if receives { 128 } else { 0 });
        let first = alone("st.shared.u32 [%r1], 7;\nfence.proxy.async.shared::cta;");
        let load = alone(&format!(
            "setp.eq.u32 %p1, %r2, 0;\nselp.u32 %r20, {}, {}, %p1;\n\
             mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], %r20;",
            expected[0], expected[1]
        ));
        let send = format!(
            "or.b32 %r21, %r0, %r2;\nsetp.eq.u32 %p2, %r21, 0;\nmov.u16 %rs1, {ranks};\n\
             @%p2 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster \
             [%r1], [%rd3, {{0, 0}}], [%r10], %rs1;\n"
        );
        let (begin, wait) = (prepare(&[("%r10", 1)]), wait("0", "%r10", 0));
        let body = format!("{begin}{first}{MEET}{load}{send}{wait}ld.shared.u32 %r5, [%r1];\n{}{MEET}", store("%r5"));
        let x = (100..200).collect();
        let found = Case { blocks: 4, cluster: 2, x, ..case(32, body) }.words();
        let expected = [0, 1, 0, 1].map(|rank| if receives[rank] { 100 | 101 << 16 } else { 7 });
        let found = [0, 32, 64, 96].map(|place| found[place]);
        assert_eq!(found, expected, "{ranks:#b}");
    }
}

#[test]
fn stored_boxes_end_with_their_tensor() {
    for (rank, swizzle) in [(2, 0), (2, 64), (4, 0)] {
        let maps = [
            None,
            Some((
                vec![40, 3, 1, 1][..rank].to_vec(),
                vec![48, 144, 144][..rank - 1].to_vec(),
                vec![32, 4, 1, 1][..rank].to_vec(),
                swizzle,
            )),
        ];
        let mut at = ["16", "1", "0", "0"][..rank].join(", ");
        at = format!("[%rd4, {{{at}}}], [%r1]");
        let x: Vec<u16> = (0..128).collect();
        // Row r of the box holds 32 elements; as a load would have swizzled them.
        let load = alone(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 256;\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 256, [%r10];",
        );
        let store = alone(&format!(
            "cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group {at};\ncp.async.bulk.commit_group;\n\
             cp.async.bulk.wait_group.read 0;\ncp.async.bulk.wait_group 0;"
        ));
        let body = format!("{}{load}{}{store}", prepare(&[("%r10", 1)]), wait("0", "%r10", 0));
        let found = Case { x, maps, out: 192, ..case(64, body) }.found();
        for (place, &element) in found.iter().enumerate() {
            let (row, column) = (place / 48, place % 48);
            let inside = (16..40).contains(&column) && (1..3).contains(&row);
            let (r, c) = (row.wrapping_sub(1), column.wrapping_sub(16));
            let piece = if swizzle == 64 {
                (r.wrapping_mul(4).wrapping_add(c / 8)) ^ (r / 2 % 4)
            } else {
                r.wrapping_mul(4).wrapping_add(c / 8)
            };
            let expected = if inside { (8 * piece + c % 8) as u16 } else { 0xEEEE };
            assert_eq!(element, expected, "rank {rank}, swizzle {swizzle}, row {row}, column {column}");
        }
    }
}
