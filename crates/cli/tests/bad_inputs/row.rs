//! A row of the table: what makes the bad input, and what must come of it.

use crate::support::child::{Outcome, Run, altclip};
use crate::support::folder::Folder;
use altclip_report::Code;
use serde_json::Value;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

type Make<T> = Box<dyn Fn(&T) + Send + Sync>;
type MakeRun = Box<dyn Fn(&Case) -> Run + Send + Sync>;

/// How a row is tried.
enum Kind {
    /// A damaged model folder: `embed` refuses it, and so does `doctor --full`.
    Model(&'static str, Make<Folder>),
    /// A command that ends with the code on stderr and nothing on stdout.
    Refused(MakeRun),
    /// `embed --json`: the bad input is a row on stdout with the same code.
    BadInput(MakeRun),
    /// A command that works and warns.
    Warned(MakeRun),
    /// Anything else, said with assertions.
    Check(Make<Case>),
}

pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) code: Option<Code>,
    parts: &'static [&'static str],
    kind: Kind,
}

/// A sound model and a place for the files of one row.
pub(crate) struct Case {
    dir: TempDir,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A sound folder, which no row may change.
    pub(crate) fn model(&self) -> &'static Path {
        static MODEL: OnceLock<Folder> = OnceLock::new();
        MODEL.get_or_init(|| Folder::new("alt_l")).dir()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A command with the sound model: `embed`, the arguments, `--json`.
    pub(crate) fn embed<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        let head = [OsStr::new("embed"), OsStr::new("--model"), self.model().as_os_str()];
        altclip(
            head.into_iter().chain(args.iter().map(AsRef::as_ref)).chain([OsStr::new("--json")]),
        )
    }

    /// A command with the sound model.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, name: &str, args: &[S]) -> Run {
        let head = [OsStr::new(name), OsStr::new("--model"), self.model().as_os_str()];
        altclip(head.into_iter().chain(args.iter().map(AsRef::as_ref)))
    }

    /// The vector of a picture of these bytes.
    pub(crate) fn vector(&self, name: &str, bytes: &[u8], flags: &[&str]) -> Vec<f64> {
        let path = self.file(name, bytes);
        let mut args = vec![OsStr::new("--image"), path.as_os_str()];
        args.extend(flags.iter().map(OsStr::new));
        let rows = self.embed(&args).ok().rows();
        numbers(&rows[0]["embedding"])
    }
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

type Parts = &'static [&'static str];

/// A copy of the tiny AltCLIP that `damage` makes bad.
pub(crate) fn model(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: Parts,
    damage: impl Fn(&Folder) + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: Some(code), parts, kind: Kind::Model("alt_l", Box::new(damage)) }
}

/// The same with the checkpoint in two shards.
pub(crate) fn sharded(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: Parts,
    damage: impl Fn(&Folder) + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: Some(code), parts, kind: Kind::Model("alt_h", Box::new(damage)) }
}

pub(crate) fn refused(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: Parts,
    run: impl Fn(&Case) -> Run + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: Some(code), parts, kind: Kind::Refused(Box::new(run)) }
}

pub(crate) fn bad_input(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: Parts,
    run: impl Fn(&Case) -> Run + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: Some(code), parts, kind: Kind::BadInput(Box::new(run)) }
}

pub(crate) fn warned(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: Parts,
    run: impl Fn(&Case) -> Run + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: Some(code), parts, kind: Kind::Warned(Box::new(run)) }
}

pub(crate) fn check(
    id: &'static str,
    name: &'static str,
    check: impl Fn(&Case) + Send + Sync + 'static,
) -> Row {
    Row { id, name, code: None, parts: &[], kind: Kind::Check(Box::new(check)) }
}

impl Row {
    pub(crate) fn check(&self) -> Result<(), String> {
        let checked = catch_unwind(AssertUnwindSafe(|| self.try_it()));
        checked.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
        })
    }

    fn try_it(&self) -> Result<(), String> {
        let case = Case::new();
        match &self.kind {
            Kind::Model(golden, damage) => {
                let folder = Folder::new(golden);
                damage(&folder);
                self.judge_model(&folder)
            }
            Kind::Refused(run) => self.judge(&run(&case).go(), false),
            Kind::BadInput(run) => self.judge(&run(&case).go(), true),
            Kind::Warned(run) => self.judge_warning(&run(&case).go()),
            Kind::Check(check) => {
                check(&case);
                Ok(())
            }
        }
    }

    fn judge_model(&self, folder: &Folder) -> Result<(), String> {
        let dir = folder.dir().as_os_str();
        let arg = OsStr::new;
        let embed = [arg("embed"), arg("--model"), dir, arg("--text"), arg("a"), arg("--json")];
        let outcome = altclip(embed).go();
        // A weight that is not finite is found when it is packed, and then the text is to blame.
        let late = outcome.text().contains("\"error\"");
        self.judge(&outcome, late)?;
        let doctor = [arg("doctor"), arg("--full"), arg("--model"), dir, arg("--json")];
        let outcome = altclip(doctor).go();
        let (code, exit) = self.expected();
        if outcome.status != Some(exit) || !outcome.text().contains(code) {
            return Err(format!("doctor: {:?} {}", outcome.status, outcome.text()));
        }
        Ok(())
    }

    fn expected(&self) -> (&'static str, i32) {
        let code = self.code.unwrap_or(Code::E9001);
        (code.as_str(), i32::from(code.exit_status()))
    }

    fn judge(&self, outcome: &Outcome, row: bool) -> Result<(), String> {
        let (code, exit) = self.expected();
        let seen = format!("{:?}\n{}{}", outcome.status, outcome.stderr, outcome.text());
        if outcome.status != Some(exit) {
            return Err(format!("exit status, expected {exit} ({code}): {seen}"));
        }
        self.judge_lines(outcome)?;
        if !row {
            return if outcome.stdout.is_empty() { Ok(()) } else { Err(format!("stdout: {seen}")) };
        }
        let rows = outcome.rows();
        match rows.as_slice() {
            [row] if row["error"]["code"] == code && row["embedding"].is_null() => Ok(()),
            _ => Err(format!("rows: {seen}")),
        }
    }

    fn judge_warning(&self, outcome: &Outcome) -> Result<(), String> {
        if outcome.status != Some(0) || outcome.stdout.is_empty() {
            return Err(format!("{:?} {}", outcome.status, outcome.stderr));
        }
        self.judge_lines(outcome)
    }

    fn judge_lines(&self, outcome: &Outcome) -> Result<(), String> {
        let (code, _) = self.expected();
        if let Some(fault) = outcome.fault_of_stderr() {
            return Err(fault);
        }
        let mut lines = outcome.stderr.lines().filter(|line| line.contains(&format!("[{code}]")));
        let has_all = |line: &str| self.parts.iter().all(|part| line.contains(part));
        if !lines.any(has_all) {
            return Err(format!("no line with [{code}] and {:?}: {}", self.parts, outcome.stderr));
        }
        Ok(())
    }
}
