//! A queue's server, in a directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A server process, killed and waited for when it is dropped.
pub(crate) struct Server {
    child: Child,
    end: Signal,
}

impl Server {
    /// Starts `command` and waits for a line with `ready` on either output; the text is what it said until then.
    pub(crate) fn start(mut command: Command, ready: &str, end: Signal) -> (Self, String) {
        let (mut output, input) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(input.try_clone().unwrap()).stderr(input);
        let program = command.get_program().display().to_string();
        let spawned = command.spawn();
        // The pipe's other ends: without them its end is the server's.
        drop(command);
        let child = spawned.unwrap_or_else(|e| panic!("`{program}` does not start: {e}; tests/run installs it"));
        let server = Server { child, end };
        let mut said = String::new();
        let mut lines = BufReader::new(&mut output);
        while !said.contains(ready) {
            assert!(lines.read_line(&mut said).unwrap() > 0, "{program} ended:\n{said}");
        }
        // Nobody reads on; a full pipe would stop the server.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        (server, said)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(self.end);
        self.child.wait().unwrap();
    }
}
