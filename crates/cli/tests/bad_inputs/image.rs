//! IM1 to IM16 and IM18: pictures.

use crate::row::{Case, Row, bad_input, check};
use crate::support::child::Run;
use crate::support::picture::{
    self, SIGNATURE, chunk, gif_descriptor, header, jpeg_segment, orientation, pattern, png,
    png_raw, stored, with_exif, without_segment,
};
use altclip_report::Code;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::OnceLock;

/// A golden picture file.
fn golden(name: &str) -> &'static [u8] {
    static ALL: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    &ALL.get_or_init(picture::goldens)[name]
}

fn embed(case: &Case, path: &std::path::Path) -> Run {
    case.embed(&[OsStr::new("--image"), path.as_os_str()])
}

/// A picture file of these bytes is refused.
fn bad(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: &'static [&'static str],
    make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
) -> Row {
    bad_input(id, name, code, parts, move |case| embed(case, &case.file("picture.jpg", make())))
}

pub(crate) fn rows() -> Vec<Row> {
    [other_files(), jpeg(), sizes(), png_chunks(), animations(), conversions(), extras(), paths()]
        .into_iter()
        .flatten()
        .collect()
}

fn other_files() -> Vec<Row> {
    let text = |name, parts, text: &'static str| {
        bad("IM1", name, Code::E4001, parts, move || text.as_bytes().to_vec())
    };
    let format = |name, parts, bytes: &'static [u8]| {
        bad("IM2", name, Code::E4002, parts, move || {
            let mut file = bytes.to_vec();
            file.resize(file.len().max(200), 0);
            file
        })
    };
    vec![
        text(
            "HTML",
            &["looks like HTML"],
            "<!DOCTYPE html>\n<html><head><title>404</title></head></html>",
        ),
        text("JSON", &["looks like JSON"], "{\"error\": \"not found\"}"),
        text("text", &["text"], "no picture at all, only words"),
        text("nothing", &["empty"], ""),
        bad("IM1", "numbers", Code::E4001, &[], || (0..=255).rev().collect()),
        bad("IM1", "a terminal's escapes in the first bytes", Code::E4001, &[], || {
            b"\x1b[2J\x1b[31mred\r\nerror[E0000] fake\n".to_vec()
        }),
        format("SVG", &["SVG"], b"<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>"),
        format(
            "SVG behind a prologue",
            &["SVG"],
            b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg></svg>",
        ),
        format("PDF", &["PDF", "JPEG, PNG"], b"%PDF-1.7\n"),
        format("PostScript", &["PostScript"], b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        format("PSD", &["PSD"], b"8BPS\0\x01\0\0\0\0\0\0"),
        format("JPEG XL", &["JPEG XL"], b"\xff\x0a\xfa\x1f"),
        format("ICO", &["ICO"], b"\0\0\x01\0\x01\0\x10\x10"),
        format("AVIF", &["AVIF"], b"\0\0\0\x20ftypavif\0\0\0\0avifmif1"),
        format("HEIC", &["HEIC"], b"\0\0\0\x20ftypheic\0\0\0\0mif1heic"),
    ]
}

fn jpeg() -> Vec<Row> {
    let file = || golden("jpeg_420").to_vec();
    let cut = |name, keep: fn(usize) -> usize| {
        bad("IM3", name, Code::E4003, &["truncated"], move || file()[..keep(file().len())].to_vec())
    };
    let with_frame = move |marker: u8| {
        let mut bytes = file();
        let at = jpeg_segment(&bytes, 0xc0);
        bytes[at - 3] = marker;
        bytes
    };
    let size = move |width: u16, height: u16| {
        let mut bytes = file();
        let at = jpeg_segment(&bytes, 0xc0);
        bytes[at + 1..at + 3].copy_from_slice(&height.to_be_bytes());
        bytes[at + 3..at + 5].copy_from_slice(&width.to_be_bytes());
        bytes
    };
    vec![
        cut("only the start", |_| 20),
        cut("within the header", |_| 100),
        cut("half", |length| length - 60),
        cut("without its last 2 bytes", |length| length - 2),
        bad("IM4", "no Huffman tables", Code::E4004, &["Huffman"], move || {
            let mut bytes = file();
            while bytes.windows(2).any(|pair| pair == b"\xff\xc4") {
                bytes = without_segment(&bytes, 0xc4);
            }
            bytes
        }),
        bad("IM4", "a Huffman table of impossible lengths", Code::E4004, &["FFC4"], move || {
            let mut bytes = file();
            let at = jpeg_segment(&bytes, 0xc4);
            bytes[at + 1] = 0xff;
            bytes
        }),
        bad("IM4", "no quantisation table", Code::E4004, &[], move || {
            let mut bytes = file();
            while bytes.windows(2).any(|pair| pair == b"\xff\xdb") {
                bytes = without_segment(&bytes, 0xdb);
            }
            bytes
        }),
        bad("IM4", "no frame header", Code::E4004, &[], move || without_segment(&file(), 0xc0)),
        bad("IM4", "a second start of image", Code::E4004, &[], move || {
            let bytes = file();
            [&bytes[..20], b"\xff\xd8", &bytes[20..]].concat()
        }),
        bad("IM4", "a component that is not there", Code::E4004, &[], move || {
            let mut bytes = file();
            let at = jpeg_segment(&bytes, 0xda);
            bytes[at + 1] = 77;
            bytes
        }),
        bad("IM4", "0 pixels wide", Code::E4004, &[], move || size(0, 18)),
        bad("IM5", "arithmetic coding", Code::E4005, &["arithmetic"], move || with_frame(0xc9)),
        bad("IM5", "lossless", Code::E4005, &["lossless"], move || with_frame(0xc3)),
        bad("IM5", "hierarchical", Code::E4005, &[], move || with_frame(0xc5)),
        bad("IM5", "12 bits", Code::E4005, &["12 bits"], move || {
            let mut bytes = file();
            let at = jpeg_segment(&bytes, 0xc0);
            bytes[at] = 12;
            bytes
        }),
        bad(
            "IM6",
            "65,535 x 65,535 in 1 kB",
            Code::E4006,
            &["4294836225", "65535 x 65535"],
            move || size(65_535, 65_535),
        ),
    ]
}

/// A zlib stream of so many zeros, by one block of matches at distance 1.
fn zeros(count: usize) -> Vec<u8> {
    /// Bits from the lowest of each byte.
    struct Bits(Vec<u8>, u32);
    impl Bits {
        fn put(&mut self, bits: u32, count: u32) {
            for bit in (0..count).map(|n| bits >> n & 1) {
                if self.1 == 0 {
                    self.0.push(0);
                }
                *self.0.last_mut().unwrap() |= (bit << self.1) as u8;
                self.1 = (self.1 + 1) % 8;
            }
        }
    }
    let mut bits = Bits(vec![0x78, 0x01], 0);
    bits.put(0b011, 3);
    // The literal 0 is 00110000, a match of 258 is 11000101, both from their highest bit.
    bits.put(0b0000_1100, 8);
    for _ in 0..(count - 1) / 258 {
        bits.put(0b1010_0011, 8);
        bits.put(0, 5);
    }
    for _ in 0..(count - 1) % 258 {
        bits.put(0b0000_1100, 8);
    }
    bits.put(0, 7);
    // Adler-32 of zeros: the low half stays 1, the high half counts them.
    bits.0.extend((((count % 65_521) as u32) << 16 | 1).to_be_bytes());
    bits.0
}

/// A grey PNG of one bit a pixel, all black.
fn black(width: u32, height: u32) -> Vec<u8> {
    let rows = height as usize * (1 + width.div_ceil(8) as usize);
    let parts = [header(width, height, 1, 0), chunk(b"IDAT", &zeros(rows)), chunk(b"IEND", b"")];
    [SIGNATURE, &parts.concat()].concat()
}

fn sizes() -> Vec<Row> {
    let webp = move |width: u32, height: u32| {
        let mut file = golden("webp_lossless").to_vec();
        let bits = (width - 1) | (height - 1) << 14;
        file[21..25].copy_from_slice(&bits.to_le_bytes());
        file
    };
    vec![
        bad("IM7", "a PNG of 13,300 x 13,300 bits", Code::E4006, &["176890000"], || {
            black(13_300, 13_300)
        }),
        bad("IM7", "a PNG that declares 2^31 - 1 squared", Code::E4006, &[], || {
            png_raw(0x7fff_ffff, 0x7fff_ffff, 8, 2, &[0; 100])
        }),
        bad("IM7", "a PNG of 70,000 x 1", Code::E4006, &["70000", "65535"], || black(70_000, 1)),
        bad_input("IM7", "a sound picture without room for it", Code::E9002, &["bytes"], |case| {
            embed(case, &case.file("large.png", black(8_000, 8_000))).address_space_mib(128)
        }),
        check("IM7", "with the limit raised a larger one is decoded", |case| {
            let path = case.file("large.png", black(8_200, 8_200));
            assert_eq!(embed(case, &path).go().status, Some(3));
            let args =
                [OsStr::new("--max-pixels=70000000"), OsStr::new("--image"), path.as_os_str()];
            case.embed(&args).address_space_mib(320).ok();
        }),
        check("IM8", "PNGs of 1 x 65,535 and 65,535 x 1 cost little", |case| {
            for (width, height) in [(1, 65_535), (65_535, 1)] {
                let path = case.file("thin.png", png(width, height, &[77; 3 * 65_535]));
                let arg = OsStr::new;
                let out = case.path(format!("{width}.npy"));
                let args = [path.as_os_str(), arg("--out"), out.as_os_str()];
                // The whole resized picture would have 32 x 2,097,120 pixels.
                case.command("preprocess", &args).address_space_mib(128).ok();
            }
        }),
        bad("IM11", "a WebP of 16,383 x 16,383", Code::E4006, &["16383 x 16383"], move || {
            webp(16_383, 16_383)
        }),
        bad("IM11", "a lossy WebP with alpha that is cut", Code::E4003, &["WebP"], || {
            let file = golden("webp_lossy_alpha");
            file[..file.len() - 100].to_vec()
        }),
        bad("IM11", "a GIF of 65,535 x 65,535", Code::E4006, &["65535 x 65535"], || {
            let mut file = golden("gif_palette").to_vec();
            file[6..10].fill(0xff);
            file
        }),
        bad("IM11", "a GIF whose data end early", Code::E4003, &["GIF"], || {
            let file = golden("gif_palette");
            file[..file.len() - 60].to_vec()
        }),
        bad_input("IM11", "a file over the size limit", Code::E4202, &["20971521"], |case| {
            let path = case.path("large.png");
            std::fs::File::create(&path).unwrap().set_len((20 << 20) + 1).unwrap();
            embed(case, &path)
        }),
    ]
}

fn png_chunks() -> Vec<Row> {
    let empty = bad("IM9", "0 pixels", Code::E4004, &["0 x 4"], || png_raw(0, 4, 8, 2, &[0; 52]));
    let raw = |rows: usize| [&[0u8][..], &[9; 12]].concat().repeat(rows);
    let bad = |name, parts, make: fn(Vec<u8>) -> Vec<u8>| {
        bad("IM9", name, Code::E4007, parts, move || make(png_raw(4, 4, 8, 2, &raw(4))))
    };
    vec![
        bad("a wrong checksum of IHDR", &["IHDR"], |mut file| {
            file[29] ^= 1;
            file
        }),
        bad("a wrong checksum of IDAT", &["IDAT"], |mut file| {
            let at = file.len() - 13;
            file[at] ^= 1;
            file
        }),
        bad("too little data", &["IDAT"], |_| png_raw(4, 4, 8, 2, &[0; 13 * 3])),
        bad("a filter that is none", &["IDAT"], |_| {
            png_raw(4, 4, 8, 2, &[[5].as_slice(), &[9; 12]].concat().repeat(4))
        }),
        bad("data that are no zlib stream", &["IDAT"], |_| {
            let parts = [header(4, 4, 8, 2), chunk(b"IDAT", &[0xff; 60]), chunk(b"IEND", b"")];
            [SIGNATURE, &parts.concat()].concat()
        }),
        bad("a colour type that is none", &["IHDR"], |_| png_raw(4, 4, 8, 5, &[0; 52])),
        check("IM9", "a palette picture without a palette is black, as Pillow shows it", |case| {
            let indices = [0, 1, 2, 3, 4].repeat(4);
            let black = case.vector("black.png", &png(4, 4, &[0; 48]), &[]);
            assert_eq!(case.vector("p.png", &png_raw(4, 4, 8, 3, &indices), &[]), black);
        }),
        empty,
        check("IM9", "data behind the picture are ignored", move |case| {
            let sound = case.vector("a.png", &png_raw(4, 4, 8, 2, &raw(4)), &[]);
            assert_eq!(case.vector("b.png", &png_raw(4, 4, 8, 2, &raw(9)), &[]), sound);
        }),
    ]
}

fn animations() -> Vec<Row> {
    let edited = |at: usize, bytes: [u8; 2]| {
        let mut file = golden("gif_palette").to_vec();
        let frame = gif_descriptor(&file);
        file[frame + at..frame + at + 2].copy_from_slice(&bytes);
        file
    };
    vec![
        check("IM10", "a GIF of 10,000 frames: the first counts", |case| {
            let file = golden("gif_palette");
            let (head, frame) = file.split_at(gif_descriptor(file));
            let frame = &frame[..frame.len() - 1];
            let many = [head, &frame.repeat(10_000), b";"].concat();
            assert_eq!(case.vector("many.gif", &many, &[]), case.vector("one.gif", file, &[]));
        }),
        check("IM10", "an animated PNG: the still picture counts", |case| {
            let still = case.vector("still.png", golden("png_rgb"), &[]);
            assert_eq!(case.vector("moving.png", golden("png_animated"), &[]), still);
        }),
        check(
            "IM10",
            "a GIF's frame that leaves the canvas is as Pillow shows it, or refused",
            move |case| {
                let path = case.file("a.gif", edited(1, [200, 0]));
                let outcome = embed(case, &path).go();
                let refused = outcome.status == Some(3) && outcome.stderr.contains("[E4008]");
                assert!(refused || outcome.status == Some(0), "{}", outcome.stderr);
            },
        ),
        bad("IM10", "a GIF's frame of no size", Code::E4008, &["GIF"], move || edited(5, [0, 0])),
        bad("IM10", "a GIF without a frame", Code::E4003, &["GIF"], || {
            let file = golden("gif_palette");
            [&file[..gif_descriptor(file)], b";"].concat()
        }),
    ]
}

/// The pixels of a golden picture as a plain PNG; its first two are those that Pillow gave.
fn as_png(name: &str) -> Vec<u8> {
    let rgb = altclip::image::decode(golden(name), &Default::default()).unwrap();
    let file = crate::support::folder::golden_json("image/pictures.json");
    let pictures = file["pictures"].as_array().unwrap();
    let entry = pictures.iter().find(|picture| picture["name"] == name).unwrap();
    let first: Vec<u8> = serde_json::from_value(entry["first"].clone()).unwrap();
    assert_eq!(rgb.data()[..first.len()], first, "{name}");
    png(rgb.width(), rgb.height(), rgb.data())
}

fn conversions() -> Vec<Row> {
    // Each kind of pixel gives the vector of the RGB picture that Pillow makes of it.
    let kinds: [(&'static str, &'static str); 14] = [
        ("CMYK of Adobe", "jpeg_cmyk"),
        ("YCCK of Adobe", "jpeg_ycck"),
        ("RGB of Adobe", "jpeg_rgb"),
        ("grey JPEG", "jpeg_grey"),
        ("progressive JPEG", "jpeg_420_progressive"),
        ("grey", "png_grey"),
        ("grey and alpha", "png_la"),
        ("16 bits", "png_rgb16"),
        ("16 bits grey", "png_grey16"),
        ("palette and transparency", "png_palette_trns"),
        ("1 bit", "png_bits"),
        ("CMYK in TIFF", "tiff_cmyk"),
        ("RGB 565 in BMP", "bmp_565"),
        ("PNM of 16 bits", "ppm_65535"),
    ];
    let same = |(name, file): (&'static str, &'static str)| {
        check("IM12", name, move |case| {
            let expected = case.vector("plain.png", &as_png(file), &[]);
            assert_eq!(case.vector("picture", golden(file), &[]), expected);
        })
    };
    kinds.into_iter().map(same).collect()
}

fn extras() -> Vec<Row> {
    let jpeg = || golden("jpeg_444").to_vec();
    vec![
        check("IM13", "colours under full transparency: dropped or on white", |case| {
            let rows = [0u8, 200, 10, 10, 0, 10, 200, 10, 0].repeat(2);
            let clear = png_raw(2, 2, 8, 6, &rows);
            let shown = case.vector("clear.png", &clear, &[]);
            let colours = [200, 10, 10, 10, 200, 10].repeat(2);
            assert_eq!(shown, case.vector("opaque.png", &png(2, 2, &colours), &[]));
            let white = case.vector("white.png", &png(2, 2, &[255; 12]), &[]);
            assert_eq!(case.vector("clear.png", &clear, &["--alpha", "composite"]), white);
            assert_ne!(shown, white);
        }),
        check("IM14", "orientation is ignored unless asked for", move |case| {
            let plain = case.vector("plain.jpg", &jpeg(), &[]);
            for turn in 1..=8 {
                let file = with_exif(&jpeg(), &orientation(turn, 0));
                assert_eq!(case.vector("turned.jpg", &file, &[]), plain, "{turn}");
                let turned = case.vector("turned.jpg", &file, &["--exif-orient"]);
                assert_eq!(turned == plain, turn == 1, "{turn}");
            }
        }),
        check("IM14", "broken metadata are ignored", move |case| {
            let plain = case.vector("plain.jpg", &jpeg(), &[]);
            let damaged: [Vec<u8>; 5] = [
                orientation(6, 8),
                orientation(99, 0),
                b"II*\0\xff\xff\xff\xff".to_vec(),
                b"garbage".to_vec(),
                orientation(6, 0)[..15].to_vec(),
            ];
            for (nth, tiff) in damaged.iter().enumerate() {
                let file = with_exif(&jpeg(), tiff);
                assert_eq!(case.vector("damaged.jpg", &file, &[]), plain, "{nth}");
                let asked = case.vector("damaged.jpg", &file, &["--exif-orient"]);
                // The first one loops, but its orientation is sound.
                assert_eq!(asked == plain, nth != 0, "{nth}");
            }
        }),
        check("IM15", "a JPEG that is a zip archive too", move |case| {
            let plain = case.vector("plain.jpg", &jpeg(), &[]);
            let archive = crate::support::torch::archive("x");
            let both = [&jpeg()[..], &archive].concat();
            assert_eq!(case.vector("both.zip", &both, &[]), plain);
        }),
        check("IM16", "the content counts, not the name", move |case| {
            let plain = case.vector("a.jpg", &jpeg(), &[]);
            for name in ["a.png", "a.html", "a", "a.jpg.exe", "图.gif"] {
                assert_eq!(case.vector(name, &jpeg(), &[]), plain, "{name}");
            }
        }),
        check("IM18", "a folder's pictures are rows in the order of their names", |case| {
            std::fs::create_dir_all(case.path("in/side")).unwrap();
            for name in ["in/b.png", "in/a.png", "in/side/c.png"] {
                case.file(name, pattern(9, 9));
            }
            case.file("in/z.txt", "words");
            let folder = case.path("in");
            let outcome = embed(case, &folder).go();
            let shown: Vec<String> = outcome
                .rows()
                .iter()
                .map(|row| row["input"].as_str().unwrap().to_owned())
                .collect();
            let expected = ["a.png", "b.png", "side/c.png", "z.txt"]
                .map(|name| folder.join(name).display().to_string());
            assert_eq!((outcome.status, shown), (Some(3), expected.to_vec()));
        }),
        bad("IM9", "a TIFF without data", Code::E4003, &[], || {
            let file = golden("tiff_rgb");
            file[..file.len() / 2].to_vec()
        }),
        bad("IM9", "a BMP that is cut", Code::E4003, &["BMP"], || {
            golden("bmp_rgb")[..400].to_vec()
        }),
        bad("IM9", "a PNM that is cut", Code::E4003, &["PNM"], || golden("ppm")[..40].to_vec()),
        bad("IM9", "stored data of a PNG that are cut", Code::E4003, &["PNG"], || {
            let file = png(8, 8, &[5; 192]);
            file[..file.len() - 60].to_vec()
        }),
        check("IM12", "the writer of these tests is right", |_| {
            let file = png(3, 2, &(0..18).collect::<Vec<u8>>());
            let rgb = altclip::image::decode(&file, &Default::default()).unwrap();
            assert_eq!(rgb.data(), (0..18).collect::<Vec<u8>>());
            assert_eq!(stored(b"").len(), 6, "an empty stream has no block");
        }),
    ]
}

fn paths() -> Vec<Row> {
    let at = |name, parts, path: &'static str| {
        bad_input("IM18", name, Code::E4201, parts, move |case| embed(case, path.as_ref()))
    };
    vec![
        at("a device without end", &["a device", "/dev/zero"], "/dev/zero"),
        at("a device without content", &["a device"], "/dev/null"),
        // A regular file that even a superuser cannot read at its start.
        at("unreadable", &["/proc/self/mem"], "/proc/self/mem"),
        bad_input("IM18", "a pipe that nobody writes", Code::E4201, &["a pipe"], |case| {
            let path = case.path("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            embed(case, &path)
        }),
        bad_input("IM18", "a socket", Code::E4201, &["a socket"], |case| {
            let path = case.path("socket");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            embed(case, &path)
        }),
        bad_input("IM18", "nothing", Code::E4201, &["missing.png"], |case| {
            embed(case, &case.path("missing.png"))
        }),
        bad_input("IM18", "a link to nothing", Code::E4201, &["link.png"], |case| {
            let path = case.path("link.png");
            std::os::unix::fs::symlink(case.path("gone.png"), &path).unwrap();
            embed(case, &path)
        }),
        bad_input("IM18", "a link to itself", Code::E4201, &["loop.png"], |case| {
            let path = case.path("loop.png");
            std::os::unix::fs::symlink(&path, &path).unwrap();
            embed(case, &path)
        }),
        bad_input(
            "IM18",
            "a name with a line feed and an escape",
            Code::E4201,
            &["\\n", "\\u{1b}"],
            |case| embed(case, &case.path("a\nb\u{1b}[31m.png")),
        ),
        check("IM18", "a folder where a picture is asked for", |case| {
            let out = case.path("x.npy");
            let args = [case.dir().as_os_str(), OsStr::new("--out"), out.as_os_str()];
            let outcome = case.command("preprocess", &args).go();
            assert_eq!(outcome.status, Some(7));
            assert!(outcome.stderr.contains("[E4201]") && outcome.stderr.contains("a folder"));
        }),
        check("IM18", "no permission", |case| {
            use std::os::unix::fs::PermissionsExt;
            let path = case.file("mine.png", pattern(4, 4));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
            if std::fs::File::open(&path).is_ok() {
                println!("skipped: the superuser may read everything");
                return;
            }
            let outcome = embed(case, &path).go();
            assert_eq!(outcome.status, Some(7));
            assert!(outcome.stderr.contains("[E4201]"), "{}", outcome.stderr);
        }),
    ]
}
