//! The list of inputs in the order in which they were typed: texts, lines of files, pictures,
//! folders.

use crate::failure::Failure;
use altclip_report::{Code, Report, quote};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Longest text of the command line and longest line of a file.
const MAX_TEXT_BYTES: usize = altclip::tokenizer::MAX_TEXT_BYTES;
/// Folders within folders; more is a loop or a mistake.
const MAX_DEPTH: usize = 64;

/// One input, or why it cannot be one.
pub(crate) enum Input {
    Text { text: Result<String, Report>, shown: String },
    Image { path: Result<PathBuf, Report>, shown: String },
}

impl Input {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Input::Text { .. } => "text",
            Input::Image { .. } => "image",
        }
    }

    /// A text, where it can be one.
    pub(crate) fn text(&self) -> Option<&String> {
        match self {
            Input::Text { text, .. } => text.as_ref().ok(),
            Input::Image { .. } => None,
        }
    }

    /// The file of a picture, where it can be one.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Input::Image { path, .. } => path.as_ref().ok(),
            Input::Text { .. } => None,
        }
    }

    pub(crate) fn shown(&self) -> &str {
        match self {
            Input::Text { shown, .. } | Input::Image { shown, .. } => shown,
        }
    }
}

/// A text of the command line.
pub(crate) fn text(given: &OsStr) -> Input {
    line(given.as_encoded_bytes(), "--text")
}

/// The texts of a file, one a line; `-` is stdin.
pub(crate) fn text_file(path: &Path) -> Result<Vec<Input>, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| {
        Failure::one(
            Report::new(Code::E4201, "input", format!("the file of texts cannot be read: {error}"))
                .place(quote(&path.to_string_lossy()))
                .got("no readable file")
                .expected("a file with one text a line")
                .help("check the path after --texts"),
        )
    })?;
    // A byte order mark belongs to the file, not to its first text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    // An empty file has no text, not an empty one.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    let name = path.to_string_lossy();
    Ok(lines
        .map(|(n, text)| {
            line(text.strip_suffix(b"\r").unwrap_or(text), &format!("{name} line {}", n + 1))
        })
        .collect())
}

fn line(bytes: &[u8], place: &str) -> Input {
    let shown = String::from_utf8_lossy(bytes.get(..MAX_TEXT_BYTES).unwrap_or(bytes)).into_owned();
    let text = if bytes.len() > MAX_TEXT_BYTES {
        Err(Report::new(Code::E3105, "text", "the text is over the size limit")
            .place(quote(place))
            .got(format!("{} bytes", bytes.len()))
            .expected(format!("at most {MAX_TEXT_BYTES} bytes"))
            .help("split it; the model reads the first 77 tokens only"))
    } else {
        String::from_utf8(bytes.to_vec()).map_err(|error| {
            Report::new(Code::E3101, "text", "the text is not valid UTF-8")
                .place(format!("{}, byte {}", quote(place), error.utf8_error().valid_up_to()))
                .got("another encoding")
                .expected("UTF-8")
                .help("convert it, for example with: iconv -t UTF-8")
        })
    };
    // What is too long to be read is too long to be repeated.
    let shown = if text.is_err() { shown.chars().take(80).collect() } else { shown };
    Input::Text { text, shown }
}

/// A picture, or every regular file below a folder, sorted.
pub(crate) fn images(path: &Path) -> Vec<Input> {
    let mut found = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut found);
    } else {
        found.push(image(path.to_owned()));
    }
    found
}

fn image(path: PathBuf) -> Input {
    Input::Image { shown: path.to_string_lossy().into_owned(), path: Ok(path) }
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<Input>) {
    let refused = |what: String| {
        let report = Report::new(Code::E4201, "input", what)
            .place(quote(&dir.to_string_lossy()))
            .got("a folder that cannot be listed")
            .expected("a readable folder")
            .help("check its permissions");
        Input::Image { path: Err(report), shown: dir.to_string_lossy().into_owned() }
    };
    if depth > MAX_DEPTH {
        found.push(refused(format!("folders are nested deeper than {MAX_DEPTH}")));
        return;
    }
    let entries = std::fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return found.push(refused(format!("the folder cannot be read: {error}"))),
    };
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        // A link to a file is followed, a link to a folder is not: it may lead back here.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir {
            walk(&path, depth + 1, found);
        } else if path.is_file() {
            found.push(image(path));
        }
    }
}

/// Orders what several flags gave by their place on the command line.
pub(crate) fn in_typed_order<T>(
    given: &clap::ArgMatches,
    flag: &str,
    values: &[T],
    make: impl Fn(&T) -> Result<Vec<Input>, Failure>,
    into: &mut Vec<(usize, Vec<Input>)>,
) -> Result<(), Failure> {
    let places = given.indices_of(flag).into_iter().flatten();
    for (place, value) in places.zip(values) {
        into.push((place, make(value)?));
    }
    Ok(())
}
