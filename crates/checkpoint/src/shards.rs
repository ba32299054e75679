//! The index of a sharded checkpoint: `{"weight_map": {tensor: file}}`.

use crate::error::Error;
use crate::json::{Cursor, Fault};
use crate::limits;
use crate::names::shard_fault;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Which shard each tensor is in. No shard is opened.
pub(crate) struct Index {
    /// Tensor to index into `shards`.
    pub(crate) map: BTreeMap<String, usize>,
    /// File names, sorted, all in the folder of the index.
    pub(crate) shards: Vec<String>,
}

/// Reads and checks an index file.
pub(crate) fn read(path: &Path) -> Result<Index, Error> {
    let text = read_limited(path)?;
    let mut weight_map = Vec::new();
    parse(&text, &mut weight_map).map_err(|fault| match fault.what {
        what if weight_map.len() > limits::TENSORS => over(path, what, limits::TENSORS),
        what => Error::Header { file: path.to_path_buf(), offset: fault.offset, what },
    })?;
    let names: BTreeMap<&str, usize> = weight_map.iter().map(|(_, s)| (s.as_str(), 0)).collect();
    if names.len() > limits::SHARDS {
        return Err(over(path, "the number of shards", limits::SHARDS));
    }
    let shards: Vec<String> = names.into_keys().map(str::to_owned).collect();
    for name in &shards {
        if let Some(what) = shard_fault(name) {
            return Err(Error::Name { file: path.to_path_buf(), name: name.clone(), what });
        }
    }
    let mut map = BTreeMap::new();
    for (tensor, shard) in weight_map {
        let Ok(shard) = shards.binary_search(&shard) else { continue };
        if map.contains_key(&tensor) {
            let what = "a tensor occurs twice";
            return Err(Error::Index { file: path.to_path_buf(), what, name: tensor });
        }
        map.insert(tensor, shard);
    }
    Ok(Index { map, shards })
}

fn over(path: &Path, what: &'static str, limit: usize) -> Error {
    let (found, limit) = (limit as u64 + 1, limit as u64);
    Error::HeaderTooLarge { file: path.to_path_buf(), what, found, limit }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::NotWeights { file: path.to_path_buf(), found: "not a regular file" });
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(limits::HEADER_BYTES + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limits::HEADER_BYTES {
        return Err(Error::HeaderTooLarge {
            file: path.to_path_buf(),
            what: "the size of the index in bytes",
            found: metadata.len(),
            limit: limits::HEADER_BYTES,
        });
    }
    Ok(text)
}

fn parse(text: &[u8], weight_map: &mut Vec<(String, String)>) -> Result<(), Fault> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect(b'{', "expected a JSON object")?;
    let (mut first, mut seen) = (true, false);
    while cursor.more(b'}', &mut first)? {
        if cursor.key()? != "weight_map" {
            cursor.skip()?;
            continue;
        }
        if std::mem::replace(&mut seen, true) {
            return cursor.fault("`weight_map` occurs twice");
        }
        cursor.expect(b'{', "`weight_map` is not an object")?;
        let mut first = true;
        while cursor.more(b'}', &mut first)? {
            let tensor = cursor.key()?.into_owned();
            weight_map.push((tensor, cursor.string()?.into_owned()));
            if weight_map.len() > limits::TENSORS {
                return cursor.fault("the number of tensors");
            }
        }
    }
    cursor.end()?;
    if seen { Ok(()) } else { cursor.fault("no `weight_map`") }
}
