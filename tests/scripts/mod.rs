//! scripts/gpu-check with a mock program: whatever the program does, the table is complete, and no step passes that did
//! not run on a GPU. python3 runs the script, as on the machine with the GPU.

mod card;
mod cublaslt;
mod faults;
mod hangs;
mod hopper;
mod kernel_report;
mod pack;
mod sanitizer;
mod stages;
mod variants;
mod workers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const STAND_IN: &str = include_str!("stand_in.sh");
const TORCH: &str = include_str!("torch.py");
/// What a convolution of the mock of PyTorch does: the first one never ends.
const HANGS: &str = "if not os.path.exists(__file__ + '.hung'):
            open(__file__ + '.hung', 'w').close()
            time.sleep(1000)";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with a mock program, the tools that the script can find, and the script's output.
struct Rehearsal(TempDir);

/// The results of a run of the script.
struct Run {
    code: Option<i32>,
    stdout: String,
    /// The line of each step: its name, its verdict and its text.
    steps: Vec<(String, String, String)>,
    files: Vec<PathBuf>,
    out: PathBuf,
}

impl Rehearsal {
    /// A mock program with other answers in the cases of `overrides`.
    fn new(overrides: &str) -> Self {
        let rehearsal = Self(tempfile::tempdir().unwrap());
        fs::create_dir(rehearsal.path("bin")).unwrap();
        fs::create_dir(rehearsal.path("tools")).unwrap();
        rehearsal.script("bin/osp", &STAND_IN.replace("  # OVERRIDES\n", overrides));
        rehearsal
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes a mock of PyTorch, whose convolutions begin with a statement.
    fn torch(&self, hangs: &str) {
        fs::write(self.path("tools/torch.py"), TORCH.replace("# HANGS", hangs)).unwrap();
    }

    /// The calls of the mock program.
    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("bin/calls")).unwrap().lines().map(str::to_owned).collect()
    }

    fn command(&self, stage: &str, args: &[&str]) -> Command {
        let mut command = Command::new("python3");
        command.arg(root().join("scripts/gpu-check")).args(["--stage", stage]).args(args);
        command.arg("--bin").arg(self.path("bin")).arg("--out").arg(self.path("out"));
        command.arg("--results").arg(self.path("results.json"));
        let paths = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{paths}", self.path("tools").display())).env("PYTHONPATH", self.path("tools"));
        command.env_remove("OUT");
        command
    }

    fn run(&self, stage: &str, args: &[&str]) -> Run {
        let output = self.command(stage, args).output().expect("python3 is needed for scripts/gpu-check");
        Run::new(output, &self.path("out"))
    }
}

impl Run {
    fn new(output: Output, out: &Path) -> Self {
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("Traceback"), "{stdout}\n{stderr}");
        let line = |line: &str| {
            let (verdict, rest) = ["pass  ", "FAIL  ", "skip  "]
                .iter()
                .find_map(|verdict| Some((verdict, line.strip_prefix(verdict)?)))?;
            let (name, text) = rest.split_once("  ")?;
            Some((name.to_owned(), verdict.trim().to_owned(), text.trim().to_owned()))
        };
        let steps = stdout.lines().filter_map(line).collect();
        let files =
            fs::read_dir(out).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
        Self { code: output.status.code(), stdout, steps, files, out: out.to_path_buf() }
    }

    /// Checks that a step has this verdict, and a text with these words. If the step ran several times, one run is
    /// enough.
    #[track_caller]
    fn says(&self, step: &str, verdict: &str, words: &str) {
        let said =
            |(name, found, text): &(String, String, String)| name == step && found == verdict && text.contains(words);
        assert!(self.steps.iter().any(said), "{step} has no {verdict} with {words:?}:\n{}", self.stdout);
    }

    fn has(&self, step: &str) -> bool {
        self.steps.iter().any(|(name, ..)| name == step)
    }

    fn count(&self, verdict: &str) -> usize {
        self.steps.iter().filter(|(_, found, _)| found == verdict).count()
    }

    /// Checks what every run must write: a short table, printed last, and few files with plain names.
    #[track_caller]
    fn is_whole(&self) {
        let table = self.read("table.txt");
        assert!(table.chars().count() <= 9_001 && self.stdout.ends_with(&table), "{}", self.stdout);
        let line =
            format!("{} FAILED, {} passed, {} skipped", self.count("FAIL"), self.count("pass"), self.count("skip"));
        assert!(table.contains(&line), "{line}:\n{}", self.stdout);
        assert!(self.read("record.md").contains("## MACHINE"));
        assert!(self.files.len() <= 8);
        for file in &self.files {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && file.is_file(), "{name}");
            assert!(file.metadata().unwrap().len() <= 16 << 20, "{name}");
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.out.join(name)).unwrap()
    }
}

/// Mock programs that still run after the script.
fn alive(pids: &str) -> Vec<&str> {
    // A process that has ended, but that init has not reaped yet, has an empty command line.
    let runs = |pid: &&str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    pids.split_whitespace().filter(runs).collect()
}
