//! Every error of the library in one enum, grouped by who can act on it.

use altclip_report::{Code, Diagnose, Report, quote};
use std::path::PathBuf;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model folder or one of its files.
    #[error(transparent)]
    Model(#[from] altclip_models::Error),
    /// The tokenizer's files, or a text.
    #[error(transparent)]
    Tokenizer(#[from] altclip_tokenizer::Error),
    /// A picture or the preprocessor's settings.
    #[error(transparent)]
    Image(#[from] altclip_image::Error),
    /// The hub or its cache.
    #[error(transparent)]
    Hub(#[from] altclip_hub::Error),
    /// A file of the model folder is missing or cannot be read.
    #[error("{} of the model folder cannot be read", file)]
    File {
        /// Name of the file.
        file: &'static str,
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tokenizer makes ids that the model has no row for.
    #[error("the tokenizer has {tokenizer} ids, the model {model}")]
    Vocabulary {
        /// Size of the tokenizer's vocabulary.
        tokenizer: usize,
        /// Rows of the model's word table.
        model: usize,
    },
    /// A packed model file cannot have, or has not, the precision asked for.
    #[error("a packed model file has one precision")]
    Precision {
        /// The file.
        file: PathBuf,
        /// The precision asked for.
        found: String,
        /// What is possible.
        expected: String,
    },
    /// A result is not finite.
    #[error("the embedding of item {item} is not finite")]
    NonFinite {
        /// Number of the item in the call.
        item: usize,
    },
    /// A decoder or another worker panicked over one input.
    #[error("an input could not be prepared: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// A file of numbers cannot be read.
    #[error("the array cannot be read: {source}")]
    ArrayFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of kept rows cannot be read or written.
    #[error("the cache of embeddings cannot be used: {source}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of numbers does not hold what it must.
    #[error("{what}")]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// What was found.
        got: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// An array is larger than the memory.
    #[error("not enough memory for the array")]
    ArrayMemory {
        /// The file.
        path: PathBuf,
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// Two sets of embeddings have different width.
    #[error("embeddings of width {found} cannot be compared with width {expected}")]
    Width {
        /// Width of the first set.
        expected: usize,
        /// Width of the second.
        found: usize,
    },
}

/// Who can act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller: a text, a picture, an argument.
    Input,
    /// Whoever provides the model's files.
    Model,
    /// Whoever runs the machine: memory, disk, network.
    Resource,
    /// The developers: a bug.
    Internal,
}

impl Error {
    /// Who can act on it, from its exit status.
    pub fn kind(&self) -> Kind {
        match self.report().code.exit_status() {
            2 | 3 => Kind::Input,
            4 | 5 => Kind::Model,
            6 | 7 => Kind::Resource,
            _ => Kind::Internal,
        }
    }
}

impl From<altclip_checkpoint::Error> for Error {
    fn from(error: altclip_checkpoint::Error) -> Self {
        Error::Model(error.into())
    }
}

impl From<altclip_tensor::Error> for Error {
    fn from(error: altclip_tensor::Error) -> Self {
        Error::Model(error.into())
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        match self {
            Error::Model(error) => error.report(),
            Error::Tokenizer(error) => error.report(),
            Error::Image(error) => error.report(),
            Error::Hub(error) => error.report(),
            Error::File { file, dir, source } => Report::new(
                Code::E2001,
                "model",
                format!("{self}: {source}"),
            )
            .place(dir.join(file).display().to_string())
            .got("no readable file")
            .expected(
                "config.json, weights, tokenizer files and preprocessor_config.json in one folder",
            )
            .help("download the whole repository: altclip download ORG/NAME"),
            Error::Vocabulary { tokenizer, model } => {
                Report::new(Code::E3006, "tokenizer", self.to_string())
                    .place("tokenizer files against the word table")
                    .got(tokenizer.to_string())
                    .expected(format!("at most {model}"))
                    .help("take the tokenizer files and the weights from the same model")
            }
            Error::Precision { file, found, expected } => {
                Report::new(Code::E2109, "model", self.to_string())
                    .place(file.display().to_string())
                    .got(found)
                    .expected(expected)
                    .help("leave --precision out, or convert the model folder again")
            }
            Error::NonFinite { item } => Report::new(Code::E9003, "model", self.to_string())
                .place(format!("item {item}"))
                .got("NaN or infinity")
                .expected("finite numbers")
                .help("check the weights with: altclip doctor --full"),
            Error::Panicked { .. } => Report::new(Code::E9001, "input", self.to_string())
                .got("a panic")
                .expected("pixel values, token ids or an error")
                .help("please report this line and the input; the other inputs are not affected"),
            Error::ArrayFile { path, .. } => Report::new(Code::E4201, "input", self.to_string())
                .place(quote(&path.to_string_lossy()))
                .got("no readable file")
                .expected("a .npy file")
                .help("check the path and its permissions"),
            Error::Cache { path, source } => {
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                let (code, help) = match source.kind() {
                    StorageFull | QuotaExceeded => (Code::E9005, "make room on the disk"),
                    _ => (Code::E1004, "check the folder; ALTCLIP_CACHE names another one"),
                };
                Report::new(code, "output", self.to_string())
                    .place(quote(&path.to_string_lossy()))
                    .help(help)
            }
            Error::Array { path, got, expected, .. } => {
                Report::new(Code::E5020, "input", self.to_string())
                    .place(quote(&path.to_string_lossy()))
                    .got(got)
                    .expected(*expected)
                    .help("write it with numpy.save(FILE, numpy.ascontiguousarray(ARRAY))")
            }
            Error::ArrayMemory { path, bytes } => {
                Report::new(Code::E9002, "input", self.to_string())
                    .place(quote(&path.to_string_lossy()))
                    .got(format!("{bytes} bytes to hold"))
                    .expected("room for them")
                    .help("use a machine with more memory, or fewer rows")
            }
            Error::Width { expected, found } => Report::new(Code::E9001, "model", self.to_string())
                .got(found.to_string())
                .expected(expected.to_string())
                .help("compare embeddings of one model only"),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Error::Model(error) => error.reports(),
            Error::Tokenizer(error) => error.reports(),
            Error::Image(error) => error.reports(),
            Error::Hub(error) => error.reports(),
            _ => vec![self.report()],
        }
    }
}
