//! What the bytes are, by their content; names and declared media types do not count.

use altclip_report::quote;

use crate::error::Error;

/// A picture format that this crate knows by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JPEG (JFIF, Exif, Adobe).
    Jpeg,
    /// PNG and APNG.
    Png,
    /// WebP, lossy, lossless or animated.
    WebP,
    /// GIF 87a and 89a.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF, not BigTIFF.
    Tiff,
    /// PBM, PGM, PPM.
    Pnm,
    /// AVIF; recognised, decoded only where a decoder is built in.
    Avif,
    /// HEIC; recognised, decoded only where a decoder is built in.
    Heic,
}

impl Format {
    /// The name as it is usually written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
            Self::Avif => "AVIF",
            Self::Heic => "HEIC",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The format of the picture in `bytes`.
///
/// # Errors
/// [`Error::NotAPicture`] for text, HTML, JSON and unknown bytes, [`Error::FormatUnsupported`] for
/// formats that are known and not decoded (SVG, PDF, EPS, PSD, JPEG XL, JPEG 2000, ICO…).
pub fn sniff(bytes: &[u8]) -> Result<Format, Error> {
    if let Some(format) = known(bytes) {
        return Ok(format);
    }
    if let Some(found) = unsupported(bytes) {
        return Err(Error::FormatUnsupported { found });
    }
    let head = bytes.get(..bytes.len().min(24)).unwrap_or(bytes);
    Err(Error::NotAPicture {
        looks_like: text_kind(bytes),
        head: quote(&String::from_utf8_lossy(head)),
    })
}

fn known(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(Format::Gif)
    } else if starts(b"BM") && plausible_bmp(bytes) {
        Some(Format::Bmp)
    } else if starts(b"II*\0") || starts(b"MM\0*") {
        Some(Format::Tiff)
    } else if let [b'P', b'1'..=b'6', next, ..] = bytes {
        (next.is_ascii_whitespace() || *next == b'#').then_some(Format::Pnm)
    } else {
        iso_brand(bytes)
    }
}

/// A bitmap's information header has one of a few sizes; text that begins with «BM» does not.
fn plausible_bmp(bytes: &[u8]) -> bool {
    match bytes.get(14..18) {
        Some(size) => matches!(size, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]),
        None => !bytes.is_ascii() || bytes.len() <= 2,
    }
}

/// AVIF and HEIC are told apart by the brands of their `ftyp` box.
fn iso_brand(bytes: &[u8]) -> Option<Format> {
    if bytes.get(4..8) != Some(b"ftyp") {
        return None;
    }
    let brands = bytes.get(8..bytes.len().min(64)).unwrap_or(&[]);
    brands.chunks_exact(4).find_map(|brand| match brand {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1" => Some(Format::Heic),
        _ => None,
    })
}

fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"%PDF", "PDF"),
        (b"%!PS", "EPS or PostScript"),
        (b"\xc5\xd0\xd3\xc6", "EPS"),
        (b"8BPS", "PSD"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\0\0\x01\0", "ICO"),
        (b"\0\0\x02\0", "CUR"),
        (b"II+\0", "BigTIFF"),
        (b"MM\0+", "BigTIFF"),
        (b"P7\n", "PAM"),
        (b"PF\n", "PFM"),
        (b"Pf\n", "PFM"),
        (b"DDS ", "DDS"),
        (b"qoif", "QOI"),
        (b"v/1\x01", "OpenEXR"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"SIMPLE  =", "FITS"),
        (b"gimp xcf", "XCF"),
        (b"icns", "ICNS"),
        (b"\x0a\x05\x01\x08", "PCX"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip"),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    ];
    let found = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name);
    found.or_else(|| (bytes.get(4..8) == Some(b"ftyp")).then_some("a video")).or_else(|| {
        let head = lower_head(bytes);
        (head.starts_with("<svg") || (head.starts_with("<?xml") && head.contains("<svg")))
            .then_some("SVG")
    })
}

fn text_kind(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "an empty file";
    }
    let head = lower_head(bytes);
    let markup = ["<!doctype html", "<html", "<head", "<body", "<script"];
    if markup.iter().any(|tag| head.starts_with(tag)) {
        "HTML"
    } else if head.starts_with('<') {
        "XML"
    } else if head.starts_with('{') || head.starts_with('[') {
        "JSON"
    } else if !head.is_empty() && !head.chars().any(|c| c == '\u{fffd}' || c == '\0') {
        "text"
    } else {
        "unknown binary data"
    }
}

/// The first kilobyte, lower case, without a byte-order mark and leading white space.
fn lower_head(bytes: &[u8]) -> String {
    let mut head = bytes.get(..bytes.len().min(1024)).unwrap_or(bytes);
    // A character that the cut went through is no sign of binary data.
    if let Err(error) = std::str::from_utf8(head)
        && error.error_len().is_none()
    {
        head = head.get(..error.valid_up_to()).unwrap_or(head);
    }
    let text = String::from_utf8_lossy(head).to_lowercase();
    text.trim_start_matches('\u{feff}').trim_start().to_owned()
}
