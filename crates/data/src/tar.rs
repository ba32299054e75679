//! The entries of a tar archive, foreign and perhaps hostile: names, kinds and byte ranges, nothing is extracted.
//!
//! Takes ustar, GNU long names and pax headers. An archive that contradicts itself ends at the [`Damage`].
//!
//! # Source
//! POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar 1.35 manual, "Basic Tar Format".

use std::io;

pub(crate) const BLOCK: u64 = 512;
/// Longest name or pax header.
const MAX_HEADER: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A symbolic or hard link.
    Link,
    /// A device or a pipe.
    Special,
    /// A file with holes, whose bytes are not one range.
    Sparse,
    /// A kind of entry that is not known.
    Unknown,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First byte of its headers.
    pub(crate) header: u64,
    pub(crate) kind: Kind,
    /// Its name as bytes: foreign text.
    pub(crate) name: Vec<u8>,
    /// First byte of its content, and length; inside of the archive.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Where and why nothing more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Damage(Damage),
    Io(io::Error),
}

/// Reads exactly these bytes of the archive.
pub(crate) trait ReadAt {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// The entries of an archive of `len` bytes, from a header on.
pub(crate) struct Entries<'r, R: ?Sized> {
    archive: &'r R,
    len: u64,
    offset: u64,
    ended: bool,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<'r, R: ReadAt + ?Sized> Entries<'r, R> {
    /// From the header at `offset` on.
    pub(crate) fn new(archive: &'r R, len: u64, offset: u64) -> Self {
        Self { archive, len, offset, ended: false }
    }

    fn entry(&mut self) -> Result<Option<Entry>, Stop> {
        let start = self.offset;
        let mut extended = Extended::default();
        loop {
            let at = self.offset;
            let Some(header) = self.header(start)? else { return Ok(None) };
            let (content, flag) = (at + BLOCK, header[156]);
            // A size of a pax header holds for the entry, not for headers between.
            let own = number(&header[124..136]).ok_or_else(|| damage(at, "a size is no number"))?;
            let is_header = matches!(flag, b'x' | b'g' | b'X' | b'L' | b'K');
            let size = if is_header { own } else { extended.size.unwrap_or(own) };
            // A folder, link or device has no content, whatever its size says.
            let stored = if matches!(flag, b'1'..=b'6') { 0 } else { size };
            let end = content.checked_add(stored).filter(|&end| end <= self.len);
            let end = end.ok_or_else(|| damage(at, "an entry is longer than the archive"))?;
            // The padding of the last entry may be missing.
            self.offset = end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX).min(self.len);
            if is_header {
                self.extend(&mut extended, flag, content, stored)?;
                continue;
            }
            let name = extended.name.unwrap_or_else(|| short_name(&header));
            let kind = match flag {
                _ if extended.sparse => Kind::Sparse,
                b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Folder,
                b'0' | 0 | b'7' => Kind::File,
                b'1' | b'2' => Kind::Link,
                b'3' | b'4' | b'6' => Kind::Special,
                b'5' => Kind::Folder,
                b'S' => Kind::Sparse,
                _ => Kind::Unknown,
            };
            return Ok(Some(Entry { header: start, kind, name, offset: content, size: stored }));
        }
    }

    /// The next header block; `None` at the end mark.
    fn header(&mut self, start: u64) -> Result<Option<[u8; BLOCK as usize]>, Stop> {
        let at = self.offset;
        if at == self.len {
            let what = if at > start { "a header belongs to no entry" } else { "no end mark" };
            return Err(damage(at, what));
        }
        if self.len - at < BLOCK {
            return Err(damage(at, "it ends inside of a header"));
        }
        let mut header = [0; BLOCK as usize];
        self.archive.read_at(at, &mut header).map_err(Stop::Io)?;
        if header.iter().all(|&byte| byte == 0) {
            return if at > start {
                Err(damage(at, "a header belongs to no entry"))
            } else {
                Ok(None)
            };
        }
        let stated = number(&header[148..156]);
        let sum = |header: &[u8], of: fn(u8) -> i64| -> i64 {
            let whole: i64 = header.iter().map(|&byte| of(byte)).sum();
            let field: i64 = header[148..156].iter().map(|&byte| of(byte)).sum();
            whole - field + 8 * i64::from(b' ')
        };
        // Old writers summed signed bytes.
        let sums = [sum(&header, i64::from), sum(&header, |byte| i64::from(byte.cast_signed()))];
        let agrees = |stated: u64| sums.iter().any(|&sum| u64::try_from(sum) == Ok(stated));
        if !stated.is_some_and(agrees) {
            let what = if at == 0 { "not a tar archive" } else { "a header has a wrong checksum" };
            return Err(damage(at, what));
        }
        Ok(Some(header))
    }

    /// Reads a long name or a pax header.
    fn extend(&self, to: &mut Extended, flag: u8, offset: u64, size: u64) -> Result<(), Stop> {
        // Long link targets, and what pax says of all entries, change nothing here.
        if matches!(flag, b'K' | b'g') {
            return Ok(());
        }
        let len = usize::try_from(size).ok().filter(|_| size <= MAX_HEADER);
        let mut bytes = vec![0; len.ok_or_else(|| damage(offset, "a header is over the limit"))?];
        self.archive.read_at(offset, &mut bytes).map_err(Stop::Io)?;
        if flag == b'L' {
            to.name = Some(until_nul(&bytes).to_vec());
            return Ok(());
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| damage(offset, "a pax header is damaged"))?;
            match key {
                b"path" => to.name = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    to.size = Some(size.ok_or_else(|| damage(offset, "a size is no number"))?);
                }
                _ if key.starts_with(b"GNU.sparse.") => to.sparse = true,
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

impl<R: ReadAt + ?Sized> Iterator for Entries<'_, R> {
    type Item = Result<Entry, Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

fn damage(offset: u64, what: &'static str) -> Stop {
    Stop::Damage(Damage { offset, what })
}

/// An octal number between blanks, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // A negative number has the next bit set too; a size is none.
        let start = (first & 0x40 == 0).then_some(u64::from(first & 0x3f))?;
        return rest
            .iter()
            .try_fold(start, |n, &byte| n.checked_mul(256)?.checked_add(u64::from(byte)));
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    // Some writers leave the size of what has no content empty.
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The name of a header without extensions; only POSIX' own format has a prefix.
fn short_name(header: &[u8; BLOCK as usize]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&header[..100]), until_nul(&header[345..500]));
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// The first record `LENGTH KEY=VALUE\n`: key, value and what follows.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(10).position(|&byte| byte == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[len..]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry as ustar writes it.
    pub(crate) fn entry(name: &str, flag: u8, content: &[u8]) -> Vec<u8> {
        let mut header = [0; BLOCK as usize];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = flag;
        header[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut header);
        let mut bytes = [&header[..], content].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        bytes
    }

    fn seal(header: &mut [u8]) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        [&entries.concat()[..], &[0; 1024]].concat()
    }

    fn list(bytes: &[u8]) -> (Vec<Entry>, Option<Damage>) {
        let mut entries = Vec::new();
        for entry in Entries::new(bytes, bytes.len() as u64, 0) {
            match entry {
                Ok(entry) => entries.push(entry),
                Err(Stop::Damage(damage)) => return (entries, Some(damage)),
                Err(Stop::Io(error)) => panic!("read outside of the archive: {error}"),
            }
        }
        (entries, None)
    }

    fn pax(records: &[(&str, &str)]) -> Vec<u8> {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let len = (rest + 1..).find(|len| len.to_string().len() + rest == *len).unwrap();
            format!("{len} {key}={value}\n")
        };
        entry("pax", b'x', records.iter().map(record).collect::<String>().as_bytes())
    }

    #[test]
    fn entries_are_found() {
        let long = format!("{}/x.txt", "d".repeat(300));
        let bytes = archive(&[
            entry("folder/", b'5', b""),
            entry("a.jpg", b'0', &[7; 700]),
            entry("b.txt", 0, b"hello"),
            [
                entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
                entry("short", b'0', b"long"),
            ]
            .concat(),
            [pax(&[("mtime", "1.5"), ("path", "名.txt")]), entry("x", b'0', b"pax")].concat(),
            entry("link", b'2', b""),
            entry("device", b'3', b""),
            [pax(&[("GNU.sparse.major", "1")]), entry("holes", b'0', b"x")].concat(),
        ]);
        let (entries, damage) = list(&bytes);
        assert_eq!(damage, None);
        let found: Vec<(String, Kind, &[u8])> = entries
            .iter()
            .map(|e| {
                let content = &bytes[e.offset as usize..(e.offset + e.size) as usize];
                (String::from_utf8(e.name.clone()).unwrap(), e.kind, content)
            })
            .collect();
        let expected: [(&str, Kind, &[u8]); 8] = [
            ("folder/", Kind::Folder, b""),
            ("a.jpg", Kind::File, &[7; 700]),
            ("b.txt", Kind::File, b"hello"),
            (&long, Kind::File, b"long"),
            ("名.txt", Kind::File, b"pax"),
            ("link", Kind::Link, b""),
            ("device", Kind::Special, b""),
            ("holes", Kind::Sparse, b"x"),
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0.as_str(), found.1, found.2), expected);
        }
        assert_eq!(found.len(), expected.len());
        // Each can be found again by its header.
        for e in &entries {
            let again = Entries::new(&bytes[..], bytes.len() as u64, e.header).next();
            assert_eq!(&again.unwrap().unwrap(), e);
        }
    }

    #[test]
    fn lies_are_damage() {
        let good = entry("a.txt", b'0', b"hello");
        let with_size = |size: &[u8]| {
            let mut bytes = good.clone();
            bytes[124..124 + size.len()].copy_from_slice(size);
            seal(&mut bytes[..BLOCK as usize]);
            archive(&[bytes])
        };
        let mut wrong_sum = archive(&[good.clone(), good.clone()]);
        wrong_sum[1024] ^= 1;
        let no_end = [&good[..], &good[..]].concat();
        let cases: [(&str, Vec<u8>, &str); 9] = [
            ("octal size", with_size(b"77777777777\0"), "longer"),
            (
                "base 256 size",
                with_size(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
                "longer",
            ),
            ("no size", with_size(b"garbage!!!!!"), "no number"),
            ("checksum", wrong_sum, "checksum"),
            ("text", vec![b'x'; 2000], "not a tar"),
            ("cut in a header", no_end[..1300].to_vec(), "inside of a header"),
            ("cut in content", no_end[..515].to_vec(), "longer"),
            ("no end mark", no_end, "end mark"),
            ("pax size", archive(&[pax(&[("size", "18446744073709551615")]), good]), "longer"),
        ];
        for (name, bytes, expected) in cases {
            let (_, damage) = list(&bytes);
            let damage = damage.unwrap_or_else(|| panic!("{name} is not noticed"));
            assert!(damage.what.contains(expected), "{name}: {}", damage.what);
        }
        assert_eq!(list(&[]).1.unwrap().what, "no end mark");
    }

    fn sample() -> Vec<u8> {
        archive(&[
            entry("a.jpg", b'0', &[1; 600]),
            [entry("L", b'L', b"long name"), entry("b.txt", b'0', b"text")].concat(),
            [pax(&[("path", "c"), ("size", "3")]), entry("c", b'0', b"abc")].concat(),
        ])
    }

    proptest! {
        /// Whatever the bytes: no panic, no loop, and every entry lies inside.
        #[test]
        fn mutated_archives_are_harmless(
            changes in prop::collection::vec((0usize..6000, any::<u8>()), 0..12),
            cut in 0usize..6000,
            reseal: bool,
        ) {
            let mut bytes = sample();
            let len = bytes.len();
            for (at, byte) in changes {
                bytes[at % len] = byte;
            }
            if reseal {
                // Otherwise the checksum hides what is behind it.
                bytes.chunks_exact_mut(BLOCK as usize).filter(|b| b[257..262] == *b"ustar").for_each(seal);
            }
            bytes.truncate(if cut % 3 == 0 { cut.min(len) } else { len });
            let (entries, _) = list(&bytes);
            prop_assert!(entries.len() <= bytes.len() / BLOCK as usize);
            for entry in entries {
                prop_assert!(entry.offset + entry.size <= bytes.len() as u64);
            }
        }
    }
}
