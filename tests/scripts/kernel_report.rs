//! scripts/kernel-report: what it counts in a step of machine code, and its usage. The machine code of all kernels is
//! checked where it was compiled: CI runs `kernel-report --check`.

use super::root;
use std::process::{Command, Output};

/// Calls functions of the script from Python.
fn python(code: &str, listing: &str) -> String {
    let load = "import sys, types\n\
        module = types.ModuleType('report')\n\
        sys.modules['report'] = module\n\
        module.__file__ = sys.argv[1]\n\
        exec(compile(open(sys.argv[1]).read(), sys.argv[1], 'exec'), module.__dict__)\n\
        code = module.instructions(sys.argv[2])\n";
    let mut command = Command::new("python3");
    command.args(["-B", "-c", &format!("{load}{code}")]).arg(root().join("scripts/kernel-report")).arg(listing);
    let output = command.output().expect("python3 is needed for scripts/kernel-report");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A listing of instructions, 16 bytes each. A branch ends in `@N`, which stands for the place of line N.
fn listing(lines: &[&str]) -> String {
    let placed = |line: &str| match line.rsplit_once(" @") {
        Some((before, number)) => format!("{before} 0x{:x}", 16 * number.parse::<usize>().unwrap()),
        None => line.to_owned(),
    };
    lines.iter().enumerate().map(|(i, line)| format!("        /*{:04x}*/   {} ;\n", 16 * i, placed(line))).collect()
}

/// A loop whose threads copy 16 bytes `windows` times behind a branch, and `always` times without; then `products`
/// products, of which those of the second kind are half as deep.
fn loop_of_warps(windows: usize, always: usize, products: [usize; 2]) -> String {
    let copy = "LDGSTS.E.BYPASS.LTC128B.128 [R17], [R12.64], P5";
    let behind = format!("@P0 BRA @{}", 6 + windows);
    let mut lines = vec!["LDGSTS.E.BYPASS.LTC128B.128 [R17], [R12.64]", "LDGDEPBAR", "DEPBAR.LE SB0, 0x1", "NOP"];
    let past_all = format!("@!P1 BRA @{}", 6 + windows + always);
    lines.push(&past_all);
    lines.push(&behind);
    lines.extend(std::iter::repeat_n(copy, windows + always));
    lines.push("LDGDEPBAR");
    lines.extend(std::iter::repeat_n("HMMA.16816.F32 R4, R8, R12, R4", products[0]));
    lines.extend(std::iter::repeat_n("HMMA.1688.F32.BF16 R4, R8, R12, R4", products[1]));
    lines.extend(["@P3 BRA @2", "EXIT"]);
    listing(&lines)
}

#[test]
fn a_step_of_warps_has_the_bytes_of_its_copies() {
    for (name, code, [threads, shared, taps], expected) in [
        // 128×128 sums, 32 steps of k: 64 FLOP a byte.
        ("tile", loop_of_warps(0, 4, [32, 0]), [256, 49_152, 1], "('3', 16384, '64.0')"),
        // Half as deep products have half the FLOPs.
        ("tail", loop_of_warps(0, 4, [16, 32]), [256, 49_152, 1], "('3', 16384, '64.0')"),
        // A window of five copies for three taps.
        ("window", loop_of_warps(5, 4, [64, 0]), [128, 45_056, 3], "('3', 11605, '90.4')"),
        // A stage holds no more than a third of the shared memory.
        ("partial", loop_of_warps(0, 12, [64, 0]), [128, 49_152, 1], "('3', 16384, '64.0')"),
    ] {
        let call = format!("print(module.step_of_warps(code, {threads}, {shared}, {taps}).cells())");
        assert_eq!(python(&call, &code), expected, "{name}");
    }
    // Loads of single elements, where no copy is asynchronous.
    let loads = loop_of_warps(0, 64, [32, 0])
        .replace("LDGSTS.E.BYPASS.LTC128B.128 [R17], [R12.64], P5", "LDG.E.U16 R4, [R6.64]");
    assert_eq!(python("print(module.step_of_warps(code, 128, 49152, 1).cells())", &loads), "('3', 16384, '32.0')");
}

/// The kernel of a warpgroup that multiplies, and of a thread that copies `expected` bytes a step through four stages.
fn loops_of_groups(expected: &str, copy: &str) -> String {
    let mut lines =
        vec!["SYNCS.EXCH.64 URZ, [UR8+0x34000], UR4", "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5+0x34000], R0"];
    for sums in ["R24", "R120", "R24", "R120", "R24", "R120", "R24"] {
        lines.push(if sums == "R24" {
            "HGMMA.64x192x16.F32 R24, gdesc[UR8], R24"
        } else {
            "HGMMA.64x192x16.F32 R120, gdesc[UR12], R120"
        });
    }
    let expects = format!("IMAD.MOV.U32 R15, RZ, RZ, {expected}");
    lines.extend(["HGMMA.64x192x16.F32 R120, gdesc[UR8], R120, gsb0", "@P0 BRA @1"]);
    lines.extend(["SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R18+URZ+0x34020], R3", &expects]);
    lines.extend([
        "SYNCS.ARRIVE.TRANS64 RZ, [R18+URZ+0x34000], R15",
        "UTMALDG.2D [UR8], [UR4]",
        copy,
        "@!P1 BRA @11",
        "EXIT",
    ]);
    listing(&lines)
}

#[test]
fn a_step_of_warpgroups_has_the_bytes_that_its_barrier_expects() {
    let [alone, shared] = ["UTMALDG.2D [UR12], [UR6]", "UTMALDG.2D.MULTICAST [UR12], [UR6], UR17"];
    for (expected, copy, cluster, says) in [
        // 128×192 sums: 16 KiB of the left operand, 24 KiB of the right one.
        ("0xa000", alone, 1, "('4', 40960, '76.8')"),
        ("0xa000", shared, 2, "('4', 28672, '109.7')"),
        // Two warpgroups multiply the same stage.
        ("0xe000", shared, 2, "('4', 45056, '139.6')"),
    ] {
        let call = format!("print(module.step_of_groups(code, {cluster}).cells())");
        assert_eq!(python(&call, &loops_of_groups(expected, copy)), says, "{expected} {copy}");
    }
    // A barrier that expects other bytes than the products read is a fault of the count or of the kernel.
    let call = "try: print(module.step_of_groups(code, 1).cells())\nexcept ValueError as error: print(error)";
    let said = python(call, &loops_of_groups("0xb000", alone));
    assert_eq!(said, "copies bring 45056 bytes a step, but a product reads 16384 and 24576");
}

#[test]
fn a_step_with_two_rings_shares_the_weights_that_go_to_all_blocks() {
    let wait = |at: &str| format!("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R5+URZ+{at}], R0");
    let fill = |at: &str, bytes: &str| format!("SYNCS.ARRIVE.TRANS64 RZ, [R5+URZ+{at}], {bytes}");
    let mut lines = vec!["HGMMA.64x256x16.F32 R24, gdesc[UR8], R24".to_owned(); 12];
    lines.extend(["@P0 BRA @0", "MOV R7, 0x9000", "IMAD.MOV.U32 R8, RZ, RZ, 0x4000"].map(str::to_owned));
    lines.extend([wait("0x37018"), fill("0x37000", "R7"), "UTMALDG.4D [UR8], [UR4]".to_owned()]);
    for _ in 0..3 {
        lines.extend([wait("0x37058"), fill("0x37030", "R8"), "UTMALDG.2D.MULTICAST [UR8], [UR4], UR6".to_owned()]);
    }
    lines.extend(["@!P1 BRA @15".to_owned(), "EXIT".to_owned()]);
    let code = listing(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    // 36 KiB of input, and three times 16 KiB of weights, half of them from the other block.
    let says = python("print(module.step_of_groups(code, 2).cells())", &code);
    assert_eq!(says, "('3+5', 61440, '204.8')");
    // Weights that the products do not read, and more input than they read.
    let call = "try: print(module.step_of_groups(code, 2).cells())\nexcept ValueError as error: print(error)";
    for (right, wrong) in [("RZ, RZ, 0x4000", "RZ, RZ, 0x4010"), ("R7, 0x9000", "R7, 0x19000")] {
        let said = python(call, &code.replace(right, wrong));
        assert!(said.contains("but a product reads 24576 and 98304"), "{wrong}: {said}");
    }
}

/// A kernel of attention: a loop with a tile of keys, of `others` instructions beside 64 exponentials and the products, in
/// an outer loop with the last tile's values; and a thread that copies `key_bytes` of keys, and values.
fn loops_of_attention(key_bytes: &str, others: usize) -> String {
    let values = [
        "HGMMA.64x64x16.F32 R120, R92, gdesc[UR12].tnspB, R120",
        "HGMMA.64x8x16.F32 R160, R92, gdesc[UR12].tnspB, R160",
    ];
    let mut lines = vec!["NOP".to_owned()];
    lines.extend(vec!["HGMMA.64x128x16.F32 R24, R88, gdesc[UR8], R24".to_owned(); 5]);
    lines.extend([values; 8].concat().into_iter().map(str::to_owned));
    lines.extend(vec!["MUFU.EX2 R4, R4".to_owned(); 64]);
    lines.extend(vec!["FADD R4, R4, R5".to_owned(); others - 1]);
    lines.push("@P0 BRA @1".to_owned());
    lines.extend([values; 8].concat().into_iter().map(str::to_owned));
    lines.extend(["@P1 BRA @0".to_owned(), format!("MOV R7, {key_bytes}"), "MOV R8, 0x4800".to_owned()]);
    let copies = lines.len();
    for (ring, empty, bytes) in [("0x30000", "0x30020", "R7"), ("0x30040", "0x30060", "R8")] {
        lines.push(format!("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R5+URZ+{empty}], R0"));
        lines.push(format!("SYNCS.ARRIVE.TRANS64 RZ, [R5+URZ+{ring}], {bytes}"));
        lines.extend(vec!["UTMALDG.5D [UR8], [UR4]".to_owned(); 2]);
    }
    lines.extend([format!("@!P1 BRA @{copies}"), "EXIT".to_owned()]);
    listing(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_step_of_attention_is_a_tile_of_keys_and_its_values() {
    let step = "try: print(module.step_of(None, code, {}, 384, 0).cells())\nexcept ValueError as error: print(error)";
    // 128 keys and values of 80 and 72 features, for two warpgroups of 64 queries.
    assert_eq!(python(step, &loops_of_attention("0x5000", 100)), "('4', 38912, '128.0')");
    // A mask of 128 floats is no operand of a product.
    assert_eq!(python(step, &loops_of_attention("0x5200", 100)), "('4', 39424, '126.3')");
    let said = python(step, &loops_of_attention("0x5010", 100));
    assert_eq!(said, "copies bring 38928 bytes a tile, but products read 38912");
    // 64 exponentials allow 592 instructions beside the products, themselves among them.
    let problems = "print(*module.loop_problems(code))";
    assert_eq!(python(problems, &loops_of_attention("0x5000", 528)), "");
    let said = python(problems, &loops_of_attention("0x5000", 529));
    assert!(said.starts_with("593 instructions beside 64 exponentials of a tile of keys, at most 592"), "{said}");
}

#[test]
fn usage_goes_to_stdout_if_asked_for_and_is_an_error_otherwise() {
    let run = |args: &[&str]| -> Output {
        Command::new("python3").arg("-B").arg(root().join("scripts/kernel-report")).args(args).output().unwrap()
    };
    let help = run(&["--help"]);
    assert!(help.status.code() == Some(0) && help.stderr.is_empty());
    assert!(String::from_utf8_lossy(&help.stdout).starts_with("usage: kernel-report"));
    for args in [&["--wirte"][..], &["--check", "--write"], &["--write", "gemm"], &["there_is_none.cubin"]] {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("usage: kernel-report"), "{args:?}: {stderr}");
    }
}
