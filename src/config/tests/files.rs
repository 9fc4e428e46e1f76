//! Files on disk, and files that a machine garbled.

use std::path::{Path, PathBuf};

use holdline_core::policy::Affinity;
use holdline_core::wire::token::Keys;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use crate::config::{Programs, load, parse_with};

/// A directory that goes with its test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("holdline-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done about a directory that does not go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PUSH: &str = r#"
listeners: [ { address: "127.0.0.1:0" } ]
fleets:
  chat:
    backends: { static: [ { address: "127.0.0.1:9001" } ] }
    capacity: 10
    heartbeat: { probe: push, token_file: push.token }
"#;

#[test]
fn a_token_is_read_beside_the_file() {
    let dir = Scratch::new("token");
    let file = dir.write("holdline.yaml", PUSH.as_bytes());
    dir.write("push.token", b"s3cret\n");
    assert_eq!(load(&file).unwrap().fleets[0].heartbeat_token.as_deref(), Some("s3cret"));

    let token = dir.write("push.token", b" \n");
    let expected = format!(
        "{}:7: fleets.chat.heartbeat.token_file {} holds no token; write one line of printable ASCII into it",
        file.display(),
        token.display()
    );
    assert_eq!(load(&file).unwrap_err().to_string(), expected);
}

const KEYED: &str = r#"
listeners: [ { address: "127.0.0.1:0" } ]
fleets:
  chat:
    backends: { static: [ { address: "127.0.0.1:9001" } ] }
    capacity: 10
    affinity: { by: cookie, key_file: affinity.key }
"#;

#[test]
fn affinity_keys_are_read_beside_the_file() {
    let dir = Scratch::new("affinity-key");
    let file = dir.write("holdline.yaml", KEYED.as_bytes());
    let (new, old) = ("n".repeat(64), "o".repeat(32));
    let keys_of = |text: &str| -> Result<Keys, String> {
        dir.write("affinity.key", text.as_bytes());
        let config = load(&file).map_err(|error| error.to_string())?;
        match &config.fleets[0].policy.affinity {
            Affinity::Cookie { keys: Some(keys), .. } => Ok(keys.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(keys_of(&format!("{new}\n\n {old} \n")), keys_of(&format!("{new}\n{old}")));
    assert_ne!(keys_of(&new), keys_of(&old));
    for (text, why) in [
        (String::new(), "it holds no key"),
        (format!("{new}\nshort"), "line 2 is not 32 or more printable ASCII characters"),
        ("two words, although they are long enough".to_owned(), "line 1 is not 32 or more"),
        ([new.as_str(), &old, &new].join("\n"), "it holds 3 keys, and at most 2 may be in use"),
    ] {
        let error = keys_of(&text).unwrap_err();
        assert!(error.contains(why) && error.contains("holdline.yaml:7: fleets.chat.affinity.key_file"), "{error}");
        assert!(error.contains("openssl rand -hex 32"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = Scratch::new("unread");
    let latin = dir.write("latin1.yaml", b"# caf\xe9\n");
    let expected = format!("cannot read {}: not valid UTF-8; save it as UTF-8", latin.display());
    assert_eq!(load(&latin).unwrap_err().to_string(), expected);
    let missing = dir.0.join("missing.yaml");
    let expected = format!(
        "cannot read {}: No such file or directory (os error 2); name the configuration with --config FILE",
        missing.display()
    );
    assert_eq!(load(&missing).unwrap_err().to_string(), expected);
}

#[test]
fn of_many_errors_the_first_are_reported() {
    let backends: String = (0..30_000).map(|n| format!("        - address: {n}\n")).collect();
    let head = "listeners: [ { address: \"127.0.0.1:0\" } ]\nfleets:\n  chat:\n    capacity: 1\n    backends:\n      static:\n";
    let dir = Scratch::new("many");
    let error = load(&dir.write("holdline.yaml", format!("{head}{backends}").as_bytes())).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!((lines.len(), lines[50]), (51, "and 29950 more errors"));
    assert!(lines[49].contains("holdline.yaml:56: "), "{}", lines[49]);
}

#[test]
fn files_that_the_configuration_names_are_regular_and_of_bounded_size() {
    let dir = Scratch::new("named");
    rustix::fs::mknodat(CWD, dir.path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::File::create(dir.path("sparse")).unwrap().set_len(300 << 20).unwrap();
    let config = |listener: &str, backends: &str, fleet: &str| {
        format!(
            "listeners: [ {{ address: \"127.0.0.1:0\"{listener} }} ]\nfleets:\n  chat:\n    backends: \
             {{ static: [ {{ address: \"127.0.0.1:9001\" }} ]{backends} }}\n    capacity: 1\n{fleet}"
        )
    };
    for (name, why) in [("pipe", "not a regular file"), ("sparse", "larger than ")] {
        for text in [
            config(&format!(", tls: {{ certificates: [ {{ cert: {name}, key: key }} ] }}"), "", ""),
            config("", &format!(", tls: {{ ca: {name} }}"), ""),
            config("", "", &format!("    heartbeat: {{ probe: push, token_file: {name} }}\n")),
            config("", "", &format!("    affinity: {{ by: cookie, key_file: {name} }}\n")),
        ] {
            let error = load(&dir.write("holdline.yaml", text.as_bytes())).unwrap_err().to_string();
            let path = dir.path(name).display().to_string();
            assert!(error.contains(&path) && error.contains(why) && error.contains("; correct the path"), "{text}{error}");
        }
    }
}

proptest! {
    #[test]
    fn a_garbled_file_is_refused_or_accepted_but_never_panics(at in 0usize..8000, cut in 0usize..12, put in "[\\PC\n\t]{0,6}") {
        let text = include_str!("../../../config/holdline.yaml");
        let border = |n: usize| (n..=text.len()).find(|n| text.is_char_boundary(*n)).unwrap_or(text.len());
        let (from, to) = (border(at.min(text.len())), border((at + cut).min(text.len())));
        let garbled = format!("{}{put}{}", &text[..from], &text[to..]);
        if let Err(error) = parse_with(&garbled, "holdline.yaml", Path::new("/srv/holdline"), Programs::Trust) {
            prop_assert!(error.to_string().starts_with("holdline.yaml:"), "{error}");
        }
    }
}
