//! A2: mutated files give a picture or an error with a code, never a panic.

use altclip_image::{DecodeOptions, Error, Limits, Preprocessor, decode, decode_and_preprocess};
use altclip_report::Diagnose;

use crate::golden;
use crate::support::Lcg;

/// One of six kinds of damage.
fn mutate(seed: &[u8], other: &[u8], lcg: &mut Lcg) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let at = lcg.below(bytes.len());
    match lcg.below(6) {
        0 => bytes[at] ^= 1 << lcg.below(8),
        1 => bytes[at] = lcg.next() as u8,
        2 => bytes.truncate(at),
        3 => {
            // The head of one file, the tail of another.
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at.min(other.len())..]);
        }
        4 => {
            // An extreme value where a length or a size may stand.
            let value = [[0; 4], [0xFF; 4], [0, 0, 0, 1], [0x7F, 0xFF, 0xFF, 0xFF]][lcg.below(4)];
            let end = bytes.len().min(at + 4);
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        _ => {
            let end = bytes.len().min(at + 1 + lcg.below(40));
            bytes.drain(at..end);
        }
    }
    if lcg.below(3) == 0 && !bytes.is_empty() {
        let again = lcg.below(bytes.len().min(64));
        bytes[again] ^= 1 << lcg.below(8);
    }
    bytes
}

#[test]
fn mutated_files_give_a_picture_or_a_listed_error() {
    let files = golden::files();
    let limits = Limits { pixels: 1 << 20, ..Default::default() };
    let options = DecodeOptions { limits, apply_exif_orientation: true, ..Default::default() };
    let clip = Preprocessor::clip(32);
    let mut values = vec![0.0; 3 * 32 * 32];
    let mut lcg = Lcg(2026);
    // ALTCLIP_MUTATIONS=250 makes 20,000 files, the nightly run.
    let each = std::env::var("ALTCLIP_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let (mut pictures, mut errors) = (0, 0);
    for (i, (name, seed)) in files.iter().enumerate() {
        let other = &files[(i + 1) % files.len()].1;
        for case in 0..each {
            let bytes = mutate(seed, other, &mut lcg);
            let result = decode(&bytes, &options);
            let direct = decode_and_preprocess(&bytes, &options, &clip, &mut values);
            match (&result, &direct) {
                (Ok(rgb), Ok(())) => assert_eq!(clip.apply(rgb).unwrap(), values, "{name} {case}"),
                (Err(a), Err(b)) => assert_eq!(a.report(), b.report(), "{name} {case}"),
                _ => panic!("{name} {case}: {result:?} but {direct:?}"),
            }
            match result {
                Ok(rgb) => {
                    assert_eq!(
                        rgb.data().len() as u64,
                        3 * u64::from(rgb.width()) * u64::from(rgb.height())
                    );
                    pictures += 1;
                }
                Err(error) => {
                    let report = error.report();
                    let code = report.code.as_str();
                    assert!(("E4001"..="E4008").contains(&code), "{name} {case}: {report}");
                    assert!(report.to_string().len() <= altclip_report::MAX_REPORT_BYTES);
                    if let Error::Damaged { what, .. } = &error {
                        assert_ne!(
                            what, "its decoder gave up",
                            "{name} {case}: a panic was caught"
                        );
                    }
                    errors += 1;
                }
            }
        }
    }
    println!("{pictures} pictures, {errors} errors");
    assert!(pictures > 100 && errors > 600, "{pictures} pictures, {errors} errors");
}

/// Every truncation of every golden file: no panic, and never more than the file holds.
#[test]
fn every_truncation_is_answered() {
    for (name, seed) in golden::files() {
        for len in (0..seed.len()).step_by(1 + seed.len() / 150) {
            if let Err(error) = decode(&seed[..len], &DecodeOptions::default()) {
                let code = error.report().code;
                assert!(code.as_str().starts_with("E400"), "{name} cut at {len}: {error}");
            } else {
                // Pillow needs no trailer either: what is lost lies behind the last pixel.
                let jpeg = name.starts_with("jpeg") && name != "jpeg_trailing";
                assert!(!jpeg || len + 2 > seed.len(), "{name} cut at {len} was decoded");
            }
        }
    }
}
