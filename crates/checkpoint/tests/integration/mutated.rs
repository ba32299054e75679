//! Mutated files: flips, cuts at every offset, splices, lengths edited. Each is read or refused
//! with a code of this crate; none makes the reader panic.

use crate::forge::{PLAIN, View, file_of, load, safetensors, state_dict, torch_zip};
use altclip_checkpoint::Checkpoint;
use altclip_report::{Code, Diagnose};

/// The codes that a damaged file may get.
const LISTED: &[Code] = &[
    Code::E2010,
    Code::E2011,
    Code::E2012,
    Code::E2013,
    Code::E2014,
    Code::E2015,
    Code::E2016,
    Code::E2017,
    Code::E2104,
    Code::E2106,
    Code::E2201,
    Code::E2202,
    Code::E2203,
    Code::E2204,
];

/// A linear congruential generator (Knuth's MMIX constants): the same files in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

fn good_safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"ids":{"dtype":"I64","shape":[1,2],"data_offsets":[22,38]}}"#;
    safetensors(header, &[0x3f; 38])
}

fn good_torch() -> Vec<u8> {
    let views = [("a.weight", PLAIN), ("b", View { size: &[3, 2], stride: &[1, 3], ..PLAIN })];
    torch_zip(&state_dict(&views)).bytes
}

/// One mutation of a file.
fn mutate(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'"', b'0', b'9', b'('][random.below(8)],
            2 => {
                let from = random.below(good.len());
                let len = random.below(40).min(good.len() - from);
                bytes.splice(at..at, good[from..from + len].iter().copied());
            }
            3 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len() - 1).max(at))),
            4 => {
                let value = [0u32, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000][random.below(5)];
                for (byte, new) in bytes[at..].iter_mut().zip(value.to_le_bytes()) {
                    *byte = new;
                }
            }
            _ => {
                // A number of the file, a little larger or smaller.
                let digit = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|n| at + n);
                let place = digit.unwrap_or(at);
                bytes[place] = bytes[place].wrapping_add(random.below(3) as u8);
            }
        }
    }
    bytes
}

/// Counts (read, refused); panics on anything else.
fn try_all(files: impl IntoIterator<Item = Vec<u8>>) -> (usize, usize) {
    let (mut read, mut refused) = (0, 0);
    for bytes in files {
        let (result, peak) = crate::alloc::peak_of(|| load(&bytes));
        assert!(peak <= 16 << 20, "{peak} bytes");
        match result {
            Ok(_) => read += 1,
            Err(error) => {
                for report in error.reports() {
                    assert!(LISTED.contains(&report.code), "{report}");
                }
                refused += 1;
            }
        }
    }
    (read, refused)
}

#[test]
fn mutated_files_are_read_or_refused() {
    for (name, good, seed) in [("safetensors", good_safetensors(), 1), ("torch", good_torch(), 2)] {
        load(&good).unwrap();
        let mut random = Random(seed);
        let (read, refused) = try_all((0..1000).map(|_| mutate(&good, &mut random)));
        assert!(refused > 500, "{name}: {read} read, {refused} refused");
        println!("{name}: {read} mutated files read, {refused} refused");
    }
}

/// The checksum of the archive hides the pickle from most mutations, so it is made to fit here.
#[test]
fn mutated_pickles_with_good_checksums_are_read_or_refused() {
    let views = [("a.weight", PLAIN), ("b", View { size: &[3, 2], stride: &[1, 3], ..PLAIN })];
    let good = state_dict(&views);
    let mut random = Random(3);
    let (read, refused) = try_all((0..1000).map(|_| torch_zip(&mutate(&good, &mut random)).bytes));
    assert!(refused > 500);
    println!("{read} mutated pickles read, {refused} refused");
    for end in 0..good.len() {
        assert!(load(&torch_zip(&good[..end]).bytes).is_err(), "{end}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for good in [good_safetensors(), good_torch()] {
        let (read, refused) = try_all((0..good.len()).map(|end| good[..end].to_vec()));
        assert_eq!((read, refused), (0, good.len()));
    }
}

/// What is accepted after a mutation, the official reader accepts with the same names and shapes.
#[test]
fn an_accepted_mutation_is_accepted_by_the_official_reader() {
    let mut random = Random(4);
    let good = good_safetensors();
    let mut accepted = 0;
    for _ in 0..1000 {
        let bytes = mutate(&good, &mut random);
        let file = file_of(&bytes);
        let Ok(checkpoint) = Checkpoint::open_file(file.path()) else { continue };
        if checkpoint.files()[0].format != altclip_checkpoint::Format::Safetensors {
            continue;
        }
        let official = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(official.len(), checkpoint.names().count());
        for (name, view) in official.iter() {
            assert_eq!(checkpoint.shape(name).unwrap(), view.shape());
        }
        accepted += 1;
    }
    assert!(accepted > 20, "{accepted}");
}
