//! Barriers that count arrivals, named barriers, clusters, registers, and the way from fragments to shared memory.

use super::{Case, MEET, alone, case, prepare, store, wait};

/// Warp 0 fills two stages in turn, and warp 1 reads them.
pub(super) fn ring(rounds: u32) -> String {
    let mut body = prepare(&[("%r10", 32), ("%r11", 32), ("%r12", 1), ("%r13", 1)]);
    body += "and.b32 %r3, %r0, 31;\nshl.b32 %r4, %r3, 2;\nadd.s32 %r4, %r1, %r4;\nmov.u32 %r5, 0;\n\
             setp.ge.u32 %p1, %r0, 32;\n@%p1 bra $READ;\n";
    for round in 0..rounds {
        let (full, empty) = (format!("%r1{}", round % 2), format!("%r1{}", 2 + round % 2));
        body += &wait(&format!("P{round}"), &empty, (round / 2 + 1) % 2);
        body += &format!("add.s32 %r6, %r3, {};\nst.shared.u32 {}, %r6;\n", 100 * round, stage("%r4", round));
        body += &format!("mbarrier.arrive.shared::cta.b64 _, [{full}];\n");
    }
    body += "bra $END;\n$READ:\nsetp.eq.u32 %p2, %r3, 0;\n";
    for round in 0..rounds {
        let (full, empty) = (format!("%r1{}", round % 2), format!("%r1{}", 2 + round % 2));
        body += &wait(&format!("C{round}"), &full, round / 2 % 2);
        body += &format!(
            "xor.b32 %r7, %r4, 4;\nld.shared.u32 %r6, {};\nmad.lo.s32 %r5, %r5, 3, %r6;\nbar.warp.sync -1;\n",
            stage("%r7", round)
        );
        body += &format!("@%p2 mbarrier.arrive.shared::cta.b64 _, [{empty}];\n");
    }
    body + "$END:\n" + &store("%r5")
}

fn stage(register: &str, round: u32) -> String {
    format!("[{register}+{}]", 128 * (round % 2))
}

#[test]
fn arrivals_end_a_phase_and_order_memory() {
    let found = case(64, ring(7)).words();
    let expected = |lane: u32| (0..7).fold(0, |sum: u32, round| sum * 3 + 100 * round + (lane ^ 1));
    assert_eq!(found[..32], [0; 32]);
    assert_eq!(found[32..64], (0..32).map(expected).collect::<Vec<_>>());
}

#[test]
fn a_look_at_a_barrier_does_not_wait() {
    let look = |parity: u32| {
        format!(
            "mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r10], {parity};\nselp.u32 %r6, 1, 0, %p1;\nmad.lo.s32 %r5, %r5, 10, %r6;\n"
        )
    };
    // A new barrier; after one of two arrivals; after both.
    let arrive = "mbarrier.arrive.shared::cta.b64 _, [%r10];\n";
    let looks = [look(0), look(1)].concat();
    let body = format!(
        "{}mov.u32 %r5, 1;\n{looks}bar.warp.sync -1;\n{}{looks}bar.warp.sync -1;\n{}{looks}{}",
        prepare(&[("%r10", 2)]),
        alone(arrive),
        alone(arrive),
        store("%r5")
    );
    assert_eq!(case(32, body).words()[..32], [1_010_110; 32]);
    // A loop of looks ends, because others go on.
    let spin = "$S:\nmbarrier.test_wait.parity.shared::cta.b64 %p1, [%r10], 0;\n@!%p1 bra $S;\n";
    let body = format!(
        "{}setp.ge.u32 %p2, %r0, 32;\n@%p2 mbarrier.arrive.shared::cta.b64 _, [%r10];\n{spin}{}",
        prepare(&[("%r10", 32)]),
        store("%r0")
    );
    assert_eq!(case(64, body).words()[..64], (0..64).collect::<Vec<_>>());
}

#[test]
fn arrivals_have_counts_and_barriers_can_begin_again() {
    let begin = prepare(&[("%r10", 5)]);
    let arrive = alone("mbarrier.arrive.shared::cta.b64 _, [%r10], 3;\nmbarrier.arrive.shared::cta.b64 _, [%r10], 2;");
    let end = alone(
        "mbarrier.inval.shared::cta.b64 [%r10];\nst.shared.u32 [%r10], 9;\nmbarrier.init.shared::cta.b64 [%r10], 1;\nmbarrier.arrive.shared::cta.b64 _, [%r10];",
    );
    let (first, second) = (wait("0", "%r10", 0), wait("1", "%r10", 0));
    let body = format!("{begin}{arrive}{first}bar.sync 0;\n{end}bar.sync 0;\n{second}{}", store("%r0"));
    assert_eq!(case(64, body).words()[..64], (0..64).collect::<Vec<_>>());
}

/// Warp 0 stores and arrives; warp 1 waits and reads.
#[test]
fn an_arrival_at_a_barrier_does_not_wait() {
    let body = format!(
        "and.b32 %r3, %r0, 31;\nshl.b32 %r4, %r3, 2;\nadd.s32 %r4, %r1, %r4;\nmov.u32 %r5, 0;\nsetp.ge.u32 %p1, %r0, 32;\n\
         @%p1 bra $READ;\nst.shared.u32 [%r4], %r0;\nbar.arrive 2, 64;\nbra $END;\n$READ:\nbar.sync 2, 64;\n\
         xor.b32 %r4, %r4, 4;\nld.shared.u32 %r5, [%r4];\n$END:\n{}",
        store("%r5")
    );
    let right = case(64, body);
    assert_eq!(right.words()[32..64], (0..32).map(|lane| lane ^ 1).collect::<Vec<_>>());
    right.refuses("bar.sync 2, 64;", "", "race");
    right.refuses("bar.arrive 2, 64;", "", "stuck: 1 warps wait at barriers");
    right.refuses("bar.arrive 2, 64;\nbra", "bar.arrive 2, 64;\nst.shared.u32 [%r4], 1;\nbra", "race");
}

#[test]
fn blocks_of_a_cluster_know_their_places() {
    let part = |register: &str, factor: u32| format!("mov.u32 %r6, {register};\nmad.lo.s32 %r5, %r6, {factor}, %r5;\n");
    let parts = [
        part("%cluster_ctarank", 1),
        part("%cluster_nctarank", 10),
        part("%clusterid.x", 100),
        part("%cluster_ctaid.x", 1000),
        part("%nclusterid.x", 10000),
    ];
    let body = format!("mov.u32 %r5, 0;\n{}{}", parts.concat(), store("%r5"));
    let of = |block: u32, cluster: u32| {
        block % cluster * 1001 + 10 * cluster + 100 * (block / cluster) + 10000 * (8 / cluster)
    };
    for cluster in [1, 2, 4] {
        let found = Case { blocks: 8, cluster, ..case(32, body.clone()) }.words();
        let expected: Vec<u32> = (0..8).map(|block| of(block, cluster)).collect();
        assert_eq!(found[..256].iter().copied().step_by(32).collect::<Vec<_>>(), expected, "{cluster}");
    }
}

/// Thread 0 of each block arrives at the barrier of the next, after it has written to global memory what the next reads.
pub(super) fn neighbours() -> Case {
    let begin = prepare(&[("%r10", 1)]);
    let arrive = alone(
        "mov.u32 %r20, %ctaid.x;\nmul.wide.u32 %rd6, %r20, 4;\nadd.s64 %rd6, %rd2, %rd6;\nst.global.u32 [%rd6+1024], %r20;\n\
         add.s32 %r21, %r2, 1;\nand.b32 %r21, %r21, 3;\nmapa.shared::cluster.u32 %r22, %r10, %r21;\n\
         mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r22];",
    );
    let read = "mov.u32 %r23, %clusterid.x;\nshl.b32 %r23, %r23, 2;\nadd.s32 %r24, %r2, 3;\nand.b32 %r24, %r24, 3;\n\
                add.s32 %r24, %r24, %r23;\nmul.wide.u32 %rd7, %r24, 4;\nadd.s64 %rd7, %rd2, %rd7;\nld.global.u32 %r5, [%rd7+1024];\n";
    let body = format!("{begin}{MEET}{arrive}{}{read}{}{MEET}", wait("0", "%r10", 0), store("%r5"));
    Case { blocks: 8, cluster: 4, ..case(32, body) }
}

#[test]
fn blocks_arrive_at_each_others_barriers() {
    let found = neighbours().words();
    let expected: Vec<u32> = (0..8).map(|block| block / 4 * 4 + (block + 3) % 4).collect();
    assert_eq!(found[..256].iter().copied().step_by(32).collect::<Vec<_>>(), expected);
}

#[test]
fn one_lane_is_elected() {
    let body = format!(
        "mov.u32 %r5, 0;\nsetp.lt.u32 %p1, %r0, 4;\n@%p1 bra $END;\nelect.sync %r6|%p2, 0xFFFFFFF0;\nmov.u32 %r5, %r6;\n\
         @%p2 mov.u32 %r5, 100;\n$END:\nelect.sync _|%p3, 0xFFFFFFFF;\n@%p3 add.s32 %r5, %r5, 50;\n{}",
        store("%r5")
    );
    let found = case(32, body).words();
    // The machine elects the lowest lane.
    let expected = |lane: u32| match lane {
        0 => 50,
        1..=3 => 0,
        4 => 100,
        _ => 4,
    };
    assert_eq!(found[..32], (0..32).map(expected).collect::<Vec<_>>());
}

/// Three warpgroups: one leaves registers to the others.
pub(super) fn registers() -> Case {
    let body = format!(
        "setp.ge.u32 %p1, %r0, 128;\n@%p1 bra $TAKE;\nsetmaxnreg.dec.sync.aligned.u32 24;\nbra $END;\n$TAKE:\n\
         setmaxnreg.inc.sync.aligned.u32 240;\n$END:\n{}",
        store("%r0")
    );
    case(384, body)
}

#[test]
fn warpgroups_exchange_registers() {
    let right = registers();
    assert_eq!(right.words()[..384], (0..384).collect::<Vec<_>>());
    right.refuses("u32 240", "u32 248", "stuck: waits for registers");
    right.refuses("u32 24;", "u32 32;", "stuck: waits for registers");
    right.refuses(
        "inc.sync.aligned.u32 240",
        "inc.sync.aligned.u32 160",
        "inc to 160 registers in a warp that has 168",
    );
    right.refuses("dec.sync.aligned.u32 24", "dec.sync.aligned.u32 176", "dec to 176 registers in a warp that has 168");
    // A warp of the first warpgroup takes no part.
    right.refuses(
        "setp.ge.u32 %p1, %r0, 128;",
        "setp.lt.u32 %p2, %r0, 32;\n@%p2 bra $END;\nsetp.ge.u32 %p1, %r0, 128;",
        "stuck|has not",
    );
    let text = registers().text().replace(".minnctapersm 1\n", "");
    let machine = osp::cuda::device::PtxMachine::with_texts(vec![("k.ptx".to_owned(), text)], 0);
    let unknown = machine.unknown();
    assert!(
        unknown.len() == 2 && unknown[0].contains("setmaxnreg in a kernel without .maxntid and .minnctapersm"),
        "{unknown:?}"
    );
}

/// `ldmatrix` finds what `stmatrix` stored, and a row of 16 bytes is that of the ISA.
#[test]
fn matrices_are_stored_by_rows_or_columns() {
    for trans in ["", ".trans"] {
        for count in [1, 2, 4] {
            let of = |first: u32| (first..first + count).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
            let make: String =
                (0..count).map(|i| format!("add.s32 %r2{i}, %r0, {};\n", 0x0100_0000 + 0x100 * i)).collect();
            let sum: String =
                (0..count).map(|i| format!("sub.s32 %r6, %r3{i}, %r2{i};\nor.b32 %r5, %r5, %r6;\n")).collect();
            let body = format!(
                "{make}shl.b32 %r4, %r0, 4;\nadd.s32 %r4, %r1, %r4;\nmov.u32 %r5, 0;\n\
                 stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r4], {{{}}};\nbar.warp.sync -1;\n\
                 ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{}}}, [%r4];\n{sum}\
                 setp.eq.u32 %p1, %r0, 1;\n@%p1 ld.shared.u32 %r5, [%r1+20];\n{}",
                of(20),
                of(30),
                store("%r5")
            );
            let mut expected = [0; 32];
            // Elements 2 and 3 of row 1: lane 5; or, transposed, of the lanes 8 and 12, their upper half.
            expected[1] = if trans.is_empty() { 0x0100_0005 } else { 0x0100 | 0x0100 << 16 };
            assert_eq!(case(32, body).words()[..32], expected, "x{count}{trans}");
        }
    }
}
