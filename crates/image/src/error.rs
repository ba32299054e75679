//! What can be wrong with a picture, a file or the settings of the preprocessor.

use std::path::PathBuf;

use altclip_report::{Code, Diagnose, Report, quote};

use crate::sniff::Format;

/// The formats that [`crate::decode()`] takes, as they are named in messages.
pub(crate) const ALLOWED: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF or PNM";

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a picture at all.
    #[error("the file is not a picture, it looks like {looks_like}")]
    NotAPicture {
        /// What the first bytes look like: `HTML`, `JSON`, `text`…
        looks_like: &'static str,
        /// The first bytes, made printable.
        head: String,
    },
    /// A picture or document format that is not decoded.
    #[error("{found} is not supported")]
    FormatUnsupported {
        /// The name of the format.
        found: &'static str,
    },
    /// The file ends before the picture does.
    #[error("the {format} file is truncated after {bytes} bytes")]
    Truncated {
        /// Format of the file.
        format: Format,
        /// Rows that were decoded whole, and rows declared, where known.
        rows: Option<(u32, u32)>,
        /// Length of the file.
        bytes: u64,
    },
    /// The picture data contradicts itself or its format.
    #[error("the {format} data is damaged: {what}")]
    Damaged {
        /// Format of the file.
        format: Format,
        /// What is wrong.
        what: String,
        /// JPEG marker that was being read, if any.
        marker: Option<u8>,
        /// Byte at which the fault was noticed, if known.
        offset: Option<u64>,
    },
    /// A kind of JPEG that Pillow or this crate does not decode.
    #[error("JPEG of this kind is not supported: {kind}")]
    JpegUnsupported {
        /// `arithmetic coding`, `12 bits per sample`, `lossless`…
        kind: String,
    },
    /// More pixels, more memory or more passes than allowed.
    #[error("the {format} picture is over a limit: {what}")]
    OverLimit {
        /// Format of the file.
        format: Format,
        /// What is limited: `pixels`, `side`, `scans`.
        what: &'static str,
        /// Width and height that the file declares.
        size: (u64, u64),
        /// What was found.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A PNG chunk is damaged.
    #[error("PNG chunk {chunk} is damaged: {what}")]
    PngChunk {
        /// Type of the chunk.
        chunk: String,
        /// What is wrong.
        what: String,
    },
    /// The first frame of an animation is not valid.
    #[error("the first frame of the {format} is not valid: {what}")]
    Frame {
        /// Format of the file.
        format: Format,
        /// What is wrong.
        what: String,
    },
    /// Pixel values given by a caller do not fit.
    #[error("{what}: got {found}, expected {expected}")]
    Pixels {
        /// What was checked.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What was expected.
        expected: u64,
    },
    /// `preprocessor_config.json` is not valid or names something that is not supported.
    #[error("preprocessor_config.json: {field} is not valid")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The path is a folder, a pipe, a device or something else that is not a regular file.
    #[error("{kind} cannot be read as a picture")]
    NotRegular {
        /// The path as given.
        path: PathBuf,
        /// `a folder`, `a pipe`, `a device`…
        kind: &'static str,
    },
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is larger than allowed.
    #[error("the file has {bytes} bytes, {limit} are allowed")]
    FileTooLarge {
        /// The path, where the bytes come from a file.
        path: Option<PathBuf>,
        /// Size of the file; at least this much.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// There was not enough memory.
    #[error("{bytes} bytes of memory could not be had")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
    },
}

impl Error {
    pub(crate) fn damaged(format: Format, what: impl Into<String>) -> Self {
        Self::Damaged { format, what: what.into(), marker: None, offset: None }
    }

    pub(crate) fn truncated(format: Format, bytes: usize) -> Self {
        Self::Truncated { format, rows: None, bytes: bytes as u64 }
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let new = |code, message: String| Report::new(code, "image", message);
        match self {
            Self::NotAPicture { head, .. } => new(Code::E4001, self.to_string())
                .got(head.clone())
                .expected(ALLOWED)
                .help("give a picture file; the name's ending does not matter, the content does"),
            Self::FormatUnsupported { found } => new(Code::E4002, self.to_string())
                .got(*found)
                .expected(ALLOWED)
                .help("convert the picture, for example to PNG"),
            Self::Truncated { rows, .. } => {
                let report = new(Code::E4003, self.to_string())
                    .help("copy or download the file again; partial pictures are not used");
                match rows {
                    Some((rows, total)) => {
                        report.got(format!("{rows} rows")).expected(format!("{total} rows"))
                    }
                    None => report,
                }
            }
            Self::Damaged { marker, offset, .. } => {
                let mut place = Vec::new();
                place.extend(marker.map(|marker| format!("marker FF{marker:02X}")));
                place.extend(offset.map(|offset| format!("byte {offset}")));
                let report = new(Code::E4004, self.to_string())
                    .help("open the picture in another program and save it again");
                if place.is_empty() { report } else { report.place(place.join(", ")) }
            }
            Self::JpegUnsupported { kind } => {
                new(Code::E4005, "this kind of JPEG is not supported".into())
                    .got(kind.clone())
                    .expected("baseline or progressive Huffman coding with 8 bits per sample")
                    .help("save the picture as an ordinary JPEG or as PNG")
            }
            Self::OverLimit { what, size, found, limit, .. } => new(Code::E4006, self.to_string())
                .got(format!("{found} {what} ({} x {})", size.0, size.1))
                .expected(format!("at most {limit}"))
                .help("make the picture smaller, or raise the limit if you trust the file"),
            Self::PngChunk { .. } => new(Code::E4007, self.to_string())
                .help("open the picture in another program and save it again"),
            Self::Frame { .. } => new(Code::E4008, self.to_string())
                .help("export the first frame as PNG and use that"),
            Self::Pixels { what, found, expected } => new(Code::E4101, (*what).into())
                .got(found.to_string())
                .expected(expected.to_string())
                .help("give width x height x 3 bytes of RGB, row by row"),
            Self::Config { field, found, expected } => {
                new(Code::E2303, format!("{} is not valid", quote(field)))
                    .place("preprocessor_config.json")
                    .got(quote(found))
                    .expected(*expected)
                    .help("take the file from the model's repository again")
            }
            Self::NotRegular { path, kind } => new(Code::E4201, self.to_string())
                .place(quote(&path.to_string_lossy()))
                .got(*kind)
                .expected("a regular file")
                .help("name a picture file"),
            Self::Io { path, source } => new(Code::E4201, self.to_string())
                .place(quote(&path.to_string_lossy()))
                .got(source.to_string())
                .help("check that the file exists and may be read"),
            Self::FileTooLarge { path, bytes, limit } => {
                let report = new(Code::E4202, "the picture file is over the size limit".into())
                    .got(format!("{bytes} bytes"))
                    .expected(format!("at most {limit} bytes"))
                    .help("make the file smaller, or raise the limit if you trust it");
                match path {
                    Some(path) => report.place(quote(&path.to_string_lossy())),
                    None => report,
                }
            }
            Self::Memory { bytes } => new(Code::E9002, "not enough memory for the picture".into())
                .got(format!("{bytes} bytes asked for"))
                .help("close other programs or use a smaller picture"),
        }
    }
}
