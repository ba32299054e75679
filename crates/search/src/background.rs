//! Vectors of the background texts, made once for each index and kept in a file beside its store.

use crate::language::Group;
use crate::{Error, Index};
use altclip::Model;
use altclip_durable::{Digest, Vfs, replace};
use std::path::Path;

const FILE: &str = "background";
const MAGIC: &[u8] = b"altclip background 1\n";
const DIGEST_BYTES: usize = 32;
const MAX_BYTES: u64 = 1 << 30;

/// Normalised vectors of the background texts of each group.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    width: usize,
    /// In the order of [`Group::ALL`], `[texts, width]`.
    groups: Vec<Vec<f32>>,
}

impl Background {
    /// Computes the vectors.
    ///
    /// # Errors
    /// Those of the model.
    pub fn encode(model: &Model) -> Result<Self, Error> {
        let mut groups = Vec::new();
        let mut width = 0;
        for group in Group::ALL {
            let texts: Vec<&str> = group.texts().collect();
            let rows = model.encode_text(&texts)?;
            width = rows.width();
            groups.push(rows.as_slice().to_vec());
        }
        Ok(Self { width, groups })
    }

    /// Those of an index: read from its file, else computed and kept there where that is possible.
    ///
    /// # Errors
    /// Those of the model.
    pub fn of_index<'m, E: From<Error>>(
        index: &Index,
        vfs: &dyn Vfs,
        model: impl FnOnce() -> Result<&'m Model, E>,
    ) -> Result<Self, E> {
        let path = index.generation_folder().join(FILE);
        let width = index.settings().width;
        if let Some(found) = Self::read(vfs, &path, width) {
            return Ok(found);
        }
        let new = Self::encode(model()?)?;
        // It is quick to make again.
        let _ = replace(vfs, &path, |out| out.write_all(&new.bytes()));
        Ok(new)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(texts_hash().as_bytes());
        bytes.extend(self.groups.iter().flatten().flat_map(|x| x.to_le_bytes()));
        let digest = Digest::of(&bytes).to_string();
        bytes.extend(digest.as_bytes());
        bytes
    }

    fn read(vfs: &dyn Vfs, path: &Path, width: usize) -> Option<Self> {
        let bytes = altclip_durable::read(vfs, path, MAX_BYTES).ok()?;
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if Digest::of(body).to_string().as_bytes() != digest {
            return None;
        }
        let numbers = body.strip_prefix(MAGIC)?.strip_prefix(texts_hash().as_bytes())?;
        let mut numbers = numbers.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four));
        let group = |group: Group| numbers.by_ref().take(group.texts().count() * width).collect();
        let groups: Vec<Vec<f32>> = Group::ALL.into_iter().map(group).collect();
        let whole = groups
            .iter()
            .zip(Group::ALL)
            .all(|(rows, group)| rows.len() == group.texts().count() * width);
        (whole && numbers.next().is_none()).then_some(Self { width, groups })
    }

    /// The vectors of a group, one after the other.
    pub fn rows(&self, group: Group) -> &[f32] {
        let place = Group::ALL.iter().position(|&other| other == group);
        place.and_then(|place| self.groups.get(place)).map_or(&[], Vec::as_slice)
    }

    /// Their mean.
    pub fn mean(&self, group: Group) -> Vec<f32> {
        let mut mean = vec![0.0; self.width];
        let rows = self.rows(group);
        let count = (rows.len() / self.width.max(1)).max(1) as f32;
        for row in rows.chunks_exact(self.width.max(1)) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / count);
        }
        mean
    }
}

/// A hash of all texts: other texts have other vectors.
fn texts_hash() -> String {
    let texts: Vec<&str> = Group::ALL.into_iter().flat_map(Group::texts).collect();
    Digest::of(texts.join("|").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_durable::{Damage, SimFs};

    #[test]
    fn every_damaged_byte_is_found() {
        let disk = SimFs::new();
        let groups = Group::ALL.map(|group| vec![0.25; group.texts().count() * 2]).to_vec();
        let background = Background { width: 2, groups };
        replace(&disk, FILE.as_ref(), |out| out.write_all(&background.bytes())).unwrap();
        assert_eq!(Background::read(&disk, FILE.as_ref(), 2).as_ref(), Some(&background));
        assert_eq!(Background::read(&disk, FILE.as_ref(), 3), None);
        for byte in (0..background.bytes().len()).step_by(11) {
            let disk = disk.crash(Damage::KeepAll);
            disk.tamper(FILE.as_ref(), |bytes| bytes[byte] ^= 4).unwrap();
            assert_eq!(Background::read(&disk, FILE.as_ref(), 2), None, "{byte}");
        }
    }
}
