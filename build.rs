//! Compiles the kernels: always for the emulator with the host's compiler, and for GPUs if nvcc is found.
//!
//! The build looks for nvcc in `OSP_NVCC` (`none`: build without nvcc), `NVCC`, `CUDA_HOME`, `CUDA_PATH`, in `.nvcc` of
//! the project (scripts/get-nvcc), on the PATH, and in /usr/local/cuda. Without nvcc the binary runs only on the CPU
//! and the emulator, or, if `OSP_REQUIRE_CUDA` is 1, the build fails.
//!
//! If `DOCS_RS` is set, as on docs.rs, nothing is compiled: documentation needs no linking.

use std::env;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The list of all `kernels/*.cu`.
const STEMS: &str = "kernels/stems.txt";
/// Kernels that only the tests of the emulator use.
const FAULTS: [&str; 2] = ["emulator/faults", "emulator/hopper_faults"];
/// (compute capability of a PTX, compute capabilities of the machine code that is made from it); `90a` extends 90. The
/// kernels use no instruction that 80 lacks, and compiling to PTX takes longer than PTX to machine code. But machine
/// code for 100 and 120 from the PTX for 80 would spill registers.
const ARCHITECTURES: [(&str, &[&str]); 2] = [("80", &["80", "86", "89", "90a"]), ("100", &["100", "120"])];
/// Compute capability of the PTX that a driver compiles for all other GPUs.
const PTX: &str = "80";
/// Set if the PTX machine is built, which runs the PTX of the kernels.
const PTX_MACHINE: &str = "CARGO_FEATURE_PTX";
/// Variables that can name nvcc; the first that is set counts.
const NVCC_VARIABLES: [&str; 2] = ["OSP_NVCC", "NVCC"];
/// Variables that can name the folder of a toolkit.
const TOOLKIT_VARIABLES: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];
/// Other variables that change the results.
const OTHER_VARIABLES: [&str; 3] = ["OSP_REQUIRE_CUDA", "CXX", "CXXFLAGS"];
/// Set if only documentation is built.
const DOCUMENTATION: &str = "DOCS_RS";
/// The folder into which scripts/get-nvcc puts the toolkit.
const PROJECT_TOOLKIT: &str = ".nvcc/nvidia/cu13";

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    // Only if the folder exists: cargo treats a missing file as changed. scripts/get-nvcc touches build.rs.
    if Path::new(PROJECT_TOOLKIT).exists() {
        println!("cargo:rerun-if-changed={PROJECT_TOOLKIT}/bin/nvcc");
    }
    for variable in NVCC_VARIABLES.iter().chain(&TOOLKIT_VARIABLES).chain(&OTHER_VARIABLES).chain([&DOCUMENTATION]) {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let stems = Stem::all();
    lists(&stems, &out);
    if env::var_os(DOCUMENTATION).is_some() {
        return gpu(&stems, None, &out);
    }
    emulator(&stems, Path::new("kernels"), &out);
    gpu(&stems, nvcc(), &out);
}

/// A file of kernels.
#[derive(Clone)]
struct Stem {
    name: String,
    /// Whether a self-test and a bench have its name.
    tested: bool,
    /// The only architecture that has its instructions.
    only: Option<String>,
}

impl Stem {
    /// The stems of [`STEMS`], in its order.
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(STEMS).unwrap_or_else(|error| panic!("{STEMS}: {error}"));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let stem = |line: &str| {
            let (line, only) = line.split_once(" for ").map_or((line, None), |(line, only)| (line, Some(only.into())));
            let (name, tests) = line.split_once(' ').unwrap_or((line, ""));
            Self { name: name.to_owned(), tested: tests.trim().is_empty(), only }
        };
        lines.map(stem).collect()
    }

    /// The architectures that it is compiled for, as [`ARCHITECTURES`] has them.
    fn architectures(&self) -> Vec<(&str, Vec<&str>)> {
        match &self.only {
            Some(only) => vec![(only, vec![only])],
            None => ARCHITECTURES.map(|(ptx, machine)| (ptx, machine.to_vec())).into(),
        }
    }
}

/// Writes the stems as Rust code: names for the self-test, and functions that make the linker keep the emulator's
/// kernels.
fn lists(stems: &[Stem], out: &Path) {
    let tested: Vec<&str> = stems.iter().filter(|stem| stem.tested).map(|stem| &*stem.name).collect();
    let names = format!(
        "/// Files of kernels that have a self-test, in the order of `{STEMS}`.\n\
         pub const STEMS: [&str; {}] = {tested:?};\n",
        tested.len()
    );
    std::fs::write(out.join("stems.rs"), names).expect("OUT_DIR can be written");
    let functions = stems.iter().map(|stem| format!("osp_kernels_{}", stem.name));
    let (declared, called): (String, String) =
        functions.map(|name| (format!("    safe fn {name}();\n"), format!("    {name}();\n"))).unzip();
    let kept = format!(
        "// SAFETY: `KERNEL_FILE` defines each function: it takes, returns and does nothing.\n\
         unsafe extern \"C\" {{\n{declared}}}\n/// Makes the linker keep every file of kernels.\n\
         pub(super) fn keep_kernels() {{\n{called}}}\n"
    );
    std::fs::write(out.join("emulated.rs"), kept).expect("OUT_DIR can be written");
}

/// The folder for results that depend only on sources and compilers. It is beside the folders of builds, so that
/// checks, tests and programs share them, whatever their features.
fn shared(out: &Path) -> PathBuf {
    // From target/PROFILE/build/osp-…/out.
    let shared = out.ancestors().nth(3).expect("cargo's folders are deep").join("kernels");
    std::fs::create_dir_all(&shared).expect("the target folder can be written");
    shared
}

/// Builds the emulator and the kernels as one library of host code, unless it exists for the same sources.
fn emulator(stems: &[Stem], kernels: &Path, out: &Path) {
    let sources = [
        "fiber",
        "block",
        "cluster",
        "product",
        "warp",
        "launch",
        "barrier",
        "views",
        "transfer",
        "warpgroup",
        "wgmma",
    ];
    let sources = sources.iter().map(|stem| kernels.join("emulator").join(stem).with_extension("cpp"));
    let stems = stems.iter().map(|stem| &*stem.name).chain(FAULTS).map(|stem| kernels.join(stem).with_extension("cu"));
    let files: Vec<PathBuf> = sources.chain(stems).collect();
    let mut build = cc::Build::new();
    // Optimised in every profile, because the tests run the kernels thread by thread.
    build.cpp(true).std("c++20").opt_level(2).warnings_into_errors(true).flag("-Wno-unknown-pragmas");
    // Lets the compiler inline functions although a library could replace them.
    build.flag("-fno-semantic-interposition");
    // The emulator defines the functions of this sanitizer, so no library is linked for it.
    build.flag("-fsanitize=alignment").flag("-fsanitize-recover=alignment");
    build.flag("-x").flag("c++").cargo_metadata(false);
    let command = build.get_compiler().to_command();
    let variant = format!("osp_emulator-{:016x}", hash(&command, Vec::new()));
    let read =
        ["", "common", "common/hopper", "emulator"].iter().flat_map(|folder| listed(&kernels.join(folder))).collect();
    let name = format!("{variant}-{:016x}", hash(&command, read));
    let (archive, shared) = (format!("lib{name}.a"), shared(out));
    if !shared.join(&archive).is_file() {
        // Removes libraries of older sources: each has tens of megabytes, and work on kernels makes many.
        let older = |path: &PathBuf| path.to_string_lossy().contains(&variant);
        listed(&shared).filter(older).for_each(|path| std::fs::remove_file(path).expect("the build made this file"));
        build.files(files).compile(&name);
        std::fs::rename(out.join(&archive), shared.join(&archive)).expect("both are in the target folder");
    }
    println!("cargo:rustc-link-search=native={}", shared.display());
    println!("cargo:rustc-link-lib=static={name}");
    println!("cargo:rustc-link-lib=stdc++");
}

/// Makes a fat binary of each file of kernels, if nvcc is found, and a table of them in `kernels.rs`. For the PTX
/// machine, also a table of texts in `ptx.rs`, and the path of nvcc for its tests.
fn gpu(stems: &[Stem], nvcc: Option<PathBuf>, out: &Path) {
    if let Some(nvcc) = &nvcc {
        println!("cargo:rustc-env=OSP_BUILD_NVCC={}", nvcc.display());
    }
    let major = nvcc.as_deref().map_or(0, major_version);
    let compile = |stem: &Stem| {
        let (nvcc, stem, out) = (nvcc.clone()?, stem.clone(), out.to_path_buf());
        Some(std::thread::spawn(move || Compiled::of(&nvcc, &stem, &out)))
    };
    let threads: Vec<_> = stems.iter().map(compile).collect();
    let mut table = String::from("/// Every file.\npub static FILES: &[super::File] = &[\n");
    let mut ptx = String::from("/// Every file; none without nvcc.\npub(super) static FILES: &[super::File] = &[\n");
    for (thread, stem) in threads.into_iter().zip(stems) {
        let compiled = thread.map(|thread| thread.join().expect("the compiler's message is above"));
        let name = &stem.name;
        if let Some(Compiled { ptx: texts, separate: Some(separate), .. }) = &compiled {
            let include = |path: &PathBuf| format!("include_str!({path:?})");
            let newer = texts.get(1).map_or_else(|| "None".to_owned(), |path| format!("Some({})", include(path)));
            let (shipped, separate) = (include(&texts[0]), include(separate));
            let texts = format!("shipped: {shipped}, newer: {newer}, separate: {separate}");
            writeln!(ptx, "    super::File {{ stem: {name:?}, {texts} }},").expect("strings grow");
        }
        let image = compiled.map(|compiled| format!("&super::Aligned(*include_bytes!({:?})).0", compiled.fatbin));
        let image = image.map_or_else(|| "None".to_owned(), |image| format!("Some({image})"));
        let (entries, only) = (entries(name), &stem.only);
        writeln!(table, "    super::File {{ stem: {name:?}, image: {image}, entries: &{entries:?}, only: {only:?} }},")
            .expect("strings grow");
    }
    table.push_str("];\n");
    ptx.push_str("];\n");
    std::fs::write(out.join("ptx.rs"), ptx).expect("OUT_DIR can be written");
    writeln!(table, "/// Major version of the CUDA toolkit that compiled them.\npub const NVCC_MAJOR: i32 = {major};")
        .expect("strings grow");
    let architectures = ARCHITECTURES.map(|(_, architectures)| architectures).concat();
    writeln!(
        table,
        "/// The architectures that they were compiled for, unless a file says otherwise.\npub const ARCHITECTURES: &[&str] = &{architectures:?};"
    )
    .expect("strings grow");
    std::fs::write(out.join("kernels.rs"), table).expect("OUT_DIR can be written");
}

/// The compiler for GPUs. Without one, the build warns or fails.
fn nvcc() -> Option<PathBuf> {
    let nvcc = find_nvcc();
    if nvcc.is_none() {
        let hint =
            "nvcc was not found: this build has no GPU kernels; run scripts/get-nvcc, or name nvcc with OSP_NVCC";
        assert!(env::var("OSP_REQUIRE_CUDA").as_deref() != Ok("1"), "{hint}");
        println!("cargo:warning={hint}");
    }
    nvcc
}

fn find_nvcc() -> Option<PathBuf> {
    let set = |variable: &&str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = NVCC_VARIABLES.iter().find_map(set) {
        if named.as_os_str() == "none" {
            return None;
        }
        assert!(named.is_file(), "{} is not a file, but the environment names it as nvcc", named.display());
        return Some(named);
    }
    let toolkits = TOOLKIT_VARIABLES.iter().filter_map(set);
    let folders = toolkits.chain([PathBuf::from(PROJECT_TOOLKIT)]).map(|toolkit| toolkit.join("bin"));
    let paths = env::var_os("PATH").map(|paths| env::split_paths(&paths).collect::<Vec<_>>()).unwrap_or_default();
    let mut folders = folders.chain(paths).chain([PathBuf::from("/usr/local/cuda/bin")]);
    folders.find_map(|folder| Some(folder.join("nvcc")).filter(|nvcc| nvcc.is_file()))
}

/// The 13 of "release 13.0, V13.0.88".
fn major_version(nvcc: &Path) -> u32 {
    let output = Command::new(nvcc).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{} does not run: {error}", nvcc.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.split("release ").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    release.unwrap_or_else(|| panic!("{} --version says:\n{text}", nvcc.display()))
}

/// The names of the kernels in a file, behind `KERNEL(` or `CLUSTER_KERNEL(`.
fn entries(stem: &str) -> Vec<String> {
    let source = std::fs::read_to_string(Path::new("kernels").join(stem).with_extension("cu"));
    let source = source.unwrap_or_else(|error| panic!("kernels/{stem}.cu: {error}"));
    let name = |line: &str| {
        let arguments = line.strip_prefix("CLUSTER_").unwrap_or(line).strip_prefix("KERNEL(")?;
        Some(arguments.split_once(',')?.0.to_owned())
    };
    source.lines().filter_map(name).collect()
}

/// What nvcc made of a file of kernels.
struct Compiled {
    fatbin: PathBuf,
    /// The PTX on the way to the fat binary, one for each of the stem's architectures.
    ptx: Vec<PathBuf>,
    /// For the PTX machine: the first PTX, with products and sums rounded separately, as on the emulator.
    separate: Option<PathBuf>,
}

impl Compiled {
    /// Compiles one file of kernels for all its architectures, unless the results exist for the same sources.
    fn of(nvcc: &Path, stem: &Stem, out: &Path) -> Self {
        let mut command = compiler(nvcc);
        command.args([
            "-fatbin",
            "-Wno-deprecated-gpu-targets",
            "--compress-mode=size",
            "-Xptxas=-warn-spills",
            // Compiles for as many architectures in parallel as there are cores.
            "--threads=0",
            "--keep",
        ]);
        let all = stem.architectures();
        for (ptx, architectures) in &all {
            let mut code: Vec<String> = architectures.iter().map(|architecture| format!("sm_{architecture}")).collect();
            code.extend((*ptx == PTX).then(|| format!("compute_{PTX}")));
            command.arg(format!("-gencode=arch=compute_{ptx},code=[{}]", code.join(",")));
        }
        // With one architecture, nvcc does not name it.
        let kept = |(ptx, _): &(&str, _)| if all.len() == 1 { "ptx".into() } else { format!("compute_{ptx}.ptx") };
        let kept = all.iter().map(kept);
        let mut ptx = results(command, &stem.name, ["fatbin".to_owned()].into_iter().chain(kept).collect(), out);
        let fatbin = ptx.remove(0);
        let separate = env::var_os(PTX_MACHINE).map(|_| {
            let mut command = compiler(nvcc);
            command.args([&format!("-arch=compute_{}", all[0].0), "-fmad=false", "-ptx"]);
            results(command, &stem.name, vec!["ptx".to_owned()], out).remove(0)
        });
        Self { fatbin, ptx, separate }
    }
}

fn compiler(nvcc: &Path) -> Command {
    let mut command = Command::new(nvcc);
    command.args(["-std=c++20", "-O3"]);
    command
}

/// Runs a command on a file of kernels, unless its results exist for the same sources. `endings`: of the result, then of
/// intermediate files to keep.
fn results(mut command: Command, stem: &str, endings: Vec<String>, out: &Path) -> Vec<PathBuf> {
    let source = Path::new("kernels").join(stem).with_extension("cu");
    command.arg(&source);
    let headers = ["kernels/common", "kernels/common/hopper"].into_iter().flat_map(|folder| listed(Path::new(folder)));
    let read = headers.chain([source.clone()]).collect();
    let (shared, hash) = (shared(out), hash(&command, read));
    let path = |ending| shared.join(format!("{stem}-{hash:016x}.{ending}"));
    let paths: Vec<PathBuf> = endings.iter().map(path).collect();
    if paths.iter().all(|path| path.is_file()) {
        return paths;
    }
    let folder = out.join(format!("{stem}-{hash:016x}"));
    std::fs::create_dir_all(&folder).expect("OUT_DIR can be written");
    let partial = |ending: &String| folder.join(format!("{stem}.{ending}"));
    command.arg("--keep-dir").arg(&folder).arg("-o").arg(partial(&endings[0]));
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nvcc refuses {}:\n{said}", source.display());
    // Such a kernel would be right, but as slow as if it waited for each product (C7508 to C7520).
    if let Some(line) = said.lines().find(|line| line.contains("(C75")) {
        panic!("ptxas compiles {} without its Hopper instructions at full speed:\n{line}", source.display());
    }
    for line in said.lines().filter(|line| line.contains("warning")) {
        println!("cargo:warning={line}");
    }
    for (ending, path) in endings.iter().zip(&paths) {
        std::fs::rename(partial(ending), path).expect("nvcc made it, and both are in the target folder");
    }
    std::fs::remove_dir_all(&folder).expect("OUT_DIR can be written");
    paths
}

/// The files of a folder.
fn listed(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a listed file").path()).filter(|path| path.is_file())
}

/// A hash of the command, without its environment, and of every file that it may read.
fn hash(command: &Command, mut files: Vec<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    command.get_program().hash(&mut hasher);
    command.get_args().for_each(|argument| argument.hash(&mut hasher));
    files.sort();
    for file in files {
        std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).hash(&mut hasher);
    }
    hasher.finish()
}
