//! Scalars as a TensorBoard event file.
//!
//! The file is a TFRecord stream of `Event` messages. Of the protocol only five fields are needed,
//! so they are written here by hand: the crates for it bring a protobuf compiler's output, picture
//! codecs or an asynchronous runtime for what is a page of code.
//!
//! A run that goes on begins a new file, whose first event tells TensorBoard to forget the steps
//! that are done again.
//!
//! # Source
//! `tensorflow/core/util/event.proto`, `tensorflow/core/framework/summary.proto` and
//! `tensorflow/core/lib/io/record_writer.h` of TensorFlow 2.

use crate::state::{Error, disk};
use altclip_durable::{Vfs, VfsFile};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file that is being written.
pub struct EventFile {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    /// Length of the whole records.
    bytes: u64,
    /// Whether a write failed, so that half a record may follow them.
    torn: bool,
}

impl EventFile {
    /// A new event file in a folder. `first_step` is the step that will be logged first: 1, or the
    /// one after the checkpoint of a run that goes on.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn create(
        vfs: &dyn Vfs,
        dir: &Path,
        first_step: u64,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let (seconds, process) = (seconds(now), std::process::id());
        let path =
            dir.join(format!("events.out.tfevents.{seconds:.0}.altclip.{process}.{first_step}"));
        let mut file = vfs.append(&path).map_err(disk("create", &path))?;
        file.set_len(0).map_err(disk("cut", &path))?;
        let mut events = Self { path, file, bytes: 0, torn: false };
        let mut version = event(now, 0);
        text(&mut version, FILE_VERSION, b"brain.Event:2");
        events.record(&version)?;
        if first_step > 1 {
            let mut start = event(now, first_step);
            text(&mut start, SESSION_LOG, &[SESSION_STATUS << 3, SESSION_START]);
            events.record(&start)?;
        }
        Ok(events)
    }

    /// Writes the scalars of a step, for example `train/loss`. They are handed to the system at
    /// once, so that TensorBoard shows them while the run goes on.
    ///
    /// # Errors
    /// [`Error::Disk`]; then this step is missing and the file stays readable.
    pub fn scalars(
        &mut self,
        step: u64,
        values: &[(&str, f64)],
        now: SystemTime,
    ) -> Result<(), Error> {
        let mut summary = Vec::new();
        for (tag, number) in values {
            let mut value = Vec::new();
            text(&mut value, VALUE_TAG, tag.as_bytes());
            value.push(VALUE_SIMPLE << 3 | FIXED_32);
            value.extend_from_slice(&(*number as f32).to_le_bytes());
            text(&mut summary, SUMMARY_VALUE, &value);
        }
        let mut record = event(now, step);
        text(&mut record, SUMMARY, &summary);
        self.record(&record)
    }

    /// One TFRecord: length, its checksum, contents, their checksum.
    fn record(&mut self, contents: &[u8]) -> Result<(), Error> {
        let length = (contents.len() as u64).to_le_bytes();
        let mut bytes = Vec::with_capacity(contents.len() + 16);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
        bytes.extend_from_slice(contents);
        bytes.extend_from_slice(&masked_crc32c(contents).to_le_bytes());
        if self.torn {
            self.file.set_len(self.bytes).map_err(disk("cut", &self.path))?;
        }
        self.torn = true;
        self.file.write_all(&bytes).map_err(disk("write", &self.path))?;
        self.torn = false;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

// Field numbers.
const WALL_TIME: u8 = 1;
const STEP: u8 = 2;
const FILE_VERSION: u8 = 3;
const SUMMARY: u8 = 5;
const SESSION_LOG: u8 = 7;
const SUMMARY_VALUE: u8 = 1;
const VALUE_TAG: u8 = 1;
const VALUE_SIMPLE: u8 = 2;
const SESSION_STATUS: u8 = 1;
// Values and wire types.
const SESSION_START: u8 = 1;
const FIXED_64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED_32: u8 = 5;

/// An event with its time and step.
fn event(now: SystemTime, step: u64) -> Vec<u8> {
    let mut out = vec![WALL_TIME << 3 | FIXED_64];
    out.extend_from_slice(&seconds(now).to_le_bytes());
    if step > 0 {
        out.push(STEP << 3);
        varint(&mut out, step);
    }
    out
}

/// Seconds since 1970.
fn seconds(now: SystemTime) -> f64 {
    now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A field of bytes, text or a message.
fn text(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | LENGTH);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// CRC-32C, rotated and shifted as TFRecord wants it. Bit by bit: records have a hundred bytes.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_durable::{SimFs, read};
    use std::time::Duration;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // CRC-32C of «123456789» is e3069283.
        let unmasked = masked_crc32c(b"123456789").wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }

    /// `scripts/reference/events.py` made the same events with TensorBoard's own writer.
    #[test]
    fn the_bytes_are_those_that_tensorboard_writes() {
        let disk = SimFs::new();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut events = EventFile::create(&disk, "".as_ref(), 101, now).unwrap();
        events.scalars(101, &[("train/loss", 2.5), ("eval/top1", 0.75)], now).unwrap();
        let [name] = &disk.list("".as_ref()).unwrap()[..] else { panic!("one file") };
        assert!(name.starts_with("events.out.tfevents.1700000000.altclip."), "{name}");
        let bytes = read(&disk, name.as_ref(), 4096).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(hex.as_str()), include_str!("../tests/events.hex").lines().nth(1));
    }

    #[test]
    fn a_full_disk_leaves_whole_records() {
        let disk = SimFs::new().with_write_bytes(30);
        let mut events = EventFile::create(&disk, "".as_ref(), 1, UNIX_EPOCH).unwrap();
        let name = disk.list("".as_ref()).unwrap().remove(0);
        let contents = || read(&disk, name.as_ref(), 4096).unwrap();
        let begin = contents().len();
        let mut scalar = |step| events.scalars(step, &[("train/loss", 1.0)], UNIX_EPOCH);
        scalar(1).unwrap();
        let whole = contents();
        disk.set_free_space(10);
        assert!(scalar(2).is_err());
        disk.set_free_space(1000);
        scalar(2).unwrap();
        let after = contents();
        assert_eq!(after[..whole.len()], whole);
        assert_eq!(after.len() - whole.len(), whole.len() - begin);
    }
}
