//! Rules about the tree that a compiler does not know: who may import whom, and what must not stand in a file.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/`, and the rooms that each may import (docs/architecture.md, "Layout").
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("watch", &[]),
    ("config", &["watch"]),
    ("telemetry", &["clock", "config"]),
    ("net", &["clock", "watch", "config", "telemetry"]),
    ("gateway", &["clock", "watch", "config", "telemetry", "net"]),
    ("providers", &["clock", "config", "telemetry"]),
    ("controller", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway"]),
    ("admin", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller"]),
    ("runtime", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller", "admin"]),
    ("cli", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller", "admin", "runtime"]),
];

/// Longer files have a second subject in them.
const LINES_MAX: usize = 450;

#[test]
fn rooms_import_in_one_direction() {
    let mut against = Vec::new();
    for file in sources("src") {
        let Some(room) = room_of(&file) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            panic!("{}: the room `{room}` is not in MAY_IMPORT", file.display());
        };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for imported in line.match_indices("crate::").map(|(at, _)| first_name(&line[at + "crate::".len()..])) {
                let is_room = MAY_IMPORT.iter().any(|(name, _)| *name == imported);
                if is_room && imported != room && !allowed.contains(&imported) {
                    against.push(format!("{}:{}: `{room}` imports `{imported}`", file.display(), number + 1));
                }
            }
        }
    }
    assert!(against.is_empty(), "against the order of docs/architecture.md:\n{}", against.join("\n"));
}

#[test]
fn core_is_pure() {
    let impure = ["tokio", "std::net::Tcp", "std::fs", "std::thread::spawn", "Instant::now", "SystemTime::now", "async fn"];
    let mut found = Vec::new();
    for file in sources("crates/core/src") {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            found.extend(
                impure.iter().filter(|word| line.contains(**word)).map(|w| format!("{}:{}: {w}", file.display(), number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "decisions do no I/O and read no clock:\n{}", found.join("\n"));
}

#[test]
fn a_file_has_one_subject() {
    let long = ["src", "crates/core/src", "examples/live/src"].iter().flat_map(|dir| sources(dir)).filter_map(|file| {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", file.display()))
    });
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["TODO", "FIXME", "unimplemented!(", "todo!(", "#[ignore"];
    let mut found = Vec::new();
    for file in ["src", "crates", "examples", "benches"].iter().flat_map(|dir| sources(dir)) {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            found.extend(marks.iter().filter(|m| line.contains(**m)).map(|m| format!("{}:{}: {m}", file.display(), number + 1)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn tests_that_the_security_page_names_exist() {
    let tree: String =
        ["src", "crates", "tests"].iter().flat_map(|dir| sources(dir)).map(|f| fs::read_to_string(f).unwrap()).collect();
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let cells = rows.filter_map(|row| row.strip_suffix('|')?.rsplit_once('|')).map(|(_, tests)| tests);
    let named: Vec<_> = cells.flat_map(|tests| tests.split([' ', '`'])).filter(|name| !name.is_empty() && *name != "–").collect();
    let missing: Vec<_> = named.iter().filter(|name| !tree.contains(&format!("fn {name}("))).collect();
    assert!(named.len() > 40 && missing.is_empty(), "{} named, missing: {missing:?}", named.len());
    // And the other way round: a row's test that is not on the page is not found by those who look for it.
    let declared = tree.match_indices("fn row_").map(|(at, _)| first_name(&tree[at + "fn ".len()..]));
    let unnamed: Vec<_> = declared.filter(|name| name.len() > "row_".len() && !named.contains(name)).collect();
    assert!(unnamed.is_empty(), "not in docs/security.md: {unnamed:?}");
}

/// `src/gateway/error.rs` → `gateway`; `lib.rs` and `main.rs` belong to no room.
fn room_of(file: &Path) -> Option<String> {
    let below = file.strip_prefix(root().join("src")).ok()?;
    let name = below.iter().next()?.to_str()?.trim_end_matches(".rs");
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

fn first_name(path: &str) -> &str {
    path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
