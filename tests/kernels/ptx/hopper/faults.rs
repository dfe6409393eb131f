//! Faults of barriers, bulk copies and clusters: each must be an error under every order of warps.

use super::barriers::{neighbours, ring};
use super::{Case, MEET, alone, case, dump, prepare, store, wait};

/// Warp 0 loads three rounds of 512 bytes into two stages, and warp 1 reads them.
fn pipeline() -> Case {
    let mut body = prepare(&[("%r10", 1), ("%r11", 1), ("%r12", 1), ("%r13", 1)]);
    body += "and.b32 %r3, %r0, 31;\nshl.b32 %r4, %r3, 4;\nadd.s32 %r4, %r1, %r4;\nmov.u32 %r5, 0;\n\
             setp.ge.u32 %p1, %r0, 32;\n@%p1 bra $READ;\n@%p9 bra $END;\n";
    for round in 0..5 {
        let (stage, turn) = (round % 2, round / 2);
        body += &wait(&format!("P{round}"), &format!("%r1{}", 2 + stage), (turn + 1) % 2);
        body += &format!(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1{stage}], 512;\nadd.s32 %r20, %r1, {};\n\
             add.s64 %rd6, %rd1, {};\ncp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd6], 512, [%r1{stage}];\n",
            512 * stage,
            512 * round
        );
    }
    body += "bra $END;\n$READ:\nsetp.eq.u32 %p2, %r3, 0;\n";
    for round in 0..5 {
        let (stage, turn) = (round % 2, round / 2);
        body += &wait(&format!("C{round}"), &format!("%r1{stage}"), turn % 2);
        body +=
            &format!("ld.shared.u32 %r6, [%r4+{}];\nmad.lo.s32 %r5, %r5, 3, %r6;\nbar.warp.sync -1;\n", 512 * stage);
        body += &format!("@%p2 mbarrier.arrive.shared::cta.b64 _, [%r1{}];\n", 2 + stage);
    }
    case(64, body + "$END:\n" + &store("%r5"))
}

#[test]
fn stages_are_filled_and_read_in_turn() {
    let element = |place: u32| place | (place + 1) << 16;
    let expected =
        |lane: u32| (0..5).fold(0, |sum: u32, round| sum.wrapping_mul(3).wrapping_add(element(256 * round + 8 * lane)));
    assert_eq!(pipeline().words()[32..64], (0..32).map(expected).collect::<Vec<_>>());
}

#[test]
fn phases_bytes_and_arrivals_must_agree() {
    let right = pipeline();
    // The reader's parity.
    for round in [0, 1, 3] {
        let parity = round / 2 % 2;
        let from = wait(&format!("C{round}"), &format!("%r1{}", round % 2), parity);
        let to = wait(&format!("C{round}"), &format!("%r1{}", round % 2), 1 - parity);
        right.refuses(&from, &to, "race|stuck|nobody saw");
    }
    // The writer's.
    let (from, to) = (wait("P2", "%r12", 0), wait("P2", "%r12", 1));
    right.refuses(&from, &to, "race|nobody saw|lacks");
    right.refuses("_, [%r10], 512;", "_, [%r10], 496;", "stuck|nobody saw|expects");
    right.refuses("[%r20], [%rd6], 512", "[%r20], [%rd6], 496", "stuck");
    // One arrival too many, and one too few.
    right.refuses("init.shared::cta.b64 [%r12], 1", "init.shared::cta.b64 [%r12], 2", "stuck");
    right.refuses("init.shared::cta.b64 [%r10], 1", "init.shared::cta.b64 [%r10], 2", "stuck");
    right.refuses(
        "setp.eq.u32 %p2, %r3, 0",
        "setp.le.u32 %p2, %r3, 1",
        "2 arrivals at an mbarrier whose phase 0 lacks 1 of 1",
    );
}

#[test]
fn a_stage_is_released_after_its_last_read() {
    let right = pipeline();
    let (read, arrive) = ("ld.shared.u32 %r6, [%r4+0];\n", "@%p2 mbarrier.arrive.shared::cta.b64 _, [%r12];\n");
    right.refuses(read, &format!("{arrive}{read}"), "race|lacks|nobody saw");
    // The other lanes may still read.
    right.refuses("bar.warp.sync -1;\n", "", "race");
    // Stage 1 is not ordered by a wait for stage 0.
    right.refuses(&wait("C1", "%r11", 0), "", "race");
    let arrivals = case(64, ring(7));
    arrivals.refuses("bar.warp.sync -1;\n", "", "race");
    arrivals.refuses(&wait("C1", "%r11", 0), "", "race");
}

#[test]
fn barriers_must_be_prepared() {
    let right = pipeline();
    right.refuses("@!%p9 mbarrier.init.shared::cta.b64 [%r11], 1;\n", "", "mbarrier.init is missing");
    right.refuses("@!%p9 fence.mbarrier_init.release.cluster;\n", "", "without fence.mbarrier_init");
    right.refuses("bar.sync 0;\n", "", "mbarrier.init");
    right.refuses("init.shared::cta.b64 [%r10], 1", "init.shared::cta.b64 [%r10], 0", "an mbarrier of 0 arrivals");
    right.refuses(
        "init.shared::cta.b64 [%r10], 1",
        "init.shared::cta.b64 [%r10], 1048576",
        "an mbarrier of 1048576 arrivals",
    );
    let again = "@!%p9 mbarrier.init.shared::cta.b64 [%r10], 1;\n";
    right.refuses(again, &again.repeat(2), "mbarrier.init of an mbarrier that is in use");
    right.refuses("bra $END;\n$READ", "ld.shared.u16 %rs1, [%r11+6];\nbra $END;\n$READ", "part of an mbarrier");
    right.refuses("bra $END;\n$READ", "st.shared.u32 [%r11], 0;\nbra $END;\n$READ", "part of an mbarrier");
    right.refuses(
        "bra $END;\n$READ",
        "add.s32 %r21, %r11, 4;\nmbarrier.arrive.shared::cta.b64 _, [%r21];\nbra $END;\n$READ",
        "mbarrier at a shared address that is not a multiple of 8 bytes",
    );
}

#[test]
fn numbers_of_a_barrier_have_bounds() {
    let body = format!(
        "{}{}{}",
        prepare(&[("%r10", 2)]),
        alone(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 64;\nmbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r10], 1048575;"
        ),
        wait("0", "%r10", 0)
    );
    (0..4).for_each(|seed| case(32, body.clone()).fails(seed, "1048639 bytes on their way"));
    // Two phases that nobody looks at.
    let twice = "mbarrier.arrive.shared::cta.b64 _, [%r10];\n@!%p9 mbarrier.arrive.shared::cta.b64 _, [%r10];\n";
    let right = case(
        32,
        prepare(&[("%r10", 1)]) + "@!%p9 mbarrier.arrive.shared::cta.b64 _, [%r10];\n" + &wait("0", "%r10", 0),
    );
    right.refuses("mbarrier.arrive.shared::cta.b64 _, [%r10];\n", twice, "nobody saw the end of phase 0");
    right.refuses("[%r10], 0;", "[%r10], 2;", "a parity of 2");
    right.refuses(
        "@!%p9 mbarrier.arrive.shared::cta.b64 _, [%r10];\n",
        "",
        "stuck: waits for phase 0 of an mbarrier, which lacks 1 of 1 arrivals",
    );
}

/// Thread 32 ends two phases while thread 0 waits for the first.
#[test]
fn a_wait_must_not_miss_its_phase() {
    let arrive = "mbarrier.arrive.shared::cta.b64 _, [%r10];\n";
    let twice = format!("{arrive}{}{arrive}", wait("1", "%r10", 0));
    let (begin, wait) = (prepare(&[("%r10", 1)]), wait("0", "%r10", 0));
    let body = format!(
        "{begin}setp.ge.u32 %p1, %r0, 32;\n@%p1 bra $TWO;\n@%p9 bra $END;\n{wait}bra $END;\n$TWO:\nsetp.ne.u32 %p2, %r0, 32;\n@%p2 bra $END;\n{twice}$END:\n"
    );
    let wrong = case(64, body);
    // In the plain order, thread 0 waits first.
    wrong.fails(0, "waits for phase 0 of an mbarrier, and phase 1 is over, too");
    assert_eq!(Case { body: wrong.body.replace(&twice, arrive), ..wrong }.problem(0), None);
}

/// A box of 8 rows of 128 bytes that is loaded, read by all threads, and stored.
fn boxed() -> Case {
    let load = alone(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 1024;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd3, {0, 0}], [%r10];",
    );
    let change = "shl.b32 %r20, %r0, 4;\nadd.s32 %r20, %r20, %r1;\nld.shared.u32 %r21, [%r20];\nadd.s32 %r21, %r21, 1;\n\
                  st.shared.u32 [%r20], %r21;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n";
    let store = alone(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd4, {0, 0}], [%r1];\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group.read 0;\nst.shared.u32 [%r1], 5;\ncp.async.bulk.wait_group 0;",
    );
    let body = format!("{}{load}{}{change}{store}", prepare(&[("%r10", 1)]), wait("0", "%r10", 0));
    let map = Some((vec![64, 8], vec![64], vec![64, 8], 128));
    Case { maps: [map.clone(), map], out: 512, ..case(64, body) }
}

#[test]
fn boxes_pass_through_shared_memory() {
    let expected: Vec<u16> = (0..512).map(|e| if e % 8 == 0 { e + 1 } else { e }).collect();
    assert_eq!(boxed().found(), expected);
}

#[test]
fn copies_follow_their_rules() {
    let right = boxed();
    let what = "wrote without fence.proxy.async after it";
    right.refuses("fence.proxy.async.shared::cta;\nbar.sync 0;\n", "bar.sync 0;\n", what);
    right.refuses("fence.proxy.async.shared::cta;\nbar.sync 0;\n", "fence.proxy.async.shared::cta;\n", "race");
    right.refuses("@!%p9 cp.async.bulk.wait_group.read 0;\n", "", "race");
    right.refuses("wait_group.read 0", "wait_group.read 1", "race");
    right.refuses("@!%p9 cp.async.bulk.wait_group 0;\n", "", "without cp.async.bulk.wait_group");
    right.refuses("@!%p9 cp.async.bulk.commit_group;\n", "", "race");
    right.refuses(&wait("0", "%r10", 0), "", "race");
    right.refuses("[%rd4, {0, 0}]", "[%rd4, {0, -1}]", "to a negative coordinate");
    right.refuses("[%rd4, {0, 0}]", "[%rd4, {0, 0, 0}]", "3 coordinates, expected 2");
    right.refuses("[%rd3, {0, 0}]", "[%rd1, {0, 0}]", "the tensor map is not in the parameters");
    right.refuses("[%rd3, {0, 0}]", "[%rd9, {0, 0}]", "uses %rd9");
    let shifted = "add.s32 %r30, %r1, 512;\n@!%p9 cp.async.bulk.tensor.2d.shared::cluster";
    let moved = right
        .body
        .replace("@!%p9 cp.async.bulk.tensor.2d.shared::cluster", shifted)
        .replace("bytes [%r1]", "bytes [%r30]");
    (0..4).for_each(|seed| Case { body: moved.clone(), ..right.clone() }.fails(seed, "not a multiple of 1024 bytes"));
    // The tensor is larger than its buffer.
    let large = Case { x: vec![0; 300], ..right.clone() };
    (0..4).for_each(|seed| large.fails(seed, "outside of the launch's buffers"));
    // Two blocks store the same box.
    let twice = Case { blocks: 2, ..right.clone() };
    (0..4).for_each(|seed| {
        assert!(twice.problem(seed).is_some_and(|text| text.contains("race") && text.contains("block")))
    });
    // Two copies to the same bytes.
    let copy = "@!%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd3, {0, 0}], [%r10];\n";
    right.refuses(copy, &copy.repeat(2), "race");
}

#[test]
fn plain_bytes_come_in_multiples_of_16() {
    let load = alone(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 32;\nadd.s64 %rd6, %rd1, 16;\nadd.s32 %r20, %r1, 16;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd6], 32, [%r10];",
    );
    let right = case(32, format!("{}{load}{}{}", prepare(&[("%r10", 1)]), wait("0", "%r10", 0), dump(32, 48)));
    right.refuses("[%rd6], 32", "[%rd6], 24", "of 24 bytes, expected multiples of 16");
    right.refuses("%rd1, 16", "%rd1, 8", "expected multiples of 16");
    right.refuses("%r1, 16", "%r1, 24", "not a multiple of 16 bytes");
    // Nobody waits for the copy.
    let wait = wait("0", "%r10", 0);
    let unread = Case { body: right.body.replace(&dump(32, 48), ""), ..right };
    unread.refuses(&wait, "", "the block ends");
}

#[test]
fn blocks_of_a_cluster_meet_before_they_end() {
    let right = neighbours();
    // The barriers are ready before others arrive.
    right.refuses(&format!("bar.sync 0;\n{MEET}"), "bar.sync 0;\n", "mbarrier.init|race");
    // A block that does not wait for its neighbour may end before it arrives.
    right.refuses(&wait("0", "%r10", 0), "", "race");
    let body = right.body.replace("ld.global.u32 %r5, [%rd7+1024];\n", "mov.u32 %r5, 1;\n");
    let right = Case { body: body.replace(&wait("0", "%r10", 0), ""), ..right };
    let tail = format!("{}{MEET}", store("%r5"));
    right.refuses(&tail, &store("%r5"), "may end before this reaches it");
    right.refuses(
        "barrier.cluster.wait.acquire.aligned;\n",
        "",
        "arrives at the cluster's barrier again|mbarrier.init|race",
    );
    right.refuses(
        MEET,
        &format!("{MEET}barrier.cluster.wait.acquire.aligned;\n"),
        "waits at the cluster's barrier without an arrival",
    );
    let odd = Case { blocks: 6, ..right.clone() };
    assert!(odd.problem(0).unwrap().contains("declares clusters of 4 blocks, the launch has 6 blocks along x"));
    right.refuses(
        "add.s32 %r21, %r2, 1;\n@!%p9 and.b32 %r21, %r21, 3",
        "add.s32 %r21, %r2, 1;\n@!%p9 and.b32 %r21, %r21, 7",
        "outside of shared memory",
    );
}
