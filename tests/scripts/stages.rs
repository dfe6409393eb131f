//! The steps and decisions of each stage: plans, budgets, earlier failures, times beside PyTorch.

use super::{HANGS, Rehearsal, Run, STAND_IN, cublaslt, root};
use std::fs;
use std::process::Command;

#[test]
fn a_correct_program_passes_every_check_and_its_times_are_in_the_table() {
    let rehearsal = Rehearsal::new("");
    let run = rehearsal.run("light", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    run.says("doctor", "pass", "Stand-in");
    run.says("selftest facts", "pass", "passed");
    run.says("selftest gemm", "pass", "worst 0.43 of allowed, gemm_large_f16");
    // 4.0e1 dB, where at least 3.0e1 are required, is 0.75 of allowed.
    run.says("verify pipeline bf16", "pass", "2 checks, worst 0.75 of allowed");
    run.says("verify pipeline f16 --least-memory", "pass", "2 checks");
    run.says("profile 65 frames, 1", "pass", "denoise 200 ms");
    let table = run.read("table.txt");
    for words in ["linear_large_f16", "attention_q128_d72_f16", "linear 34816x1152x3456", "TFLOP/s"] {
        assert!(table.contains(words), "{words}:\n{table}");
    }
    // Launches are synchronous, so that errors are found where they happen, except in runs that test copies beside
    // kernels.
    for call in rehearsal.calls() {
        assert!(call.contains("MODEL=/") && call.ends_with("assets/demo"), "{call}");
        let blocking = call.contains("BLOCKING=1");
        assert_eq!(
            blocking,
            (call.starts_with("selftest") || call.starts_with("verify"))
                && !call.contains("least-memory")
                && !call.contains("--help"),
            "{call}"
        );
    }
}

#[test]
fn plans_fit_their_budgets_and_need_no_program() {
    for stage in ["light", "deep", "speed", "light,deep"] {
        let mut command = Command::new("python3");
        command.arg(root().join("scripts/gpu-check")).args(["--stage", stage, "--dry-run"]).args(["--pack", "absent"]);
        let output = command.output().expect("python3 is needed for scripts/gpu-check");
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers = text.lines().last().unwrap().split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let [expected, budget] = numbers.collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(output.status.success() && 100 < expected && expected <= budget, "{stage}: {text}");
        let wanted = match stage {
            "deep" => ["equal: sample twice", "racecheck of all"],
            "speed" => ["profile 221 frames sm90, 2", "torch linear 114688x1152x4608: cuBLASLt"],
            _ => ["selftest conv3d", "verify vae_v110 bf16"],
        };
        assert!(wanted.iter().all(|step| text.contains(step)), "{stage}: {text}");
    }
}

#[test]
fn steps_that_do_not_fit_the_budget_are_skipped_by_name() {
    let rehearsal = Rehearsal::new("");
    let run = rehearsal.run("light", &["--budget", "24"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    run.says("selftest facts", "pass", "");
    run.says("profile 65 frames, 1", "skip", "no time");
    assert!(run.read("table.txt").contains("profile 65 frames, 1"));

    let run = rehearsal.run("light", &["--budget", "1"]);
    assert_eq!((run.code, run.count("pass")), (Some(3), 0), "{}", run.stdout);
}

/// Makes mocks of Nsight Compute and compute-sanitizer, which log their calls.
pub fn stand_in_tools(rehearsal: &Rehearsal) {
    let log = rehearsal.path("bin/tools");
    let call = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>{}\n", log.display());
    rehearsal.script("tools/compute-sanitizer", &format!(
        "{call}case \"$*\" in *memcheck*) printf '========= Invalid __global__ read of size 16 bytes\\n========= ERROR SUMMARY: 3 errors\\n'; exit 9 ;; esac\n\
         echo '========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)'; exit 1\n"
    ));
    rehearsal.script("tools/ncu", &format!(
        "{call}printf '    Duration            us       612.25\\n    Registers Per Thread    register/thread    168\\n    Compute (SM) Throughput     %%       61.50\\n'\ncase \"$*\" in *'--kill yes'*) exit 137 ;; *) sleep 1000 ;; esac\n"
    ));
}

#[test]
fn deep_examines_earlier_failures_and_the_most_expensive_kernels() {
    let rehearsal = Rehearsal::new(
        "'selftest gemm'*|'selftest norm'*) echo 'FAIL  some kernel'; exit 1 ;;
         'verify tests/golden/latte_d64 '*bf16) echo 'FAIL  latte_d64'; exit 1 ;;
         *twice.y4m) echo 'other frames' >\"$(option -o \"$@\")\"; echo done ;;\n",
    );
    stand_in_tools(&rehearsal);
    let light = rehearsal.run("light", &[]);
    assert_eq!(light.code, Some(1));
    let run = rehearsal.run("deep", &[]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.is_whole();
    run.says("equal: sample twice", "FAIL", "other bytes");
    run.says("equal: sample in 64MiB", "pass", "equal bytes");
    run.says("memcheck of gemm norm", "FAIL", "3 errors: Invalid __global__ read of size 16 bytes");
    run.says("racecheck of gemm norm", "pass", "0 hazards displayed (0 errors, 0 warnings); the program itself failed");
    run.says("memcheck of latte_d64 bf16", "FAIL", "3 errors");
    run.says("ncu linear_large_f16", "pass", "time 612.25 us, compute 61.50 %, registers 168");
    let tools = fs::read_to_string(rehearsal.path("bin/tools")).unwrap();
    let osp = rehearsal.path("bin/osp");
    let memcheck = format!(
        "compute-sanitizer --tool memcheck --error-exitcode 9 {} selftest gemm norm --quick --here 0 --device cuda",
        osp.display()
    );
    assert!(tools.contains(&memcheck), "{tools}");
    let kernels: Vec<&str> =
        tools.lines().filter_map(|line| line.split("--kernel-name ").nth(1)?.split(' ').next()).collect();
    assert_eq!(kernels, ["linear_large_f16", "attention_q128_d72_f16", "add_rows_f16"]);
    assert!(tools.lines().filter(|line| line.starts_with("ncu")).all(|line| line.contains("--clock-control none")));

    // If nothing failed, all kernels are examined.
    fs::remove_file(rehearsal.path("results.json")).unwrap();
    let run = rehearsal.run("deep", &[]);
    run.says("memcheck of all", "FAIL", "3 errors");
    run.says("profile 65 frames, 1", "pass", "denoise");
}

#[test]
fn a_case_of_pytorch_that_fails_or_hangs_loses_only_its_line() {
    let rehearsal = Rehearsal::new("");
    rehearsal.torch(HANGS);
    let run = rehearsal.run("light", &["--step-limit", "4"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.is_whole();
    run.says("torch", "pass", "torch 2.9.0, CUDA 99.0, cuDNN 91500; torch 2.9.0 does not use cuDNN's conv3d");
    run.says("torch linear 34816x1152x3456: bias", "pass", "1 ms (1 to 1), 277.2 TFLOP/s");
    run.says("torch attention temporal 17: cuDNN", "skip", "ModuleNotFoundError");
    run.says("torch conv3d 128-128 3x3x3 65x256x256: channels last", "FAIL", "no answer after 4 s");
    run.says("torch linear 34816x4608x1152: bias", "pass", "1 ms");
    // The launch of osp took 600 µs in both rounds.
    let row =
        run.read("record.md").lines().find(|line| line.starts_with("| linear 34816x1152x3456")).unwrap().to_owned();
    assert_eq!(row, "| linear 34816x1152x3456 | 0.6 | 462 TFLOP/s | 1 | bias | 1.67× | bias 1 1 |");
}

/// After a fault of a kernel, no call of its process succeeds.
#[test]
fn a_fault_of_the_gpu_ends_the_worker_and_the_next_case_has_a_new_one() {
    let rehearsal = Rehearsal::new("");
    let faults = "if not os.path.exists(__file__ + '.fault'):
            open(__file__ + '.fault', 'w').close()
            cuda.synchronize = lambda: 1 / 0
            raise RuntimeError('an illegal memory access')";
    rehearsal.torch(faults);
    let run = rehearsal.run("light", &[]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.is_whole();
    let conv = "torch conv3d 128-128 3x3x3 65x256x256: channels last";
    run.says(conv, "FAIL", "RuntimeError: an illegal memory access");
    run.says("torch linear 34816x4608x1152: bias", "pass", "1 ms");
    // An error without a fault costs only its own line.
    run.says("torch attention temporal 17: cuDNN", "skip", "ModuleNotFoundError");
}

#[test]
fn packed_benches_take_turns_and_their_lines_are_in_the_record() {
    let rehearsal = Rehearsal::new("");
    let bench = r#"#!/bin/sh
mkdir -p "$CRITERION_HOME/some bench/new"
echo '{"median": {"point_estimate": 500000.0, "confidence_interval": {"lower_bound": 4e5, "upper_bound": 6e5}}}' \
  >"$CRITERION_HOME/some bench/new/estimates.json"
echo "$*" >>"${0%/*}/benches"
printf 'on Stand-in\nlinear/114688x1152x3456/osp\n                        time:   [0.4 ms 0.5 ms 0.6 ms]\n'
printf '                        thrpt:  [1 Telem/s 2 Telem/s 3 Telem/s]\n114688x1152x3456/osp: 77 %% of product, 70 %% of cuBLASLt, 52 %% of the data sheet\n'
"#;
    rehearsal.script("bin/bench-gemm", bench);
    let run = rehearsal.run("speed", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    run.says("own linear 114688x1152x3456", "pass", "0.5 ms (0.4 to 0.6)");
    assert!(!run.has("own conv3d 512-8 3x3x3 17x32x32"), "this bench is not in the pack");
    run.says("bench gemm", "pass", "1 benches");
    let record = run.read("record.md");
    assert!(record.contains("| linear/114688x1152x3456/osp | 0.5 ms | 2 Telem/s | 77 % of product, 70 % of cuBLASLt, 52 % of the data sheet |"), "{record}");
    let calls = fs::read_to_string(rehearsal.path("bin/benches")).unwrap();
    let exact = "--bench --noplot --exact linear/114688x1152x3456/osp";
    assert_eq!(calls.lines().filter(|call| *call == exact).count(), 2, "{calls}");
}

#[test]
fn cases_have_the_shapes_of_the_benches_and_are_found_in_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let traces = ["v1.1.0-65x512x512", "v1.1.0-221x512x512"].map(|preset| {
        let trace = folder.path().join(format!("{preset}.json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_osp"));
        command.args(["profile", "--device", "dry", "--gpu", "h100", "--preset", preset, "--trace"]).arg(&trace);
        assert!(command.env_remove("OSP_MODEL").output().unwrap().status.success());
        trace
    });
    let mut command = Command::new("python3");
    let output = command.arg("-B").arg(root().join("scripts/gpu_check/cases.py")).args(traces).output();
    let text = String::from_utf8(output.expect("python3 is needed for scripts/gpu-check").stdout).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let [stem, bench, found, shape @ ..] = &line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let source = fs::read_to_string(root().join(format!("benches/{stem}.rs"))).unwrap().replace('_', "");
        let list = |numbers: &[&str]| numbers.join(", ");
        let name = bench.split_once('/').unwrap().1;
        let wanted = match (*stem, shape) {
            ("gemm" | "groupnorm", sizes) => format!("[{}]", list(sizes)),
            ("attention", sizes) => format!("(\"{name}\", {})", list(sizes)),
            ("norm", [rows, _]) => (*rows).to_owned(),
            ("conv3d", [f, h, w, cin, cout, kt, kh, kw, scale]) => {
                let call = format!("plain([{f}, {h}, {w}], [{cin}, {cout}], [{kt}, {kh}, {kw}])");
                match *scale {
                    "2.0" => format!("twicesize({call})"),
                    "0.5" => format!("halfsize({call})"),
                    _ => call,
                }
            }
            _ => panic!("{line}"),
        };
        assert!(source.contains(&wanted), "benches/{stem}.rs has no {wanted}");
        assert_ne!(*found, "not found", "no launch of the model is {bench}");
        count += usize::from(*found == "within");
    }
    assert!(count > 20, "{text}");
}

#[test]
fn wrong_usage_gives_one_line() {
    let rehearsal = Rehearsal::new("");
    for (stage, args, words) in [
        ("fast", &[][..], "light, deep, speed"),
        ("deep", &["--device", "emulated"], "only light"),
        ("speed", &["--variants", "absent"], "absent"),
    ] {
        let output = rehearsal.command(stage, args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(words), "{stage} {args:?}: {stderr}");
    }
    let output = Command::new("python3")
        .arg(root().join("scripts/gpu-check"))
        .args(["--stage", "light", "--pack", "absent"])
        .output();
    let output = output.unwrap();
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("scripts/gpu-pack"));
}

#[test]
fn linear_layers_are_compared_with_cublaslt() {
    let doctor = "doctor) printf 'gpu          Stand-in\\nruns         sm_90a; linear: sm90\\n' ;;\n";
    let rehearsal = Rehearsal::new("");
    // A layer of 221 frames takes 3 ms, and 2 ms with the kernels for Hopper.
    let program = STAND_IN.replace("  # OVERRIDES\n", doctor).replace("277226717184", "913217421312");
    let program = program
        .replace("328826880", "1064966400")
        .replace("600.0", "$(case \"$*\" in *sm90*) echo 2000 ;; *) echo 3000 ;; esac)");
    rehearsal.script("bin/osp", &program);
    rehearsal.torch("");
    let folder = cublaslt::library(&rehearsal);
    let run_with = |refused: &str| {
        let mut command = rehearsal.command("speed", &[]);
        command.env("LD_LIBRARY_PATH", &folder).env("CALLS", rehearsal.path("products")).env("REFUSES", refused);
        Run::new(command.output().unwrap(), &rehearsal.path("out"))
    };
    let run = run_with("");
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    // The mock's clock gives every arm a millisecond.
    run.says("torch linear 114688x1152x3456: cuBLASLt", "pass", "1 ms (1 to 1), 913.2 TFLOP/s");
    let row = |case: &str| {
        let record = run.read("record.md");
        let section = record.split("## ").find(|section| section.starts_with("Linear layers")).unwrap();
        assert!(section.contains("Goal: 0.95 of cuBLASLt, reached in 0 of 1 cases."), "{section}");
        section.lines().find(|line| line.starts_with(&format!("| linear {case} "))).unwrap().to_owned()
    };
    assert_eq!(
        row("114688x1152x3456"),
        "| linear 114688x1152x3456 | sm80 304.4; sm90 456.6 | 913.2 | 913.2 | 0.50 | 38 |"
    );
    assert_eq!(row("114688x4608x1152"), "| linear 114688x4608x1152 | - | 1218 | 1218 | - | - |");
    assert!(run.read("table.txt").contains("osp / cuBLASLt"));
    // The best of PyTorch is not the library.
    assert!(
        run.read("record.md").contains("| 1 | bias | 0.50× | bias 1 1; cuBLASLt 1 1 |"),
        "{}",
        run.read("record.md")
    );
    let products = fs::read_to_string(rehearsal.path("products")).unwrap();
    assert!(
        products.contains(": 4608 x 114688, type 2, epilogue 36, workspace 33554432, stream 0x5eed\n"),
        "{products}"
    );

    // A call that fails costs the lines of this arm, and names its status.
    let run = run_with("cublasLtMatmulAlgoGetHeuristic");
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let status = "Refused: cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED";
    run.says("torch linear 114688x1152x3456: cuBLASLt", "skip", status);
    run.says("torch linear 114688x1152x3456: bias", "pass", "1 ms");
    assert!(!run.read("record.md").contains("## Linear layers"));
}
