//! scripts/gpu_check/cublaslt.py with a library that computes on the CPU what NVIDIA's documentation says.

use super::{Rehearsal, root};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Compiles the stand-in for the library; returns its folder. Its version is the mock PyTorch's, which no machine has.
pub(super) fn library(rehearsal: &Rehearsal) -> PathBuf {
    let folder = rehearsal.path("lib");
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("c++");
    command.args(["-std=c++17", "-O1", "-shared", "-fPIC"]).arg(root().join("tests/scripts/cublaslt.cpp"));
    let output = command.arg("-o").arg(folder.join("libcublasLt.so.99")).output().expect("a C++ compiler builds osp");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Two layers in each type, without and with GELU: prints the algorithm that is taken, and how far the result is off.
const LAYERS: &str = "
import sys
sys.path[:0] = sys.argv[1:]
import torch, cublaslt
for dtype in (torch.float16, torch.bfloat16):
    for gelu in (False, True):
        x = torch.tensor((3, 8), dtype, lambda i: (i * 7 % 11 - 5) / 4)
        weight = torch.tensor((5, 8), dtype, lambda i: (i * 5 % 13 - 6) / 8)
        bias = torch.tensor((5,), dtype, lambda i: i - 2.5)
        product = cublaslt.Product(cublaslt.Library(torch), torch, x, weight, bias, gelu)
        seconds = iter([3.0, 1.0])
        taken = product.fastest(lambda run: (run(), next(seconds))[1])
        product.out.zero_()
        product.run(taken)
        off = max(abs(a - b) for a, b in zip(product.out.float().values, product.expected().values))
        print(taken.algorithm[0], off < (0.002 if dtype == torch.float16 else 0.02))
";

fn layers(rehearsal: &Rehearsal, refuses: &str) -> Output {
    fs::write(rehearsal.path("tools/torch.py"), include_str!("tensors.py")).unwrap();
    let mut command = Command::new("python3");
    command.args(["-B", "-c", LAYERS]).arg(root().join("scripts/gpu_check")).arg(rehearsal.path("tools"));
    command.env("LD_LIBRARY_PATH", rehearsal.path("lib")).env("CALLS", rehearsal.path("calls"));
    command.env("REFUSES", refuses).output().expect("python3 is needed for scripts/gpu-check")
}

#[test]
fn rows_are_passed_as_columns_and_the_fastest_right_algorithm_is_taken() {
    let rehearsal = Rehearsal::new("");
    library(&rehearsal);
    let output = layers(&rehearsal, "");
    // Algorithm 0 cannot be used, 1 is wrong, 2 takes longer than 3.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3 True\n".repeat(4), "{output:?}");
    let calls = fs::read_to_string(rehearsal.path("calls")).unwrap();
    for (kind, epilogue) in [(2, 4), (2, 36), (14, 4), (14, 36)] {
        // y [3, 5] is a matrix of 5 rows and 3 columns, because the library stores columns.
        let shape = format!("5 x 3, type {kind}, epilogue {epilogue}, workspace 33554432, stream 0x5eed");
        let ran: Vec<&str> = calls.lines().filter_map(|line| line.strip_suffix(&shape)?.strip_suffix(": ")).collect();
        assert_eq!(ran, ["1", "2", "2", "3", "3", "3"], "{calls}");
    }
}

#[test]
fn a_missing_library_and_a_failed_call_are_named() {
    let rehearsal = Rehearsal::new("");
    let said = |refuses: &str| {
        let output = layers(&rehearsal, refuses);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).trim_end().lines().last().unwrap().to_owned()
    };
    let missing = said("");
    assert!(missing.contains("cuBLASLt cannot be loaded: tried libcublasLt.so.99"), "{missing}");
    library(&rehearsal);
    for function in ["Create", "MatmulDescCreate", "MatrixLayoutCreate", "MatmulPreferenceCreate", "Matmul"] {
        let function = format!("cublasLt{function}");
        assert_eq!(said(&function), format!("cublaslt.Refused: {function}: CUBLAS_STATUS_NOT_SUPPORTED"));
    }
}
