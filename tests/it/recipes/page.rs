//! A page, typed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::support::client::{self, PATIENCE};
use crate::support::holdline::BINARY;
use crate::support::network::{self, Network};
use crate::support::{TestDir, soon};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the page's Holdline has its admin API, and the command line expects it.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// A copy of a page's directory in which its commands are typed, in a network where its ports are free. What they leave running ends with it.
pub(super) struct Desk {
    dir: TestDir,
    groups: Vec<u32>,
    _network: Network,
}

/// A block of a page.
struct Block<'a> {
    info: &'a str,
    text: String,
}

impl Desk {
    /// Of a directory of the repository.
    pub(super) fn new(dir: &str) -> Self {
        let desk = Desk { dir: TestDir::new(), groups: Vec::new(), _network: network::own() };
        for file in std::fs::read_dir(Path::new(ROOT).join(dir)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), desk.path(file.file_name().to_str().unwrap())).unwrap();
            }
        }
        // Where `npm install` would have put it.
        std::os::unix::fs::symlink(env("HOLDLINE_TEST_NODE_MODULES"), desk.path("node_modules")).unwrap();
        desk
    }

    /// Copies another file of the repository to its place.
    #[cfg(feature = "demo")]
    pub(super) fn brings(&self, file: &str) {
        std::fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(ROOT).join(file), self.path(file)).unwrap();
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Types all of `file`, and compares what it says is seen.
    pub(super) async fn follow(&mut self, file: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        let mut printed = String::new();
        let (mut typed, mut compared) = (0, 0);
        for block in blocks(&text) {
            match block.info {
                "sh" => {
                    printed = self.types(&block.text).await;
                    typed += 1;
                }
                "text" => {
                    compare(&block.text, &printed);
                    compared += 1;
                }
                _ => {}
            }
        }
        assert!(typed > 0 && compared > 0, "{file} has nothing to type, or nothing to see");
    }

    /// Types commands into a shell of their own: what they print. A Holdline that is started with them serves when this returns.
    pub(super) async fn types(&mut self, commands: &str) -> String {
        let output = self.path(&format!("printed-{}", self.groups.len()));
        let file = std::fs::File::create(&output).unwrap();
        let bin = |program: &Path| program.parent().unwrap().display().to_string();
        let python = PathBuf::from(env("HOLDLINE_TEST_PYTHON"));
        let path = [bin(Path::new(BINARY)), bin(&python), std::env::var("PATH").unwrap()].join(":");
        let mut shell = Command::new("bash");
        shell.args(["-euc", commands]).current_dir(self.dir.path()).env("PATH", path).process_group(0);
        // The machine's settings are no part of the page.
        shell.env_remove("HOLDLINE_ADMIN").env("no_proxy", "127.0.0.1");
        shell.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = shell.spawn().unwrap();
        self.groups.push(child.id().unwrap());
        let status = soon(commands, child.wait()).await.unwrap();
        if commands.contains("holdline run") {
            self.serves().await;
        }
        let printed = std::fs::read_to_string(&output).unwrap();
        assert!(status.success(), "{status}\n$ {commands}\n{printed}");
        printed
    }

    /// Looks at the only fleet until `is_so`.
    pub(super) async fn until(&self, is_so: impl Fn(&Value) -> bool) {
        soon("a status", async {
            while !is_so(&client::http("GET", ADMIN, "/v1/status", None).await.1["fleets"][0]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Looks until every backend is ready.
    async fn serves(&self) {
        let ready = async {
            while tokio::net::TcpStream::connect(ADMIN).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            loop {
                let (_, status) = client::http("GET", ADMIN, "/v1/status", None).await;
                let fleets = status["fleets"].as_array().cloned().unwrap_or_default();
                let mut backends = fleets.iter().flat_map(|f| f["backends"].as_array().unwrap());
                if !fleets.is_empty() && backends.all(|b: &Value| b["phase"] == "ready") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let served = tokio::time::timeout(PATIENCE, ready).await;
        assert!(served.is_ok(), "not all are ready; see {}", self.dir.path().display());
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for group in &self.groups {
            // Those that ended are no group any more.
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
        }
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run tests/run, which installs the clients and sets it"))
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut found: Vec<Block<'_>> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(info) => {
                inside = true;
                found.push(Block { info, text: String::new() });
            }
            None if inside => {
                let block = found.last_mut().unwrap();
                block.text += line;
                block.text += "\n";
            }
            None => {}
        }
    }
    found
}

/// Each line of `seen` was printed, in that order.
fn compare(seen: &str, printed: &str) {
    let mut left = printed.lines();
    for wanted in seen.lines() {
        assert!(
            left.any(|line| matches(wanted.trim_end(), line.trim_end())),
            "the page shows, and nobody printed:\n{wanted}\nprinted:\n{printed}"
        );
    }
}

/// `…` stands for anything.
fn matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut left) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return left.is_empty() };
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[test]
fn what_a_page_shows_is_compared() {
    let page = "```sh install\nnpm i\n```\nThen\n```sh\na &\nb\n```\n```text\nx … z\n```\n";
    let infos: Vec<_> = blocks(page).iter().map(|b| (b.info.to_owned(), b.text.clone())).collect();
    let block = |info: &str, text: &str| (info.to_owned(), text.to_owned());
    assert_eq!(infos, [block("sh install", "npm i\n"), block("sh", "a &\nb\n"), block("text", "x … z\n")]);
    assert!(matches("a … c", "a b c") && matches("a…", "abc") && matches("…", "") && matches("a", "a"));
    assert!(!matches("a", "ab") && !matches("a … c", "a b") && !matches("a…b…c", "a c b") && !matches("ab…b", "ab"));
    assert!(std::panic::catch_unwind(|| compare("two\none\n", "one\ntwo\n")).is_err());
    compare("one\ntwo\n", "zero\none\nand\ntwo\n");
}
