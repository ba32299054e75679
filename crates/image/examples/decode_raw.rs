//! Decodes pictures and prints size and a checksum of the RGB bytes, or the report of the error:
//! what the reference script compares with Pillow over a whole folder.
//!
//! `cargo run --release -p altclip-image --example decode_raw -- [--white] PICTURE...`

use altclip_image::{Alpha, DecodeOptions, Preprocessor, decode, read_file};
use altclip_report::Diagnose;

/// FNV-1a, which every language writes in three lines.
fn checksum(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[allow(clippy::print_stdout, reason = "the output of an example")]
fn main() {
    let mut options = DecodeOptions::default();
    let clip = Preprocessor::clip(224);
    for path in std::env::args_os().skip(1) {
        if path == "--white" {
            options.alpha = Alpha::CompositeWhite;
            continue;
        }
        let shown = path.to_string_lossy().into_owned();
        let result = read_file(path.as_ref(), &options)
            .and_then(|bytes| decode(&bytes, &options))
            .and_then(|rgb| clip.apply(&rgb).map(|values| (rgb, values)));
        match result {
            Ok((rgb, values)) => {
                let pixels = checksum(rgb.data().iter().copied());
                let values = checksum(values.iter().flat_map(|value| value.to_le_bytes()));
                let (width, height) = (rgb.width(), rgb.height());
                println!("{shown}\t{width}x{height}\t{pixels:016x}\t{values:016x}");
            }
            Err(error) => println!("{shown}\t{}", error.report()),
        }
    }
}
