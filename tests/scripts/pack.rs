//! scripts/gpu-pack: what it packs, and whether the tree beside a pack is the one that it was made from.

use super::{Rehearsal, Run, root};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The line of a file in the list of a pack.
fn line(path: &str) -> String {
    let program = "import sys; sys.path.insert(0, 'scripts'); from pathlib import Path; from gpu_check import tree; \
                   print(tree.line(Path('.'), sys.argv[1]))";
    let output = Command::new("python3").args(["-B", "-c", program, path]).current_dir(root()).output();
    String::from_utf8(output.expect("python3 is needed for scripts/gpu-check").stdout).unwrap()
}

#[test]
fn another_tree_is_said_in_the_first_line() {
    let rehearsal = Rehearsal::new("");
    let right = line("kernels/stems.txt") + &line("assets/demo/README.md");
    assert_eq!(right.lines().count(), 2, "{right}");
    fs::write(rehearsal.path("bin/TREE"), &right).unwrap();
    let run = rehearsal.run("light", &["--budget", "20"]);
    run.is_whole();
    assert!(!run.stdout.contains("WARNING"), "{}", run.stdout);

    let wrong =
        right.replace("assets/demo/README.md", "kernels/tile.cu") + &line("src/lib.rs").replace("lib.rs", "gone.rs");
    fs::write(rehearsal.path("bin/TREE"), wrong).unwrap();
    let run = rehearsal.run("light", &["--budget", "20"]);
    run.is_whole();
    let warning = "WARNING: the tree is not the program's: 2 of 3 files differ: kernels/tile.cu, src/gone.rs\n";
    assert!(run.stdout.starts_with(&format!("gpu-check: {warning}")), "{}", run.stdout);
    // The last lines are what such a machine returns for certain.
    assert!(run.read("table.txt").starts_with(warning));
    assert_eq!(run.code, Some(0));
}

/// A project with the scripts, and a cargo that has built the mock program.
fn project(rehearsal: &Rehearsal) -> impl Fn(&[&str]) -> Output {
    let project = rehearsal.path("project");
    let copy = |name: &str| {
        let to = project.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(name), to).unwrap();
    };
    ["scripts/gpu-pack", "scripts/gpu-check", "kernels/stems.txt"].into_iter().for_each(copy);
    for module in fs::read_dir(root().join("scripts/gpu_check")).unwrap() {
        let name = module.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".py") {
            copy(&format!("scripts/gpu_check/{name}"));
        }
    }
    for (file, text) in
        [("tests/golden/latte/case", "golden"), ("assets/demo/model", "model"), (".gitignore", "target\n")]
    {
        fs::create_dir_all(project.join(file).parent().unwrap()).unwrap();
        fs::write(project.join(file), text).unwrap();
    }
    fs::create_dir_all(project.join("target/release/kernels")).unwrap();
    let program = fs::read_to_string(rehearsal.path("bin/osp")).unwrap() + "\n# the image of gemm\n";
    fs::write(project.join("target/release/kernels/gemm-01.fatbin"), "the image of gemm").unwrap();
    rehearsal.script("project/target/release/osp", &program);
    let built = format!(r#"{{"target": {{"name": "osp"}}, "executable": "{}/target/release/osp"}}"#, project.display());
    rehearsal.script("tools/cargo", &format!("#!/bin/sh\necho '{built}'\n"));
    rehearsal.script("tools/strip", "#!/bin/sh\ncp \"$3\" \"$2\"\n");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).current_dir(&project);
        assert!(command.output().expect("git is needed for scripts/gpu-pack").status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "all"]);
    let path = format!("{}:{}", rehearsal.path("tools").display(), std::env::var("PATH").unwrap());
    move |args| {
        let mut command = Command::new("python3");
        command.arg(project.join(args[0])).args(&args[1..]).env("PATH", &path).env_remove("OUT");
        command.current_dir(&project).output().expect("python3 is needed for scripts/gpu-check")
    }
}

#[test]
fn a_pack_knows_its_tree_and_both_fit_the_machine() {
    let rehearsal = Rehearsal::new("");
    let call = project(&rehearsal);
    let file = |name: &str| rehearsal.path("project").join(name);
    let packed = call(&["scripts/gpu-pack"]);
    let said = String::from_utf8_lossy(&packed.stdout).into_owned() + &String::from_utf8_lossy(&packed.stderr);
    assert!(
        packed.status.success() && said.contains("MiB, from 4 files with") && said.contains("the tree has 0.1 MiB"),
        "{said}"
    );
    let check = || Run::new(call(&["scripts/gpu-check", "--stage", "light", "--budget", "20"]), Path::new("absent"));
    assert!(!check().stdout.contains("WARNING"), "{}", check().stdout);
    fs::write(file("tests/golden/latte/case"), "newer").unwrap();
    let warning = "WARNING: the tree is not the program's: 1 of 3 files differ: tests/golden/latte/case\n";
    assert!(check().stdout.starts_with(&format!("gpu-check: {warning}")), "{}", check().stdout);

    // A large file that git does not ignore travels, too.
    fs::File::create(file("recording")).unwrap().set_len(61 << 20).unwrap();
    let packed = call(&["scripts/gpu-pack"]);
    let said = String::from_utf8_lossy(&packed.stderr).into_owned();
    assert!(packed.status.code() == Some(1) && said.contains("pack and tree have 61."), "{said}");
    assert!(!file("target/gpu-pack.tar.partial").exists());
}
