//! CIFAR-10's batches, binary or for Python: 32 × 32 pictures as planes of red, green and blue.
//!
//! The files for Python are pickles. Nothing of them is executed: the array and the labels are found by the opcodes in
//! front of them.
//!
//! # Source
//! Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), "The CIFAR-10 dataset".

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::dataset::Hasher;
use crate::files::Files;
use crate::{Error, Fault, Fingerprint, Place, Reason};

const SIDE: usize = 32;
const PICTURE: usize = 3 * SIDE * SIDE;
const RECORD: u64 = 1 + PICTURE as u64;
/// Pictures of a batch.
const BATCH: usize = 10_000;
/// A batch for Python is its pictures, labels and file names.
const LARGEST_PICKLE: u64 = 64 << 20;
const NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The pictures of one split.
pub(crate) struct Cifar {
    files: Files,
    /// File, first byte of the planes, label; in order.
    pictures: Vec<(u32, u64, u8)>,
    pub(crate) class_names: Vec<String>,
    pub(crate) fingerprint: Fingerprint,
}

impl Cifar {
    /// The split of a folder of batches; `None` if there is no batch in it.
    pub(crate) fn open(folder: &Path, split: &str) -> Result<Option<Self>, Error> {
        let is_train = split == "train";
        let stems: Vec<String> = if is_train {
            (1..=5).map(|batch| format!("data_batch_{batch}")).collect()
        } else {
            vec!["test_batch".to_owned()]
        };
        let existing = |stem: &String| {
            let files = [folder.join(format!("{stem}.bin")), folder.join(stem)];
            files.into_iter().find(|file| file.is_file())
        };
        let paths: Vec<PathBuf> = stems.iter().filter_map(existing).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        if paths.len() < stems.len() {
            let from = "cifar-10-binary or cifar-10-python of the CIFAR-10 project has five batches and a test batch";
            let path = folder.join(&stems[paths.len()]);
            return Err(Error::Absent { path, from });
        }
        let files = Files::new(paths)?;
        let mut pictures = Vec::new();
        let mut hasher = Hasher::default();
        for file in 0..files.len() {
            let path = files.path(file).to_owned();
            hasher.number(files.bytes(file));
            let is_binary = path.extension().is_some_and(|ending| ending == "bin");
            let found = if is_binary { binary(&files, file) } else { python(&files, file) }?;
            let number = u32::try_from(file).unwrap_or(u32::MAX);
            pictures.extend(found.into_iter().map(|(offset, label)| (number, offset, label)));
        }
        let class_names = NAMES.map(str::to_owned).to_vec();
        Ok(Some(Self { files, pictures, class_names, fingerprint: hasher.finish() }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.pictures.len() as u64
    }

    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        self.files.check_unchanged()
    }

    pub(crate) fn place(&self, number: u64) -> Place {
        let found = usize::try_from(number).ok().and_then(|number| self.pictures.get(number));
        let file = found.map_or(0, |&(file, ..)| file as usize);
        let mut place = Place::file(self.files.name(file));
        place.byte = found.map(|&(_, offset, _)| offset);
        place
    }

    /// A picture as a PNG file, and its label.
    pub(crate) fn get(&self, number: u64) -> Result<(Vec<u8>, usize), Fault> {
        let place = || self.place(number);
        let found = usize::try_from(number).ok().and_then(|number| self.pictures.get(number));
        let missing = || Fault::new(Reason::NoSuchSample, place(), "no such sample");
        let &(file, offset, label) = found.ok_or_else(missing)?;
        let planes = self.files.bytes_at(file as usize, offset, PICTURE, place)?;
        let png = png(&planes)
            .map_err(|error| Fault::new(Reason::BadPicture, place(), error.to_string()))?;
        Ok((png, usize::from(label)))
    }
}

/// Records of a label and the planes.
fn binary(files: &Files, file: usize) -> Result<Vec<(u64, u8)>, Error> {
    let (path, len) = (files.path(file), files.bytes(file));
    if len == 0 || !len.is_multiple_of(RECORD) {
        return Err(Error::table(
            path,
            "the batch is cut off",
            format!("records of {RECORD} bytes"),
        ));
    }
    let mut found = Vec::new();
    for record in 0..len / RECORD {
        let mut label = [0];
        let start = record * RECORD;
        files.read(file, start, &mut label).map_err(|source| Error::io(path, source))?;
        found.push((start + 1, label[0]));
    }
    Ok(found)
}

/// Where the array of a pickle lies, and its labels.
fn python(files: &Files, file: usize) -> Result<Vec<(u64, u8)>, Error> {
    let path = files.path(file);
    let wrong = |what: &str| Error::table(path, what, "a batch of CIFAR-10 for Python");
    let len = usize::try_from(files.bytes(file)).ok().filter(|&len| len as u64 <= LARGEST_PICKLE);
    let mut bytes = vec![0; len.ok_or_else(|| wrong("the batch is too long"))?];
    files.read(file, 0, &mut bytes).map_err(|source| Error::io(path, source))?;
    let array = array(&bytes).ok_or_else(|| wrong("no array of pictures"))?;
    let labels = labels(&bytes).ok_or_else(|| wrong("no list of labels"))?;
    let pictures = array.len() / PICTURE;
    if labels.len() != pictures || !array.len().is_multiple_of(PICTURE) {
        return Err(wrong(&format!("{} labels for {pictures} pictures", labels.len())));
    }
    let offset = |picture: usize| (array.start + picture * PICTURE) as u64;
    Ok(labels.into_iter().enumerate().map(|(picture, label)| (offset(picture), label)).collect())
}

/// The longest string of bytes: BINSTRING, BINBYTES, or BINUNICODE's place is never so long.
fn array(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut longest = 0..0;
    let mut at = 0;
    while at + 5 <= bytes.len() {
        if matches!(bytes[at], b'T' | b'B') {
            let len =
                u32::from_le_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]);
            let range = at + 5..(at + 5).checked_add(len as usize)?;
            let fits = range.end <= bytes.len() && range.len().is_multiple_of(PICTURE);
            if fits && range.len() > longest.len() && range.len() <= BATCH * PICTURE {
                at = range.end;
                longest = range;
                continue;
            }
        }
        at += 1;
    }
    (!longest.is_empty()).then_some(longest)
}

/// The list behind the key `labels`: BININT1 each, perhaps memoised, up to APPENDS.
fn labels(bytes: &[u8]) -> Option<Vec<u8>> {
    const KEY: &[u8] = b"labels";
    let mut starts = bytes.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY);
    starts.find_map(|(start, _)| {
        let mut rest = bytes[start + KEY.len()..].iter().copied();
        let mut labels = Vec::new();
        loop {
            match rest.next()? {
                // EMPTY_LIST, MARK, MEMOIZE, APPEND; APPENDS of a part of the list.
                b']' | b'(' | 0x94 | b'a' => {}
                b'e' => match rest.clone().next() {
                    Some(b'(') => {}
                    _ => break,
                },
                // BINPUT and LONG_BINPUT.
                b'q' => drop(rest.next()?),
                b'r' => drop(rest.nth(3)?),
                b'K' => labels.push(rest.next()?),
                _ => return None,
            }
            if labels.len() > BATCH {
                return None;
            }
            // After a part of the list only another part may follow.
            if labels.len() == BATCH {
                break;
            }
        }
        (!labels.is_empty()).then_some(labels)
    })
}

/// Planes as a PNG file of 32 × 32 pixels.
fn png(planes: &[u8]) -> std::io::Result<Vec<u8>> {
    let area = SIDE * SIDE;
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for row in 0..SIDE {
        let mut line = vec![0];
        for at in row * SIDE..(row + 1) * SIDE {
            line.extend([planes[at], planes[area + at], planes[2 * area + at]]);
        }
        rows.write_all(&line)?;
    }
    let side = (SIDE as u32).to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", &header), (b"IDAT", &rows.finish()?), (b"IEND", &Vec::new())]
    {
        png.extend(u32::try_from(content.len()).unwrap_or(0).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(content);
        png.extend([&kind[..], content, &crc.sum().to_be_bytes()].concat());
    }
    Ok(png)
}
