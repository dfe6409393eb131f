//! Videos on stdout, `-o -`: a video is printed whole or not at all, and no other file is written.

use super::faults::failing;
use super::{fails, model_argument, names, osp, succeeds, write};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The bytes that a run prints.
fn printed(folder: &Path, args: &[&str]) -> Vec<u8> {
    osp(folder).args(args).assert().success().get_output().stdout.clone()
}

/// Commands that make a video from the files in [`folder`].
fn commands(model: &str) -> [Vec<&str>; 3] {
    let sample = ["sample", "a cat", "--frames", "5", "--guidance", "1", "--steps", "4", "--model", model];
    let others = ["reconstruct", "decode"].map(|command| {
        let input = if command == "decode" { "l.safetensors" } else { "in.y4m" };
        vec![command, input, "--model", model]
    });
    let [reconstruct, decode] = others;
    [sample.into(), reconstruct, decode]
}

/// A folder with a clip and a latent.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.y4m"), 5, 32, 32);
    succeeds(folder.path(), &["encode", "in.y4m", "-o", "l.safetensors", "--model", &model_argument()]);
    folder
}

#[test]
fn stdout_gets_the_bytes_of_a_file_and_nothing_else() {
    let folder = folder();
    let model = model_argument();
    for command in commands(&model) {
        let before = names(folder.path());
        let bytes = printed(folder.path(), &[&command[..], &["-o", "-"]].concat());
        assert!(bytes.starts_with(b"YUV4MPEG2 "), "{command:?}");
        assert_eq!(names(folder.path()), before, "{command:?}");
        succeeds(folder.path(), &[&command[..], &["-o", "file.y4m"]].concat());
        assert!(bytes == fs::read(folder.path().join("file.y4m")).unwrap(), "{command:?}");
    }
}

#[test]
fn stdin_gives_latents_and_lists_too() {
    let folder = folder();
    let model = model_argument();
    let from = |input: &[u8], args: &[&str]| {
        let mut command = osp(folder.path());
        command.args(args).args(["--model", &model]).write_stdin(input).assert().success();
    };
    let latent = fs::read(folder.path().join("l.safetensors")).unwrap();
    from(&latent, &["decode", "-", "-o", "piped.y4m"]);
    succeeds(folder.path(), &["decode", "l.safetensors", "-o", "file.y4m", "--model", &model]);
    assert!(fs::read(folder.path().join("piped.y4m")).unwrap() == fs::read(folder.path().join("file.y4m")).unwrap());
    from(b"a cat\na dog\n", &["sample", "--prompts", "-", "--frames", "1", "--steps", "4", "-o", "x.png"]);
    assert!(folder.path().join("x-001.png").exists());
    let object = b"{\"prompt\": \"a cat\", \"frames\": 1, \"output\": \"object.png\"}";
    from(object, &["sample", "--prompts", "-", "--steps", "4", "-o", "x.png"]);
    assert!(folder.path().join("object.png").exists());
    let twice = ["sample", "--prompts", "-", "--init-image", "-", "-o", "y.png", "--model", &model];
    fails(folder.path(), &twice, 2, &["- is given twice"]);
}

#[test]
fn other_output_on_the_same_stdout_is_refused() {
    let folder = folder();
    let model = model_argument();
    for command in commands(&model) {
        fails(folder.path(), &[&command[..], &["-o", "-", "--json"]].concat(), 2, &["--json"]);
    }
    let several = ["sample", "a cat", "a dog", "--frames", "1", "-o", "-", "--model", "absent"];
    fails(folder.path(), &several, 2, &["several"]);
    fs::write(folder.path().join("list.jsonl"), "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"output\": \"-\"}").unwrap();
    let several = ["sample", "--prompts", "list.jsonl", "--frames", "1", "-o", "a.png", "--model", "absent"];
    fails(folder.path(), &several, 2, &["list.jsonl, line 2: output -"]);
    let cases: [&[&str]; 4] = [
        &["encode", "in.y4m", "-o", "-"],
        &["convert", &model, "-o", "-"],
        &["download", "a/b", "-o", "-"],
        &["plan", "--preset", "v1.1.0", "--svg", "-"],
    ];
    for args in cases {
        fails(folder.path(), args, 2, &["-"]);
    }
}

#[test]
fn a_run_that_fails_prints_nothing() {
    let folder = folder();
    let model = model_argument();
    let whole = fs::read(folder.path().join("in.y4m")).unwrap();
    fs::write(folder.path().join("cut.y4m"), &whole[..whole.len() - 9]).unwrap();
    fails(folder.path(), &["reconstruct", "cut.y4m", "-o", "-", "--model", &model], 1, &["cut.y4m"]);
}

#[test]
fn a_decoder_that_fails_after_its_first_frames_prints_nothing() {
    let folder = folder();
    let model = model_argument();
    let (place, counted) = (folder.path().canonicalize().unwrap().join("tmp"), folder.path().join("calls"));
    fs::create_dir(&place).unwrap();
    // The frames wait in TMPDIR for the last one, and its second write finds the disk full.
    let run = |number| {
        let mut command = failing(folder.path(), &place, ["write", "28"], number, &counted);
        command.env("TMPDIR", &place);
        command.args(["decode", "l.safetensors", "-o", "-", "--device", "cpu", "--model", &model]).output().unwrap()
    };
    let whole = run(0);
    let writes: usize = fs::read_to_string(&counted).unwrap().parse().unwrap();
    assert!(whole.status.success() && whole.stdout.len() > 5 * 32 * 32 && writes > 1, "{writes} writes");
    for number in 1..=writes {
        let failed = run(number);
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(1) && failed.stdout.is_empty(), "write {number} of {writes}: {said}");
        assert_eq!(said.lines().filter(|line| line.contains("error: ")).count(), 1, "{said}");
        assert!(fs::read_dir(&place).unwrap().next().is_none(), "write {number} of {writes} leaves something");
    }
}

#[test]
fn a_reader_may_close_stdout_early() {
    let folder = folder();
    let model = model_argument();
    let mut command = Command::new(osp(folder.path()).get_program());
    command.args([&commands(&model)[2][..], &["-o", "-"]].concat()).current_dir(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_or_folder_can_have_the_name_of_a_dash() {
    let folder = folder();
    let model = model_argument();
    for name in ["./-", "./-/"] {
        let args = [&commands(&model)[2][..], &["-o", name]].concat();
        assert_eq!(succeeds(folder.path(), &args), format!("{name}\n"));
    }
    assert_eq!(names(&folder.path().join("-")).len(), 5);
}

#[test]
fn an_empty_name_is_refused() {
    let folder = folder();
    let model = model_argument();
    for command in commands(&model) {
        fails(folder.path(), &[&command[..], &["-o", ""]].concat(), 2, &["output"]);
    }
    for args in [["encode", "in.y4m", "-o", ""], ["convert", &model, "-o", ""], ["download", "a/b", "-o", ""]] {
        fails(folder.path(), &args, 2, &["output"]);
    }
}
