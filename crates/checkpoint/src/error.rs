//! What can be wrong with a weight file, and what to do about it.

use altclip_report::{Code, Diagnose, Report, quote};
use std::path::{Path, PathBuf};

const AREA: &str = "checkpoint";
const FROM_CONVERT: &str = "make it again from the model folder: altclip convert";
const FROM_SOURCE: &str = "download the file again from its publisher";

/// A weight file that cannot be used, or a request that it cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be opened or read.
    #[error("the file or folder cannot be read")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model folder has no weight file.
    #[error("the folder has no weight file")]
    NoWeights {
        /// The model folder.
        dir: PathBuf,
    },
    /// The contents are not those of a weight file.
    #[error("the file looks like {found}, not weights")]
    NotWeights {
        /// The file.
        file: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// The file ends before the data that its header promises.
    #[error("the file is cut off")]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// safetensors: the header would reach past the end of the file.
    #[error("the header is longer than the file")]
    HeaderLength {
        /// The file.
        file: PathBuf,
        /// Declared length of the header, in bytes.
        declared: u64,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// A header or index is over a limit.
    #[error("{what} is over the limit")]
    HeaderTooLarge {
        /// The file.
        file: PathBuf,
        /// What is counted.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// safetensors: the header is not the JSON object that the format asks for.
    #[error("the header is not valid: {what}")]
    Header {
        /// The file.
        file: PathBuf,
        /// Byte of the file.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// safetensors: a name occurs twice in the header.
    #[error("tensor {} occurs twice", quote(name))]
    DuplicateName {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
        /// Byte of the file where it first occurs.
        first: usize,
        /// Byte of the file where it occurs again.
        second: usize,
    },
    /// safetensors: byte ranges overlap, leave a gap or do not cover the file.
    #[error("{what} at tensor {}", quote(tensor))]
    Layout {
        /// The file.
        file: PathBuf,
        /// The tensor at the fault (the last one for trailing bytes).
        tensor: String,
        /// What is wrong.
        what: &'static str,
        /// The offset within the data that was expected.
        expected: u64,
        /// The offset found.
        found: u64,
    },
    /// Shape and dtype do not give the number of bytes that the file has for the tensor.
    #[error("tensor {} does not have the bytes of its shape", quote(tensor))]
    Size {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes that shape and dtype need; `None` when the number is beyond all bounds.
        needed: Option<u64>,
        /// Bytes that the file has for it.
        found: u64,
    },
    /// A name of a tensor or a shard that is not acceptable.
    #[error("name {} {what}", quote(name))]
    Name {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
        /// Why not.
        what: &'static str,
    },
    /// An element type that cannot be used here.
    #[error("tensor {} has the dtype {}", quote(tensor), quote(dtype))]
    DtypeUnsupported {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type as the file names it.
        dtype: String,
    },
    /// The shard index and the shards do not agree.
    #[error("the shard index does not hold: {what}")]
    Index {
        /// The index file.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// The tensor or shard concerned, or an empty string.
        name: String,
    },
    /// A tensor is not there.
    #[error("tensor {} is missing", quote(name))]
    TensorMissing {
        /// The tensor.
        name: String,
        /// The tensor of the file with the most similar name, when one is similar.
        nearest: Option<String>,
    },
    /// A tensor that the model does not have.
    #[error("tensor {} is not expected", quote(name))]
    TensorUnexpected {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A tensor has another shape than the model needs.
    #[error("tensor {} has another shape", quote(name))]
    ShapeMismatch {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the model needs.
        expected: Vec<usize>,
    },
    /// A tensor has NaN or infinite values.
    #[error("tensor {} is not finite", quote(name))]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file.
        file: PathBuf,
        /// Row-major index of the first such value.
        first: usize,
        /// How many there are.
        count: usize,
    },
    /// Data of a packed model file do not have the hash that was written down.
    #[error("{} is damaged", if tensor.is_empty() { "the header".into() } else { format!("tensor {}", quote(tensor)) })]
    Sealed {
        /// The file.
        file: PathBuf,
        /// The tensor, empty for the header.
        tensor: String,
        /// First byte of the damaged block in the file.
        offset: usize,
        /// The hash written down.
        expected: u64,
        /// The hash of what is there.
        found: u64,
    },
    /// Not a packed model file, or one of another version.
    #[error("the packed model file cannot be used: {what}")]
    Packed {
        /// The file.
        file: PathBuf,
        /// Why not.
        what: &'static str,
        /// What was found there: a tensor or a version; may be empty.
        found: String,
    },
    /// The file changed after it was opened.
    #[error("the file changed while it was in use")]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// A pickle asks for something outside the list; it was not done.
    #[error("{} is not allowed; nothing was executed", quote(what))]
    PickleForbidden {
        /// The file.
        file: PathBuf,
        /// The global (`posix.system`) or the opcode.
        what: String,
        /// Byte of the pickle.
        offset: usize,
    },
    /// A pickle is over a limit.
    #[error("the pickle is over the limit of {what}")]
    PickleLimit {
        /// The file.
        file: PathBuf,
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// Byte of the pickle.
        offset: usize,
    },
    /// A pickle that is damaged or is not a state dict.
    #[error("the pickle cannot be used: {what}")]
    Pickle {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// The tensor concerned, or an empty string.
        tensor: String,
        /// Byte of the pickle, when known.
        offset: Option<usize>,
    },
    /// A zip archive that is damaged or not as PyTorch writes it.
    #[error("the archive cannot be used: {what}")]
    Zip {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// The entry concerned, or an empty string.
        entry: String,
    },
    /// Two tensors would get the same name.
    #[error("tensors {} and {} would both be named {}", quote(first), quote(second), quote(name))]
    RenameCollision {
        /// One of the tensors.
        first: String,
        /// The other.
        second: String,
        /// The name of both.
        name: String,
    },
    /// Rows that the tensor does not have, or a buffer of another size than theirs.
    #[error("rows {start}..{end} of tensor {} were asked for", quote(name))]
    Rows {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// First row.
        start: usize,
        /// Row after the last.
        end: usize,
        /// Values that the caller's buffer holds.
        buffer: usize,
    },
    /// There is no memory for a tensor.
    #[error("tensor {} does not fit into memory", quote(name))]
    Memory {
        /// The tensor.
        name: String,
        /// Bytes that it needs as f32.
        bytes: usize,
    },
    /// What the caller gave cannot be a safetensors file.
    #[error("tensor {} cannot be written: it {what}", quote(name))]
    NotWritable {
        /// The tensor.
        name: String,
        /// Why not.
        what: &'static str,
    },
    /// A file cannot be written.
    #[error("the file cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several faults of one checkpoint.
    #[error("{} problems", .0.len())]
    Problems(Vec<Error>),
}

impl Error {
    /// One error as it is, several as [`Error::Problems`].
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Problems(errors)),
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn report(code: Code, error: &Error, file: &Path) -> Report {
    Report::new(code, AREA, error.to_string()).place(shown(file)).help(FROM_SOURCE)
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        match self {
            Self::Io { .. }
            | Self::NoWeights { .. }
            | Self::NotWeights { .. }
            | Self::Truncated { .. }
            | Self::Changed { .. }
            | Self::Sealed { .. }
            | Self::Packed { .. }
            | Self::Write { .. } => self.report_file(),
            Self::HeaderLength { .. }
            | Self::HeaderTooLarge { .. }
            | Self::Header { .. }
            | Self::DuplicateName { .. }
            | Self::Layout { .. }
            | Self::Size { .. }
            | Self::Name { .. }
            | Self::Index { .. } => self.report_header(),
            Self::PickleForbidden { .. }
            | Self::PickleLimit { .. }
            | Self::Pickle { .. }
            | Self::Zip { .. } => self.report_torch(),
            Self::Problems(errors) => match errors.first() {
                Some(first) => first.report(),
                None => Report::new(Code::E9001, AREA, "an empty list of problems"),
            },
            _ => self.report_tensor(),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Self::Problems(errors) => errors.iter().flat_map(Self::reports).collect(),
            one => vec![one.report()],
        }
    }
}

impl Error {
    fn report_file(&self) -> Report {
        match self {
            Self::Io { path, source } => report(Code::E2001, self, path)
                .got(source.to_string())
                .help("check the path and its permissions"),
            Self::NoWeights { dir } => report(Code::E2001, self, dir)
                .expected(crate::checkpoint::FILE_NAMES.join(" or "))
                .help(
                    "a model folder has config.json, the weights, the tokenizer files and \
                     preprocessor_config.json",
                ),
            Self::NotWeights { file, found } => {
                report(Code::E2106, self, file).help(match *found {
                    "a Git LFS pointer" => {
                        "fetch the file itself: `git lfs pull` or `altclip download`"
                    }
                    "an HTML page" | "a JSON answer" => {
                        "the download saved an error page; download the file again"
                    }
                    "a legacy PyTorch file" | "a pickle without archive" => {
                        "save it again with torch.save of PyTorch 1.6 or later, or as safetensors"
                    }
                    _ => FROM_SOURCE,
                })
            }
            Self::Truncated { file, expected, found } => report(Code::E2106, self, file)
                .got(format!("{found} bytes"))
                .expected(format!("{expected} bytes"))
                .help("the download was cut; download the file again"),
            Self::Changed { file } => report(Code::E2107, self, file)
                .help("replace model files by renaming, and load the model again"),
            Self::Sealed { file, offset, expected, found, .. } => report(Code::E2105, self, file)
                .place(format!("{}, byte {offset}", file.display()))
                .got(format!("hash {found:016x}"))
                .expected(format!("{expected:016x}"))
                .help(FROM_CONVERT),
            Self::Packed { file, found, .. } => {
                let report = report(Code::E2108, self, file)
                    .expected(format!("version {}", crate::packed::VERSION))
                    .help(FROM_CONVERT);
                if found.is_empty() { report } else { report.got(quote(found)) }
            }
            Self::Write { path, source } => report(Code::E1004, self, path)
                .got(source.to_string())
                .help("check the folder, its permissions and the free space"),
            _ => Report::new(Code::E9001, AREA, self.to_string()),
        }
    }

    fn report_header(&self) -> Report {
        match self {
            Self::HeaderLength { file, declared, file_bytes } => report(Code::E2010, self, file)
                .got(format!("a header of {declared} bytes in a file of {file_bytes} bytes")),
            Self::HeaderTooLarge { file, found, limit, .. } => report(Code::E2011, self, file)
                .got(found.to_string())
                .expected(format!("at most {limit}")),
            Self::Header { file, offset, .. } => {
                report(Code::E2012, self, file).place(format!("{}, byte {offset}", file.display()))
            }
            Self::DuplicateName { file, first, second, .. } => report(Code::E2013, self, file)
                .place(format!("{}, bytes {first} and {second}", file.display()))
                .help("readers disagree on which of the two counts; save the file again"),
            Self::Layout { file, expected, found, .. } => report(Code::E2014, self, file)
                .got(format!("data offset {found}"))
                .expected(expected.to_string()),
            Self::Size { file, dtype, shape, needed, found, .. } => {
                let needed = needed.map_or("more bytes than fit".into(), |n| format!("{n} bytes"));
                report(Code::E2015, self, file)
                    .got(format!("{found} bytes"))
                    .expected(format!("{needed} for {dtype} {}", dims(shape)))
            }
            Self::Name { file, .. } => report(Code::E2016, self, file)
                .help("such a name is made by an attack or a broken writer"),
            Self::Index { file, name, .. } => {
                let report = report(Code::E2018, self, file)
                    .help("index and shards must come from the same save; download all of them");
                if name.is_empty() { report } else { report.got(quote(name)) }
            }
            _ => Report::new(Code::E9001, AREA, self.to_string()),
        }
    }

    fn report_torch(&self) -> Report {
        let at = |file: &Path, offset: usize| format!("{}, pickle byte {offset}", file.display());
        match self {
            Self::PickleForbidden { file, offset, .. } => report(Code::E2201, self, file)
                .place(at(file, *offset))
                .help("do not open this file with PyTorch; use a safetensors file"),
            Self::PickleLimit { file, limit, offset, .. } => report(Code::E2202, self, file)
                .place(at(file, *offset))
                .expected(format!("at most {limit}"))
                .help("save the state dict alone, or use a safetensors file"),
            Self::Pickle { file, tensor, offset, .. } => {
                let mut report = report(Code::E2204, self, file)
                    .help("save model.state_dict() with torch.save, or use a safetensors file");
                if let Some(offset) = offset {
                    report = report.place(at(file, *offset));
                }
                if tensor.is_empty() { report } else { report.got(quote(tensor)) }
            }
            Self::Zip { file, entry, .. } => {
                let report = report(Code::E2203, self, file).help(
                    "the file is damaged or cut, or was packed by another tool; download it again",
                );
                if entry.is_empty() {
                    report
                } else {
                    report.got(format!("entry {}", quote(entry)))
                }
            }
            _ => Report::new(Code::E9001, AREA, self.to_string()),
        }
    }

    fn report_tensor(&self) -> Report {
        match self {
            Self::DtypeUnsupported { file, .. } => report(Code::E2017, self, file)
                .expected("F32, F16, BF16 or F64")
                .help("save the weights in one of these types"),
            Self::TensorMissing { nearest, .. } => {
                let report = Report::new(Code::E2101, AREA, self.to_string())
                    .help("check that weights and config.json come from the same model");
                match nearest {
                    Some(nearest) => report.got(format!("{} as the nearest name", quote(nearest))),
                    None => report,
                }
            }
            Self::TensorUnexpected { file, .. } => {
                report(Code::E2102, self, file).help("--allow-extra-keys ignores such tensors")
            }
            Self::ShapeMismatch { file, found, expected, .. } => report(Code::E2103, self, file)
                .got(dims(found))
                .expected(dims(expected))
                .help("check that weights and config.json come from the same model"),
            Self::NotFinite { file, first, count, .. } => report(Code::E2104, self, file)
                .got(format!("{count} NaN or infinite values, the first at index {first}"))
                .help("the file is damaged or its training failed; use another checkpoint"),
            Self::Memory { bytes, .. } => Report::new(Code::E9002, AREA, self.to_string())
                .got(format!("{bytes} bytes asked for"))
                .help("free memory or use a machine with more of it"),
            Self::NotWritable { .. } => {
                Report::new(Code::E9001, AREA, self.to_string()).help("report this as a bug")
            }
            Self::RenameCollision { .. } => Report::new(Code::E2016, AREA, self.to_string())
                .help("the file holds two copies of a model; save the state dict alone"),
            Self::Rows { shape, buffer, .. } => Report::new(Code::E9001, AREA, self.to_string())
                .got(format!("a tensor {} and a buffer of {buffer} values", dims(shape)))
                .help("report this as a bug"),
            _ => Report::new(Code::E9001, AREA, self.to_string()),
        }
    }
}

/// A shape in brackets, cut when it is long.
pub(crate) fn dims(shape: &[usize]) -> String {
    let shown: Vec<_> = shape.iter().take(8).map(usize::to_string).collect();
    format!("[{}{}]", shown.join(", "), if shape.len() > 8 { ", …" } else { "" })
}
