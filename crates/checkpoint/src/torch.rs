//! The state dict inside a PyTorch archive: which tensors it has, and where each lies.
//!
//! `pytorch_model.bin` is a zip of `<name>/data.pkl` (the pickle) and `<name>/data/<key>` (a storage
//! each). A tensor is a view of a storage: offset, sizes and strides, all compared with the record
//! before a tensor is listed.
//!
//! A TorchScript archive (`torch.jit.save`) has an object in place of the dict: its tensors are named by
//! the path of attributes to them. Its code is not looked at.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::limits;
use crate::map::Mapped;
use crate::names::name_fault;
use crate::pickle::{self, Node, Pickle, Stop, Value, Why};
use crate::zip::{self, Archive, Record};
use altclip_report::{Code, Report, quote};
use std::collections::BTreeMap;
use std::path::Path;

/// Keys under which trainers put the state dict beside optimiser and random states. FlagAI and
/// DeepSpeed write `module`.
const WRAPPERS: [&str; 4] = ["module", "model", "state_dict", "model_state_dict"];
/// Most wrappers around a state dict.
const WRAPPER_DEPTH: usize = 3;
/// Deepest nesting of modules in a TorchScript archive.
const SCRIPT_DEPTH: usize = 16;
/// Memory that listing a tensor takes, by a generous estimate.
const ENTRY_BYTES: usize = 512;

/// A tensor as a view of a storage; offset and strides count elements.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) view: View,
}

/// Where the elements of a tensor lie within a record.
pub(crate) struct View {
    /// Index among [`StateDict::records`].
    pub(crate) record: usize,
    pub(crate) offset: usize,
    pub(crate) strides: Vec<usize>,
}

/// The tensors of a file, the records that they lie in, and what was passed over.
pub(crate) struct StateDict {
    pub(crate) tensors: Vec<Entry>,
    pub(crate) records: Vec<Record>,
    pub(crate) warnings: Vec<Report>,
}

/// Reads and checks directory and pickle of a mapped archive; no storage is touched.
pub(crate) fn read(map: &Mapped) -> Result<StateDict, Error> {
    let file = map.path();
    let archive = Archive::open(map.bytes(), file)?;
    let prefix = prefix(&archive, file)?;
    let pickle_name = format!("{prefix}data.pkl");
    let pickle_at = match archive.find(&pickle_name) {
        Some(record) => checked(&archive, record, &pickle_name, map)?,
        None => return Err(zip::zip_fault(file, "no data.pkl", &pickle_name)),
    };
    let script = archive.find(&format!("{prefix}constants.pkl")).is_some();
    let code = format!("{prefix}code/");
    archive.refuse_compressed(&|name| script && name.starts_with(&code))?;
    refuse_big_endian(&archive, &prefix, map)?;
    let bytes = map.bytes().get(pickle_at.clone()).unwrap_or_default();
    let pickle = pickle::read(bytes, script).map_err(|stop| stopped(file, stop))?;
    let mut reader =
        Reader { file, archive: &archive, prefix, pickle: &pickle, records: BTreeMap::new() };
    let state_dict = if script { reader.script() } else { reader.state_dict() };
    map.release(pickle_at);
    state_dict
}

/// The folder of all records, with its slash, from the one entry named `data.pkl`.
fn prefix(archive: &Archive<'_>, file: &Path) -> Result<String, Error> {
    let mut found = archive.records().filter_map(|(name, _)| name.strip_suffix("data.pkl"));
    let ours = |prefix: &&str| prefix.strip_suffix('/').is_some_and(|p| !p.contains('/'));
    let what = match (found.find(ours), archive.records().filter(|(n, _)| is_pickle(n)).count()) {
        (Some(prefix), 1) => return Ok(prefix.to_owned()),
        (_, 0) | (None, _) => "no data.pkl; this is not a file of torch.save",
        _ => "more than one data.pkl",
    };
    Err(zip::zip_fault(file, what, ""))
}

fn is_pickle(name: &str) -> bool {
    name.rsplit('/').next() == Some("data.pkl")
}

/// The data of a record, with its checksum compared.
fn checked(
    archive: &Archive<'_>,
    record: &Record,
    name: &str,
    map: &Mapped,
) -> Result<std::ops::Range<usize>, Error> {
    if record.size() > limits::PICKLE_BYTES {
        return Err(Error::PickleLimit {
            file: map.path().to_path_buf(),
            what: "bytes of the pickle",
            limit: limits::PICKLE_BYTES,
            offset: 0,
        });
    }
    let range = archive.locate(record)?;
    let data = map.bytes().get(range.clone()).unwrap_or_default();
    if !zip::crc_holds(data, record) {
        return Err(zip::zip_fault(map.path(), "the checksum of an entry does not hold", name));
    }
    Ok(range)
}

fn refuse_big_endian(archive: &Archive<'_>, prefix: &str, map: &Mapped) -> Result<(), Error> {
    let name = format!("{prefix}byteorder");
    if let Some(record) = archive.find(&name) {
        let range = checked(archive, record, &name, map)?;
        if map.bytes().get(range) != Some(b"little") {
            return Err(bad(map.path(), "its numbers are not little-endian", ""));
        }
    }
    Ok(())
}

fn bad(file: &Path, what: &'static str, tensor: &str) -> Error {
    Error::Pickle { file: file.to_path_buf(), what, tensor: tensor.to_owned(), offset: None }
}

fn stopped(file: &Path, Stop { offset, why }: Stop) -> Error {
    let file = file.to_path_buf();
    match why {
        Why::Forbidden(what) => Error::PickleForbidden { file, what, offset },
        Why::Limit(what, limit) => Error::PickleLimit { file, what, limit, offset },
        Why::Bad(what) => Error::Pickle { file, what, tensor: String::new(), offset: Some(offset) },
    }
}

struct Reader<'a> {
    file: &'a Path,
    archive: &'a Archive<'a>,
    prefix: String,
    pickle: &'a Pickle<'a>,
    /// The records in use, by key, with their index.
    records: BTreeMap<&'a str, (usize, &'a Record)>,
}

impl<'a> Reader<'a> {
    fn state_dict(&mut self) -> Result<StateDict, Error> {
        let mut warnings = Vec::new();
        let found = self.find(self.pickle.root, WRAPPER_DEPTH, &mut warnings);
        let pairs = found.ok_or_else(|| bad(self.file, "it holds no state dict", ""))?;
        self.bound(pairs.len())?;
        let mut tensors = Vec::with_capacity(pairs.len());
        let mut skipped = Vec::new();
        for &(key, value) in pairs {
            let name = self.pickle.text(key);
            let name = name.ok_or_else(|| bad(self.file, "a key that is not text", ""))?;
            self.check_name(name)?;
            match self.pickle.node(value) {
                Some(Node::Tensor(tensor)) => tensors.push(self.entry(name, tensor)?),
                _ => skipped.push(name),
            }
        }
        if !skipped.is_empty() {
            warnings.push(ignored(self.file, "of the state dict that are not tensors", &skipped));
        }
        self.finish(tensors, warnings)
    }

    /// The tensors of a TorchScript module, each by the path of attributes to it.
    fn script(&mut self) -> Result<StateDict, Error> {
        let mut tensors = Vec::new();
        let mut visits = 0;
        self.module(self.pickle.root, "", SCRIPT_DEPTH, &mut visits, &mut tensors)?;
        if tensors.is_empty() {
            return Err(bad(self.file, "a TorchScript archive without a module", ""));
        }
        self.finish(tensors, Vec::new())
    }

    /// An object may hold itself, so depth and visits are bounded.
    fn module(
        &mut self,
        object: Value,
        path: &str,
        depth: usize,
        visits: &mut usize,
        tensors: &mut Vec<Entry>,
    ) -> Result<(), Error> {
        let Some(&Node::Object(attributes)) = self.pickle.node(object) else { return Ok(()) };
        let limit = |what, limit: usize| Error::PickleLimit {
            file: self.file.to_path_buf(),
            what,
            limit: limit as u64,
            offset: 0,
        };
        if depth == 0 {
            return Err(limit("nested modules", SCRIPT_DEPTH));
        }
        for &(key, value) in self.pickle.dict(attributes).unwrap_or_default() {
            *visits += 1;
            if *visits > limits::TENSORS {
                return Err(limit("attributes of modules", limits::TENSORS));
            }
            let key = self.pickle.text(key);
            let key = key.ok_or_else(|| bad(self.file, "a key that is not text", ""))?;
            let name = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            match self.pickle.node(value) {
                Some(Node::Tensor(tensor)) => {
                    self.check_name(&name)?;
                    self.bound(tensors.len() + 1)?;
                    tensors.push(self.entry(&name, tensor)?);
                }
                Some(Node::Object(_)) => {
                    self.check_name(&name)?;
                    self.module(value, &name, depth - 1, visits, tensors)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<(), Error> {
        match name_fault(name) {
            Some(what) => {
                Err(Error::Name { file: self.file.to_path_buf(), name: name.to_owned(), what })
            }
            None => Ok(()),
        }
    }

    fn bound(&self, tensors: usize) -> Result<(), Error> {
        let memory = tensors.saturating_mul(ENTRY_BYTES).saturating_add(self.pickle.charged);
        if tensors <= limits::TENSORS && memory <= limits::PICKLE_MEMORY + (2 << 20) {
            return Ok(());
        }
        Err(Error::PickleLimit {
            file: self.file.to_path_buf(),
            what: "tensors of a state dict",
            limit: limits::TENSORS as u64,
            offset: 0,
        })
    }

    fn finish(&self, mut tensors: Vec<Entry>, warnings: Vec<Report>) -> Result<StateDict, Error> {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in tensors.windows(2) {
            if let [a, b] = pair
                && a.name == b.name
            {
                return Err(bad(self.file, "a tensor occurs twice", &a.name));
            }
        }
        let mut records: Vec<_> = self.records.values().collect();
        records.sort_by_key(|(index, _)| *index);
        let records = records.into_iter().map(|(_, record)| (*record).clone()).collect();
        Ok(StateDict { tensors, records, warnings })
    }

    /// The pairs of the state dict: inside a wrapper if one has tensors, else those of this dict.
    fn find(
        &self,
        value: Value,
        depth: usize,
        warnings: &mut Vec<Report>,
    ) -> Option<&'a [(Value, Value)]> {
        let pairs = self.pickle.dict(value)?;
        if let Some(depth) = depth.checked_sub(1) {
            for wrapper in WRAPPERS {
                let inner = pairs.iter().find(|(k, _)| self.pickle.text(*k) == Some(wrapper));
                let Some(found) = inner.and_then(|(_, v)| self.find(*v, depth, warnings)) else {
                    continue;
                };
                let keys = pairs.iter().filter_map(|(k, _)| self.pickle.text(*k));
                let others: Vec<_> = keys.filter(|k| *k != wrapper).collect();
                if !others.is_empty() {
                    warnings.push(ignored(self.file, "beside the state dict", &others));
                }
                return Some(found);
            }
        }
        let tensor = |v: &Value| matches!(self.pickle.node(*v), Some(Node::Tensor(_)));
        pairs.iter().any(|(_, v)| tensor(v)).then_some(pairs)
    }

    fn entry(&mut self, name: &str, tensor: &pickle::Tensor) -> Result<Entry, Error> {
        let fault = |what| bad(self.file, what, name);
        let dtype = tensor.dtype.ok_or_else(|| fault("a tensor of an untyped storage"))?;
        let shape = self.sizes(tensor.size).ok_or_else(|| fault("its shape is not valid"))?;
        let strides =
            self.sizes(tensor.stride).ok_or_else(|| fault("its strides are not valid"))?;
        let offset = unsigned(tensor.offset).ok_or_else(|| fault("its offset is not valid"))?;
        if shape.len() != strides.len() {
            return Err(fault("its shape and strides differ in length"));
        }
        let (record, found) = self.record(name, &tensor.storage)?;
        let bytes = self.storage_bytes(name, &tensor.storage, found.size())?;
        let reach = reach(offset, &shape, &strides).and_then(|n| n.checked_mul(dtype.width()));
        let bytes_of = dtype.bytes_of(&shape);
        match (reach, bytes_of) {
            // Elements that share memory would let a small file ask for a large tensor.
            (Some(reach), Some(own)) if reach <= bytes && own <= bytes => {}
            _ => {
                return Err(Error::Size {
                    file: self.file.to_path_buf(),
                    tensor: name.to_owned(),
                    dtype: dtype.as_str(),
                    shape,
                    needed: reach.max(bytes_of).map(|n| n as u64),
                    found: bytes as u64,
                });
            }
        }
        let (name, view) = (name.to_owned(), View { record, offset, strides });
        Ok(Entry { name, dtype, shape, view })
    }

    fn sizes(&self, value: Value) -> Option<Vec<usize>> {
        let values = self.pickle.tuple(value)?;
        if values.len() > limits::DIMENSIONS {
            return None;
        }
        values.iter().map(|&v| unsigned(v)).collect()
    }

    /// The record that holds a storage, with its index.
    fn record(
        &mut self,
        tensor: &str,
        storage: &pickle::Storage,
    ) -> Result<(usize, &'a Record), Error> {
        let key = self.pickle.text(storage.key);
        let key = key.ok_or_else(|| bad(self.file, "a storage key that is not text", tensor))?;
        let next = self.records.len();
        if let Some(known) = self.records.get(key) {
            return Ok(*known);
        }
        // A key is a number in every file of torch.save, never a path.
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric());
        let entry = format!("{}data/{key}", self.prefix);
        match self.archive.find(&entry) {
            Some(record) if plain => {
                self.records.insert(key, (next, record));
                Ok((next, record))
            }
            _ => Err(zip::zip_fault(self.file, "a storage is missing", &entry)),
        }
    }

    /// The length of a storage, which the pickle and the archive must agree on.
    fn storage_bytes(
        &self,
        tensor: &str,
        storage: &pickle::Storage,
        found: u64,
    ) -> Result<usize, Error> {
        let width = storage.dtype.map_or(1, Dtype::width);
        let declared = usize::try_from(storage.len).ok().and_then(|len| len.checked_mul(width));
        match declared {
            Some(bytes) if bytes as u64 == found => Ok(bytes),
            _ => Err(Error::Size {
                file: self.file.to_path_buf(),
                tensor: tensor.to_owned(),
                dtype: storage.dtype.map_or("U8", Dtype::as_str),
                shape: usize::try_from(storage.len).into_iter().collect(),
                needed: declared.map(|n| n as u64),
                found,
            }),
        }
    }
}

fn unsigned(value: Value) -> Option<usize> {
    match value {
        Value::Int(n) => usize::try_from(n).ok(),
        _ => None,
    }
}

/// One past the last element that a view touches.
fn reach(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(offset);
    }
    let steps = shape.iter().zip(strides).try_fold(0usize, |sum, (size, stride)| {
        sum.checked_add((size - 1).checked_mul(*stride)?)
    })?;
    offset.checked_add(steps)?.checked_add(1)
}

fn ignored(file: &Path, which: &str, names: &[&str]) -> Report {
    let shown: Vec<_> = names.iter().take(4).map(|n| quote(n)).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    Report::new(
        Code::W2121,
        "checkpoint",
        format!("ignored {} keys {which}: {}{more}", names.len(), shown.join(", ")),
    )
    .place(file.display().to_string())
    .help("nothing to do; a file of the state dict alone is smaller")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reach_of_a_view_is_its_last_element() {
        assert_eq!(reach(0, &[3, 4], &[4, 1]), Some(12));
        assert_eq!(reach(2, &[3, 4], &[1, 3]), Some(14));
        assert_eq!(reach(5, &[], &[]), Some(6));
        assert_eq!(reach(5, &[0, 9], &[1, 1]), Some(5));
        assert_eq!(reach(usize::MAX, &[1], &[1]), None);
        assert_eq!(reach(0, &[usize::MAX, 2], &[usize::MAX, 1]), None);
    }
}
