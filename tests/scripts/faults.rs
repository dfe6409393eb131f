//! Programs that fail in every way, a GPU that cannot be opened, and interrupted runs.

use super::{Rehearsal, Run, STAND_IN, alive};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_table_is_complete_whatever_a_kernel_does() {
    let rehearsal = Rehearsal::new(
        "'selftest gemm'*) echo 'FAIL  linear_large_bf16  3 of 9 values are off'; exit 1 ;;
         'selftest conv3d'*) kill -SEGV $$ ;;
         'selftest norm'*) exit 0 ;;
         'selftest tile'*) head -c 10000000 /dev/zero | tr '\\0' 'x'; echo; echo 'tile: 1 kernel passed' ;;
         'selftest embed'*) head -c 5000 /dev/zero | tr '\\0' 'y' >&2; exit 101 ;;
         'selftest patch'*) echo \"thread 'main' panicked at src/a.rs:1:2:\" >&2; echo 'not so' >&2; exit 101 ;;
         'selftest resample'*) echo 'error: no such kernel'; exit 0 ;;
         'selftest attention'*) trap '' TERM; sleep 1000 & echo $$ $! >>\"$here/pids\"; sleep 1000 ;;
         'verify tests/golden/latte '*) echo '0 checks, all passed, in 0.0 s' ;;
         sample*) echo 'no file' ;;
         profile*--json*) echo 'no JSON' ;;\n",
    );
    let run = rehearsal.run("light", &["--step-limit", "4"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.is_whole();
    run.says("selftest gemm", "FAIL", "exit code 1: FAIL linear_large_bf16 3 of 9 values are off");
    run.says("selftest conv3d", "FAIL", "killed by SIGSEGV");
    run.says("selftest norm", "FAIL", "printed nothing");
    run.says("selftest tile", "pass", "tile: 1 kernel passed");
    run.says("selftest embed", "FAIL", "exit code 101: yyyy");
    run.says("selftest patch", "FAIL", "panicked at src/a.rs:1:2: not so");
    run.says("selftest resample", "FAIL", "error: no such kernel");
    run.says("selftest attention", "FAIL", "ended after 4 s");
    run.says("verify latte f16", "FAIL", "no total of checks");
    run.says("sample", "FAIL", "cannot be read");
    run.says("profile 65 frames, 1", "FAIL", "cannot be read");
    // The other steps have run, too.
    for step in ["selftest sampler", "selftest depthwise", "verify vae_v110 bf16", "verify latte_d64 f16"] {
        run.says(step, "pass", "");
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() < 260), "{}", run.stdout);
    assert!(run.out.join("logs.tar.gz").metadata().unwrap().len() < 1 << 20);
    let pids = fs::read_to_string(rehearsal.path("bin/pids")).unwrap();
    assert_eq!((pids.split_whitespace().count(), alive(&pids)), (2, vec![]));
}

#[test]
fn many_long_failures_fit_into_the_table() {
    let rehearsal = Rehearsal::new(
        "*--help) echo facts ;; selftest*|verify*|sample*|profile*) head -c 500 /dev/zero | tr '\\0' 'z'; exit 1 ;;\n",
    );
    let run = rehearsal.run("light,deep,speed", &[]);
    assert_eq!(run.code, Some(1));
    run.is_whole();
    assert!(run.read("table.txt").contains("more in record.md"));
    let failed = run.read("record.md").lines().filter(|line| line.starts_with("| ") && line.contains("zzz")).count();
    assert_eq!(failed, run.count("FAIL"));
}

/// Makes a driver that opens, and refuses images that begin with `BAD`.
fn stub_driver(folder: &Path) {
    let code = r#"
        #include <string.h>
        int cuInit(unsigned f) { return 0; }
        int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
        int cuDeviceGet(int *d, int n) { *d = n; return 0; }
        int cuDeviceGetName(char *name, int len, int d) { strcpy(name, "Stub"); return 0; }
        int cuDevicePrimaryCtxRetain(void **c, int d) { *c = 0; return 0; }
        int cuCtxSetCurrent(void *c) { return 0; }
        int cuGetErrorName(int e, const char **t) { *t = "CUDA_ERROR_INVALID_PTX"; return 0; }
        int cuGetErrorString(int e, const char **t) { *t = "a PTX JIT compilation failed"; return 0; }
        int cuModuleLoadDataEx(void **m, const char *image, unsigned n, int *options, void **values) {
            for (unsigned i = 0; i < n; i++)
                if (options[i] == 5 && !strncmp(image, "BAD", 3)) strcpy(values[i], "ptxas: line 7: no such instruction");
            return strncmp(image, "BAD", 3) ? 0 : 218;
        }"#;
    fs::write(folder.join("stub.c"), code).unwrap();
    let library = folder.join("libcuda.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(folder.join("stub.c")).status();
    assert!(compiled.unwrap().success(), "the C compiler that Rust links with");
}

#[test]
fn without_a_gpu_no_step_passes_and_the_driver_tries_each_image() {
    let problem = "doctor) printf 'gpu          none\\nproblem      the GPU cannot be opened\\n' ;;\n";
    let rehearsal = Rehearsal::new(problem);
    // Two images of this build of the program, and one of another build.
    rehearsal
        .script("bin/osp", &format!("{}\n# BAD image\n# good image\n", STAND_IN.replace("  # OVERRIDES\n", problem)));
    fs::create_dir(rehearsal.path("bin/kernels")).unwrap();
    for (name, content) in [("gemm-01", "BAD image"), ("norm-02", "good image"), ("norm-03", "older image")] {
        fs::write(rehearsal.path(&format!("bin/kernels/{name}.fatbin")), content).unwrap();
    }
    stub_driver(&rehearsal.path("tools"));
    let output = rehearsal.command("light,deep", &[]).env("LD_LIBRARY_PATH", rehearsal.path("tools")).output().unwrap();
    let run = Run::new(output, &rehearsal.path("out"));
    assert_eq!(run.code, Some(3), "{}", run.stdout);
    run.is_whole();
    run.says("doctor", "FAIL", "the GPU cannot be opened");
    run.says("driver", "pass", "Stub, CUDA 13.0");
    run.says(
        "image gemm",
        "FAIL",
        "CUDA_ERROR_INVALID_PTX, a PTX JIT compilation failed; ptxas: line 7: no such instruction",
    );
    run.says("image norm", "pass", "10 bytes load");
    run.says("light, deep", "skip", "no GPU can be opened");
    assert_eq!(rehearsal.calls().iter().filter(|call| !call.contains("--help")).count(), 1, "{:?}", rehearsal.calls());

    // Without a driver, no image can be tried.
    let output = rehearsal.command("light", &[]).output().unwrap();
    let run = Run::new(output, &rehearsal.path("out"));
    assert_eq!(run.code, Some(3));
    run.says("driver", "FAIL", "libcuda.so.1");
    assert!(!run.has("image gemm"));
}

#[test]
fn an_interrupted_run_ends_its_processes_and_writes_its_table() {
    let rehearsal = Rehearsal::new("profile*--json*) echo $$ >>\"$here/pids\"; sleep 1000 ;;\n");
    let child = rehearsal.command("light", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("python3 is needed for scripts/gpu-check");
    let start = Instant::now();
    while !rehearsal.path("bin/pids").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the profile never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let run = Run::new(child.wait_with_output().unwrap(), &rehearsal.path("out"));
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.is_whole();
    run.says("profile 65 frames, 1", "FAIL", "killed by SIGTERM");
    assert!(run.read("table.txt").contains("ended by SIGTERM"));
    assert_eq!(alive(&fs::read_to_string(rehearsal.path("bin/pids")).unwrap()), Vec::<&str>::new());
}
