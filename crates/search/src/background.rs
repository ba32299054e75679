//! Vectors of the background texts, made once for each index and kept in a file beside its store.

use crate::language::Group;
use crate::search::{Hit, Searcher, moments};
use crate::{Error, Index};
use altclip::Model;
use altclip_durable::{Digest, Vfs, replace};
use std::path::{Path, PathBuf};

/// Name of the file.
pub(crate) const BACKGROUND: &str = "background";
const MAGIC: &[u8] = b"altclip background 1\n";
const DIGEST_BYTES: usize = 32;

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
        let path = Self::path(index);
        // One that is damaged is quick to make again, as is one that cannot be kept.
        if let Ok(Some(found)) = Self::read(vfs, &path, index.settings().width) {
            return Ok(found);
        }
        let new = Self::encode(model()?)?;
        let _ = replace(vfs, &path, |out| out.write_all(&new.bytes()));
        Ok(new)
    }

    #[cfg(test)]
    pub(crate) fn of_rows(width: usize, groups: Vec<Vec<f32>>) -> Self {
        Self { width, groups }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(texts_hash().as_bytes());
        bytes.extend(self.groups.iter().flatten().flat_map(|x| x.to_le_bytes()));
        let digest = Digest::of(&bytes).to_string();
        bytes.extend(digest.as_bytes());
        bytes
    }

    pub(crate) fn path(index: &Index) -> PathBuf {
        index.generation_folder().join(BACKGROUND)
    }

    /// Reads the file; `Ok(None)` where there is none, or it is of other texts.
    pub(crate) fn read(vfs: &dyn Vfs, path: &Path, width: usize) -> Result<Option<Self>, Error> {
        let texts: usize = Group::ALL.into_iter().map(|group| group.texts().count()).sum();
        let longest = MAGIC.len() + 2 * DIGEST_BYTES + 4 * texts * width;
        let bytes = match altclip_durable::read(vfs, path, longest as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let body = bytes.len().checked_sub(DIGEST_BYTES).and_then(|at| bytes.split_at_checked(at));
        let body = body.filter(|(body, digest)| Digest::of(body).to_string().as_bytes() == *digest);
        let (body, _) =
            body.ok_or_else(|| Error::damaged(path, "it does not have its checksum"))?;
        Ok(Self::of_bytes(body, width))
    }

    fn of_bytes(body: &[u8], width: usize) -> Option<Self> {
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

/// Rows that are nearer to all texts than others are, the most so first, with how many standard deviations:
/// black frames, logos, screenshots. [`crate::Judge`] takes that out of what it says of them.
pub fn hubs(searcher: &Searcher<'_>, background: &Background, least: f32) -> Vec<Hit> {
    let mut mean = vec![0.0; background.width];
    for group in Group::ALL {
        mean.iter_mut().zip(background.mean(group)).for_each(|(sum, x)| *sum += x);
    }
    let scores = searcher.scores(&mean);
    let (middle, spread) = moments(scores.iter().map(|&x| f64::from(x)));
    let away = |(row, score): (usize, &f32)| Hit {
        row,
        score: (score - middle) / spread.max(f32::MIN_POSITIVE),
    };
    let mut found: Vec<Hit> =
        scores.iter().enumerate().map(away).filter(|hit| hit.score >= least).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
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
        let path = Path::new(BACKGROUND);
        let read = |disk: &SimFs, width| Background::read(disk, path, width);
        assert_eq!(read(&disk, 2).unwrap(), None);
        let groups = Group::ALL.map(|group| vec![0.25; group.texts().count() * 2]).to_vec();
        let background = Background { width: 2, groups };
        replace(&disk, path, |out| out.write_all(&background.bytes())).unwrap();
        assert_eq!(read(&disk, 2).unwrap().as_ref(), Some(&background));
        assert_eq!(read(&disk, 3).unwrap(), None);
        // Of no longer file than it can be is more than that read.
        assert!(matches!(read(&disk, 1), Err(Error::Damaged { .. })));
        for byte in 0..background.bytes().len() {
            let disk = disk.crash(Damage::KeepAll);
            disk.tamper(path, |bytes| bytes[byte] ^= 4).unwrap();
            assert!(matches!(read(&disk, 2), Err(Error::Damaged { .. })), "{byte}");
        }
        for cut in 0..background.bytes().len() {
            let disk = disk.crash(Damage::KeepAll);
            disk.tamper(path, |bytes| bytes.truncate(cut)).unwrap();
            assert!(matches!(read(&disk, 2), Err(Error::Damaged { .. })), "cut at {cut}");
        }
    }
}
