//! Programs that fail in every way, a GPU that cannot be opened, and interrupted runs.

use super::{Rehearsal, Run, STAND_IN, alive};
use std::fs;
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

#[test]
fn without_a_gpu_no_step_passes_and_the_driver_tries_each_image() {
    let problem = "doctor) printf 'gpu          none\\nproblem      the GPU cannot be opened\\n' ;;\n";
    let rehearsal = Rehearsal::new(problem);
    // Two images of this build of the program, and one of another build.
    let [newer, good] = ["9.9", "8.0"].map(|version| format!(".version {version} .target sm_80 .entry k() {{ ret; }}"));
    let program = STAND_IN.replace("  # OVERRIDES\n", problem);
    rehearsal.script("bin/osp", &format!("{program}\n# {newer}\n# {good}\n"));
    fs::create_dir(rehearsal.path("bin/kernels")).unwrap();
    for (name, content) in [("gemm-01", &*newer), ("norm-02", &*good), ("norm-03", "older image")] {
        fs::write(rehearsal.path(&format!("bin/kernels/{name}.fatbin")), content).unwrap();
    }
    let mut command = rehearsal.command("light,deep", &[]);
    command.env("LD_LIBRARY_PATH", crate::driver::library()).env("OSP_STAND_IN", "name=Card driver=13.0");
    let output = command.output().unwrap();
    let run = Run::new(output, &rehearsal.path("out"));
    assert_eq!(run.code, Some(3), "{}", run.stdout);
    run.is_whole();
    run.says("doctor", "FAIL", "the GPU cannot be opened");
    run.says("driver", "pass", "Card, CUDA 13.0");
    run.says(
        "images",
        "FAIL",
        "1 of 2 images do not load: gemm: cuModuleLoadDataEx: CUDA_ERROR_UNSUPPORTED_PTX_VERSION, ",
    );
    assert!(run.read("table.txt").starts_with("NO GPU CAN BE OPENED: the GPU cannot be opened"), "{}", run.stdout);
    run.says("light, deep", "skip", "no GPU can be opened");
    // Doctor had a second try.
    assert_eq!(rehearsal.calls().iter().filter(|call| !call.contains("--help")).count(), 2, "{:?}", rehearsal.calls());

    // Without a driver, no image can be tried.
    let output = rehearsal.command("light", &[]).output().unwrap();
    let run = Run::new(output, &rehearsal.path("out"));
    assert_eq!(run.code, Some(3));
    run.says("driver", "FAIL", "libcuda.so.1");
    run.says("images", "skip", "there is no driver");

    // The same driver is too old for each image.
    let old = "the NVIDIA driver is too old: it supports CUDA 12.4, this program needs 13.0; update the driver";
    rehearsal.script("bin/osp", &program.replace("the GPU cannot be opened", old));
    let output = command.output().unwrap();
    let run = Run::new(output, &rehearsal.path("out"));
    run.says("images", "skip", "the reason is known: the NVIDIA driver is too old");
    assert!(run.read("table.txt").starts_with(&format!("NO GPU CAN BE OPENED: {old}")), "{}", run.stdout);
    assert_eq!(rehearsal.calls().iter().filter(|call| call.starts_with("doctor")).count(), 2 + 2 + 1);
}

#[test]
fn a_driver_that_starts_late_is_no_reason_to_stop() {
    let rehearsal = Rehearsal::new(
        "doctor) [ -e \"$here/late\" ] || { touch \"$here/late\"; exec sleep 1000; }
        printf 'driver       CUDA 13.0\\ngpu          Stand-in\\nruns         sm_90a\\n' ;;\n",
    );
    let run = rehearsal.run("deep", &["--step-limit", "2"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.says("doctor", "pass", "runs sm_90a; before: ended after 2 s");
    run.says("sample once", "pass", "");
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

/// The limit of a machine may end the script without a warning.
#[test]
fn a_killed_run_has_written_what_it_had() {
    let rehearsal = Rehearsal::new(
        "profile*--json*) echo $$ >\"$here/new\"; mv \"$here/new\" \"$here/pids\"; exec sleep 1000 ;;\n",
    );
    let mut command = rehearsal.command("light", &[]);
    // Its temporary files stay.
    command.env("TMPDIR", rehearsal.path("")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while !rehearsal.path("bin/pids").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the profile never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The profile is a process by itself, which outlives the script.
    let pid: u32 = fs::read_to_string(rehearsal.path("bin/pids")).unwrap().trim().parse().unwrap();
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    let read = |name: &str| fs::read_to_string(rehearsal.path(name)).unwrap();
    assert!(read("out/table.txt").contains("0 FAILED, ") && read("out/record.md").contains("## MACHINE"));
    assert!(rehearsal.path("out/logs.tar.gz").metadata().unwrap().len() > 0);
    for results in ["results.json", "out/results.json"] {
        assert!(read(results).contains("\"verify pipeline f16 --least-memory\""), "{results}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_does_not_cost_the_table() {
    let rehearsal = Rehearsal::new("");
    // A file stands where the folders must be made, even for the superuser.
    fs::write(rehearsal.path("file"), "").unwrap();
    let [out, results] = ["file/out", "file/results.json"].map(|name| rehearsal.path(name).display().to_string());
    let mut command = rehearsal.command("deep", &[]);
    // The last of an option's values counts.
    let output = command.args(["--out", &out, "--results", &results]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains(&format!("no earlier results in {results}")), "{stdout}");
    assert!(stdout.contains("0 FAILED, ") && stdout.contains("\nChecks\n"), "{stdout}");
    assert!(
        stderr.contains("the output is not complete: NotADirectoryError") && !stderr.contains("Traceback"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_fault_of_the_script_costs_only_the_part_that_it_is_in() {
    let said = super::hangs::with_a_session(
        &Rehearsal::new(""),
        "from gpu_check import main
s.results.append(Result('equal: b', 'pass', 0.0, '', {}))
s.play([commands.selftest(s, 'gemm')])
out = Path(sys.argv[1])
output = report.Output(s, ['light'], {}, out / 'out', out / 'results.json')
def fails(*_): raise RuntimeError('a fault')
report.headline = fails
s.close = fails
try:
    main.finish(s, output)
except RuntimeError:
    print('what failed is said')
stored = (out / 'results.json').read_text()
for damage in [stored, stored.replace('\"data\": {}', '\"data\": null')]:
    (out / 'results.json').write_text(damage)
    print([result.name for result in main.load(out / 'results.json', s.program)[0]])
",
    );
    let table = said.split_once("\nChecks\n").unwrap_or_else(|| panic!("{said}")).1;
    assert!(table.contains("selftest") && table.contains("what failed is said"), "{said}");
    assert!(said.ends_with("['doctor', 'equal: b', 'selftest gemm']\n['doctor', 'selftest gemm']\n"), "{said}");
}
