//! `osp convert`, and the commands that read PyTorch's files without it.

use super::{contents, fails, golden, names, osp, succeeds};
use crate::weights::torch_file::{Py, Tensor, dict, zipped};
use osp::tensor::DType;
use osp::weights::{Entry, Files, Source};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A folder with the tiny text encoder as PyTorch wrote it, in `t5`.
fn text_encoder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("t5")).unwrap();
    for name in ["config.json", "spiece.model", "pytorch_model.bin"] {
        fs::copy(golden("pipeline/text_encoder").join(name), folder.path().join("t5").join(name)).unwrap();
    }
    folder
}

/// The tiny VAE as a Lightning checkpoint, in `vae`.
fn vae() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vae");
    fs::create_dir(&path).unwrap();
    fs::copy(golden("pipeline/vae/config.json"), path.join("config.json")).unwrap();
    let original = Files::open(&golden("pipeline/vae/diffusion_pytorch_model.safetensors")).unwrap();
    let tensor = |name: String| {
        let tensor = original.tensor(&name).unwrap().unwrap();
        let shape: Vec<i64> = tensor.shape.iter().map(|size| *size as i64).collect();
        // Names live as long as the process: a test may leak them.
        let name: &'static str = name.leak();
        (name, Py::Tensor(Tensor::new("BFloat16Storage", name, &shape, tensor.bytes.to_vec(), 2)))
    };
    let mut state: Vec<_> = original.entries().into_iter().map(|entry| tensor(entry.name)).collect();
    state.push(("loss.logvar", Py::Tensor(Tensor::f32("l", &[1], &[0.0]))));
    state.push(("loss.discriminator.count", Py::Tensor(Tensor::new("IntStorage", "c", &[1], vec![0; 4], 4))));
    let training = dict([("epoch", Py::Int(3)), ("state_dict", dict(state)), ("optimizer_states", Py::List(vec![]))]);
    fs::write(path.join("checkpoint.ckpt"), zipped(&training)).unwrap();
    folder
}

#[test]
fn a_text_encoder_of_torch_becomes_safetensors_with_the_same_values() {
    let folder = text_encoder();
    let output = succeeds(folder.path(), &["convert", "t5", "-o", "out", "--dtype", "f32", "--json"]);
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["parts"][0]["files"], serde_json::json!(["out/model.safetensors"]));
    assert_eq!(report["parts"][0]["left_out"], 1, "the duplicate of the embedding");
    assert_eq!(names(&folder.path().join("out")), ["config.json", "model.safetensors", "spiece.model"]);
    assert_eq!(names(folder.path()), ["out", "t5"]);
    let [source, written] = ["t5/pytorch_model.bin", "out/model.safetensors"].map(|path| folder.path().join(path));
    let (source, written) = (Files::open(&source).unwrap(), Files::open(&written).unwrap());
    assert!(written.entries().len() > 10);
    for entry in written.entries() {
        let [found, expected] = [&written, &source].map(|file| file.tensor(&entry.name).unwrap().unwrap());
        assert_eq!((entry.dtype, &found.shape), (DType::F32, &expected.shape));
        assert_eq!(found.to_f32(), expected.to_f32(), "{}", entry.name);
    }
    assert!(succeeds(folder.path(), &["info", "out"]).contains("problems      none"));
    fs::remove_file(folder.path().join("t5/spiece.model")).unwrap();
    let output = osp(folder.path()).args(["convert", "t5", "-o", "mute"]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: t5 has no tokenizer (spiece.model or tokenizer.json)"), "{said}");
}

#[test]
fn a_training_checkpoint_of_the_vae_is_read_and_converted_without_its_loss() {
    let folder = vae();
    let info = succeeds(folder.path(), &["info", "vae"]);
    for word in ["pickle:", "loss.", "problems      none", "i32"] {
        assert!(info.contains(word), "{word}: {info}");
    }
    for source in ["vae", "vae/checkpoint.ckpt"] {
        let text = succeeds(folder.path(), &["convert", source, "-o", "out", "--force"]);
        assert!(text.contains("2 not written") && text.contains("out/diffusion_pytorch_model.safetensors"), "{text}");
    }
    let written = folder.path().join("out/diffusion_pytorch_model.safetensors");
    let (original, written) =
        (golden("pipeline/vae/diffusion_pytorch_model.safetensors"), Files::open(&written).unwrap());
    let original = Files::open(&original).unwrap();
    assert_eq!(written.entries().len(), original.entries().len());
    for Entry { name, .. } in written.entries() {
        assert_eq!(*written.tensor(&name).unwrap().unwrap().bytes, *original.tensor(&name).unwrap().unwrap().bytes);
    }
}

#[test]
fn a_whole_model_is_converted_component_by_component() {
    let folder = tempfile::tempdir().unwrap();
    let model = super::model_argument();
    let text = succeeds(folder.path(), &["convert", &model, "-o", "model"]);
    assert!(["text encoder: ", "transformer: ", "vae: "].iter().all(|part| text.contains(part)), "{text}");
    let info = succeeds(folder.path(), &["info", "model"]);
    assert!(info.contains("17 frames of 32x32") && !info.contains("PROBLEM"), "{info}");
}

#[test]
fn the_tiny_model_runs_from_torchs_files() {
    let (vae, t5) = (vae(), text_encoder());
    let path = |name: &str| golden("pipeline").join(name);
    fs::rename(vae.path().join("vae"), t5.path().join("vae")).unwrap();
    fs::rename(t5.path().join("t5"), t5.path().join("text_encoder")).unwrap();
    fs::create_dir(t5.path().join("transformer")).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(path("transformer").join(name), t5.path().join("transformer").join(name)).unwrap();
    }
    let model = super::model_argument();
    for (model, output) in [(".", "torch.y4m"), (&model, "safetensors.y4m")] {
        let args = ["sample", "a cat", "--model", model, "--frames", "1", "--steps", "1", "--sampler", "DDIM"];
        succeeds(t5.path(), &[&args[..], &["-o", output, "--device", "cpu"]].concat());
    }
    let [torch, safetensors] = ["torch.y4m", "safetensors.y4m"].map(|name| fs::read(t5.path().join(name)).unwrap());
    assert!(torch == safetensors, "the same weights give the same bytes");
}

#[test]
fn an_existing_output_is_replaced_only_on_request() {
    let folder = text_encoder();
    let path = folder.path();
    fs::create_dir(path.join("old")).unwrap();
    fs::write(path.join("old/model.safetensors"), "precious").unwrap();
    fs::create_dir(path.join("thesis")).unwrap();
    fs::write(path.join("thesis/chapter.txt"), "precious").unwrap();
    fs::write(path.join("file"), "precious").unwrap();
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["t5", "-o", "old"], 2, &["old", "--force"]),
        (&["t5", "-o", "thesis"], 2, &["thesis", "--force"]),
        (&["t5", "-o", "thesis", "--force"], 2, &["chapter.txt", "would be lost"]),
        (&["t5", "-o", "file", "--force"], 2, &["file", "is a file"]),
        (&["t5", "-o", "t5", "--force"], 2, &["output t5", "is an input"]),
        (&["t5", "-o", ".", "--force"], 2, &["no name"]),
        (&["t5", "-o", "absent/out"], 2, &["absent"]),
        (&["absent", "-o", "out"], 5, &["absent", "no such folder"]),
        (&["thesis", "-o", "out"], 5, &["thesis", "not a component of a model"]),
    ];
    for (args, code, words) in cases {
        fails(path, &[&["convert"], args].concat(), code, words);
    }
    succeeds(path, &["convert", "t5", "-o", "old", "--force"]);
    assert_eq!(names(&path.join("old")), ["config.json", "model.safetensors", "spiece.model"]);
    assert_eq!(names(path), ["file", "old", "t5", "thesis"]);
}

#[test]
fn weights_that_do_not_fit_leave_nothing_behind() {
    let folder = text_encoder();
    let file = folder.path().join("t5/pytorch_model.bin");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1000]).unwrap();
    fails(folder.path(), &["convert", "t5", "-o", "out"], 5, &["pytorch_model.bin", "cut off"]);
    let hostile = dict([("x", Py::Call("os", "system", vec![Py::Text("touch hacked")]))]);
    fs::write(&file, zipped(&hostile)).unwrap();
    fails(folder.path(), &["convert", "t5", "-o", "out"], 5, &["pytorch_model.bin", "calls os.system"]);
    fails(folder.path(), &["sample", "a cat", "--model", "t5"], 5, &["t5"]);
    fs::write(&file, zipped(&dict([("x", Py::Tensor(Tensor::f32("0", &[1], &[1.0])))]))).unwrap();
    fails(folder.path(), &["convert", "t5", "-o", "out"], 5, &["pytorch_model.bin", "is missing; expected shape"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_and_a_folder_that_is_not_writable_are_named() {
    let folder = text_encoder();
    // Even root cannot write there.
    fails(folder.path(), &["convert", "t5", "-o", "/proc/out"], 1, &["/proc"]);
    // Files are limited to 64 KiB. The signal for this is ignored, so that writing fails.
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/model.safetensors"), "precious").unwrap();
    let before = contents(folder.path());
    let program = osp(folder.path()).get_program().to_owned();
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" convert t5 -o out --force";
    let output =
        std::process::Command::new("bash").args(["-c", script]).arg(program).current_dir(folder.path()).output();
    let output = output.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("osp: error: cannot write out/") && last.contains("File too large"), "{stderr}");
    assert!(contents(folder.path()) == before, "{:?}", contents(folder.path()).keys());
}

#[test]
#[cfg(unix)]
fn models_in_the_cache_of_the_hub_are_found_by_name() {
    use std::os::unix::fs::symlink;
    let folder = text_encoder();
    let cache = folder.path().join("home/hub/models--ORG--NAME");
    let snapshot = cache.join("snapshots/0123abcd");
    for part in [&cache.join("blobs"), &cache.join("refs"), &snapshot] {
        fs::create_dir_all(part).unwrap();
    }
    fs::write(cache.join("refs/main"), "0123abcd").unwrap();
    for (i, name) in names(&folder.path().join("t5")).iter().enumerate() {
        fs::rename(folder.path().join("t5").join(name), cache.join("blobs").join(i.to_string())).unwrap();
        symlink(Path::new("../../blobs").join(i.to_string()), snapshot.join(name)).unwrap();
    }
    let run = |args: &[&str]| {
        osp(folder.path()).env("HF_HOME", "home").env_remove("HF_HUB_CACHE").args(args).output().unwrap()
    };
    for args in
        [&["info", "ORG/NAME"][..], &["info", "home/hub/models--ORG--NAME"], &["convert", "ORG/NAME", "-o", "out"]]
    {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let written = folder.path().join("out/config.json");
    assert!(!written.is_symlink() && written.is_file(), "links are followed, not copied");

    let output = run(&["sample", "a cat", "--model", "ORG/OTHER", "-o", "out.gif"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr.contains("ORG/OTHER") && stderr.contains("models--ORG--OTHER in home/hub"), "{stderr}");

    // An interrupted download.
    fs::remove_file(cache.join("blobs/1")).unwrap();
    let stderr = String::from_utf8(run(&["convert", "ORG/NAME", "-o", "again"]).stderr).unwrap();
    assert!(stderr.contains("pytorch_model.bin: is a link to") && stderr.contains("incomplete"), "{stderr}");
}
