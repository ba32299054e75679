//! The built command in a child process with bounded memory and a patient watchdog.

use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

pub(crate) const ALTCLIP: &str = env!("CARGO_BIN_EXE_altclip");
/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Address space of a child: far more than a refusal needs, far less than a bomb does.
const ADDRESS_SPACE_MIB: u64 = 768;

/// A command that is about to run.
pub(crate) struct Run {
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
    stdin: Vec<u8>,
    stdout: Option<std::fs::File>,
    address_space_mib: u64,
    stack_kib: Option<u64>,
}

/// What came of it.
pub(crate) struct Outcome {
    /// `None` if it was killed.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// `altclip` with these arguments.
pub(crate) fn altclip<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    Run {
        args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
        envs: Vec::new(),
        removed: Vec::new(),
        stdin: Vec::new(),
        stdout: None,
        address_space_mib: ADDRESS_SPACE_MIB,
        stack_kib: None,
    }
}

impl Run {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.removed.push(name.into());
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn stdout_to(mut self, path: &Path) -> Self {
        self.stdout = Some(std::fs::OpenOptions::new().write(true).open(path).unwrap());
        self
    }

    pub(crate) fn address_space_mib(mut self, mebibytes: u64) -> Self {
        self.address_space_mib = mebibytes;
        self
    }

    pub(crate) fn stack_kib(mut self, kibibytes: u64) -> Self {
        self.stack_kib = Some(kibibytes);
        self
    }

    /// A command that limits itself and becomes `altclip`.
    fn command(&self) -> Command {
        let mut command = if cfg!(unix) {
            let mut limits = format!("ulimit -v {}", self.address_space_mib << 10);
            if let Some(kibibytes) = self.stack_kib {
                limits += &format!(" && ulimit -s {kibibytes}");
            }
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(limits + " && exec \"$0\" \"$@\"").arg(ALTCLIP);
            shell
        } else {
            Command::new(ALTCLIP)
        };
        command.args(&self.args);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["ALTCLIP_", "HF_", "HTTP", "http", "ALL_PROXY"].iter().any(|p| text.starts_with(p))
            {
                command.env_remove(&name);
            }
        }
        command.env_remove("RUST_BACKTRACE");
        // The number of threads of the machine must not decide about the address space.
        command.env("ALTCLIP_THREADS", "2").env("MALLOC_ARENA_MAX", "2");
        command.env("HF_HUB_OFFLINE", "1");
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        for name in &self.removed {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn go(mut self) -> Outcome {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(match self.stdout.take() {
            Some(file) => Stdio::from(file),
            None => Stdio::piped(),
        });
        let mut child = command.spawn().unwrap();
        let (sender, ended) = mpsc::channel();
        let drain = |pipe: Option<Box<dyn Read + Send>>, name: &'static str| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).unwrap();
                }
                // The receiver may have lost patience.
                let _ = sender.send((name, bytes));
            });
        };
        drain(child.stdout.take().map(|pipe| Box::new(pipe) as _), "stdout");
        drain(child.stderr.take().map(|pipe| Box::new(pipe) as _), "stderr");
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), std::mem::take(&mut self.stdin));
        // A child that does not read its stdin is none of our business.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            match ended.recv_timeout(PATIENCE) {
                Ok(("stdout", bytes)) => stdout = bytes,
                Ok((_, bytes)) => stderr = bytes,
                Err(_) => {
                    child.kill().unwrap();
                    stderr = b"killed: it did not end".to_vec();
                    break;
                }
            }
        }
        let status = child.wait().unwrap().code();
        Outcome { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// Starts it with nobody to listen. The shell becomes `altclip`, so the child is `altclip` itself.
    pub(crate) fn spawn(self) -> std::process::Child {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs and expects success.
    pub(crate) fn ok(self) -> Outcome {
        let args = self.args.clone();
        let outcome = self.go();
        assert_eq!(outcome.status, Some(0), "{args:?}\n{}", outcome.stderr);
        outcome
    }

    /// Starts it and closes its stdout after the first bytes, as `| head -c 1` does.
    pub(crate) fn with_reader_that_leaves(self) -> Outcome {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut first = [0; 1];
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        Outcome {
            status: output.status.code(),
            stdout: first.to_vec(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The rows of JSON Lines.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What breaks the contract of the lines on stderr, if anything does.
    pub(crate) fn fault_of_stderr(&self) -> Option<String> {
        self.stderr.lines().find_map(|line| {
            let severity = ["error[E", "warning[W", "notice[I"];
            if line.starts_with("and ") && line.ends_with(" more") {
                None
            } else if !severity.iter().any(|start| line.starts_with(start)) {
                Some(format!("not a report: {line}"))
            } else if line.len() > altclip_report::MAX_REPORT_BYTES {
                Some(format!("{} bytes: {line}", line.len()))
            } else if line.chars().any(char::is_control) {
                Some(format!("control characters: {line:?}"))
            } else if !line.contains("help: ") {
                Some(format!("no help: {line}"))
            } else {
                None
            }
        })
    }
}
