//! Every command that README.md, CONTRIBUTING.md, SECURITY.md and docs/ show. What needs neither network, GPU, weights to download nor
//! more than a minute runs; of everything else the program that it names parses the arguments.

use super::osp;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The texts, by their paths.
fn documents() -> Vec<PathBuf> {
    let folders = ["docs", "docs/benchmarks"].map(project);
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    texts.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(project)).collect()
}

/// The commands of a text: the lines of its shell blocks, and code in its sentences and tables. Lines that end in a backslash
/// go on; comments are left out.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 0 {
            let spans = part.split('`').skip(1).step_by(2).filter(|span| is_command(span));
            // A name alone is what the sentence is about, not something to type.
            commands.extend(spans.filter(|span| span.contains(' ')).map(str::to_owned));
        } else if let Some(block) = part.strip_prefix("sh\n") {
            let lines = block.replace("\\\n", " ");
            commands.extend(lines.lines().map(|line| line.split(" # ").next().unwrap().trim().to_owned()));
        }
    }
    commands
}

fn is_command(text: &str) -> bool {
    ["osp ", "target/release/osp ", "cargo ", "scripts/", ".ci/", "git "].iter().any(|start| text.starts_with(start))
}

/// The words of a command, as a shell splits them.
fn words(command: &str) -> Vec<String> {
    let pieces = command.split('"').enumerate();
    let words = pieces.flat_map(|(index, piece)| match index % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect(),
        _ => vec![piece.to_owned()],
    });
    words.collect()
}

#[test]
fn commands_of_the_documents_are_found_whole() {
    let text = "Run `osp verify a`, `osp`, `x y`:\n```sh\nosp sample \\\n    \"a cat\" -o c.mp4  # soon\n```\n```\nosp no\n```\n";
    assert_eq!(commands(text), ["osp verify a", "osp sample      \"a cat\" -o c.mp4"]);
    assert_eq!(words(&commands(text)[1]), ["osp", "sample", "a cat", "-o", "c.mp4"]);
}

/// The anchor that a heading gets: its letters and digits in lower case, words joined by hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn links_of_the_documents_lead_to_files_and_headings() {
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} is not there", path.display());
            let headings = |text: &str| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            let found = heading.is_empty() || headings(&fs::read_to_string(&target).unwrap());
            assert!(found, "{}: no heading gives {link}", path.display());
        }
    }
}

#[test]
fn every_command_of_the_documents_runs_or_parses() {
    let folder = tempfile::tempdir().unwrap();
    ["assets", "tests"].iter().for_each(|name| symlink(project(name), folder.path().join(name)).unwrap());
    let mut ran = Vec::new();
    for path in documents() {
        for command in commands(&fs::read_to_string(&path).unwrap()) {
            let words = words(&command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let problem = check(folder.path(), &words, &mut ran);
            assert!(problem.is_none(), "{}: {command}: {}", path.display(), problem.unwrap_or_default());
        }
    }
    for expected in ["sample a large red circle", "verify tests/golden", "doctor"] {
        assert!(ran.iter().any(|command| command.starts_with(expected)), "osp {expected} did not run, but {ran:?}");
    }
}

/// What is wrong with a command, if anything. Commands of osp that were run are added to `ran`.
fn check(folder: &Path, words: &[&str], ran: &mut Vec<String>) -> Option<String> {
    match words {
        ["osp" | "target/release/osp", args @ ..] => program(folder, args, ran),
        ["cargo", "run", rest @ ..] if !rest.contains(&"--example") => {
            let mut sides = rest.splitn(2, |word| *word == "--");
            let [of_cargo, of_osp] = [sides.next().unwrap_or_default(), sides.next().unwrap_or_default()];
            cargo_parses(&[&["run"], of_cargo].concat()).or_else(|| program(folder, of_osp, ran))
        }
        ["cargo", args @ ..] => names_exist(args).or_else(|| cargo_parses(args)),
        // A variable names what is not here, such as a folder of kernels.
        [variable, "osp", args @ ..] if variable.contains('=') => parses(folder, args),
        [nvcc, args @ ..] if nvcc.ends_with("nvcc") => {
            // A copy of the kernels is called `mine`.
            let mut sources =
                args.iter().filter(|word| word.ends_with(".cu")).map(|file| file.replace("mine/", "kernels/"));
            sources.find(|file| !project(file).is_file()).map(|file| format!("{file} is not there"))
        }
        ["cp" | "grep" | "sed", ..] => None,
        ["git", args @ ..] => {
            let files = args.iter().skip_while(|word| **word != "--").skip(1);
            files
                .map(|file| project(file.trim_end_matches(')')))
                .find(|file| !file.exists())
                .map(|file| format!("{file:?} is not there"))
        }
        [script, args @ ..] => script_takes(script, args),
        [] => None,
    }
}

/// Runs the program if the command can run anywhere in less than a minute; else lets it parse the arguments.
fn program(folder: &Path, args: &[&str], ran: &mut Vec<String>) -> Option<String> {
    const PLACEHOLDER: [&str; 8] = ["SRC", "DST", "DIR", "OUT", "INPUT", "ORG/NAME", "PROMPT", "FILE"];
    const ELSEWHERE: [&str; 5] = ["cuda", "download", "selftest", "LanguageBind", "DeepFloyd"];
    if let ["COMMAND", rest @ ..] = args {
        let help = osp(folder).arg("--help").output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // A description may go on in the next line, which is indented more.
        let lines = lines.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        let mut commands = lines.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help");
        return commands.find_map(|name| parses(folder, &[&[name], rest].concat()));
    }
    // The inputs of `osp compare` are letters, so words that only contain them are none.
    let elsewhere = |word: &&str| {
        ["A", "B"].contains(word) || [&PLACEHOLDER[..], &ELSEWHERE].concat().iter().any(|name| word.contains(name))
    };
    // A command without arguments is the name of one.
    let alone = args.len() == 1 && args[0] != "doctor";
    if alone || args.iter().any(|word| elsewhere(word) || word.contains("…")) {
        return parses(folder, args);
    }
    let command = args.join(" ");
    if ran.contains(&command) {
        return None;
    }
    ran.push(command);
    let output = osp(folder).args(args).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Arguments before `--help` are parsed, and a wrong one is an error before the help is shown.
fn parses(folder: &Path, args: &[&str]) -> Option<String> {
    if args.first() == Some(&"download") && !cfg!(feature = "download") {
        return None;
    }
    let output = osp(folder).args(args).arg("--help").output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn cargo_parses(args: &[&str]) -> Option<String> {
    let known = args.iter().take_while(|word| **word != "--");
    let output = Command::new(env!("CARGO")).args(known).arg("--help").current_dir(project("")).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Benches and examples are files, and filters of tests choose some.
fn names_exist(args: &[&str]) -> Option<String> {
    for pair in args.windows(2) {
        let path = match pair {
            ["--bench", name] => format!("benches/{name}.rs"),
            ["--example", name] => format!("examples/{name}.rs"),
            _ => continue,
        };
        if !project(&path).is_file() {
            return Some(format!("{path} is not there"));
        }
    }
    let ["test", "--test", "tests", filter] = args else { return None };
    let tests = Command::new(std::env::current_exe().unwrap()).args(["--list", filter]).output().unwrap().stdout;
    (!String::from_utf8_lossy(&tests).contains(": test")).then(|| format!("no test has {filter} in its name"))
}

/// A script can be executed, and it or its modules name the options.
fn script_takes(script: &str, args: &[&str]) -> Option<String> {
    let path = project(script);
    if !path.is_file() || path.metadata().unwrap().permissions().mode() & 0o111 == 0 {
        return Some("is not a file that can be executed".into());
    }
    let modules = project("scripts/gpu_check");
    let files = fs::read_dir(modules).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let text: String = files.chain([path]).map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let unknown = args.iter().find(|word| word.starts_with("--") && !text.contains(**word));
    unknown.map(|option| format!("{option} is not an option of {script}"))
}
