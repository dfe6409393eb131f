//! Memory that the system refuses: one line, exit code 4, and no temporary files.

use super::{CACHE, model_argument, names, osp};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in `folder` with at most `mib` MiB of address space.
fn limited(folder: &Path, mib: usize, threads: &str, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10)]);
    command.arg(osp(folder).get_program()).args(args).current_dir(folder);
    command.env("RAYON_NUM_THREADS", threads).env("XDG_CACHE_HOME", folder.join(CACHE)).env_remove("OSP_MODEL");
    command.output().unwrap()
}

/// Checks that a run was refused memory, and that its only error line has all `words`.
#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn sizes_beyond_all_memory_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let sample = ["sample", "a cat", "--frames", "1", "--steps", "4", "--quiet", "--model", &model, "--no-cache"];
    let huge = ["--size", "65536x65536", "-o", "a.png"];
    let output = limited(folder.path(), 2048, "2", &[&sample[..], &huge].concat());
    refused(&output, &["osp: error: denoise: out of memory: needs", "--frames, --size"]);
    let output = limited(folder.path(), 2048, "2", &[&sample[..], &huge, &["--progress", "json"]].concat());
    refused(&output, &["{\"event\":\"error\",\"text\":\"denoise: out of memory", "\"exit_code\":4}"]);
    let output = limited(folder.path(), 2048, "2", &[&sample[..], &huge, &["--dry-run"]].concat());
    refused(&output, &["osp: error: denoise: out of memory: needs"]);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_video_beyond_the_memory_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    // The host has no room for the second one's noise, the CPU none for the third one's first layer.
    let sizes = ["16x16", "65536x65536", "8192x8192", "16x32"];
    let lines =
        sizes.map(|size| format!("{{\"prompt\": \"a cat\", \"size\": \"{size}\", \"output\": \"{size}.png\"}}\n"));
    fs::write(folder.path().join("list.jsonl"), lines.concat()).unwrap();
    let args = ["sample", "--prompts", "list.jsonl", "--frames", "1", "--steps", "4", "--model", &model];
    let output = limited(folder.path(), 1024, "2", &[&args[..], &["--no-cache", "--device", "cpu"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("denoise: out of memory: needs").count(), 2, "{said}");
    let made = ["16x16.png", "16x16.png.json", "16x32.png", "16x32.png.json", "list.jsonl"];
    assert_eq!(names(folder.path()), made, "{said}");
}

#[test]
fn a_run_that_is_refused_memory_while_it_writes_leaves_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let shape = [1, 4, 1, 64, 64];
    let bytes = vec![0; shape.iter().product::<usize>() * 4];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes).unwrap();
    let latent = safetensors::serialize([("latent", view)], None).unwrap();
    fs::write(folder.path().join("l.safetensors"), latent).unwrap();
    fs::write(folder.path().join("old.gif"), "precious").unwrap();
    for output in ["old.gif", "frames", "-"] {
        let args = ["decode", "l.safetensors", "--no-tiling", "--quiet", "--model", &model, "-o", output];
        let run = limited(folder.path(), 160, "2", &args);
        refused(&run, &["osp: error: ", "out of memory"]);
        // An option that another command has.
        assert!(!String::from_utf8_lossy(&run.stderr).contains("--frames") && run.stdout.is_empty());
        assert_eq!(names(folder.path()), ["l.safetensors", "old.gif"], "{output}");
        assert_eq!(fs::read(folder.path().join("old.gif")).unwrap(), b"precious");
    }
}

#[test]
fn threads_that_the_system_refuses_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = limited(folder.path(), 512, "1024", &["doctor"]);
    refused(&output, &["osp: error: cannot start the threads", "RAYON_NUM_THREADS"]);
}

#[test]
fn a_clip_beyond_the_memory_names_the_option_for_fewer_frames() {
    let folder = tempfile::tempdir().unwrap();
    // After the first frame, each has one pixel and takes some 20 bytes; in memory it is as large as the first.
    let file = fs::File::create(folder.path().join("a.gif")).unwrap();
    let mut encoder = gif::Encoder::new(file, 2048, 2048, &[0; 6]).unwrap();
    let dot = gif::Frame { width: 1, height: 1, buffer: vec![0].into(), ..gif::Frame::default() };
    (0..200).for_each(|_| encoder.write_frame(&dot).unwrap());
    // Writes the end of the file.
    drop(encoder);
    let output = limited(folder.path(), 640, "2", &["compare", "a.gif", "a.gif"]);
    refused(&output, &["osp: error: a.gif: out of memory: needs", "read fewer of its frames (--max-frames)"]);
    let output = limited(folder.path(), 640, "2", &["compare", "a.gif", "a.gif", "--max-frames", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_chunk_that_claims_gigabytes_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.webp");
    image::save_buffer(&path, &[7; 48], 4, 4, image::ExtendedColorType::Rgb8).unwrap();
    let whole = fs::read(&path).unwrap();
    let extended = b"VP8X\x0a\0\0\0\x08\0\0\0\x03\0\0\x03\0\0";
    let claim = b"EXIF\xf0\xff\xff\xff";
    let chunks = [b"WEBP".as_slice(), extended, &whole[12..], claim].concat();
    fs::write(&path, [b"RIFF", &(chunks.len() as u32).to_le_bytes()[..], &chunks].concat()).unwrap();
    let output = limited(folder.path(), 1024, "2", &["compare", "a.webp", "a.webp"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged or truncated image"), "{said}");
}

/// Each tensor takes five bytes of the program, and has 65 axes.
#[test]
fn a_pickle_that_repeats_a_tensor_takes_little_memory() {
    let model = super::weights::copy_of_the_model();
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let storage =
        [&b"(("[..], &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x01tQK\x00"].concat();
    let axes = [&b"("[..], &b"K\x01".repeat(65), b"tq\x01h\x01"].concat();
    let program = [&b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00"[..], &storage, &axes, b"tq\x02"].concat();
    let bytes = [&program[..], &b"h\x00h\x02R".repeat(1_000_000), b"."].concat();
    fs::remove_file(model.path().join("text_encoder/model.safetensors")).unwrap();
    fs::write(model.path().join("text_encoder/pytorch_model.bin"), bytes).unwrap();
    let output = limited(model.path(), 768, "2", &["info", "."]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(5) && said.contains("pickle without tensors"), "{said}");
}
