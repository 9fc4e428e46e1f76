//! Rules about the tree that a compiler does not know: who may import whom, and what must not stand in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms of `src/`, and the rooms that each may import (docs/architecture.md, "Layout").
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("watch", &[]),
    ("files", &["watch"]),
    ("config", &["files", "watch"]),
    ("telemetry", &["clock", "config"]),
    ("net", &["clock", "watch", "config", "telemetry"]),
    ("gateway", &["clock", "watch", "config", "telemetry", "net"]),
    ("providers", &["clock", "config", "telemetry"]),
    ("controller", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway"]),
    ("admin", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller"]),
    ("runtime", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller", "admin"]),
    ("cli", &["clock", "watch", "config", "telemetry", "net", "providers", "gateway", "controller", "admin", "runtime"]),
];

/// The rooms of `src/gateway`, lowest first: each may import those before it. `mod.rs` is above them all.
const GATEWAY: &[&str] =
    &["error", "peer", "refuse", "stage", "limits", "session", "admission", "upstream", "context", "http", "accept"];

/// The files of the demo, lowest first: each may import those before it. `mod.rs` is above them all.
const DEMO: &[&str] = &["ledger", "stage", "wave", "user", "crowd", "summary", "show"];

/// The files of core's `state`, lowest first: each may use those before it. `mod.rs` is above them all, and tells the order too.
const STATE: &[&str] = &[
    "backoff",
    "counters",
    "losses",
    "reported",
    "backend",
    "rebalance",
    "fleet",
    "members",
    "moves",
    "plan",
    "scaling",
    "roll",
    "events",
    "commands",
    "reload",
    "tick",
    "shared",
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
fn rooms_of_the_gateway_import_in_one_direction() {
    let against = against_order("src/gateway", "crate::gateway::", GATEWAY);
    assert!(against.is_empty(), "against the order of docs/architecture.md:\n{}", against.join("\n"));
}

#[test]
fn files_of_the_demo_import_in_one_direction() {
    let against = against_order("src/cli/demo", "crate::cli::demo::", DEMO);
    assert!(against.is_empty(), "a cycle:\n{}", against.join("\n"));
}

#[test]
fn without_default_features_there_is_no_demo_in_the_binary() {
    let only_for_the_demo = ["holdline-live", "libsqlite3-sys", "rusqlite", "tokio-tungstenite", "tungstenite"];
    let found = |features: &[&str]| -> Vec<&str> {
        let packages = packages_of_the_binary(features);
        only_for_the_demo.into_iter().filter(|name| packages.iter().any(|package| package == name)).collect()
    };
    assert_eq!(found(&["--no-default-features"]), Vec::<&str>::new(), "docs and README promise packagers a binary without these");
    assert_eq!(found(&[]), only_for_the_demo, "the demo is made of other packages now: name those");
}

/// The packages that the binary of `holdline` is built from.
fn packages_of_the_binary(features: &[&str]) -> Vec<String> {
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.args(["tree", "--package", "holdline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    tree.args(["--locked", "--offline"]).args(features).current_dir(root());
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn files_of_state_use_each_other_in_one_direction() {
    let dir = "crates/core/src/state";
    let mut against = against_order(dir, "crate::state::", STATE);
    against.extend(calls_against_order(dir, STATE));
    assert!(against.is_empty(), "against the order of {dir}/mod.rs:\n{}", against.join("\n"));
    let order: Vec<_> = STATE.iter().map(|name| format!("`{name}`")).collect();
    let page = fs::read_to_string(root().join(dir).join("mod.rs")).unwrap();
    assert!(page.contains(&order.join(" ")), "{dir}/mod.rs does not tell the order");
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

/// The imports below `dir`, whose modules are named by `prefix`, of what is not below them in `rooms`. Its tests stand above all rooms, and
/// what they provide may be used by tests everywhere.
fn against_order(dir: &str, prefix: &str, rooms: &[&str]) -> Vec<String> {
    let rank = |name: &str| rooms.iter().position(|room| *room == name);
    let mut against = Vec::new();
    for file in sources(dir) {
        let below = file.strip_prefix(root().join(dir)).unwrap().with_extension("");
        let mut modules: Vec<_> = below.iter().map(|part| part.to_str().unwrap()).collect();
        if modules.last() == Some(&"mod") {
            modules.pop();
        }
        let Some(room) = modules.first().filter(|room| **room != "tests") else { continue };
        let own = rank(room).unwrap_or_else(|| panic!("{}: the room `{room}` is not in the list", file.display()));
        let text = fs::read_to_string(&file).unwrap();
        for (at, path) in imports(&text, prefix, modules.len()) {
            if path != *room && path != "tests" && rank(path).is_none_or(|imported| imported > own) {
                let line = text[..at].matches('\n').count() + 1;
                against.push(format!("{}:{line}: `{room}` imports `{path}`", file.display()));
            }
        }
    }
    against
}

/// The methods that a file of `dir` calls of its own type or a fleet and that a later one of `files` has: what acts on a fleet is its method
/// wherever it stands, so a call is as good as an import. A name that several files have says nothing.
fn calls_against_order(dir: &str, files: &[&str]) -> Vec<String> {
    let codes: Vec<String> = files
        .iter()
        .map(|name| fs::read_to_string(root().join(dir).join(name).with_extension("rs")).unwrap())
        .map(|text| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
        .collect();
    let has = |code: &str, name: &str| code.contains(&format!(" fn {name}(")) || code.contains(&format!(" fn {name}<"));
    let mut against = Vec::new();
    for (own, code) in codes.iter().enumerate() {
        for mark in ["self.", "fleet.", "Fleet::", "Self::"] {
            for at in code.match_indices(mark).map(|(at, _)| at + mark.len()) {
                let name = first_name(&code[at..]);
                let is_call = code[at + name.len()..].starts_with('(');
                let mut owners = (0..files.len()).filter(|n| is_call && has(&codes[*n], name));
                if let (Some(owner), None) = (owners.next(), owners.next())
                    && owner > own
                {
                    let line = code[..at].matches('\n').count() + 1;
                    against.push(format!("{dir}/{}.rs:{line}: calls `{name}` of `{}`", files[own], files[owner]));
                }
            }
        }
    }
    against
}

/// The names right below `prefix` that a file uses, and where: by their whole path, or by as many `super::` as lead out of `depth` modules.
fn imports<'t>(text: &'t str, prefix: &str, depth: usize) -> Vec<(usize, &'t str)> {
    let whole = text.match_indices(prefix).map(|(at, _)| at + prefix.len());
    let up = "super::".repeat(depth);
    let relative = text.match_indices(&up).filter(|(at, _)| !text[..*at].ends_with("::")).map(|(at, _)| at + up.len());
    let mut found = Vec::new();
    for at in whole.chain(relative) {
        match text[at..].strip_prefix('{') {
            None => found.push((at, first_name(&text[at..]))),
            Some(group) => {
                let group = &group[..group.find(';').unwrap_or(group.len())];
                let mut nested = 0_i32;
                for part in group.split(',') {
                    if nested == 0 {
                        found.push((at, first_name(part.trim_start())));
                    }
                    nested += part.matches('{').count() as i32 - part.matches('}').count() as i32;
                }
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::gateway::{limits::{a, b}, http::c};\nuse crate::gateway::peer::Peer;\nuse super::super::accept;\nuse super::d;";
    let names: Vec<_> = imports(text, "crate::gateway::", 2).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["limits", "http", "peer", "accept"]);
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
