//! Unsafe code is counted in docs/reliability.md, and functions say what their callers must see to. Clippy looks at the
//! blocks: each has its reason beside it.

use super::{ROOT, files};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// All Rust sources.
fn sources() -> Vec<PathBuf> {
    let folders = ["src", "tests", "benches", "examples"].into_iter().flat_map(|folder| files(folder, &["rs"]));
    folders.chain([Path::new(ROOT).join("build.rs")]).collect()
}

/// The row of the table that counts a source: of `src` the folder or file in it, else the first folder.
fn row(path: &Path) -> String {
    let inside = path.strip_prefix(ROOT).unwrap();
    let depth = if inside.starts_with("src") { 2 } else { 1 };
    inside.iter().take(depth).collect::<PathBuf>().to_string_lossy().into_owned()
}

/// The bytes of the comment, string or character that `rest` begins with; 0 if it is other code.
fn skipped(rest: &str) -> usize {
    let behind = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let hashes = rest.bytes().skip(1).take_while(|&byte| byte == b'#').count();
    let mut escaped = false;
    let ends = |(_, c): &(usize, char)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    };
    match rest.as_bytes() {
        [b'/', b'/', ..] => behind("\n", 2),
        [b'/', b'*', ..] => behind("*/", 2),
        [b'r', behind_r @ ..] if behind_r.get(hashes) == Some(&b'"') => {
            behind(&format!("\"{}", "#".repeat(hashes)), hashes + 2)
        }
        [b'"', ..] => rest.char_indices().skip(1).find(ends).map_or(rest.len(), |(at, _)| at + 1),
        [b'\'', b'\\', ..] => behind("'", 3),
        // A lifetime has no second quote.
        [b'\'', ..] => match rest.char_indices().nth(2) {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        _ => 0,
    }
}

/// A source without comments, strings and characters; its lines stay.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let skip = skipped(rest);
        let (gone, behind) = rest.split_at(if skip == 0 { next.len_utf8() } else { skip });
        if skip == 0 {
            code.push(next);
        } else {
            code.push(' ');
            code.extend(gone.chars().filter(|&c| c == '\n'));
        }
        rest = behind;
    }
    code
}

/// How often the keyword occurs in a source.
fn keywords(text: &str) -> usize {
    code(text).split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| *word == "unsafe").count()
}

#[test]
fn comments_and_texts_hold_no_keywords() {
    let source = r##"
        // unsafe
        /* unsafe */ unsafe fn of<'a>(x: &'a str, c: char) -> bool { x == "unsafe \" unsafe" || c == '"' || c == '\'' }
        let (raw, unsafe_code) = (r#"unsafe " unsafe"#, unsafe { of("\\", 'u') });
    "##;
    assert_eq!(keywords(source), 2);
    assert_eq!(code(source).lines().count(), source.lines().count());
}

#[test]
fn the_document_counts_all_unsafe_code() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/reliability.md")).unwrap();
    let section = document.split("\n## Unsafe code\n").nth(1).expect("the document has the section");
    let table = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    let cells = table.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let counted: BTreeMap<String, usize> =
        cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2].parse().unwrap())).collect();
    let mut found = BTreeMap::new();
    for path in sources() {
        *found.entry(row(&path)).or_insert(0) += keywords(&fs::read_to_string(&path).unwrap());
    }
    found.retain(|_, count| *count > 0);
    assert_eq!(counted, found, "docs/reliability.md (left) counts the unsafe code of the sources (right)");
}

/// Whether the documentation above a line has a section on safety.
fn has_section(above: &[&str]) -> bool {
    let above = above.iter().rev().map(|line| line.trim_start());
    let documentation = above.take_while(|line| ["///", "#[", "$(#["].iter().any(|start| line.starts_with(start)));
    documentation.into_iter().any(|line| line == "/// # Safety")
}

/// A method has its promises from its trait, and a function of a C interface from the C header.
#[test]
fn unsafe_functions_say_what_their_callers_see_to() {
    let indent = |line: &str| line.len() - line.trim_start().len();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, _) in code(&text).lines().enumerate().filter(|(_, line)| line.contains("unsafe fn ")) {
            let outer =
                (0..at).rev().find(|&outer| !lines[outer].is_empty() && indent(lines[outer]) < indent(lines[at]));
            let of_a_trait = outer.is_some_and(|outer| {
                let words: Vec<&str> = lines[outer].split_whitespace().collect();
                let implements = words.contains(&"impl") && words.contains(&"for");
                implements || words.contains(&"trait") && has_section(&lines[..outer])
            });
            let told = of_a_trait || has_section(&lines[..at]);
            assert!(told, "{}:{} has no section on safety", path.display(), at + 1);
        }
    }
}
