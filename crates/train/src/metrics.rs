//! `metrics.jsonl`: one line a step, with the same bytes however often the run was killed.
//!
//! ```text
//! {"step":1,"loss":2.5,"lr":0.0001,"grad_norm":1.25,"eval/top1":0.5}
//! ```
//!
//! Nothing that depends on the clock is in it; how fast the steps were goes to `timings.jsonl`. A
//! checkpoint holds the [`Mark`] of the log: its length and hash. A run that goes on from the
//! checkpoint compares, cuts the log there, and writes the lines after it again.

use crate::state::{Error, disk};
use altclip_durable::{Digest, Hasher, Vfs, VfsFile, replace};
use altclip_report::{Code, Report};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is logged of a step. Numbers that are not finite are written as `null`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRecord {
    /// The step, from 1.
    pub step: u64,
    /// The loss of the global batch.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Further numbers: parts of the loss, `logit_scale`, `eval/…`. A function of seed and data
    /// like the rest, or the log would not be the same after a resume.
    pub extra: Vec<(String, f64)>,
}

impl StepRecord {
    /// The line, with its end.
    pub fn line(&self) -> String {
        let Self { step, loss, lr, grad_norm, extra } = self;
        let (loss, lr, grad_norm) = (number(*loss), number(*lr), number(*grad_norm));
        let mut line =
            format!("{{\"step\":{step},\"loss\":{loss},\"lr\":{lr},\"grad_norm\":{grad_norm}");
        for (name, value) in extra {
            line += &format!(",{}:{}", serde_json::Value::from(name.as_str()), number(*value));
        }
        line + "}\n"
    }
}

/// The shortest text that is read back as the same number.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { "null".into() }
}

/// How far a log goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its length in bytes.
    pub bytes: u64,
    /// The XXH3 hash of so many bytes, 128 bits in hexadecimal digits.
    pub xxh3: String,
}

impl Default for Mark {
    /// The mark of an empty log.
    fn default() -> Self {
        Self { bytes: 0, xxh3: Digest::of(b"").to_string() }
    }
}

/// A log that is written line by line.
pub struct Log {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Box<dyn VfsFile>,
    /// Length and hash of what the file surely holds, as far as the system tells.
    bytes: u64,
    hasher: Hasher,
    /// Lines that could not be written yet.
    waiting: Vec<u8>,
    /// Whether a write failed, so that the file may go on with half a line.
    torn: bool,
    /// Whether a sync failed, so that the file is no longer to be trusted.
    doubtful: bool,
}

impl Log {
    /// An empty log; a file that was there is emptied.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn create(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self, Error> {
        replace(&*vfs, path, |_| Ok(()))?;
        Self::open(vfs, path, 0, Hasher::default())
    }

    /// The log of a run that goes on: what stands behind the mark is cut off. Where the file is
    /// missing a new one begins, with a warning.
    ///
    /// # Errors
    /// [`Error::Log`] for a file that does not begin with what the mark says, [`Error::Disk`].
    pub fn resume(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        mark: &Mark,
    ) -> Result<(Self, Option<Report>), Error> {
        let file = match vfs.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let warning = (mark.bytes > 0).then(|| missing(path));
                return Ok((Self::create(vfs, path)?, warning));
            }
            file => file.map_err(disk("open", path))?,
        };
        let mut hashing = HashingSink::default();
        let found =
            io::copy(&mut file.take(mark.bytes), &mut hashing).map_err(disk("read", path))?;
        if found != mark.bytes || hashing.0.digest().to_string() != mark.xxh3 {
            return Err(Error::Log { path: path.to_path_buf(), expected: mark.bytes, found });
        }
        let mut log = Self::open(vfs, path, mark.bytes, hashing.0)?;
        log.file.set_len(mark.bytes).map_err(disk("cut", path))?;
        log.file.sync().map_err(disk("sync", path))?;
        Ok((log, None))
    }

    fn open(vfs: Arc<dyn Vfs>, path: &Path, bytes: u64, hasher: Hasher) -> Result<Self, Error> {
        let file = vfs.append(path).map_err(disk("open", path))?;
        let (path, waiting) = (path.to_path_buf(), Vec::new());
        Ok(Self { vfs, path, file, bytes, hasher, waiting, torn: false, doubtful: false })
    }

    /// Adds a line, which ends in a newline. It is handed to the system at once, so that only a
    /// machine that stops can lose it; [`Log::mark`] brings it to the disk.
    ///
    /// # Errors
    /// [`Error::Disk`]: the line waits and is written with the next one.
    pub fn line(&mut self, line: &str) -> Result<(), Error> {
        self.waiting.extend_from_slice(line.as_bytes());
        self.write_waiting()
    }

    fn write_waiting(&mut self) -> Result<(), Error> {
        if self.torn {
            self.file.set_len(self.bytes).map_err(disk("cut", &self.path))?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(&self.waiting).and_then(|()| self.file.flush()) {
            self.torn = true;
            return Err(disk("write", &self.path)(error));
        }
        self.hasher.update(&self.waiting);
        self.bytes += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Brings all lines to the disk and tells how far the log goes: before each checkpoint.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn mark(&mut self) -> Result<Mark, Error> {
        self.write_waiting()?;
        if self.doubtful {
            self.write_anew()?;
        }
        if let Err(error) = self.file.sync() {
            self.doubtful = true;
            return Err(disk("sync", &self.path)(error));
        }
        Ok(Mark { bytes: self.bytes, xxh3: self.hasher.digest().to_string() })
    }

    /// After a failed sync the system may have thrown contents away, and the next sync succeeds all
    /// the same. So the log is written again as another file, from what is still read of it.
    fn write_anew(&mut self) -> Result<(), Error> {
        let old = self.vfs.open(&self.path).map_err(disk("open", &self.path))?;
        let sealed = replace(&*self.vfs, &self.path, |out| {
            io::copy(&mut old.take(self.bytes), out).map(drop)
        })?;
        self.file = self.vfs.append(&self.path).map_err(disk("open", &self.path))?;
        if (sealed.bytes, sealed.digest) != (self.bytes, self.hasher.digest()) {
            let (path, expected) = (self.path.clone(), self.bytes);
            return Err(Error::Log { path, expected, found: sealed.bytes });
        }
        self.doubtful = false;
        Ok(())
    }
}

#[derive(Default)]
struct HashingSink(Hasher);

impl Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn missing(path: &Path) -> Report {
    Report::new(Code::W6012, "training", "the log of the steps before the checkpoint is not there")
        .place(path.display().to_string())
        .help("a new log begins at this step")
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_durable::{Damage, Fault, FaultKind, SimFs, read};

    fn record(step: u64) -> StepRecord {
        let extra = vec![("logit_scale".into(), 4.6), ("eval/\"a\"".into(), f64::NAN)];
        StepRecord { step, loss: 0.1 * step as f64, lr: 1e-7, grad_norm: 12.0, extra }
    }

    #[test]
    fn a_line_is_json_with_exact_numbers() {
        assert_eq!(
            record(3).line(),
            "{\"step\":3,\"loss\":0.30000000000000004,\"lr\":1e-7,\"grad_norm\":12.0,\
             \"logit_scale\":4.6,\"eval/\\\"a\\\"\":null}\n"
        );
        let value: serde_json::Value = serde_json::from_str(&record(3).line()).unwrap();
        assert_eq!(value["loss"].as_f64(), Some(record(3).loss));
    }

    fn log(disk: &SimFs) -> Log {
        Log::create(Arc::new(disk.clone()), "metrics.jsonl".as_ref()).unwrap()
    }

    fn contents(disk: &SimFs) -> Vec<u8> {
        read(disk, "metrics.jsonl".as_ref(), 1 << 20).unwrap()
    }

    #[test]
    fn a_killed_run_leaves_the_same_bytes() {
        let whole = SimFs::new();
        let mut reference = log(&whole);
        (1..=40).for_each(|step| reference.line(&record(step).line()).unwrap());

        for (kill, damage) in [(11, Damage::DropAll), (17, Damage::KeepAll), (29, Damage::Zeroed)] {
            let disk = SimFs::new();
            let mut log = log(&disk);
            let (mut mark, mut marked) = (Mark::default(), 0);
            for step in 1..=kill {
                log.line(&record(step).line()).unwrap();
                if step % 10 == 0 {
                    (mark, marked) = (log.mark().unwrap(), step);
                }
            }
            let disk = disk.crash(damage);
            let (mut log, warning) =
                Log::resume(Arc::new(disk.clone()), "metrics.jsonl".as_ref(), &mark).unwrap();
            assert_eq!(warning, None);
            (marked + 1..=40).for_each(|step| log.line(&record(step).line()).unwrap());
            assert_eq!(contents(&disk), contents(&whole));
        }
    }

    /// Each write, cut and sync fails once: nothing is lost, and a mark is kept after a power cut.
    #[test]
    fn a_failed_write_or_sync_loses_no_line() {
        for kind in
            [FaultKind::NoSpace, FaultKind::Io, FaultKind::ShortWrite, FaultKind::FailedSync]
        {
            for at in 0..60 {
                let disk = SimFs::new().with_write_bytes(40);
                let mut log = log(&disk);
                let begun = disk.operations().len();
                disk.inject(Fault { at: begun + at, kind, forever: false });
                let mut mark = None;
                for step in 1..=8 {
                    // A fault that is reported; the line is written later.
                    let _ = log.line(&record(step).line());
                    if step % 2 == 0 {
                        mark = log.mark().ok();
                    }
                }
                let mark = mark.or_else(|| log.mark().ok()).expect("one fault is over by now");
                let expected: String = (1..=8).map(|step| record(step).line()).collect();
                assert_eq!(mark.bytes, expected.len() as u64);
                for damage in [Damage::DropAll, Damage::Zeroed, Damage::Random(at as u64)] {
                    let disk = disk.crash(damage);
                    assert_eq!(contents(&disk), expected.as_bytes(), "{kind:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_log_of_another_run_is_refused() {
        let disk = SimFs::new();
        let mut log = log(&disk);
        log.line(&record(1).line()).unwrap();
        let mark = log.mark().unwrap();
        let resume =
            |disk: &SimFs| Log::resume(Arc::new(disk.clone()), "metrics.jsonl".as_ref(), &mark);
        resume(&disk).unwrap();
        disk.tamper("metrics.jsonl".as_ref(), |bytes| bytes[8] ^= 1).unwrap();
        assert!(matches!(resume(&disk), Err(Error::Log { .. })));
        disk.tamper("metrics.jsonl".as_ref(), |bytes| bytes.truncate(3)).unwrap();
        assert!(matches!(resume(&disk), Err(Error::Log { found: 3, .. })));
        disk.remove_file("metrics.jsonl".as_ref()).unwrap();
        assert_eq!(resume(&disk).unwrap().1.map(|report| report.code), Some(Code::W6012));
    }
}
