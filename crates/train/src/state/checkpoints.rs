//! The checkpoints of a run: saved, kept, found again.

use super::folder;
use super::{Error, RunState, Tensor, TensorSlice, disk};
use altclip_durable::{Vfs, read, remove_all, replace, sweep};
use altclip_report::{Code, Diagnose, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// After so many failed saves in a row a run ends.
pub const MAX_FAILED_SAVES: u32 = 3;

const FOLDER: &str = "checkpoints";
const LATEST: &str = "LATEST";
const BEST: &str = "BEST";
const MAX_POINTER_BYTES: u64 = 256;
/// What a checkpoint needs beside its tensors, with room to spare.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// Which checkpoints stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many, at least 1; the best stays besides.
    pub last: usize,
}

/// Which checkpoint a run goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest that is whole.
    Newest,
    /// The newest, or none.
    Exact,
    /// The newest that is whole and not of a later step than this.
    NotAfter(u64),
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Loaded {
    /// Its counters.
    pub state: RunState,
    /// Its tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// What was passed over on the way to it.
    pub warnings: Vec<Report>,
}

/// The checkpoints in the folder of one run.
pub struct Checkpoints {
    vfs: Arc<dyn Vfs>,
    out: PathBuf,
    keep: Keep,
    failed: u32,
    /// The newest that is known to be on the disk.
    last_good: Option<u64>,
    /// Those whose folder may be gone after a power cut: they do not count as kept.
    doubtful: BTreeSet<u64>,
}

impl Checkpoints {
    /// Opens or makes the folder of a run and removes what an interrupted save left. Whoever may
    /// not be alone takes an [`altclip_durable::Lock`] first: the save of another process looks
    /// like an interrupted one.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn open(vfs: Arc<dyn Vfs>, out: &Path, keep: Keep) -> Result<Self, Error> {
        let dir = out.join(FOLDER);
        for dir in [out, &dir] {
            make_dir(&*vfs, dir)?;
            sweep(&*vfs, dir)?;
        }
        Ok(Self {
            vfs,
            out: out.to_path_buf(),
            keep,
            failed: 0,
            last_good: None,
            doubtful: BTreeSet::new(),
        })
    }

    /// Refuses to begin where the checkpoints that will lie beside each other have no room: those
    /// that are kept and the one that is being written, less those that are there.
    ///
    /// # Errors
    /// [`Error::Space`], [`Error::Disk`].
    pub fn require_space(&self, tensors: &[TensorSlice<'_>]) -> Result<(), Error> {
        let values: u64 = tensors.iter().map(|tensor| tensor.values.len() as u64).sum();
        let there = self.steps()?.len();
        let copies = (self.keep.last.max(1) + 1).saturating_sub(there).max(1) as u64;
        let needed = copies * (4 * values + OVERHEAD_BYTES);
        let free =
            self.vfs.free_space(&self.out).map_err(disk("ask for the room of", &self.out))?;
        if free < needed {
            return Err(Error::Space { dir: self.out.clone(), copies, needed, free });
        }
        Ok(())
    }

    /// Saves a checkpoint, names it in `LATEST`, the best in `BEST`, and removes those that need not
    /// be kept. The tensors are written from where they lie. A run saves at the step at which its
    /// best value was measured; else there is no best checkpoint to keep.
    ///
    /// # Errors
    /// [`Error::Save`]: earlier checkpoints are as they were. A run goes on, and stops at the
    /// [`MAX_FAILED_SAVES`]th failure in a row ([`Checkpoints::must_stop`]).
    pub fn save<'a>(
        &mut self,
        state: &RunState,
        tensors: impl IntoIterator<Item = TensorSlice<'a>>,
    ) -> Result<PathBuf, Error> {
        let dir = self.dir(state.step);
        if self.last_good == Some(state.step) && self.failed == 0 {
            return Ok(dir);
        }
        let mut needed = 0;
        match self.try_save(state, tensors, &mut needed) {
            Ok(()) => {
                self.failed = 0;
                self.last_good = Some(state.step);
                Ok(dir)
            }
            Err(source) => Err(self.not_saved(state.step, needed, source)),
        }
    }

    /// Counts a checkpoint of `needed` bytes that could not be saved, or whose logs could not: the error of
    /// [`Checkpoints::save`].
    pub fn not_saved(&mut self, step: u64, needed: u64, source: Error) -> Error {
        self.failed += 1;
        Error::Save {
            step,
            in_a_row: self.failed,
            needed,
            free: self.vfs.free_space(&self.out).ok(),
            last_good: self.last_good,
            source: Box::new(source),
        }
    }

    /// Whether so many saves failed in a row that going on would lose too much.
    pub fn must_stop(&self) -> bool {
        self.failed >= MAX_FAILED_SAVES
    }

    fn try_save<'a>(
        &mut self,
        state: &RunState,
        tensors: impl IntoIterator<Item = TensorSlice<'a>>,
        needed: &mut u64,
    ) -> Result<(), Error> {
        let tensors = folder::tensors_file(tensors)?;
        *needed = tensors.bytes() + OVERHEAD_BYTES;
        let dir = self.dir(state.step);
        // A damaged one of this step that was passed over, or one whose save did not end.
        if self.vfs.metadata(&dir).is_ok() {
            remove_all(&*self.vfs, &dir)?;
        }
        let written = folder::write(&*self.vfs, &dir, state, tensors)?;
        self.doubtful.insert(state.step);
        written.publish()?;
        self.doubtful.remove(&state.step);
        self.settle(state)
    }

    /// What follows a checkpoint that is on the disk: it is named, and those that need not be kept go.
    fn settle(&self, state: &RunState) -> Result<(), Error> {
        self.point_at(state)?;
        self.prune(&[state.best.map(|best| best.step), Some(state.fallback)])
    }

    /// Brings both pointers to where they belong.
    fn point_at(&self, state: &RunState) -> Result<(), Error> {
        if self.pointed(LATEST) != Some(state.step) {
            self.point(LATEST, state.step)?;
        }
        // Asked each time, so that a pointer that a crash left behind comes right.
        let best = state.best.map(|best| best.step);
        if best != self.pointed(BEST)
            && let Some(best) = best
            && self.steps()?.contains(&best)
        {
            self.point(BEST, best)?;
        }
        Ok(())
    }

    fn point(&self, name: &str, step: u64) -> Result<(), Error> {
        let text = format!("{FOLDER}/{}\n", folder::name(step));
        replace(&*self.vfs, &self.out.join(name), |out| out.write_all(text.as_bytes()))?;
        Ok(())
    }

    /// Removes all but the newest and `others`. Those of doubt are neither counted nor removed.
    fn prune(&self, others: &[Option<u64>]) -> Result<(), Error> {
        let sure = self.steps()?.into_iter().filter(|step| !self.doubtful.contains(step));
        for step in sure.rev().skip(self.keep.last.max(1)) {
            if !others.contains(&Some(step)) {
                remove_all(&*self.vfs, &self.dir(step))?;
            }
        }
        Ok(())
    }

    /// The step of the newest checkpoint that there is or was, whole or not.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn newest(&self) -> Result<Option<u64>, Error> {
        Ok(self.steps()?.last().copied().max(self.pointed(LATEST)))
    }

    /// Loads a checkpoint; `None` where there never was one.
    ///
    /// # Errors
    /// With [`Resume::Exact`] [`Error::Damaged`] or [`Error::Gone`] for the newest; otherwise the
    /// fault of the newest when no older one is whole either. [`Error::Disk`].
    pub fn load(&mut self, resume: Resume) -> Result<Option<Loaded>, Error> {
        let limit = if let Resume::NotAfter(step) = resume { step } else { u64::MAX };
        let mut steps = self.steps()?;
        steps.retain(|step| *step <= limit);
        let Some(newest) = self.newest()?.map(|step| step.min(limit)) else { return Ok(None) };
        let mut faults: Vec<(u64, Error)> = Vec::new();
        if !steps.contains(&newest) {
            faults.push((newest, Error::Gone { step: newest, dir: self.out.join(FOLDER) }));
        }
        for step in steps.into_iter().rev() {
            if resume == Resume::Exact && !faults.is_empty() {
                break;
            }
            match folder::load(&*self.vfs, &self.dir(step), step) {
                Ok((state, tensors)) => {
                    let warnings = faults.iter().map(|fault| passed_over(fault, step)).collect();
                    self.last_good = Some(step);
                    if faults.is_empty() && limit == u64::MAX {
                        // A run that was killed between its last checkpoint and what follows it has
                        // nothing more to save. The folders say the same, so a failure does no harm.
                        let checkpoints = self.out.join(FOLDER);
                        let synced = self.vfs.sync_dir(&checkpoints);
                        let _ = synced.map(|()| self.settle(&state));
                    }
                    return Ok(Some(Loaded { state, tensors, warnings }));
                }
                Err(error) if error.is_out_of_memory() => return Err(error),
                Err(error) => faults.push((step, self.as_damage(step, error))),
            }
        }
        match faults.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(None),
        }
    }

    /// The steps of the checkpoints that are there, ascending.
    fn steps(&self) -> Result<Vec<u64>, Error> {
        let dir = self.out.join(FOLDER);
        let names = self.vfs.list(&dir).map_err(disk("list", &dir))?;
        let mut steps: Vec<u64> = names.iter().filter_map(|name| folder::step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The step that `LATEST` or `BEST` names; a file that is not there or makes no sense says
    /// nothing that the folders do not say.
    fn pointed(&self, name: &str) -> Option<u64> {
        let text = read(&*self.vfs, &self.out.join(name), MAX_POINTER_BYTES).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        folder::step_of(text.trim_end().strip_prefix(FOLDER)?.strip_prefix('/')?)
    }

    fn dir(&self, step: u64) -> PathBuf {
        self.out.join(FOLDER).join(folder::name(step))
    }

    /// A file that is missing or no safetensors file is damage too.
    fn as_damage(&self, step: u64, error: Error) -> Error {
        match error {
            Error::Damaged { .. } => error,
            other => Error::Damaged { step, dir: self.dir(step), what: other.report().sentence() },
        }
    }
}

/// The counters of the checkpoint that `LATEST` names, without its tensors and unchecked: enough to refuse
/// another run before anything in the folder `out` is touched. `None` where there is none that can be
/// read; [`Checkpoints::load`] says why.
pub fn peek(vfs: &dyn Vfs, out: &Path) -> Option<RunState> {
    let text = read(vfs, &out.join(LATEST), MAX_POINTER_BYTES).ok()?;
    let name = std::str::from_utf8(&text).ok()?.trim_end().strip_prefix(FOLDER)?;
    let step = folder::step_of(name.strip_prefix('/')?)?;
    folder::counters(vfs, &out.join(FOLDER).join(folder::name(step)))
}

/// The warning for a checkpoint that was not used. What is lost comes first: a long path is cut.
fn passed_over((step, error): &(u64, Error), used: u64) -> Report {
    let cause = error.report();
    let lost = step - used;
    let message = format!("step {used} is used instead of step {step}: {lost} steps are lost");
    Report::new(Code::W6002, cause.area, message)
        .place(cause.place.unwrap_or_default())
        .got(cause.message)
        .help("they are done again; --resume exact refuses instead")
}

/// Makes a folder, and those around it, unless it is there; brings its name to the disk.
fn make_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().unwrap_or(Path::new(""));
    match vfs.create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && !parent.as_os_str().is_empty() => {
            make_dir(vfs, parent)?;
            vfs.create_dir(dir).map_err(disk("create", dir))?;
        }
        Err(error) => return Err(disk("create", dir)(error)),
    }
    vfs.sync_dir(parent).map_err(disk("sync", parent))
}
