//! The search structure: all vectors side by side with their sketches, made from the store and kept in one
//! file whose every byte is under a checksum.
//!
//! The file is a header and payload in blocks of 64 KiB, each followed by its hash with its number as the
//! seed. It is of one commit of the store; of another commit, damaged or missing, it is made again.

use crate::Error;
use crate::picture::{MAX_WIDTH, to_bits};
use crate::sketch::{Rotation, Sketch, sketch};
use crate::store::Store;
use altclip_durable::{Vfs, replace};
use altclip_kernels::large_vec;
use altclip_kernels::nibbles::BLOCK_ROWS;
use half::f16;
use std::io::{self, Read, Write};
use std::path::Path;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Name of the file.
pub(crate) const FLAT: &str = "flat";
const MAGIC: &[u8; 16] = b"altclip flat 2\n\0";
const HEADER_BYTES: usize = 16 + 3 * 8 + 8;
const BLOCK_BYTES: usize = 64 << 10;
const HASH_BYTES: usize = 8;

/// All vectors of an index, ready to be searched.
#[derive(Debug)]
pub struct Flat {
    /// The commit of the store that it is of.
    pub(crate) sequence: u64,
    pub(crate) width: usize,
    /// Numbers of the rows in the store, ascending.
    pub(crate) ids: Vec<i64>,
    /// `[N, width]`, `f16`.
    pub(crate) rows: Vec<u16>,
    /// Mean of the rows.
    pub(crate) mean: Vec<f32>,
    /// The signs in blocks of rows, byte by byte: `[N / 64, bytes, 64]`, the last block filled up with zeros.
    pub(crate) bits: Vec<u8>,
    pub(crate) gains: Vec<f32>,
    pub(crate) ones: Vec<u32>,
    pub(crate) rotation: Rotation,
}

impl Flat {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of a row in the store.
    pub fn id(&self, row: usize) -> Option<i64> {
        self.ids.get(row).copied()
    }

    /// The row of a number of the store.
    pub fn row_of(&self, id: i64) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The vector of a row; empty where there is none.
    pub fn vector(&self, row: usize) -> Vec<f32> {
        let bits = self.row_bits(row).iter();
        bits.map(|&bits| f16::from_bits(bits).to_f32()).collect()
    }

    pub(crate) fn row_bits(&self, row: usize) -> &[u16] {
        self.rows.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }

    /// Makes it of rows `[N, width]` of `f16` bits.
    pub fn new(sequence: u64, width: usize, ids: Vec<i64>, rows: Vec<u16>) -> Self {
        let rotation = Rotation::new(width);
        let mut flat = Self {
            sequence,
            width,
            mean: mean(width, &rows),
            bits: large_vec(bits_len(ids.len(), &rotation)).unwrap_or_default(),
            gains: Vec::with_capacity(ids.len()),
            ones: Vec::with_capacity(ids.len()),
            ids,
            rows,
            rotation,
        };
        flat.bits.resize(bits_len(flat.ids.len(), &flat.rotation), 0);
        let bytes = flat.rotation.bytes();
        for row in 0..flat.ids.len() {
            let vector = flat.vector(row);
            let centred: Vec<f32> = vector.iter().zip(&flat.mean).map(|(x, m)| x - m).collect();
            let Sketch { bits, gain, ones } = sketch(&flat.rotation, &centred);
            let block = flat.bits.chunks_exact_mut(bytes * BLOCK_ROWS).nth(row / BLOCK_ROWS);
            let column = block.into_iter().flatten().skip(row % BLOCK_ROWS).step_by(BLOCK_ROWS);
            column.zip(bits).for_each(|(place, byte)| *place = byte);
            flat.gains.push(gain);
            flat.ones.push(ones);
        }
        flat
    }

    /// Reads all vectors of a store.
    pub(crate) fn of_store(store: &dyn Store, width: usize, place: &Path) -> Result<Self, Error> {
        let images = usize::try_from(store.images()?).unwrap_or(usize::MAX);
        let memory = |values: usize| {
            let bytes = values.saturating_mul(size_of::<u16>());
            move |_| Error::Memory { path: place.to_owned(), bytes }
        };
        let all = images.saturating_mul(width);
        let mut rows: Vec<u16> = large_vec(all).map_err(memory(all))?;
        let (mut ids, mut fault) = (Vec::<i64>::new(), None);
        let sequence = store.vectors(&mut |id, vector| {
            if fault.is_some() {
                return;
            }
            if vector.len() != 2 * width {
                let what =
                    format!("the vector of row {id} has {} bytes, not {}", vector.len(), 2 * width);
                fault = Some(Error::damaged(place, what));
            } else if ids.try_reserve(1).is_err() || rows.try_reserve(width).is_err() {
                let bytes = rows.len().saturating_mul(4);
                fault = Some(Error::Memory { path: place.to_owned(), bytes });
            } else {
                ids.push(id);
                rows.extend(to_bits(vector));
            }
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(Self::new(sequence, width, ids, rows)),
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, vfs: &dyn Vfs, path: &Path) -> Result<(), Error> {
        replace(vfs, path, |out| {
            out.write_all(&header(self.width, self.ids.len(), self.sequence))?;
            let mut out = Blocks { out, block: Vec::with_capacity(BLOCK_BYTES), number: 0 };
            self.mean.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
            self.ids.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
            self.gains.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
            self.ones.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
            self.bits.chunks(BLOCK_BYTES).try_for_each(|bytes| out.write_all(bytes))?;
            self.rows.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
            out.finish()
        })?;
        Ok(())
    }

    /// Reads the file; `Ok(None)` where there is none or it is of another commit.
    pub(crate) fn read(
        vfs: &dyn Vfs,
        path: &Path,
        sequence: u64,
        width: usize,
    ) -> Result<Option<Self>, Error> {
        let damaged = |what: &str| Error::damaged(path, what);
        let bytes = match vfs.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(Error::io("read", path))?.bytes,
        };
        let mut file = vfs.open(path).map_err(Error::io("read", path))?;
        let mut head = [0; HEADER_BYTES];
        file.read_exact(&mut head).map_err(|_| damaged("its header is cut"))?;
        let number = |i: usize| -> Option<u64> {
            Some(u64::from_le_bytes(head.get(16 + 8 * i..24 + 8 * i)?.try_into().ok()?))
        };
        let (Some(found_width), Some(rows), Some(found)) = (number(0), number(1), number(2)) else {
            return Err(damaged("its header is cut"));
        };
        let rows = usize::try_from(rows).map_err(|_| damaged("its header is not valid"))?;
        if found_width > MAX_WIDTH as u64 || head != header(found_width as usize, rows, found) {
            return Err(damaged("its header does not have its checksum"));
        }
        if found != sequence || found_width != width as u64 {
            return Ok(None);
        }
        let rotation = Rotation::new(width);
        // No memory is asked for that the file does not fill.
        let blocks_of_bits = (BLOCK_ROWS * rotation.bytes()) as u64;
        let bits = (rows as u64).div_ceil(BLOCK_ROWS as u64).checked_mul(blocks_of_bits);
        let each = (8 + 4 + 4 + 2 * width) as u64;
        let numbers = (rows as u64).checked_mul(each).zip(bits);
        let payload =
            numbers.and_then(|(n, bits)| n.checked_add(bits)?.checked_add(4 * width as u64));
        let blocks = payload.map(|payload| payload.div_ceil(BLOCK_BYTES as u64));
        let length =
            payload.zip(blocks).map(|(p, b)| HEADER_BYTES as u64 + p + b * HASH_BYTES as u64);
        if length != Some(bytes) {
            return Err(damaged("it has another length than its header says"));
        }
        let left = payload.unwrap_or(0);
        let mut blocks = Verified { file, path, block: Vec::new(), at: 0, number: 0, left };
        let mean = blocks.numbers(width, f32::from_le_bytes)?;
        let ids = blocks.numbers(rows, i64::from_le_bytes)?;
        let gains = blocks.numbers(rows, f32::from_le_bytes)?;
        let ones = blocks.numbers(rows, u32::from_le_bytes)?;
        let bits = bits_len(rows, &rotation);
        let bits = blocks.numbers(bits, u8::from_le_bytes)?;
        let rows = blocks.numbers(rows * width, u16::from_le_bytes)?;
        Ok(Some(Self { sequence, width, ids, rows, mean, bits, gains, ones, rotation }))
    }
}

/// Bytes of the signs of so many rows.
fn bits_len(rows: usize, rotation: &Rotation) -> usize {
    rows.div_ceil(BLOCK_ROWS) * BLOCK_ROWS * rotation.bytes()
}

fn mean(width: usize, rows: &[u16]) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    let count = (rows.len() / width.max(1)).max(1);
    for row in rows.chunks_exact(width.max(1)) {
        for (sum, &bits) in sums.iter_mut().zip(row) {
            *sum += f64::from(f16::from_bits(bits).to_f32());
        }
    }
    sums.into_iter().map(|sum| (sum / count as f64) as f32).collect()
}

fn header(width: usize, rows: usize, sequence: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let (body, hash) = bytes.split_at_mut(HEADER_BYTES - HASH_BYTES);
    body[..16].copy_from_slice(MAGIC);
    for (place, number) in body[16..].chunks_exact_mut(8).zip([width as u64, rows as u64, sequence])
    {
        place.copy_from_slice(&number.to_le_bytes());
    }
    hash.copy_from_slice(&xxh3_64(body).to_le_bytes());
    bytes
}

/// Writes payload in blocks with hashes.
struct Blocks<'a> {
    out: &'a mut dyn Write,
    block: Vec<u8>,
    number: u64,
}

impl Blocks<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A number may begin in one block and end in the next.
        let (first, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
        self.block.extend_from_slice(first);
        if self.block.len() == BLOCK_BYTES {
            self.put()?;
        }
        self.block.extend_from_slice(rest);
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        self.out.write_all(&self.block)?;
        self.out.write_all(&xxh3_64_with_seed(&self.block, self.number).to_le_bytes())?;
        self.block.clear();
        self.number += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.block.is_empty() { Ok(()) } else { self.put() }
    }
}

/// Reads payload, each block compared with its hash before a byte of it is used.
struct Verified<'a> {
    file: Box<dyn Read + Send>,
    path: &'a Path,
    block: Vec<u8>,
    at: usize,
    number: u64,
    /// Payload that is not read yet.
    left: u64,
}

impl Verified<'_> {
    fn next_block(&mut self) -> Result<(), Error> {
        let len = self.left.min(BLOCK_BYTES as u64) as usize;
        self.left -= len as u64;
        self.block.resize(len, 0);
        let mut hash = [0; HASH_BYTES];
        let read = self.file.read_exact(&mut self.block);
        read.and_then(|()| self.file.read_exact(&mut hash))
            .map_err(Error::io("read", self.path))?;
        if len == 0 || xxh3_64_with_seed(&self.block, self.number).to_le_bytes() != hash {
            let byte = HEADER_BYTES as u64 + self.number * (BLOCK_BYTES + HASH_BYTES) as u64;
            let what = format!("the block at byte {byte} does not have its checksum");
            return Err(Error::damaged(self.path, what));
        }
        self.number += 1;
        self.at = 0;
        Ok(())
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        make: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        // A file may be as long as it says and hold nothing.
        let bytes = count.saturating_mul(size_of::<T>());
        let memory = |_| Error::Memory { path: self.path.to_owned(), bytes };
        let mut numbers = large_vec(count).map_err(memory)?;
        while numbers.len() < count {
            let rest = self.block.get(self.at..).unwrap_or_default();
            let (whole, odd) = rest.as_chunks::<N>();
            let take = whole.len().min(count - numbers.len());
            numbers.extend(whole.iter().take(take).map(|&bytes| make(bytes)));
            self.at += take * N;
            if numbers.len() == count {
                break;
            }
            // The next number is in the next block, or begins here and ends there.
            let mut split = [0; N];
            let begun = odd.len();
            split[..begun].copy_from_slice(odd);
            self.next_block()?;
            if begun > 0 {
                let end = self.block.get(..N - begun);
                let end = end.ok_or_else(|| Error::damaged(self.path, "a number is cut"))?;
                split[begun..].copy_from_slice(end);
                numbers.push(make(split));
                self.at = N - begun;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_durable::RealFs;

    #[test]
    fn a_header_that_lies_asks_for_no_memory_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FLAT);
        let read = |width| Flat::read(&RealFs, &path, 7, width);
        let length = |width: usize, rows: u64| {
            let bits = rows.div_ceil(64) * 64 * Rotation::new(width).bytes() as u64;
            let payload = 4 * width as u64 + rows * (16 + 2 * width as u64) + bits;
            HEADER_BYTES as u64 + payload + payload.div_ceil(BLOCK_BYTES as u64) * 8
        };
        // The control: what is short and says so is read.
        Flat::new(7, 2, vec![1], vec![0, 0]).write(&RealFs, &path).unwrap();
        assert_eq!(read(2).unwrap().map(|flat| flat.len()), Some(1));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length(2, 1));
        // More than the file holds, with the right hash.
        for rows in [2, 1 << 40, u64::MAX / 26, u64::MAX] {
            std::fs::write(&path, header(2, rows as usize, 7)).unwrap();
            assert!(matches!(read(2), Err(Error::Damaged { .. })), "{rows}");
        }
        // A file that is as long as it says and takes no room, whose first block has its hash.
        let rows = 1u64 << 37;
        let block = vec![0; BLOCK_BYTES];
        let hash = xxh3_64_with_seed(&block, 0).to_le_bytes();
        let start = [&header(2, rows as usize, 7)[..], &block, &hash].concat();
        std::fs::write(&path, start).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        if file.set_len(length(2, rows)).is_ok() {
            assert!(matches!(read(2), Err(Error::Memory { .. } | Error::Damaged { .. })));
        }
    }
}
