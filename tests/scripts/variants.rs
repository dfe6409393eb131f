//! Folders of kernels that replace the program's: which load, under which option they run, and which one is the fastest.

use super::{Rehearsal, STAND_IN};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_fastest_variant_is_checked_and_a_program_without_variants_is_refused() {
    let knows = "doctor) printf 'gpu          Stand-in\\nruns         sm_90a\\n'
                [ -z \"$OSP_KERNELS\" ] || echo \"OSP_KERNELS  $OSP_KERNELS/gemm.cubin\" ;;\n";
    for (overrides, known) in [(knows, true), ("", false)] {
        let rehearsal = Rehearsal::new(overrides);
        let variants = rehearsal.path("variants");
        for name in ["quick", "slow"] {
            fs::create_dir_all(variants.join(name)).unwrap();
            fs::write(variants.join(name).join("gemm.cubin"), "").unwrap();
        }
        let run = rehearsal.run("speed", &["--variants", variants.to_str().unwrap()]);
        run.is_whole();
        run.says("step at 65 frames", "pass", "1.0000 s a step with guidance, decode 2.00 s; planned 1.00 GiB");
        run.says("step at 221 frames", "pass", "1.0000 s");
        let with_variant = rehearsal
            .calls()
            .iter()
            .filter(|call| call.contains("variants/quick") && call.contains("BLOCKING=1"))
            .count();
        if known {
            assert_eq!(run.code, Some(0), "{}", run.stdout);
            for (step, words) in [
                ("doctor of quick", "gemm.cubin"),
                ("variant none, first", "denoise 200 ms"),
                ("variant quick", "denoise 100 ms"),
                ("variant slow", "denoise 300 ms"),
                ("variant none, last", "denoise 200 ms"),
                ("variant chosen", "quick is the fastest"),
                ("quick selftest gemm", "worst 0.43"),
                ("quick verify vae_v110 f16", "2 checks"),
            ] {
                run.says(step, "pass", words);
            }
            assert!(with_variant > 5 && !run.has("quick selftest conv3d"));
        } else {
            assert_eq!(run.code, Some(1), "{}", run.stdout);
            run.says("doctor of quick", "FAIL", "knows no OSP_KERNELS");
            assert!(with_variant == 0 && !run.has("variant quick"));
        }
    }
}

/// The image of a file of kernels from the build of the program; none in a build without nvcc.
fn image(stem: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_osp")).with_file_name("kernels");
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{stem}-"));
    let images = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).filter(named);
    images.filter(|path| path.extension().is_some_and(|ending| ending == "fatbin")).max()
}

/// With the doctor of the program itself, on the stand-in for the driver.
#[test]
fn each_folder_is_loaded_by_the_real_program_before_its_profile() {
    let Some(gemm) = image("gemm") else { return };
    let doctor = format!(
        "doctor) LD_LIBRARY_PATH={} OSP_STAND_IN= exec {} doctor ;;\n",
        crate::driver::library().display(),
        env!("CARGO_BIN_EXE_osp")
    );
    let rehearsal = Rehearsal::new(&doctor);
    let whole = fs::read(gemm).unwrap();
    for (folder, bytes) in [("quick", Some(&whole[..])), ("cut", Some(&whole[..1000])), ("empty", None)] {
        let folder = rehearsal.path("variants").join(folder);
        fs::create_dir_all(&folder).unwrap();
        if let Some(bytes) = bytes {
            fs::write(folder.join("gemm.fatbin"), bytes).unwrap();
        }
    }
    let run = rehearsal.run("speed", &["--variants", rehearsal.path("variants").to_str().unwrap()]);
    run.is_whole();
    run.says("doctor of quick", "pass", "gemm.fatbin");
    run.says("doctor of cut", "FAIL", "cut/gemm.fatbin: the fat binary is cut off: ");
    run.says("doctor of empty", "FAIL", "doctor names no file of empty");
    run.says("variant quick", "pass", "denoise 100 ms");
    run.says("variant chosen", "pass", "quick is the fastest");
    assert!(!run.has("variant cut") && !run.has("variant empty"), "{}", run.stdout);
}

/// Says that there are kernels for Hopper, and which files replace kernels.
const DOCTOR: &str = "doctor) printf 'gpu          Stand-in\\nruns         sm_90a; linear: sm80, until sm90 passes\\n'
    [ -z \"$OSP_KERNELS\" ] || echo \"OSP_KERNELS  $(ls -d \"$OSP_KERNELS\"/*)\" ;;\n";

#[test]
fn a_folders_kernels_run_beside_the_same_kernels_of_the_program() {
    let rehearsal = Rehearsal::new(DOCTOR);
    let variants = rehearsal.path("variants");
    for file in ["hopper/gemm_sm90.cubin", "any/attention.cubin", "quick/norm.cubin"] {
        fs::create_dir_all(variants.join(file).parent().unwrap()).unwrap();
        fs::write(variants.join(file), "").unwrap();
    }
    let run = rehearsal.run("light,speed", &["--variants", variants.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let calls = rehearsal.calls();
    let profiled = |trace: &str| {
        let of_trace = |call: &&String| call.starts_with("profile") && call.contains(&format!("/{trace}.trace.json"));
        let call = calls.iter().find(of_trace).unwrap_or_else(|| panic!("{trace}: {calls:?}"));
        call.split_once("--kernels ").map(|(_, kernels)| kernels.split(' ').next().unwrap().to_owned())
    };
    for (trace, kernels) in [
        ("variant-none-first", "sm90"),
        ("variant-hopper", "sm90"),
        ("variant-quick", "sm90"),
        ("variant-none-last", "sm90"),
        ("variant-none-sm80-first", "sm80"),
        ("variant-any", "sm80"),
        ("variant-none-sm80-last", "sm80"),
    ] {
        assert_eq!(profiled(trace).as_deref(), Some(kernels), "{trace}");
    }
    run.says("variant chosen", "pass", "quick is the fastest");
    let verified = |call: &String| {
        call.contains("variants/quick") && call.starts_with("verify") && call.contains("--kernels sm90")
    };
    assert!(calls.iter().any(verified), "{calls:?}");
}

#[test]
fn a_mended_kernel_is_tested_then_timed_and_a_wrong_one_is_not_timed() {
    let fails = "'selftest gemm'*) case $OSP_KERNELS in
        *mended) echo 'pass  linear_sm90_small_f16   0.5 of allowed' ;; *) echo 'FAIL  linear_sm90_small_f16'; exit 1 ;; esac ;;\n";
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{fails}"));
    for file in ["mended/gemm_sm90.cubin", "quick/gemm_sm90.cubin", "slow/norm.cubin"] {
        let file = rehearsal.path("variants").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let run = rehearsal.run("light,speed", &["--variants", rehearsal.path("variants").to_str().unwrap()]);
    run.is_whole();
    run.says("variant none sm90, first", "pass", "denoise");
    run.says("mended selftest gemm", "pass", "linear_sm90_small_f16");
    run.says("variant mended", "pass", "denoise");
    run.says("quick selftest gemm", "FAIL", "linear_sm90_small_f16");
    run.says("variant quick", "skip", "its kernels have not passed their self-tests");
    let at = |step: &str| run.steps.iter().position(|(name, ..)| name == step).unwrap();
    assert!(at("mended selftest gemm") < at("variant mended"), "{}", run.stdout);
    // The program's own kernels of this file have not failed.
    run.says("variant slow", "pass", "denoise");
    assert!(!run.has("slow selftest norm"), "{}", run.stdout);
    run.says("variant chosen", "pass", "no variant is faster than the unchanged program");
}

#[test]
fn without_a_baseline_a_folder_that_runs_is_ahead() {
    let doctor = "doctor) printf 'gpu          Stand-in\\nruns         sm_90a\\n'
                [ -z \"$OSP_KERNELS\" ] || echo \"OSP_KERNELS  $OSP_KERNELS/gemm.cubin\" ;;\n";
    let rehearsal = Rehearsal::new("");
    let program = STAND_IN.replace("  # OVERRIDES\n", doctor);
    let broken = "  profile*)\n    [ -n \"$OSP_KERNELS\" ] || { echo 'error: it hangs'; exit 1; }\n";
    rehearsal.script("bin/osp", &program.replace("  profile*)\n", broken));
    fs::create_dir_all(rehearsal.path("variants/slow")).unwrap();
    fs::write(rehearsal.path("variants/slow/gemm.cubin"), "").unwrap();
    let run = rehearsal.run("speed", &["--variants", rehearsal.path("variants").to_str().unwrap()]);
    run.is_whole();
    run.says("variant none, first", "FAIL", "it hangs");
    run.says("variant none, last", "skip", "the first one has no time");
    run.says("variant chosen", "pass", "slow is the fastest");
    run.says("slow selftest gemm", "pass", "worst 0.43");
    run.says("slow verify vae_v110 f16", "pass", "2 checks");
}
