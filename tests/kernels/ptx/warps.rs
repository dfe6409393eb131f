//! Branches, loads and stores, and instructions of several lanes: PTX ISA 9.0, sections 9.7.9, 9.7.12 to 9.7.14.

use super::{Run, kernel, words};

/// Seeds of the plain order, and of others.
pub(super) const SEEDS: [u64; 4] = [0, 1, 2, 3];

/// Runs a kernel whose threads each leave a word in %r5, under every seed.
#[track_caller]
pub(super) fn threads(threads: u32, body: &str) -> Vec<u32> {
    let text = kernel(
        threads,
        &format!("{body}\nmul.wide.u32 %rd3, %r0, 4;\nadd.s64 %rd3, %rd2, %rd3;\nst.global.u32 [%rd3], %r5;"),
    );
    let out = threads as usize;
    let run = |seed| Run { text: &text, x: &[7], out, threads, blocks: 1, shared_bytes: 4096, seed }.words();
    let expected = run(0).unwrap_or_else(|error| panic!("{body}: {error}"));
    for seed in SEEDS {
        assert_eq!(run(seed).unwrap(), expected, "{body}, seed {seed}");
    }
    expected
}

fn each(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

#[test]
fn lanes_separate_and_join() {
    // Lane i adds i, i times; odd lanes then double.
    let body = "mov.u32 %r5, 0;\nmov.u32 %r6, 0;\n$LOOP:\nsetp.ge.u32 %p1, %r6, %r0;\n@%p1 bra $DONE;\n\
                add.s32 %r5, %r5, %r0;\nadd.s32 %r6, %r6, 1;\nbra.uni $LOOP;\n$DONE:\nand.b32 %r7, %r0, 1;\n\
                setp.eq.s32 %p2, %r7, 0;\n@!%p2 shl.b32 %r5, %r5, 1;";
    assert_eq!(threads(32, body), each(|i| i * i * (1 + i % 2)));
}

#[test]
fn shuffles_stay_in_their_segments() {
    let shuffle = |mode: &str, distance: u32, clamp: u32| {
        let body = format!(
            "add.s32 %r6, %r0, 100;\nshfl.sync.{mode}.b32 %r5|%p1, %r6, {distance}, {clamp}, -1;\n@!%p1 add.s32 %r5, %r5, 1000;"
        );
        threads(32, &body)
    };
    assert_eq!(shuffle("bfly", 5, 31), each(|i| 100 + (i ^ 5)));
    assert_eq!(shuffle("up", 3, 0), each(|i| if i < 3 { 1100 + i } else { 97 + i }));
    assert_eq!(shuffle("down", 3, 31), each(|i| if i > 28 { 1100 + i } else { 103 + i }));
    assert_eq!(shuffle("idx", 9, 31), each(|_| 109));
    // Segments of eight lanes: bits 8 to 12 are the mask 24.
    assert_eq!(shuffle("up", 3, 24 << 8), each(|i| if i % 8 < 3 { 1100 + i } else { 97 + i }));
    assert_eq!(shuffle("down", 3, 24 << 8 | 31), each(|i| if i % 8 > 4 { 1100 + i } else { 103 + i }));
    assert_eq!(shuffle("idx", 9, 24 << 8 | 31), each(|i| 100 + i / 8 * 8 + 1));
    assert_eq!(shuffle("bfly", 4, 24 << 8 | 3), each(|i| if i % 8 < 4 { 1100 + i } else { 100 + (i ^ 4) }));
}

#[test]
fn votes_count_the_lanes_of_the_mask() {
    let vote = |mode: &str, below: u32| {
        let body =
            format!("setp.lt.u32 %p2, %r0, {below};\nvote.sync.{mode}.pred %p1, %p2, -1;\nselp.u32 %r5, 1, 0, %p1;");
        threads(32, &body)[0]
    };
    assert_eq!([vote("all", 32), vote("all", 31), vote("any", 1), vote("any", 0)], [1, 0, 1, 0]);
    let ballot = "setp.lt.u32 %p2, %r0, 5;\nvote.sync.ballot.b32 %r5, %p2, -1;";
    assert_eq!(threads(32, ballot), each(|_| 0b11111));
}

#[test]
fn loads_extend_and_stores_cut() {
    let x = "ld.global.u32 %r1, [%rd1];\nmov.u32 %r9, memory;\nst.shared.u32 [%r9], 0xFF80;\n";
    let alone = "setp.ne.u32 %p1, %r0, 0;\nmov.u32 %r5, 0;\n@%p1 bra $END;\n";
    let first = |body: &str| threads(32, &format!("{alone}{x}{body}\n$END:"))[0];
    assert_eq!(first("ld.shared.s8 %r5, [%r9];"), 0xFFFF_FF80);
    assert_eq!(first("ld.shared.u8 %r5, [%r9+1];"), 0xFF);
    assert_eq!(first("ld.shared.s16 %r5, [memory];"), 0xFFFF_FF80);
    assert_eq!(first("st.shared.u8 [memory+1], 0x1234;\nld.shared.u32 %r5, [memory];"), 0x3480);
    assert_eq!(first("ld.shared.s32 %rd9, [%r9];\nmov.b64 {%r7, %r5}, %rd9;"), 0);
    assert_eq!(first("ld.param.v2.u32 {%r7, %r5}, [k_param_0];"), first("mov.b64 {%r7, %r5}, %rd1;"));
    assert_eq!(first("mov.b64 %rd9, k_param_0;\nld.param.u32 %r5, [%rd9+4];"), first("mov.b64 {%r7, %r5}, %rd1;"));
    assert_eq!(
        first("mov.b32 {%rs1, %rs2}, %r1;\nst.shared.v2.u16 [%r9+4], {%rs2, %rs1};\nld.shared.u32 %r5, [%r9+4];"),
        7 << 16
    );
}

#[test]
fn special_registers_say_where_a_thread_is() {
    let text = kernel(
        64,
        "mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r3, %nctaid.x;\nmov.u32 %r4, %laneid;\n\
         mad.lo.s32 %r6, %r1, %r2, %r0;\nmul.wide.u32 %rd3, %r6, 4;\nadd.s64 %rd3, %rd2, %rd3;\n\
         mad.lo.s32 %r5, %r3, 100, %r4;\nst.global.u32 [%rd3], %r5;",
    );
    let run = Run { text: &text, x: &[0], out: 192, threads: 64, blocks: 3, shared_bytes: 0, seed: 0 };
    assert_eq!(run.words().unwrap(), (0..192).map(|i| 300 + i % 32).collect::<Vec<_>>());
}

/// Thread i writes to shared memory, and reads what thread i ^ 33 wrote.
#[test]
fn barriers_order_the_warps_of_a_block() {
    let exchange = |wait: &str| {
        format!(
            "shl.b32 %r1, %r0, 2;\nmov.u32 %r2, memory;\nadd.s32 %r1, %r1, %r2;\nst.shared.u32 [%r1], %r0;\n{wait}\n\
             xor.b32 %r1, %r1, 132;\nld.shared.u32 %r5, [%r1];"
        )
    };
    let expected: Vec<u32> = (0..64).map(|i| i ^ 33).collect();
    for wait in ["bar.sync 0;", "bar.sync 3, 64;"] {
        assert_eq!(threads(64, &exchange(wait)), expected);
    }
}

#[test]
fn matrices_are_loaded_by_rows_or_columns() {
    // Lane i writes row i, of eight bytes with the values 16·i + …, twice.
    let fill = "shl.b32 %r1, %r0, 4;\nmov.u32 %r2, memory;\nadd.s32 %r1, %r1, %r2;\nmul.lo.s32 %r3, %r0, 0x80008;\n\
                add.s32 %r3, %r3, 0x10000;\nadd.s32 %r4, %r3, 0x20002;\nadd.s32 %r6, %r4, 0x20002;\n\
                add.s32 %r7, %r6, 0x20002;\nst.shared.v4.u32 [%r1], {%r3, %r4, %r6, %r7};\nbar.warp.sync -1;\n";
    let load = |form: &str, result: &str| {
        threads(32, &format!("{fill}ldmatrix.sync.aligned.m8n8.{form}.shared.b16 {result}, [%r1];"))
    };
    // Element c of row r of matrix j is 8·(8·j + r) + c.
    let pair = |low: u32, high: u32| low | high << 16;
    for j in 0..4 {
        let mut result = ["%r10", "%r11", "%r12", "%r13"];
        result[j as usize] = "%r5";
        let result = format!("{{{}}}", result.join(", "));
        let plain = |i: u32| 8 * (8 * j + i / 4) + 2 * (i % 4);
        assert_eq!(load("x4", &result), each(|i| pair(plain(i), plain(i) + 1)));
        let column = |i: u32, e: u32| 8 * (8 * j + 2 * (i % 4) + e) + i / 4;
        assert_eq!(load("x4.trans", &result), each(|i| pair(column(i, 0), column(i, 1))));
    }
    assert_eq!(
        load("x2", "{%r10, %r5}"),
        each(|i| pair(8 * (8 + i / 4) + 2 * (i % 4), 8 * (8 + i / 4) + 2 * (i % 4) + 1))
    );
}

/// The product of A, with ones in column 0, and B, whose row k has k + n; c is 0.5. The fragments are those of the ISA.
#[test]
fn products_have_the_layouts_of_the_isa() {
    // bf16: 1 is 0x3F80, 2 is 0x4000. A has 1 where k = 0: the low half of registers 0 and 1 of lanes with t = 0.
    let body = "and.b32 %r1, %r0, 3;\nsetp.eq.s32 %p1, %r1, 0;\nselp.b32 %r2, 0x3F80, 0, %p1;\nmov.u32 %r3, 0;\n\
                shr.u32 %r4, %r0, 2;\ncvt.rn.f32.u32 %f1, %r4;\ncvt.rn.bf16.f32 %rs1, %f1;\ncvt.u32.u16 %r6, %rs1;\n\
                mov.f32 %f2, 0f3F000000;\n\
                mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f3, %f4, %f5, %f6}, {%r2, %r2, %r3, %r3}, \
                {%r6, %r3}, {%f2, %f2, %f2, %f2};\n";
    // B's column n is in the lanes 4n to 4n + 3; there k = 0 has the value n. So element (row, n) is n + 0.5.
    for (result, odd) in [("%f3", 0), ("%f4", 1), ("%f5", 0), ("%f6", 1)] {
        let found = threads(32, &format!("{body}mov.b32 %r5, {result};"));
        assert_eq!(found, each(|i| ((2 * (i % 4) + odd) as f32 + 0.5).to_bits()), "{result}");
    }
}

#[test]
fn copies_fill_with_zeros_and_arrive_before_the_wait_ends() {
    let copy = |bytes: u32| {
        format!(
            "shl.b32 %r1, %r0, 4;\nmov.u32 %r2, memory;\nadd.s32 %r1, %r1, %r2;\nmov.u32 %r3, {bytes};\n\
             cp.async.ca.shared.global [%r1], [%rd1], 4, %r3;\ncp.async.commit_group;\ncp.async.wait_group 0;\n\
             ld.shared.u32 %r5, [%r1];"
        )
    };
    assert_eq!([4, 1, 0].map(|bytes| threads(32, &copy(bytes))[31]), [7, 7, 0]);
}

#[test]
fn immediates_are_cut_to_their_type() {
    words("add.s32 %r5, %r1, -4294967295;", &[([1, 0, 0], 2)]);
}
