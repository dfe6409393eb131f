//! Output streams without a reader: a closed terminal, `2>&1 | head -1`, `2>&-`, a full disk behind stdout. The work
//! continues.

use super::{CACHE, model_argument, names, osp};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The outputs of [`sample`].
const OUTPUTS: [&str; 6] =
    ["a-000.png", "a-000.png.json", "a-001.png", "a-001.png.json", "a-grid.png", "a-grid.png.json"];

/// `osp` in `folder`, started by a shell with these `redirections`.
fn shell(folder: &Path, redirections: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$@\" {redirections}"), "sh"]).arg(osp(folder).get_program()).args(args);
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join(CACHE)).env_remove("OSP_MODEL");
    command
}

/// A run that makes two images and a grid.
fn sample(folder: &Path, redirections: &str) -> Command {
    let model = model_argument();
    let args = ["sample", "a cat", "a dog", "--frames", "1", "--steps", "4", "-o", "a.png", "--model", &model];
    shell(folder, redirections, &args)
}

/// Runs `command` with pipes that have no reader from the beginning.
fn deaf(mut command: Command, stdout: bool, stderr: bool) -> Output {
    let pipe = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdout(pipe(stdout)).stderr(pipe(stderr)).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    child.wait_with_output().unwrap()
}

#[test]
fn a_run_continues_when_its_streams_have_no_reader() {
    for (stdout, stderr) in [(false, true), (true, false), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let output = deaf(sample(folder.path(), ""), stdout, stderr);
        assert_eq!(output.status.code(), Some(0), "stdout {stdout}, stderr {stderr}");
        assert_eq!(names(folder.path()), OUTPUTS);
    }
}

/// The two ends of a new terminal: the user's, and the program's.
#[cfg(target_os = "linux")]
pub fn terminal() -> [std::fs::File; 2] {
    use std::fs::File;
    use std::os::fd::FromRawFd;
    use std::ptr::{null, null_mut};
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: there is room for two descriptors, and the other pointers may be null. The descriptors are new, so nobody
    // else owns them.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut its, null_mut(), null(), null()), 0);
        // Programs of other tests must not hold the terminal open.
        for end in [ours, its] {
            assert_eq!(libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC), 0);
        }
        [File::from_raw_fd(ours), File::from_raw_fd(its)]
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_continues_when_its_terminal_is_closed() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let [mut ours, its] = terminal();
    let mut command = sample(folder.path(), "");
    let mut child = command.stdout(its.try_clone().unwrap()).stderr(its).spawn().unwrap();
    // The terminal is closed after the first output.
    let read = ours.read(&mut [0; 64]).unwrap();
    assert!(read > 0);
    drop((ours, command));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(names(folder.path()), OUTPUTS);
}

#[test]
fn a_run_continues_without_streams() {
    for redirections in ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let folder = tempfile::tempdir().unwrap();
        let output = sample(folder.path(), redirections).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{redirections}");
        assert_eq!(names(folder.path()), OUTPUTS);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_stdout_is_an_error_after_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let output = sample(folder.path(), ">/dev/full").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with("osp: error: cannot write to stdout"), "{said}");
    assert_eq!(names(folder.path()), OUTPUTS);
}

#[test]
fn the_exit_code_is_right_when_the_streams_have_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    for (args, code) in [(&["sample", "a cat", "--frames", "2"][..], 2), (&["info", "absent"], 5), (&["--help"], 0)] {
        assert_eq!(deaf(shell(folder.path(), "", args), true, true).status.code(), Some(code), "{args:?}");
    }
}
