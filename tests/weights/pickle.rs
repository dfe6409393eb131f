//! PyTorch's pickles: files that load, and the errors for files that are damaged, hostile or of another kind.

use super::torch_file::{Py, Tensor, dict, entries, pickle, row_of_pickles, state, zip, zipped, zipped_wide};
use osp::Result;
use osp::tensor::DType;
use osp::weights::{Files, Source};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn open(bytes: &[u8]) -> Result<Files> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    std::fs::write(&path, bytes).unwrap();
    // The map keeps the file.
    Files::open(&path)
}

fn values(source: &Files, name: &str) -> Vec<f32> {
    source.tensor(name).unwrap().unwrap_or_else(|| panic!("{name} is missing")).to_f32()
}

fn names(source: &Files) -> Vec<String> {
    source.entries().into_iter().map(|entry| entry.name).collect()
}

/// The error that refuses a file.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let Err(error) = open(bytes) else { panic!("the file is accepted") };
    assert_eq!(error.exit_code(), 5, "{error}");
    let line = error.to_string();
    assert!(line.contains("pytorch_model.bin: ") && !line.contains('\n'), "{line}");
    line
}

#[track_caller]
fn is_refused(value: &Py, words: &[&str]) {
    let line = refusal(&zipped(value));
    assert!(words.iter().all(|word| line.contains(word)), "{line} does not say {words:?}");
}

/// A state dict with every layout of a tensor in its storage.
fn sample() -> Py {
    let counted: Vec<f32> = (0..24).map(|value| value as f32).collect();
    let view = |first, shape: &[i64], strides: &[i64]| Tensor {
        first,
        strides: strides.to_vec(),
        ..Tensor { shape: shape.to_vec(), ..Tensor::f32("shared", &[24], &counted) }
    };
    state([
        ("plain", Tensor::f32("0", &[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, 6.0])),
        ("half", Tensor::new("HalfStorage", "1", &[2], vec![0x00, 0x3c, 0x00, 0xc0], 2)),
        ("brain", Tensor::new("BFloat16Storage", "2", &[2], vec![0x80, 0x3f, 0x00, 0xc0], 2)),
        ("count", Tensor::new("LongStorage", "3", &[], 7i64.to_le_bytes().to_vec(), 8)),
        ("empty", Tensor::f32("4", &[0, 5], &[])),
        ("whole", view(0, &[4, 6], &[6, 1])),
        ("tied", view(0, &[4, 6], &[6, 1])),
        ("rows", view(6, &[2, 6], &[6, 1])),
        ("columns", view(2, &[4, 2], &[6, 1])),
        ("transposed", view(0, &[6, 4], &[1, 6])),
        ("one row", view(12, &[1, 6], &[1000, 1])),
    ])
}

fn check_sample(source: &Files) {
    assert_eq!(values(source, "plain"), [1.0, -2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(values(source, "half"), [1.0, -2.0]);
    assert_eq!(values(source, "brain"), [1.0, -2.0]);
    assert_eq!(source.tensor("count").unwrap().unwrap().dtype, DType::I64);
    assert!(values(source, "empty").is_empty());
    let counted: Vec<f32> = (0..24).map(|value| value as f32).collect();
    assert_eq!(values(source, "whole"), counted);
    assert_eq!(values(source, "tied"), counted);
    assert_eq!(values(source, "rows"), counted[6..18]);
    assert_eq!(values(source, "columns"), [2.0, 3.0, 8.0, 9.0, 14.0, 15.0, 20.0, 21.0]);
    assert_eq!(values(source, "transposed")[..5], [0.0, 6.0, 12.0, 18.0, 1.0]);
    assert_eq!(values(source, "one row"), counted[12..18]);
    assert_eq!(source.tensor("transposed").unwrap().unwrap().shape, [6, 4]);
    assert_eq!(source.entries().len(), 11);
    assert!(source.tensor("absent").unwrap().is_none());
}

#[test]
fn tensors_of_all_types_and_layouts_are_read_from_all_containers() {
    check_sample(&open(&zipped(&sample())).unwrap());
    check_sample(&open(&zipped_wide(&sample())).unwrap());
    check_sample(&open(&row_of_pickles(&sample())).unwrap());
}

#[test]
fn files_that_torch_wrote_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch");
    for name in ["state.bin", "state_old.bin", "lightning.ckpt"] {
        let source = Files::open(&folder.join(name)).unwrap();
        let mut found = names(&source);
        found.sort();
        assert_eq!(found, ["bias", "count", "mask", "scale", "tied", "transposed", "weight"], "{name}");
        let weight = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
        assert_eq!(values(&source, "weight"), weight, "{name}");
        assert_eq!(values(&source, "tied"), weight, "{name}");
        assert_eq!(values(&source, "transposed"), [0.0, 1.5, 0.5, 2.0, 1.0, 2.5], "{name}");
        assert_eq!(values(&source, "bias"), [1.0, -2.0, 0.25], "{name}");
        assert_eq!(values(&source, "scale"), [3.0], "{name}");
        let dtypes = ["bias", "scale", "count", "mask"].map(|name| source.tensor(name).unwrap().unwrap().dtype);
        assert_eq!(dtypes, [DType::F16, DType::Bf16, DType::I64, DType::Bool], "{name}");
        assert!(source.tensor("scale").unwrap().unwrap().shape.is_empty());
    }
}

#[test]
fn weights_of_a_training_are_those_of_its_state_dict() {
    let weight = |value: f32| Tensor::f32(if value == 1.0 { "0" } else { "1" }, &[1], &[value]);
    let class = Py::Name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint");
    let path = Py::Call("pathlib", "PosixPath", vec![Py::Text("/runs")]);
    let namespace = Py::Instance("argparse", "Namespace", Box::new(dict([("lr", Py::Int(1)), ("out", path)])));
    let strange = Py::Instance("their.callbacks", "Recorder", Box::new(state([("image", weight(2.0))])));
    let training = dict([
        ("epoch", Py::Int(3)),
        ("ema_state_dict", state([("x", weight(2.0))])),
        ("callbacks", Py::Dict(vec![(class, dict([("best", Py::Tensor(weight(2.0)))])), (Py::Int(1), strange)])),
        ("optimizer_states", Py::List(vec![state([("x", weight(2.0))])])),
        ("hyper_parameters", namespace),
        ("state_dict", state([("x", weight(1.0)), ("loss.logvar", weight(2.0))])),
    ]);
    for file in [zipped(&training), row_of_pickles(&training)] {
        let source = open(&file).unwrap();
        assert_eq!(values(&source, "x"), [1.0]);
        // In the order of the data in the file. The average, which comes first, is not read.
        assert_eq!(names(&source), ["loss.logvar", "x"]);
    }
}

#[test]
fn parameters_subclasses_and_attributes_are_read_as_tensors() {
    let tensor = || Py::Tensor(Tensor::f32("0", &[2], &[1.0, 2.0]));
    let hooks = || Py::Call("collections", "OrderedDict", vec![]);
    let parameter = Py::Call("torch._utils", "_rebuild_parameter", vec![tensor(), Py::Raw(vec![0x88]), hooks()]);
    let arguments = Py::Tuple(vec![tensor(), Py::Raw(vec![0x88]), hooks()]);
    let function = Py::Name("torch._utils", "_rebuild_parameter");
    let subclass = vec![function, Py::Name("their", "Tensor"), arguments, Py::None];
    let subclass = Py::Call("torch._tensor", "_rebuild_from_type_v2", subclass);
    // As in a state_dict(): an OrderedDict with items and an attribute `_metadata`.
    let mut code = pickle(&hooks())[2..].to_vec();
    code.pop();
    code.push(b'(');
    for (name, value) in [("a", parameter), ("b", subclass), ("version", Py::Int(2)), ("note", Py::Text("fine"))] {
        for item in [Py::Text(name), value] {
            let item = pickle(&item);
            code.extend(&item[2..item.len() - 1]);
        }
    }
    code.push(b'u');
    let metadata = pickle(&dict([("_metadata", Py::None)]));
    code.extend(&metadata[2..metadata.len() - 1]);
    code.push(b'b');
    let mut entries = entries(&tensor());
    entries[0].1 = [&[0x80, 2], &code[..], b"."].concat();
    let source = open(&zip(&entries, false)).unwrap();
    assert_eq!(names(&source), ["a", "b"]);
    assert_eq!(values(&source, "b"), [1.0, 2.0]);
}

#[test]
fn fingerprints_depend_on_names_shapes_types_and_first_values() {
    let print = |name, shape: &[i64], values: &[f32]| {
        open(&zipped(&state([(name, Tensor::f32("0", shape, values))]))).unwrap().fingerprint()
    };
    let first = print("x", &[2], &[0.0, 0.0]);
    assert!(first.starts_with("pickle:"));
    assert_eq!(first, print("x", &[2], &[0.0, 0.0]));
    let others = [print("y", &[2], &[0.0; 2]), print("x", &[2, 1], &[0.0; 2]), print("x", &[2], &[0.0, 1.0])];
    assert!(others.iter().all(|other| *other != first), "{first} {others:?}");
}

#[test]
fn files_that_would_run_code_are_refused_and_the_error_names_the_code() {
    let run = |module, name| Py::Call(module, name, vec![Py::Text("touch hacked")]);
    let weight = || Py::Tensor(Tensor::f32("0", &[1], &[1.0]));
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "Popen")] {
        let called = format!("calls {module}.{name}");
        is_refused(&dict([("x", weight()), ("y", run(module, name))]), &[&called, "nothing was executed"]);
        // Calls in values that are not read, or that the program discards at once.
        is_refused(
            &dict([("state_dict", dict([("x", weight())])), ("epoch", Py::List(vec![run(module, name)]))]),
            &[&called],
        );
        let line = refusal(&row_of_pickles(&Py::Tuple(vec![run(module, name), weight()])));
        assert!(line.contains(&called), "{line}");
    }
    for code in [
        &b"cos\nsystem\n(S'touch hacked'\ntR."[..],
        b"(S'touch hacked'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch hacked'\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n\x94h\x00)R0N.",
    ] {
        assert!(refusal(code).contains("calls os.system"), "{code:?}");
    }
    let subclass = vec![Py::Name("os", "system"), Py::None, Py::Tuple(vec![Py::Text("ls")]), Py::None];
    is_refused(&dict([("x", Py::Call("torch._tensor", "_rebuild_from_type_v2", subclass))]), &["os.system"]);
    let result = Py::Raw(b"ccopyreg\n_reconstructor\n)R(tR".to_vec());
    is_refused(&dict([("x", result)]), &["calls an instance of copyreg._reconstructor"]);
}

#[test]
fn an_error_names_the_kind_of_a_file_without_a_dictionary_of_tensors() {
    let weight = || Tensor::f32("0", &[1], &[1.0]);
    let model = Py::Instance("torch.nn.modules.linear", "Linear", Box::new(state([("weight", weight())])));
    is_refused(&model, &["an instance of torch.nn.modules.linear.Linear", "state_dict()"]);
    is_refused(&Py::Tensor(weight()), &["a tensor, not a dictionary"]);
    is_refused(&Py::List(vec![Py::Tensor(weight())]), &["a list, not a dictionary"]);
    is_refused(&dict([("state_dict", Py::Int(3))]), &["an integer as its state_dict"]);
    is_refused(&dict([]), &["no tensors", "empty"]);
    is_refused(&dict([("model", state([("x", weight())])), ("step", Py::Int(1))]), &["no tensors", "model, step"]);
    let instance = Py::Instance("their.layers", "Packed", Box::new(Py::None));
    is_refused(&dict([("x", instance), ("y", Py::Tensor(weight()))]), &["tensor x", "their.layers.Packed"]);
    let complex = Tensor { class: "ComplexFloatStorage", ..weight() };
    is_refused(&state([("x", complex)]), &["tensor x", "torch.ComplexFloatStorage"]);
}

#[test]
fn claims_about_tensors_are_checked_against_the_file() {
    let of = |change: fn(&mut Tensor)| {
        let mut tensor = Tensor::f32("0", &[2, 3], &[0.0; 6]);
        change(&mut tensor);
        state([("x", tensor)])
    };
    type Change = fn(&mut Tensor);
    let cases: [(Change, &str); 15] = [
        (|tensor| tensor.count = 7, "claims 7 elements of 4 bytes, but the file has 24 bytes"),
        (|tensor| tensor.count = i64::MAX, "claims 9223372036854775807 elements"),
        (|tensor| tensor.count = -1, "claims -1 elements"),
        (|tensor| tensor.shape = vec![2, 4], "elements overlap"),
        (|tensor| (tensor.shape, tensor.strides) = (vec![2, 4], vec![4, 1]), "reach beyond storage 0 of 6 elements"),
        (|tensor| (tensor.shape, tensor.strides) = (vec![1 << 40], vec![1]), "reach beyond"),
        (
            |tensor| (tensor.shape, tensor.strides) = (vec![1 << 62, 1 << 62], vec![1 << 62, 1]),
            "elements overlap or lie outside of storage 0",
        ),
        (|tensor| (tensor.shape, tensor.strides) = (vec![1 << 62, 4, 0], vec![1, 1, 1]), "whose sizes have no product"),
        (|tensor| tensor.shape = vec![-2, 3], "the shape [-2, 3]"),
        (|tensor| tensor.strides = vec![-3, 1], "the strides [-3, 1]"),
        (|tensor| tensor.strides = vec![0, 1], "elements overlap"),
        (|tensor| tensor.strides = vec![2, 1], "elements overlap"),
        (|tensor| tensor.strides = vec![1], "2 axes and 1 strides"),
        (|tensor| tensor.first = 1, "reach beyond"),
        (|tensor| tensor.first = i64::MAX, "starts outside of"),
    ];
    for (change, words) in cases {
        is_refused(&of(change), &["tensor x", words]);
    }
    let mut lacking = entries(&of(|_| {}));
    lacking.retain(|(name, _)| !name.ends_with("/0"));
    assert!(refusal(&zip(&lacking, false)).contains("storage 0, which the file does not hold"));
}

#[test]
fn archives_that_are_not_checkpoints_have_different_errors() {
    let whole = entries(&sample());
    type Entry = (String, Vec<u8>);
    let with = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = whole.clone();
        change(&mut entries);
        refusal(&zip(&entries, false))
    };
    assert!(with(&|entries| _ = entries.remove(0)).contains("exactly one data.pkl"));
    assert!(with(&|entries| entries.push(entries[0].clone())).contains("two entries archive/data.pkl"));
    assert!(with(&|entries| entries.push(("other/data.pkl".into(), vec![]))).contains("exactly one data.pkl"));
    assert!(with(&|entries| entries[1].1 = b"big".to_vec()).contains("big-endian"));
    let mut compressed = zipped(&sample());
    let at = compressed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    compressed[at + 10] = 8;
    assert!(refusal(&compressed).contains("is compressed (its entry archive/data.pkl)"));
    for (file, words) in [
        (&b"<!DOCTYPE html><html>"[..], "neither a zip archive nor a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "pointer of Git LFS"),
        (b"", "0 bytes"),
        (b"\x80\x02}q\x00.\0\0", "a pickle without tensors"),
    ] {
        assert!(refusal(file).contains(words), "{}", refusal(file));
    }
}

#[test]
fn cut_files_are_refused_at_every_length() {
    for file in [zipped(&sample()), zipped_wide(&sample()), row_of_pickles(&sample())] {
        for length in 0..file.len() {
            refusal(&file[..length]);
        }
    }
    let line = refusal(&zipped(&sample())[..1000]);
    assert!(line.contains("cut off: it has 1000 bytes") && line.contains("download it again"), "{line}");
}

#[test]
fn pickles_that_grow_without_end_take_no_memory() {
    // Each tuple holds the previous tuple twice. Copies would be 2³² tuples.
    let doubling = [&b"\x80\x02}X\x01\0\0\0x)"[..], &b"2\x86".repeat(32), b"s."].concat();
    let mut entries = entries(&sample());
    entries[0].1 = doubling;
    assert!(refusal(&zip(&entries, false)).contains("no tensors"));
    // A list of pairs that becomes a dictionary a thousand times.
    let copies = b"ccollections\nOrderedDict\nh\x00\x85R0".repeat(1000);
    entries[0].1 = [&b"\x80\x02]q\x00("[..], &b"NN\x86".repeat(100_000), b"e0", &copies, b"N."].concat();
    assert!(refusal(&zip(&entries, false)).contains("copies data without end"));
    // A list that contains itself, as the arguments of a function that reads its arguments.
    let itself = b"\x80\x02](ctorch._tensor\n_rebuild_from_type_v2\nNq\x00h\x00e.";
    entries[0].1 = itself.to_vec();
    refusal(&zip(&entries, false));
}

#[test]
fn names_are_not_repeated_without_end() {
    let tensor = pickle(&Py::Tensor(Tensor::f32("0", &[1], &[1.0])));
    // A name and a tensor, and both again and again: four bytes for each pair.
    let program = |name: &str, times: usize| {
        let key = [&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes(), b"q\xc8"].concat();
        let value = [&tensor[2..tensor.len() - 1], b"q\xc9"].concat();
        [&b"\x80\x02}("[..], &key, &value, &b"h\xc8h\xc9".repeat(times), b"u."].concat()
    };
    let mut entries = entries(&state([("x", Tensor::f32("0", &[1], &[1.0]))]));
    entries[0].1 = program("a", 0);
    assert_eq!(names(&open(&zip(&entries, false)).unwrap()), ["a"]);
    entries[0].1 = program("a", 100_000);
    assert!(refusal(&zip(&entries, false)).contains("is there twice"));
    entries[0].1 = program(&"a".repeat(1001), 0);
    assert!(refusal(&zip(&entries, false)).contains("a name of 1001 bytes; expected at most 1000"));
    // Many names of one tensor, eight bytes for each.
    let value = [&tensor[2..tensor.len() - 1], b"q\xc9"].concat();
    let named = |number: u32| [&b"\x8c\x04"[..], format!("{number:04x}").as_bytes(), b"h\xc9"].concat();
    let many = (0..=0xffff).chain(0..=0xffff).map(named).collect::<Vec<_>>().concat();
    entries[0].1 = [&b"\x80\x04}(\x8c\x01x"[..], &value, &many, b"u."].concat();
    assert!(refusal(&zip(&entries, false)).contains("is there twice"));
    let named = |number: u32| [&b"\x8c\x05"[..], format!("{number:05x}").as_bytes(), b"h\xc9"].concat();
    let many = (0..100_000).map(named).collect::<Vec<_>>().concat();
    entries[0].1 = [&b"\x80\x04}(\x8c\x01x"[..], &value, &many, b"u."].concat();
    assert!(refusal(&zip(&entries, false)).contains("is one of more than 100000 tensors"));
    // A storage whose description has a hundred thousand parts, which a tensor names a thousand times.
    let long = [&b"("[..], &b"N".repeat(100_000), b"tq\xca"].concat();
    entries[0].1 = [&b"\x80\x02"[..], &long, &b"Q0h\xca".repeat(1000), b"Q."].concat();
    refusal(&zip(&entries, false));
}

#[test]
fn a_change_of_length_of_an_open_file_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("pytorch_model.bin");
    let file = zipped(&sample());
    std::fs::write(&path, &file).unwrap();
    let source = Files::open(&path).unwrap();
    std::fs::write(&path, &file[..100]).unwrap();
    let error = source.tensor("plain").unwrap_err().to_string();
    assert!(error.contains("100 now") && error.contains("start again"), "{error}");
    // If the file is replaced, not overwritten, the open file stays unchanged.
    std::fs::write(&path, &file).unwrap();
    let source = Files::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another").unwrap();
    check_sample(&source);
}

proptest! {
    /// Damage gives an error, or only changes values; it never panics.
    #[test]
    fn damaged_files_never_panic(kind in 0usize..3, at: prop::sample::Index, value: u8, second: prop::sample::Index) {
        let mut file = [zipped, zipped_wide, row_of_pickles][kind](&sample());
        for at in [at, second] {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Ok(source) = open(&file) {
            for entry in source.entries() {
                let tensor = source.tensor(&entry.name).unwrap().unwrap();
                prop_assert_eq!(tensor.bytes.len(), tensor.len() * tensor.dtype.size());
            }
        }
    }

    /// A pickle of random instructions never panics.
    #[test]
    fn any_pickle_is_read_or_refused(code in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut entries = entries(&sample());
        entries[0].1 = code;
        let _ = open(&zip(&entries, false));
    }
}
