//! The folder of one checkpoint: written as a whole, read with its hashes.

use super::{Error, FORMAT, RunState, Tensor, TensorSlice};
use altclip_checkpoint::{Dtype, SafetensorsFile, TensorData, TensorToWrite, read_safetensors_f32};
use altclip_durable::{Digest, Folder, Hasher, Vfs, read};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

const TENSORS: &str = "state.safetensors";
const STATE: &str = "state.json";
const CHECKSUMS: &str = "CHECKSUMS";
/// Most bytes of `state.json`.
const MAX_STATE_BYTES: u64 = 16 << 20;
const MAX_CHECKSUMS_BYTES: u64 = 4096;

/// `step-00000100`, so that names sort as numbers do.
pub(super) fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of a folder's name.
pub(super) fn step_of(text: &str) -> Option<u64> {
    let step = text.strip_prefix("step-")?.parse().ok()?;
    (name(step) == text).then_some(step)
}

/// Puts the tensors in the form of the file; nothing is copied.
pub(super) fn tensors_file<'a>(
    tensors: impl IntoIterator<Item = TensorSlice<'a>>,
) -> Result<SafetensorsFile<'a>, Error> {
    let to_write = tensors.into_iter().map(|tensor| TensorToWrite {
        name: tensor.name,
        dtype: Dtype::F32,
        shape: tensor.shape,
        data: TensorData::F32(tensor.values),
    });
    Ok(SafetensorsFile::new(to_write, &BTreeMap::new())?)
}

/// Begins the folder and writes its files; it is not published.
pub(super) fn write<'v>(
    vfs: &'v dyn Vfs,
    dir: &Path,
    state: &RunState,
    tensors: SafetensorsFile<'_>,
) -> Result<Folder<'v>, Error> {
    let json = serde_json::to_vec_pretty(state).map_err(|_| Error::NotFinite)?;
    // serde_json writes a number that is not finite as null.
    match serde_json::from_slice::<RunState>(&json) {
        Ok(again) if again == *state => {}
        _ => return Err(Error::NotFinite),
    }
    let folder = Folder::begin(vfs, dir)?;
    let tensors = folder.file(TENSORS, |out| tensors.write(out))?;
    let state = folder.file(STATE, |out| out.write_all(&json))?;
    folder.file(CHECKSUMS, |out| {
        writeln!(out, "{}  {STATE}", state.digest)?;
        writeln!(out, "{}  {TENSORS}", tensors.digest)
    })?;
    Ok(folder)
}

/// Reads a folder and compares it with its hashes.
pub(super) fn load(
    vfs: &dyn Vfs,
    dir: &Path,
    step: u64,
) -> Result<(RunState, BTreeMap<String, Tensor>), Error> {
    let damaged =
        |what: &str| Error::Damaged { step, dir: dir.to_path_buf(), what: what.to_owned() };
    let text = read(vfs, &dir.join(CHECKSUMS), MAX_CHECKSUMS_BYTES)?;
    let (state_digest, tensors_digest) =
        checksums(&text).ok_or_else(|| damaged("CHECKSUMS is not the list of two hashes"))?;
    let json = read(vfs, &dir.join(STATE), MAX_STATE_BYTES)?;
    if Digest::of(&json) != state_digest {
        return Err(damaged("state.json does not have its hash"));
    }
    let state: RunState = serde_json::from_slice(&json)
        .map_err(|error| damaged(&format!("state.json is of another version: {error}")))?;
    if state.format != FORMAT || state.step != step {
        return Err(damaged("state.json is of another version or step"));
    }
    let tensors = load_tensors(vfs, &dir.join(TENSORS), tensors_digest)?
        .ok_or_else(|| damaged("state.safetensors does not have its hash"))?;
    Ok((state, tensors))
}

/// The counters alone, without a look at the hashes.
pub(super) fn counters(vfs: &dyn Vfs, dir: &Path) -> Option<RunState> {
    serde_json::from_slice(&read(vfs, &dir.join(STATE), MAX_STATE_BYTES).ok()?).ok()
}

/// The two hashes, only in the form in which they are written.
fn checksums(text: &[u8]) -> Option<(Digest, Digest)> {
    let text = std::str::from_utf8(text).ok()?;
    let (first, second) = text.strip_suffix('\n')?.split_once('\n')?;
    let digest = |line: &str, name| line.strip_suffix(name)?.strip_suffix("  ")?.parse().ok();
    Some((digest(first, STATE)?, digest(second, TENSORS)?))
}

/// The tensors, or `None` when the file does not have its hash. One pass; what was read counts only
/// once the hash of all of it was compared.
fn load_tensors(
    vfs: &dyn Vfs,
    path: &Path,
    expected: Digest,
) -> Result<Option<BTreeMap<String, Tensor>>, Error> {
    let io = |source| altclip_checkpoint::Error::Io { path: path.to_path_buf(), source };
    let bytes = vfs.metadata(path).map_err(io)?.bytes;
    let mut file = Hashing { file: vfs.open(path).map_err(io)?, hasher: Hasher::default() };
    let mut tensors = BTreeMap::new();
    let read = read_safetensors_f32(path, bytes, &mut file, |name, shape, values| {
        tensors.insert(name, Tensor { shape, values });
    });
    read?;
    io::copy(&mut file, &mut io::sink()).map_err(io)?;
    Ok((file.hasher.digest() == expected).then_some(tensors))
}

struct Hashing<R> {
    file: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.hasher.update(out.get(..n).unwrap_or_default());
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written() {
        for step in [0, 1, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(step_of(&name(step)), Some(step));
        }
        for text in ["step-1", "step-+0000001", "step-", ".step-00000001.part", "step-0000000x"] {
            assert_eq!(step_of(text), None, "{text}");
        }
    }
}
