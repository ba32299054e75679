//! The miniature: an AltCLIP trained by `recipes/emoji` on pictures and names of emoji, small enough to be
//! part of the program, and a few pictures to try it on.
//!
//! It knows emoji and nothing else. Whoever labels photographs with it gets confident nonsense, so no
//! command takes it unless it is named.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

macro_rules! files {
    ($($folder:literal / $name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../", $folder, "/", $name)))),*]
    };
}

/// A file by its name.
pub type File = (&'static str, &'static [u8]);

/// The model folder, in the layout of the hub.
pub const MODEL: &[File] = files![
    "model" / "config.json",
    "model" / "model.safetensors",
    "model" / "preprocessor_config.json",
    "model" / "special_tokens_map.json",
    "model" / "tokenizer.json",
    "model" / "tokenizer_config.json",
    "model" / "README.md",
    "model" / "NOTICE",
];

/// Pictures, PNG, by their English names.
pub const PICTURES: &[File] = files![
    "pictures" / "alarm clock.png",
    "pictures" / "banana.png",
    "pictures" / "bicycle.png",
    "pictures" / "birthday cake.png",
    "pictures" / "cat face.png",
    "pictures" / "dog face.png",
    "pictures" / "evergreen tree.png",
    "pictures" / "fire.png",
    "pictures" / "guitar.png",
    "pictures" / "hot beverage.png",
    "pictures" / "house.png",
    "pictures" / "key.png",
    "pictures" / "octopus.png",
    "pictures" / "panda.png",
    "pictures" / "rainbow.png",
    "pictures" / "red apple.png",
    "pictures" / "rocket.png",
    "pictures" / "rose.png",
    "pictures" / "sailboat.png",
    "pictures" / "snowman.png",
    "pictures" / "soccer ball.png",
    "pictures" / "steam locomotive.png",
    "pictures" / "sun.png",
    "pictures" / "umbrella.png",
];

/// A number that changes with any byte of the model (FNV-1a, 64 bits).
fn fingerprint() -> u64 {
    let bytes = MODEL.iter().flat_map(|(name, bytes)| name.bytes().chain(bytes.iter().copied()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The model as a folder below `cache`, written there if it is not whole.
///
/// It is written beside its place and renamed, so that two programs that start at once both find it whole.
///
/// # Errors
/// The folder cannot be written.
pub fn folder(cache: &Path) -> io::Result<PathBuf> {
    let dir = cache.join(format!("nano-{:016x}", fingerprint()));
    let whole = |dir: &Path| {
        MODEL.iter().all(|(name, bytes)| {
            fs::metadata(dir.join(name)).is_ok_and(|found| found.len() == bytes.len() as u64)
        })
    };
    if whole(&dir) {
        return Ok(dir);
    }
    fs::create_dir_all(cache)?;
    let beside = cache.join(format!(".nano-{}.part", std::process::id()));
    fs::create_dir_all(&beside)?;
    for (name, bytes) in MODEL {
        fs::write(beside.join(name), bytes)?;
    }
    // What lies there is not whole, or became so meanwhile.
    if !whole(&dir) {
        let _ = fs::remove_dir_all(&dir);
    }
    match fs::rename(&beside, &dir) {
        Err(_) if whole(&dir) => fs::remove_dir_all(&beside)?,
        renamed => renamed?,
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_folder_is_whole_and_damage_is_mended() {
        let cache = tempfile::tempdir().unwrap();
        let dir = folder(cache.path()).unwrap();
        for (name, bytes) in MODEL {
            assert_eq!(fs::read(dir.join(name)).unwrap(), *bytes);
        }
        fs::write(dir.join("config.json"), "{").unwrap();
        assert_eq!(folder(cache.path()).unwrap(), dir);
        assert_eq!(fs::read(dir.join("config.json")).unwrap(), MODEL[0].1);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn it_is_small() {
        let bytes: usize = MODEL.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= 8_000_000, "{bytes} bytes");
    }
}
