//! Faults in small texts of PTX: each must be an error that names the thread and the line.

use super::warps::SEEDS;
use super::{Run, kernel};
use osp::Error;

/// Two warps in each of `blocks` blocks run `body`.
fn problem(body: &str, blocks: u32, seed: u64) -> Option<String> {
    let text = kernel(64, body);
    let run = Run { text: &text, x: &[0; 64], out: 256, threads: 64, blocks, shared_bytes: 512, seed };
    match run.words() {
        Ok(_) => None,
        Err(error @ Error::Launch { .. }) => Some(error.to_string()),
        Err(other) => panic!("{other}"),
    }
}

/// `body` with `@FAULT` replaced: `right` passes under every seed, `wrong` is an error with the words `what`.
#[track_caller]
fn refused(blocks: u32, body: &str, right: &str, wrong: &str, what: &str) {
    for seed in SEEDS {
        assert_eq!(problem(&body.replace("@FAULT", right), blocks, seed), None, "seed {seed}");
        let text = problem(&body.replace("@FAULT", wrong), blocks, seed).expect(what);
        assert!(text.contains(what) && text.contains("k.ptx:") && !text.contains('\n'), "seed {seed}: {text}");
    }
}

/// %r1 is the thread's word of shared memory, %rd3 its word of out, which no other block has.
const PLACES: &str = "shl.b32 %r1, %r0, 2;\nmov.u32 %r2, memory;\nadd.s32 %r1, %r1, %r2;\nmov.u32 %r3, %ctaid.x;\n\
                      mad.lo.s32 %r4, %r3, 64, %r0;\nmul.wide.u32 %rd3, %r4, 4;\nadd.s64 %rd3, %rd2, %rd3;\n";

#[test]
fn values_must_depend_on_what_was_written() {
    let what = "uses %r6, which nothing was written to";
    let store = "add.s32 %r6, %r5, 1;\nst.global.u32 [%rd3], %r6;";
    refused(1, &format!("{PLACES}@FAULT{store}"), "mov.u32 %r5, 1;\n", "", what);
    // Lane 7 alone lacks a value.
    let body = format!("{PLACES}setp.eq.u32 %p1, %r0, 7;\n@FAULT mov.u32 %r5, 1;\n{store}");
    refused(1, &body, "", "@!%p1", &format!("thread 7: {what}"));
    // A compiler may compute with such a value if it chooses another in the end.
    let body = format!(
        "{PLACES}setp.eq.u32 %p1, %r0, 99;\nadd.s32 %r6, %r5, 1;\nselp.b32 %r6, @FAULT, %p1;\nst.global.u32 [%rd3], %r6;"
    );
    refused(1, &body, "%r6, 5", "5, %r6", what);
    refused(1, "@FAULT@%p3 bra $END;\n$END:", "setp.eq.u32 %p3, %r0, 1;\n", "", "uses %p3");
    refused(1, "@FAULTld.global.u32 %r6, [%rd9];", "mov.u64 %rd9, %rd1;\n", "", "uses %rd9");
    refused(1, "@FAULTshfl.sync.bfly.b32 %r6, %r5, 1, 31, -1;", "mov.u32 %r5, 1;\n", "", "uses %r5");
    refused(1, "sub.s32 %r5, %r0, @FAULT;\ndiv.s32 %r6, 9, %r5;", "64", "40", "thread 40: divides by zero");
}

#[test]
fn accesses_must_be_aligned_to_their_size() {
    let load = |at: &str| format!("ld.global.v4.u32 {{%r5, %r6, %r7, %r8}}, [%rd1+{at}];");
    refused(1, "@FAULT", &load("16"), &load("8"), "load at an address that is not a multiple of 16 bytes");
    refused(
        1,
        "@FAULT",
        "ld.shared.v2.u16 {%rs1, %rs2}, [memory+4];",
        "ld.shared.v2.u16 {%rs1, %rs2}, [memory+6];",
        "a multiple of 4 bytes",
    );
    refused(
        1,
        "@FAULT",
        "ld.param.u64 %rd5, [k_param_0+8];",
        "ld.param.u64 %rd5, [k_param_0+4];",
        "a multiple of 8 bytes",
    );
    let matrix = "shl.b32 %r1, %r0, 4;\nand.b32 %r1, %r1, 127;\nmov.u32 %r2, memory;\nadd.s32 %r1, %r1, %r2;\n@FAULT\n\
                  ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r5, %r6}, [%r1];";
    refused(1, matrix, "", "add.s32 %r1, %r1, 8;", "ldmatrix at an address that is not a multiple of 16 bytes");
}

#[test]
fn accesses_must_stay_in_their_memory() {
    refused(
        1,
        "ld.global.u32 %r5, [%rd1+@FAULT];",
        "252",
        "256",
        "outside of the launch's buffers, 256 bytes into a buffer of 256",
    );
    refused(1, "ld.shared.u32 %r5, [memory+@FAULT];", "508", "512", "outside of shared memory, at offset 512");
    refused(1, "ld.shared.u32 %r5, [memory+@FAULT];", "0", "-4", "outside of shared memory, at offset -4");
    refused(1, "ld.param.u32 %r5, [k_param_0+@FAULT];", "12", "16", "outside of the parameters");
    // An address of another space.
    refused(
        1,
        "@FAULT\nld.global.u32 %r5, [%rd9];",
        "mov.u64 %rd9, %rd1;",
        "mov.b64 %rd9, k_param_0;",
        "outside of the launch's buffers",
    );
}

#[test]
fn declarations_must_be_those_of_the_launch() {
    let text = kernel(64, "");
    let run = |text: &str, threads| Run { text, x: &[0], out: 1, threads, blocks: 1, shared_bytes: 0, seed: 0 }.words();
    run(&text, 64).unwrap();
    let error = run(&text, 128).unwrap_err().to_string();
    assert!(error.contains("declares 64 threads, the launch has 128"), "{error}");
    let error = run(&text.replace("param_0[16]", "param_0[20]"), 64).unwrap_err().to_string();
    assert!(error.contains("declares 20 parameter bytes, the launch has 16"), "{error}");
    let error =
        run(&text.replace(".extern .shared", ".shared").replace("memory[]", "memory[64]"), 64).unwrap_err().to_string();
    assert!(error.contains("only dynamic shared memory"), "{error}");
}

#[test]
fn unknown_instructions_are_named() {
    for unknown in [
        "sin.approx.f32 %f1, %f2;",
        "add.s32 %r1, %r2;",
        "mov.u32 %rd1, 5;",
        "ld.local.u32 %r1, [%rd1];",
        "add.s32 %q, %r1, 2;",
    ] {
        let text = problem(unknown, 1, 0).unwrap();
        assert!(text.contains(&format!("k.ptx:18 `{unknown}`")), "{text}");
    }
}

#[test]
fn lanes_must_meet_at_one_instruction() {
    // The halves of each warp shuffle at different places.
    let body = "and.b32 %r5, %r0, 31;\nsetp.lt.u32 %p1, %r5, 16;\n@FAULT bra $OTHER;\n\
                shfl.sync.bfly.b32 %r6, %r5, 1, 31, -1;\nbra.uni $END;\n$OTHER:\nshfl.sync.bfly.b32 %r6, %r5, 1, 31, -1;\n$END:";
    refused(1, body, "", "@%p1", "of the same warp is at line");
    // Some lanes end, or pass by.
    refused(1, "setp.lt.u32 %p1, %r0, 8;\n@FAULT ret;\nbar.warp.sync -1;", "", "@%p1", "of its mask has ended");
    let body = "setp.lt.u32 %p1, %r0, 8;\n@FAULT bra $END;\nmov.f32 %f1, 0f00000000;\nmov.u32 %r5, 0;\n\
                mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5}, {%r5, %r5}, {%r5}, {%f1, %f1, %f1, %f1};\n$END:";
    refused(1, body, "", "@%p1", "of its mask has ended");
    refused(1, "shfl.sync.bfly.b32 %r5, %r0, 1, 31, @FAULT;", "-1", "0xFFFF", ": the lane is not in its own mask");
    refused(1, "setp.lt.u32 %p1, %r0, 8;\n@FAULT bar.sync 0;", "", "@%p1", "of its mask has ended");
}

#[test]
fn barriers_must_be_reached_by_all() {
    let body = "setp.lt.u32 %p1, %r0, 32;\n@FAULT bra $END;\nbar.sync 0;\n$END:";
    refused(1, body, "", "@%p1", "stuck: 1 warps wait at barriers");
    refused(1, "bar.sync 1, @FAULT;", "64", "96", "barrier 1 for 96 threads does not exist");
    refused(1, "bar.sync @FAULT, 32;", "15", "16", "barrier 16 for 32 threads does not exist");
}

#[test]
fn shared_memory_needs_barriers() {
    let body = format!("{PLACES}st.shared.u32 [%r1], %r0;\n@FAULT\nxor.b32 %r6, %r1, 132;\nld.shared.u32 %r5, [%r6];");
    refused(1, &body, "bar.sync 0;", "", "without a barrier between");
    // A barrier of each warp does not order two warps.
    refused(1, &body, "bar.sync 0;", "bar.warp.sync -1;", "without a barrier between");
    // Between the last read and the next write.
    let body = format!("{body}\nbar.sync 0;\n@AGAIN\nst.shared.u32 [%r1], 5;")
        .replace("@FAULT", "bar.sync 0;")
        .replace("@AGAIN", "ld.shared.u32 %r7, [%r6];\n@FAULT");
    refused(1, &body, "bar.sync 0;", "", "without a barrier between");
}

#[test]
fn lanes_of_a_warp_need_barriers_too() {
    let body = format!("{PLACES}st.shared.u32 [%r1], %r0;\n@FAULT\nxor.b32 %r6, %r1, 4;\nld.shared.u32 %r5, [%r6];");
    refused(1, &body, "bar.warp.sync -1;", "", "without a barrier between");
    // Shuffles and votes order no memory.
    refused(1, &body, "bar.warp.sync -1;", "shfl.sync.bfly.b32 %r7, %r0, 1, 31, -1;", "without a barrier between");
    // A barrier of pairs is enough for pairs.
    let pairs = format!(
        "{PLACES}and.b32 %r7, %r0, 30;\nshl.b32 %r8, 3, %r7;\nst.shared.u32 [%r1], %r0;\n@FAULT\nxor.b32 %r6, %r1, 4;\nld.shared.u32 %r5, [%r6];"
    );
    let by_pairs = |distance: u32| {
        (0..16)
            .map(|pair| {
                format!(
                    "setp.eq.u32 %p1, %r7, {};\n@%p1 bar.warp.sync {};\n",
                    2 * pair,
                    3u32 << (2 * ((pair + distance) % 16))
                )
            })
            .collect::<String>()
    };
    assert_eq!(problem(&pairs.replace("@FAULT", &by_pairs(0)), 1, 0), None);
    assert!(problem(&pairs.replace("@FAULT", &by_pairs(1)), 1, 0).unwrap().contains("not in its own mask"));
    let matrix = format!(
        "{PLACES}shl.b32 %r7, %r0, 4;\nand.b32 %r7, %r7, 127;\nadd.s32 %r7, %r7, %r2;\nsetp.gt.u32 %p1, %r0, 31;\n@%p1 ret;\nst.shared.u32 [%r1], %r0;\n@FAULT\nldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r5}}, [%r7];"
    );
    refused(1, &matrix, "bar.warp.sync -1;", "", "without a barrier between");
}

#[test]
fn asynchronous_copies_are_not_there_before_the_wait() {
    let body = format!(
        "{PLACES}cp.async.ca.shared.global [%r1], [%rd1], 4;\ncp.async.commit_group;\n@FAULT\nld.shared.u32 %r5, [%r1];"
    );
    refused(1, &body, "cp.async.wait_group 0;", "", "is on its way, k.ptx:25");
    refused(1, &body, "cp.async.wait_group 0;", "cp.async.wait_group 1;", "is on its way");
    // For other threads, a barrier must follow.
    let body = format!(
        "{PLACES}cp.async.ca.shared.global [%r1], [%rd1], 4;\ncp.async.commit_group;\ncp.async.wait_group 0;\n@FAULT\nxor.b32 %r6, %r1, 132;\nld.shared.u32 %r5, [%r6];"
    );
    refused(1, &body, "bar.sync 0;", "", "without a barrier between");
    // A copy must not begin before the last reads of its stage have ended.
    let body = format!(
        "{PLACES}xor.b32 %r6, %r1, 132;\nld.shared.u32 %r5, [%r6];\n@FAULT\ncp.async.ca.shared.global [%r1], [%rd1], 4;"
    );
    refused(1, &body, "bar.sync 0;", "", "race: ");
    refused(
        1,
        &format!("{PLACES}mov.u32 %r7, @FAULT;\ncp.async.ca.shared.global [%r1], [%rd1], 4, %r7;"),
        "4",
        "5",
        "cp.async of 5 bytes into 4",
    );
}

#[test]
fn blocks_share_no_bytes_that_one_of_them_writes() {
    let body = format!("{PLACES}mul.wide.u32 %rd4, %r0, 4;\nadd.s64 %rd4, %rd2, %rd4;\nst.global.u32 [@FAULT], %r0;");
    refused(3, &body, "%rd3", "%rd4", "block");
    let body = format!("{PLACES}st.global.u32 [%rd3], %r0;\nld.global.u32 %r5, [@FAULT];");
    // Each block reads its own word, or the first block's.
    let first = body.replace("ld.global", "mul.wide.u32 %rd4, %r0, 4;\nadd.s64 %rd4, %rd2, %rd4;\nld.global");
    refused(3, &first, "%rd3", "%rd4", "block");
}

#[test]
fn global_memory_of_a_block_needs_barriers() {
    let body = format!(
        "{PLACES}st.global.u32 [%rd3], %r0;\n@FAULT\nxor.b32 %r5, %r4, 33;\nmul.wide.u32 %rd4, %r5, 4;\nadd.s64 %rd4, %rd2, %rd4;\nld.global.u32 %r5, [%rd4];"
    );
    refused(2, &body, "bar.sync 0;", "", "without a barrier between");
}
