//! The table of bad pictures: each row has its code and says what must be said.

use altclip_image::{Alpha, DecodeOptions, Format, Limits, Preprocessor, Rgb, decode, sniff};
use altclip_report::Diagnose;
use std::time::Duration;

use crate::golden;
use crate::support::{png, png_of, synthetic};

/// Asserts that `bytes` is refused with `code` and that the report contains all of `parts`.
#[track_caller]
fn refused(bytes: &[u8], code: &str, parts: &[&str]) {
    match decode(bytes, &DecodeOptions::default()) {
        Ok(rgb) => panic!("decoded to {rgb:?}, expected {code}"),
        Err(error) => {
            let report = error.report();
            assert_eq!(report.code.as_str(), code, "{report}");
            for part in parts {
                assert!(report.to_string().contains(part), "«{part}» is missing in: {report}");
            }
            assert!(!report.help.is_empty());
        }
    }
}

fn accepted(bytes: &[u8]) -> Rgb {
    decode(bytes, &DecodeOptions::default()).unwrap()
}

fn find(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

fn patched(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Vec<u8> {
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

fn inserted(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Vec<u8> {
    bytes.splice(at..at, patch.iter().copied());
    bytes
}

#[test]
fn im1_text_is_not_a_picture() {
    for (bytes, kind) in [
        (&b"<!DOCTYPE html><html><body>404</body></html>"[..], "looks like HTML"),
        (b"\xef\xbb\xbf  <html lang=en>", "looks like HTML"),
        (b"{\"error\": \"not found\"}", "looks like JSON"),
        (b"this is definitely not an image\n", "looks like text"),
        ("これは絵ではない".as_bytes(), "looks like text"),
        (b"BMW makes cars, this is no bitmap at all", "looks like text"),
        (b"P5ycho", "looks like text"),
        (b"", "an empty file"),
        (b"\x01\x02\x03\x00\xff\xfe", "unknown binary data"),
    ] {
        refused(bytes, "E4001", &[kind, "JPEG, PNG"]);
    }
}

#[test]
fn im2_other_formats_are_named() {
    for (bytes, kind) in [
        (&b"<svg xmlns='http://www.w3.org/2000/svg'/>"[..], "SVG"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"8BPS\0\x01", "PSD"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\x01\0\x01\0", "ICO"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "a video"),
    ] {
        refused(bytes, "E4002", &[kind, "JPEG, PNG, WebP"]);
    }
}

#[test]
fn im3_truncated_jpegs_are_refused() {
    for name in ["jpeg_420", "jpeg_420_progressive", "jpeg_grey", "jpeg_cmyk"] {
        let file = golden::file(name);
        let scan = find(&file, b"\xff\xda");
        for len in [20, scan, scan + 14, scan + (file.len() - scan) / 2, file.len() - 2] {
            refused(&file[..len], "E4003", &["truncated"]);
        }
        // The frame is known, so the rows can be counted.
        let half = scan + (file.len() - scan) / 2;
        refused(&file[..half], "E4003", &["rows, expected 18 rows"]);
    }
}

#[test]
fn im4_damaged_jpegs_are_refused() {
    let file = golden::file("jpeg_444");
    let at = |marker: &[u8]| find(&file, marker);
    let scan = at(b"\xff\xda");
    refused(&patched(file.clone(), scan + 40, b"\xff\xd9"), "E4004", &["marker FFDA", "byte "]);
    refused(&patched(file.clone(), at(b"\xff\xc4") + 5, &[5, 1, 0]), "E4004", &["Huffman"]);
    refused(&patched(file.clone(), at(b"\xff\xdb") + 4, &[0x25]), "E4004", &["quantisation"]);
    refused(&patched(file.clone(), at(b"\xff\xdb"), b"\xff\xed"), "E4004", &["quantisation"]);
    refused(&patched(file.clone(), at(b"\xff\xc0"), b"\xff\xed"), "E4004", &["before its frame"]);
    refused(&inserted(file.clone(), 2, b"\xff\xd8"), "E4004", &["second start", "byte 2"]);
    refused(&patched(file.clone(), at(b"\xff\xc0") + 5, &[0, 0]), "E4004", &["21 x 0"]);
    refused(&patched(file.clone(), at(b"\xff\xc0") + 11, &[0x51]), "E4004", &["sampling factors"]);
    refused(b"\xff\xd8\xff\xd9", "E4004", &["no frame"]);
    let restart = golden::file("jpeg_restart");
    let wrong = find(&restart, b"\xff\xd2");
    refused(&patched(restart, wrong, b"\xff\xd5"), "E4004", &["restart marker"]);
}

#[test]
fn im5_other_kinds_of_jpeg_are_refused() {
    let file = golden::file("jpeg_444");
    let frame = find(&file, b"\xff\xc0");
    for (marker, kind) in [(0xC9, "arithmetic"), (0xC3, "lossless"), (0xC5, "hierarchical")] {
        refused(&patched(file.clone(), frame + 1, &[marker]), "E4005", &[kind]);
    }
    refused(&patched(file.clone(), frame + 4, &[12]), "E4005", &["12 bits per sample"]);
    refused(&patched(file, frame + 9, &[2]), "E4005", &["2 components"]);
}

#[test]
fn im6_im7_im11_bombs_are_refused_by_their_header() {
    let jpeg = golden::file("jpeg_444");
    let frame = find(&jpeg, b"\xff\xc0");
    let bomb = patched(jpeg, frame + 5, &[0xFF; 4]);
    refused(&bomb, "E4006", &["4294836225 pixels", "65535 x 65535", "at most 64000000"]);
    let png = png_of(&synthetic(2, 2));
    let bomb = patched(png, 16, &[0, 0, 0x33, 0xF4, 0, 0, 0x33, 0xF4]);
    refused(&bomb, "E4006", &["13300 x 13300"]);
    let gif = patched(golden::file("gif_grey"), 6, &[0xFF; 4]);
    refused(&gif, "E4006", &["65535 x 65535"]);
    let webp = golden::file("webp_lossless");
    let at = find(&webp, b"VP8L") + 9;
    refused(&patched(webp, at, &[0xFE, 0xBF, 0xFF, 0x0F]), "E4006", &["16383 x 16383"]);
    let bmp = patched(golden::file("bmp_rgb"), 18, &[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]);
    refused(&bmp, "E4006", &["65535 x 65535"]);
    refused(b"P6 70000 900 255 ", "E4006", &["70000"]);
    refused(b"P6 60000 60000 255 ", "E4006", &["60000 x 60000"]);
    let mut tiff = golden::file("tiff_rgb");
    let side = find(&tiff, b"\0\x01\x04\0\x01\0\0\0");
    tiff = patched(tiff, side + 8, &[0xFF, 0xFF, 0xFF, 0x7F]);
    refused(&tiff, "E4006", &["2147483647"]);
}

#[test]
fn jpegs_of_too_many_scans_are_refused() {
    let file = golden::file("jpeg_grey_progressive");
    // The first scan, of the DC coefficients, a hundred times more.
    let scan = find(&file, b"\xff\xda");
    let next =
        scan + 2 + file[scan + 2..].windows(2).position(|w| w[0] == 0xFF && w[1] != 0).unwrap();
    let again = file[scan..next].repeat(100);
    let many = inserted(file, scan, &again);
    refused(&many, "E4006", &["scans", "at most 100"]);
}

/// A grey progressive JPEG in which `scans` passes go over all blocks and find nothing: a hundred bytes a pass.
fn empty_scans(side: u16, scans: usize) -> Vec<u8> {
    let mut file = b"\xff\xd8\xff\xdb\0\x43\0".to_vec();
    file.extend([1; 64]);
    file.extend(b"\xff\xc2\0\x0b\x08");
    file.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    file.extend(b"\x01\x01\x11\0");
    // One code of one bit: a run of up to 32,767 blocks without anything.
    file.extend(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xe0");
    let blocks = usize::from(side).div_ceil(8).pow(2);
    // A 0, then fourteen times 1: fifteen bits a run.
    let bits = blocks.div_ceil(32_767) * 15;
    let bit = |n: usize| u8::from(!n.is_multiple_of(15) || n >= bits);
    let bytes = (0..bits.div_ceil(8)).map(|byte| (0..8).fold(0, |x, n| x << 1 | bit(8 * byte + n)));
    let data: Vec<u8> =
        bytes.flat_map(|byte: u8| if byte == 0xFF { vec![0xFF, 0] } else { vec![byte] }).collect();
    for scan in 0..scans {
        // Refined, so that each pass looks at each coefficient.
        file.extend(b"\xff\xda\0\x08\x01\x01\0\x01\x3f");
        file.push(if scan == 0 { 0x01 } else { 0x10 });
        file.extend(&data);
    }
    file.extend(b"\xff\xd9");
    file
}

#[test]
fn what_takes_too_long_is_refused() {
    let decode_within = |file: &[u8], time| {
        let limits = Limits { time, ..Default::default() };
        decode(file, &DecodeOptions { limits, ..Default::default() })
    };
    let refused = |file: &[u8], millis| {
        let error = decode_within(file, Some(Duration::from_millis(millis))).unwrap_err();
        let report = error.report();
        assert_eq!(report.code.as_str(), "E4006", "{report}");
        assert!(report.to_string().contains("ms of processor time"), "{report}");
    };
    let names = ["jpeg_420", "jpeg_grey", "jpeg_420_progressive", "png_rgb", "png_interlaced"];
    for file in names.map(golden::file) {
        let whole = decode_within(&file, None).unwrap();
        assert_eq!(decode_within(&file, Some(Duration::from_secs(3600))).unwrap(), whole);
        refused(&file, 0);
    }
    let long = empty_scans(800, 100);
    assert!(long.len() < 5000);
    assert_eq!(decode_within(&long, None).unwrap(), accepted(&empty_scans(800, 1)));
    refused(&long, 1);
}

#[test]
fn im8_long_and_narrow_is_fine() {
    let clip = Preprocessor::clip(224);
    for (width, height) in [(1, 65_535), (65_535, 1)] {
        let image = synthetic(width, height);
        assert_eq!(accepted(&png_of(&image)), image);
        assert_eq!(clip.apply(&image).unwrap().len(), 3 * 224 * 224);
    }
    // Limits are limits: one pixel more is refused.
    refused(&png_of(&synthetic(65_536, 1)), "E4006", &["pixels of one side", "at most 65535"]);
}

#[test]
fn im9_damaged_png_chunks_are_named() {
    let file = png_of(&synthetic(9, 8));
    let data = find(&file, b"IDAT");
    let flipped = |at: usize| patched(file.clone(), at, &[file[at] ^ 1]);
    refused(&flipped(29), "E4007", &["IHDR"]);
    refused(&flipped(file.len() - 13), "E4007", &["IDAT"]);
    refused(&flipped(data + 10), "E4007", &["IDAT"]);
    refused(&file[..data + 20], "E4003", &["truncated"]);
    // Fewer rows than the header says.
    let short = png(9, 4, png::ColorType::Rgb, png::BitDepth::Eight, &synthetic(9, 4).into_data());
    let mut lies = patched(short, 20, &[0, 0, 0, 8]);
    let crc = crc32(&lies[12..29]);
    lies = patched(lies, 29, &crc.to_be_bytes());
    refused(&lies, "E4007", &["IDAT"]);
}

/// The checksum of PNG, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn im10_only_the_first_frame_counts() {
    let gif = golden::file("gif_palette");
    // From the separator on to before the trailer.
    let frame = find(&gif, b",\0\0\0\0\x15\0\x12\0");
    let body = gif[frame..gif.len() - 1].to_vec();
    let mut many = gif[..gif.len() - 1].to_vec();
    (0..10_000).for_each(|_| many.extend_from_slice(&body));
    many.push(b';');
    assert_eq!(accepted(&many), accepted(&gif));
    refused(&patched(gif.clone(), frame + 1, &[9, 0]), "E4008", &["21 x 18 pixels at (9, 0)"]);
    refused(&patched(gif.clone(), frame + 5, &[0, 0]), "E4008", &["0 x 18"]);
    refused(&gif[..gif.len() - 30], "E4003", &["truncated"]);
    refused(&gif[..frame], "E4003", &[]);
}

#[test]
fn im11_cut_files_are_refused() {
    for name in ["webp_lossy", "webp_lossy_alpha", "webp_lossless", "webp_animated"] {
        let file = golden::file(name);
        refused(&file[..file.len() - 40], "E4003", &["WebP"]);
    }
    for name in ["bmp_rgb", "bmp_palette", "ppm", "pbm_plain", "pgm_plain_100", "bmp_rle8"] {
        let file = golden::file(name);
        refused(&file[..file.len() - 9], "E4003", &["truncated"]);
    }
}

#[test]
fn im13_hidden_colours_show_unless_laid_on_white() {
    let row = [200, 10, 10, 0, 200, 10, 10, 255, 0, 0, 0, 128];
    let file = png(3, 1, png::ColorType::Rgba, png::BitDepth::Eight, &row);
    assert_eq!(accepted(&file).data(), [200, 10, 10, 200, 10, 10, 0, 0, 0]);
    let options = DecodeOptions { alpha: Alpha::CompositeWhite, ..Default::default() };
    let white = decode(&file, &options).unwrap();
    assert_eq!(white.data(), [255, 255, 255, 200, 10, 10, 127, 127, 127]);
}

/// An Exif segment whose first directory has the orientation and a second one that loops.
fn exif(orientation: u16) -> Vec<u8> {
    let mut body = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    body.extend_from_slice(&orientation.to_be_bytes());
    body.extend_from_slice(&[0, 0, 0, 0, 0, 8]);
    let mut segment = b"\xff\xe1".to_vec();
    segment.extend_from_slice(&(body.len() as u16 + 2).to_be_bytes());
    segment.extend_from_slice(&body);
    segment
}

#[test]
fn im14_orientation_counts_only_when_asked_for() {
    let file = golden::file("jpeg_444");
    let upright = accepted(&file);
    let options = DecodeOptions { apply_exif_orientation: true, ..Default::default() };
    for orientation in 0..=9 {
        let turned = inserted(file.clone(), 2, &exif(orientation));
        assert_eq!(accepted(&turned), upright, "ignored by default");
        let turned = decode(&turned, &options).unwrap();
        let swapped = (5..=8).contains(&orientation);
        assert_eq!((turned.width(), turned.height()), if swapped { (18, 21) } else { (21, 18) });
        assert_eq!(turned == upright, matches!(orientation, 0 | 1 | 9), "{orientation}");
    }
    // Orientation 6 is a turn to the right: the left column becomes the top row.
    let turned = decode(&inserted(file.clone(), 2, &exif(6)), &options).unwrap();
    assert_eq!(turned.row(0)[..3], upright.row(17)[..3]);
    // Broken Exif is ignored.
    let mut broken = exif(6);
    broken[14..18].fill(0xFF);
    assert_eq!(decode(&inserted(file, 2, &broken), &options).unwrap(), upright);
}

#[test]
fn im15_what_follows_the_picture_is_ignored() {
    for name in ["jpeg_444", "png_rgb", "gif_palette", "bmp_rgb", "webp_lossy", "ppm"] {
        let file = golden::file(name);
        let mut longer = file.clone();
        longer.extend_from_slice(b"PK\x03\x04 a second file");
        assert_eq!(accepted(&longer), accepted(&file), "{name}");
    }
}

#[test]
fn im17_raw_pixels_are_counted() {
    for (width, height, n_bytes) in [(2, 2, 11), (2, 2, 13), (0, 2, 0), (u32::MAX, u32::MAX, 3)] {
        let error = Rgb::from_raw(width, height, vec![0; n_bytes]).unwrap_err();
        assert_eq!(error.report().code.as_str(), "E4101");
    }
    let error = Preprocessor::clip(4).apply_into(&synthetic(5, 5), &mut [0.0; 47]).unwrap_err();
    assert_eq!(error.report().code.as_str(), "E4101");
    assert!(error.report().sentence().contains("got 47, expected 48"));
}

#[test]
fn limits_are_configurable() {
    let limits = Limits { pixels: 100, ..Default::default() };
    let options = DecodeOptions { limits, ..Default::default() };
    assert!(decode(&png_of(&synthetic(10, 10)), &options).is_ok());
    assert!(decode(&png_of(&synthetic(10, 11)), &options).is_err());
    let limits = Limits { file_bytes: 10, ..Default::default() };
    let options = DecodeOptions { limits, ..Default::default() };
    let error = decode(&png_of(&synthetic(1, 1)), &options).unwrap_err();
    assert_eq!(error.report().code.as_str(), "E4202");
}

#[test]
fn sniffing_knows_every_golden_file() {
    for (name, bytes) in golden::files() {
        let expected = match name.split('_').next().unwrap() {
            "jpeg" => Format::Jpeg,
            "png" => Format::Png,
            "gif" => Format::Gif,
            "webp" => Format::WebP,
            "bmp" => Format::Bmp,
            "tiff" => Format::Tiff,
            _ => Format::Pnm,
        };
        assert_eq!(sniff(&bytes).unwrap(), expected, "{name}");
    }
}
