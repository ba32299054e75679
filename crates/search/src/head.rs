//! The small file that says what was acknowledged: written, synced and renamed after every commit, before
//! anybody is told. A store that holds less is not opened.

use crate::Error;
use crate::seal::{sealed, unsealed};
use altclip_durable::Vfs;
use std::path::Path;

/// Name of the file.
pub(crate) const HEAD: &str = "HEAD";
const MAX_BYTES: u64 = 4096;
const FORMAT: &str = "altclip index head 1";

/// What was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last acknowledged commit.
    pub sequence: u64,
    /// Pictures after it.
    pub images: u64,
}

impl Head {
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(HEAD);
        let bytes = match altclip_durable::read(vfs, &path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let parse = || {
            let body = unsealed(&bytes)?;
            let mut lines = body.lines();
            let format = lines.next()? == FORMAT;
            let mut number = |name: &str| lines.next()?.strip_prefix(name)?.trim().parse().ok();
            let head = Self { sequence: number("sequence")?, images: number("images")? };
            (format && body == head.body()).then_some(head)
        };
        let damaged = || Error::damaged(&path, "it does not have its checksum");
        parse().map(Some).ok_or_else(damaged)
    }

    pub(crate) fn write(self, vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
        let text = sealed(&self.body());
        let path = dir.join(HEAD);
        altclip_durable::replace(vfs, &path, |out| out.write_all(text.as_bytes()))?;
        Ok(())
    }

    fn body(self) -> String {
        format!("{FORMAT}\nsequence {}\nimages {}", self.sequence, self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_durable::{Damage, Fault, FaultKind, SimFs};

    const DIR: &str = "";

    #[test]
    fn every_damaged_byte_is_found() {
        let disk = SimFs::new();
        assert_eq!(Head::read(&disk, DIR.as_ref()).unwrap(), None);
        let head = Head { sequence: 17, images: 3 };
        head.write(&disk, DIR.as_ref()).unwrap();
        assert_eq!(Head::read(&disk, DIR.as_ref()).unwrap(), Some(head));
        let len = sealed(&head.body()).len();
        for byte in 0..len {
            for bit in 0..8 {
                let disk = disk.crash(Damage::KeepAll);
                disk.tamper(HEAD.as_ref(), |bytes| bytes[byte] ^= 1 << bit).unwrap();
                assert!(matches!(Head::read(&disk, DIR.as_ref()), Err(Error::Damaged { .. })));
            }
        }
        for cut in 0..len {
            let disk = disk.crash(Damage::KeepAll);
            disk.tamper(HEAD.as_ref(), |bytes| bytes.truncate(cut)).unwrap();
            assert!(Head::read(&disk, DIR.as_ref()).is_err(), "{cut}");
        }
    }

    #[test]
    fn whatever_fails_the_old_or_the_new_head_is_there() {
        let (old, new) = (Head { sequence: 1, images: 1 }, Head { sequence: 2, images: 9 });
        let mut failures = 0;
        for operation in 0..40 {
            let disk = SimFs::new();
            old.write(&disk, DIR.as_ref()).unwrap();
            let at = disk.operations().len() + operation;
            disk.inject(Fault { at, kind: FaultKind::Io, forever: false });
            let written = new.write(&disk, DIR.as_ref());
            failures += u32::from(written.is_err());
            for damage in [Damage::DropAll, Damage::KeepAll] {
                let found = Head::read(&disk.crash(damage), DIR.as_ref());
                // A fault that has not come yet may come while reading.
                disk.heal();
                let Ok(found) = found else { continue };
                let expected = if written.is_ok() { vec![new] } else { vec![old, new] };
                assert!(found.is_some_and(|found| expected.contains(&found)), "{operation}");
            }
        }
        assert!(failures > 5, "only {failures} writes failed");
    }
}
