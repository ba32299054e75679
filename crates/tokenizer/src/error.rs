//! What can be wrong with tokenizer files and with texts.

use std::io;
use std::path::PathBuf;

use altclip_report::{Code, Diagnose, Report, quote};

/// An error of the tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder has none of the files that make a tokenizer.
    #[error("no tokenizer file in {}", quote(&folder.display().to_string()))]
    Missing {
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", quote(&path.display().to_string()))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A JSON file is damaged or lacks what a tokenizer needs.
    #[error("{file} is not a valid tokenizer file: {}", quote(&source.to_string()))]
    Json {
        /// Name of the file.
        file: &'static str,
        /// Line, column and reason.
        #[source]
        source: serde_json::Error,
    },
    /// A file is damaged at a byte, or of another kind.
    #[error("{file} is not a tokenizer of a known kind: {what}")]
    Kind {
        /// Name of the file.
        file: &'static str,
        /// What was found.
        what: String,
        /// Where, in bytes from the start, if known.
        offset: Option<usize>,
    },
    /// A vocabulary entry is not acceptable.
    #[error("vocabulary entry {index} {} {problem}", quote(piece))]
    Piece {
        /// Name of the file.
        file: &'static str,
        /// Index of the entry, from 0.
        index: usize,
        /// Line in the file, from 1; 0 where the file has no lines.
        line: usize,
        /// The entry, empty where it could not be read.
        piece: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The normaliser's table is damaged.
    #[error("the precompiled charsmap is damaged: {what}")]
    Charsmap {
        /// Where, in bytes from the start of the table.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The tokenizer asks for something that this program does not do.
    #[error("{place}: {} is not supported", quote(name))]
    Component {
        /// Which part: `normalizer`, `pre_tokenizer`, `post_processor`, `model`, `added_tokens`.
        place: &'static str,
        /// The component's type, pattern or setting.
        name: String,
    },
    /// A file, vocabulary or entry is over its limit.
    #[error("{what} over the limit")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// The tokenizer has more ids than the model has rows.
    #[error("the tokenizer does not belong to the model")]
    Mismatch {
        /// Ids of the tokenizer.
        vocab_size: usize,
        /// Rows of the model's word table.
        rows: usize,
    },
    /// The `tokenizers` library refused a file or a text.
    #[error("{place}: {}", quote(message))]
    Library {
        /// The file, or `text`.
        place: &'static str,
        /// Its words.
        message: String,
    },
    /// The maximal length leaves no room for the special tokens.
    #[error("the maximal length is too small for the special tokens")]
    MaxLength {
        /// The length asked for.
        max_length: usize,
        /// Special tokens that are always added.
        special_tokens: usize,
    },
    /// A text is not valid UTF-8.
    #[error("the text is not valid UTF-8")]
    Utf8 {
        /// First bad byte.
        offset: usize,
    },
    /// A text has more tokens than allowed, and truncation was refused.
    #[error("the text has too many tokens")]
    TooManyTokens {
        /// Tokens of the text with the special tokens.
        found: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// A text is over the size limit.
    #[error("the text is too large")]
    TextSize {
        /// Bytes of the text.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let message = self.to_string();
        let files = |code| Report::new(code, "tokenizer", message.clone());
        let again = "download the tokenizer files again";
        match self {
            Error::Missing { .. } => files(Code::E3001)
                .expected("tokenizer.json, sentencepiece.bpe.model, vocab.txt, or vocab.json with merges.txt")
                .help("copy the tokenizer files of the model into the folder"),
            Error::Read { path, source } => files(Code::E2001)
                .place(quote(&path.display().to_string()))
                .got(source.to_string())
                .help("check the path and its permissions"),
            Error::Json { file, source } => files(Code::E3001)
                .place(format!("{file}, line {}, column {}", source.line(), source.column()))
                .help(again),
            Error::Kind { file, offset, .. } => {
                let place = match offset {
                    Some(offset) => format!("{file}, byte {offset}"),
                    None => (*file).to_owned(),
                };
                files(Code::E3001)
                    .place(place)
                    .expected("a Unigram, WordPiece or byte BPE tokenizer")
                    .help(again)
            }
            Error::Piece { file, line, .. } => {
                let place =
                    if *line == 0 { (*file).to_owned() } else { format!("{file}, line {line}") };
                files(Code::E3002).place(place).help(again)
            }
            Error::Charsmap { offset, .. } => {
                files(Code::E3003).place(format!("byte {offset} of the table")).help(again)
            }
            Error::Component { .. } => files(Code::E3004)
                .help("use the tokenizer files as the model's authors published them"),
            Error::Limit { found, limit, .. } => files(Code::E3005)
                .got(found.to_string())
                .expected(format!("at most {limit}"))
                .help("use the tokenizer files as the model's authors published them"),
            Error::Mismatch { vocab_size, rows } => files(Code::E3006)
                .got(format!("{vocab_size} ids"))
                .expected(format!("at most {rows}, the rows of the word table"))
                .help("take tokenizer and weights from the same repository"),
            Error::Library { place, .. } => files(Code::E3001).place(*place).help(again),
            Error::MaxLength { max_length, special_tokens } => files(Code::E1001)
                .got(max_length.to_string())
                .expected(format!("at least {special_tokens}"))
                .help("ask for a larger maximal length"),
            Error::Utf8 { offset } => {
                files(Code::E3101).place(format!("byte {offset}")).help("save the text as UTF-8")
            }
            Error::TooManyTokens { found, limit } => files(Code::E3104)
                .got(format!("{found} tokens"))
                .expected(format!("at most {limit}"))
                .help("shorten the text or allow truncation"),
            Error::TextSize { found, limit } => files(Code::E3105)
                .got(format!("{found} bytes"))
                .expected(format!("at most {limit}"))
                .help("split the text"),
        }
    }
}
