//! What the program sees, what is on the disk, and the effects between them.

use super::fault::{Fault, FaultKind, Operation};
use crate::vfs::Metadata;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// A file or folder, whatever its names.
pub(super) type Id = usize;

/// Contents.
#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<u8>),
    Dir(BTreeMap<String, Id>),
}

/// One file or folder, as the program sees it and as the disk has it.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) seen: Node,
    pub(super) durable: Node,
}

/// A change that the disk may not have yet.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    /// The file or folder that it changes.
    pub(super) of: Id,
    pub(super) change: Change,
    /// Whether a sync of it failed: no later sync brings it to the disk.
    pub(super) doomed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
    /// Names that change together; `None` removes.
    Names(Vec<(String, Option<Id>)>),
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) inodes: Vec<Inode>,
    pub(super) effects: Vec<Effect>,
    pub(super) log: Vec<(Operation, PathBuf)>,
    pub(super) faults: Vec<Fault>,
    pub(super) write_bytes: usize,
    pub(super) free: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        let root = Node::Dir(BTreeMap::new());
        Self {
            inodes: vec![Inode { seen: root.clone(), durable: root }],
            effects: Vec::new(),
            log: Vec::new(),
            faults: Vec::new(),
            write_bytes: usize::MAX,
            free: None,
        }
    }
}

impl State {
    /// Counts an operation and tells the fault that it meets.
    fn begin(&mut self, operation: Operation, path: &Path) -> io::Result<Option<FaultKind>> {
        let number = self.log.len();
        self.log.push((operation, path.to_path_buf()));
        let hit = self.faults.iter().find(|fault| fault.hits(number, operation));
        let kind = hit.map(|fault| fault.kind);
        match kind.and_then(FaultKind::error) {
            Some(error) => Err(error),
            None => Ok(kind),
        }
    }

    /// Makes a change visible and notes it as not yet on the disk.
    fn change(&mut self, of: Id, change: Change) {
        apply(&mut self.inodes[of].seen, &change);
        self.effects.push(Effect { of, change, doomed: false });
    }

    fn add(&mut self, dir: Id, name: String, node: Node, empty: Node) -> Id {
        let id = self.inodes.len();
        self.inodes.push(Inode { seen: node, durable: empty });
        self.change(dir, Change::Names(vec![(name, Some(id))]));
        id
    }

    fn names(&self, id: Id) -> io::Result<&BTreeMap<String, Id>> {
        match &self.inodes[id].seen {
            Node::Dir(names) => Ok(names),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn bytes(&self, id: Id) -> io::Result<&Vec<u8>> {
        match &self.inodes[id].seen {
            Node::File(bytes) => Ok(bytes),
            Node::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut id = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            id = *self.names(id)?.get(text(name)?).ok_or(ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<Id> {
        let id = self.find(path)?;
        self.names(id).map(|_| id)
    }

    /// The folder of a path and the last name of it.
    fn place(&self, path: &Path) -> io::Result<(Id, String)> {
        let name = text(path.file_name().ok_or(ErrorKind::InvalidInput)?)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Id> {
        let id = self.append(path)?.0;
        if !self.bytes(id)?.is_empty() {
            self.change(id, Change::Length(0));
        }
        Ok(id)
    }

    pub(super) fn append(&mut self, path: &Path) -> io::Result<(Id, usize)> {
        self.begin(Operation::Create, path)?;
        let (dir, name) = self.place(path)?;
        if let Some(&id) = self.names(dir)?.get(&name) {
            return Ok((id, self.bytes(id)?.len()));
        }
        let empty = Node::File(Vec::new());
        Ok((self.add(dir, name, empty.clone(), empty), 0))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.begin(Operation::CreateDir, path)?;
        let (dir, name) = self.place(path)?;
        if self.names(dir)?.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let empty = Node::Dir(BTreeMap::new());
        self.add(dir, name, empty.clone(), empty);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        id: Id,
        path: &Path,
        at: usize,
        bytes: &[u8],
    ) -> io::Result<usize> {
        let kind = self.begin(Operation::Write, path)?;
        let mut n = bytes.len().min(self.write_bytes);
        if kind == Some(FaultKind::ShortWrite) {
            n /= 2;
        }
        if let Some(free) = &mut self.free {
            if *free == 0 && n > 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            n = n.min(usize::try_from(*free).unwrap_or(usize::MAX));
            *free -= n as u64;
        }
        let mut stored = bytes[..n].to_vec();
        if kind == Some(FaultKind::SilentDamage)
            && let Some(byte) = stored.last_mut()
        {
            *byte ^= 1;
        }
        self.change(id, Change::Write { at, bytes: stored });
        Ok(n)
    }

    pub(super) fn set_len(&mut self, id: Id, path: &Path, length: usize) -> io::Result<()> {
        self.begin(Operation::SetLen, path)?;
        self.change(id, Change::Length(length));
        Ok(())
    }

    pub(super) fn sync(&mut self, operation: Operation, id: Id, path: &Path) -> io::Result<()> {
        match self.begin(operation, path) {
            Ok(None) => {}
            Ok(Some(_ignored)) => return Ok(()),
            Err(error) => {
                self.effects.iter_mut().filter(|e| e.of == id).for_each(|e| e.doomed = true);
                return Err(error);
            }
        }
        let mut waiting = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            if effect.of == id && !effect.doomed {
                apply(&mut self.inodes[id].durable, &effect.change);
            } else {
                waiting.push(effect);
            }
        }
        self.effects = waiting;
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Operation::Rename, from)?;
        let ((dir, old), (other, new)) = (self.place(from)?, self.place(to)?);
        if dir != other {
            return Err(ErrorKind::CrossesDevices.into());
        }
        let id = *self.names(dir)?.get(&old).ok_or(ErrorKind::NotFound)?;
        if let Some(&taken) = self.names(dir)?.get(&new)
            && !matches!(
                (&self.inodes[id].seen, &self.inodes[taken].seen),
                (Node::File(_), Node::File(_))
            )
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(dir, Change::Names(vec![(old, None), (new, Some(id))]));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, is_dir: bool) -> io::Result<()> {
        self.begin(Operation::Remove, path)?;
        let (dir, name) = self.place(path)?;
        match &self.inodes[self.find(path)?].seen {
            Node::File(_) if is_dir => return Err(ErrorKind::NotADirectory.into()),
            Node::Dir(_) if !is_dir => return Err(ErrorKind::IsADirectory.into()),
            Node::Dir(names) if !names.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.change(dir, Change::Names(vec![(name, None)]));
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<Id> {
        self.begin(Operation::Open, path)?;
        let id = self.find(path)?;
        self.bytes(id).map(|_| id)
    }

    pub(super) fn read(
        &mut self,
        id: Id,
        path: &Path,
        at: usize,
        out: &mut [u8],
    ) -> io::Result<usize> {
        self.begin(Operation::Read, path)?;
        let rest = self.bytes(id)?.get(at..).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        self.begin(Operation::Look, path)?;
        Ok(self.names(self.find(path)?)?.keys().cloned().collect())
    }

    pub(super) fn metadata(&mut self, path: &Path) -> io::Result<Metadata> {
        self.begin(Operation::Look, path)?;
        Ok(match &self.inodes[self.find(path)?].seen {
            Node::File(bytes) => Metadata { bytes: bytes.len() as u64, is_dir: false },
            Node::Dir(_) => Metadata { bytes: 0, is_dir: true },
        })
    }

    pub(super) fn tamper(
        &mut self,
        path: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let id = self.find(path)?;
        let mut bytes = self.bytes(id)?.clone();
        change(&mut bytes);
        self.inodes[id] = Inode { seen: Node::File(bytes.clone()), durable: Node::File(bytes) };
        self.effects.retain(|effect| effect.of != id);
        Ok(())
    }
}

fn text(name: &OsStr) -> io::Result<&str> {
    name.to_str().ok_or_else(|| ErrorKind::InvalidFilename.into())
}

/// Makes one change to contents.
pub(super) fn apply(node: &mut Node, change: &Change) {
    match (node, change) {
        (Node::File(file), Change::Write { at, bytes }) => {
            let end = at + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*at..end].copy_from_slice(bytes);
        }
        (Node::File(file), Change::Length(length)) => file.resize(*length, 0),
        (Node::Dir(names), Change::Names(changes)) => {
            for (name, id) in changes {
                match id {
                    Some(id) => names.insert(name.clone(), *id),
                    None => names.remove(name),
                };
            }
        }
        _ => unreachable!("a change fits its file or folder"),
    }
}
