//! A set that grows line by line: pictures known by name, captions, and what was wrong.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use altclip_report::quote;

use super::{RetrievalSet, SetCaption, SetOptions, SetSpec, chinese};
use crate::files::Files;
use crate::paths::{self, Refused};
use crate::{CaptionedPictures, Error, Fault, MAX_TEXT_BYTES, Place, Reason};

/// Where a picture is.
pub(super) enum Stored {
    File(PathBuf),
    /// A sample of the captioned pictures.
    Sample(u64),
    /// Base64 in the set's file.
    Base64 {
        offset: u64,
        len: usize,
    },
}

/// A set in the making.
pub(super) struct Builder<'o> {
    pub(super) spec: &'o SetSpec,
    pub(super) options: &'o SetOptions,
    pictures: Vec<(Stored, String)>,
    /// Numbers of pictures by name; `None` for one that cannot be used, which was said once.
    by_name: HashMap<String, Option<usize>>,
    captions: Vec<SetCaption>,
    faults: Vec<Fault>,
    pub(super) notices: Vec<String>,
    languages: HashSet<Arc<str>>,
    pub(super) samples: Option<CaptionedPictures>,
    pub(super) files: Option<Files>,
}

impl<'o> Builder<'o> {
    pub(super) fn new(spec: &'o SetSpec, options: &'o SetOptions) -> Self {
        Self {
            spec,
            options,
            pictures: Vec::new(),
            by_name: HashMap::new(),
            captions: Vec::new(),
            faults: Vec::new(),
            notices: Vec::new(),
            languages: HashSet::new(),
            samples: None,
            files: None,
        }
    }

    /// The folder of the pictures.
    pub(super) fn images(&self) -> PathBuf {
        let beside = || self.spec.path.parent().unwrap_or(Path::new("")).to_owned();
        let folder = self.options.images.clone().unwrap_or_else(beside);
        if folder.as_os_str().is_empty() { ".".into() } else { folder }
    }

    pub(super) fn fault(&mut self, reason: Reason, place: Place, detail: impl Into<String>) {
        self.faults.push(Fault::new(reason, place, detail));
    }

    pub(super) fn push_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// A picture that is stored in the set itself; a fault if the name was there before.
    pub(super) fn stored(&mut self, name: &str, stored: Stored, place: Place) -> Option<usize> {
        if self.by_name.contains_key(name) {
            self.fault(Reason::DuplicateKey, place, "the id occurred before");
            return None;
        }
        Some(self.add(name, stored))
    }

    fn add(&mut self, name: &str, stored: Stored) -> usize {
        let number = self.pictures.len();
        self.pictures.push((stored, name.to_owned()));
        self.by_name.insert(name.to_owned(), Some(number));
        number
    }

    /// The number of a picture that was added by its name; `Some(None)` for one that cannot be used.
    pub(super) fn known(&self, name: &str) -> Option<Option<usize>> {
        self.by_name.get(name).copied()
    }

    /// The picture file that the first of `names` means in the folder of the pictures.
    pub(super) fn file(&mut self, names: &[&str], place: &Place) -> Option<usize> {
        let name = names.first()?;
        if let Some(known) = self.by_name.get(*name) {
            return *known;
        }
        let folder = self.images();
        let mut refused = Refused::Missing("does not exist");
        for name_there in names {
            match paths::inside(&folder, name_there) {
                Ok(path) => return Some(self.add(name, Stored::File(path))),
                Err(other) => refused = other,
            }
        }
        let (reason, what) = match refused {
            Refused::Forbidden(what) => (Reason::ForbiddenPath, what.to_owned()),
            Refused::Missing(what) => (Reason::MissingImage, what.to_owned()),
            Refused::Failed(what) => (Reason::Unreadable, what),
        };
        let detail = format!("{} {what} in {}", quote(name), quote(&folder.to_string_lossy()));
        self.fault(reason, place.clone(), detail);
        self.by_name.insert((*name).to_owned(), None);
        None
    }

    /// A file of a picture that is known to be there.
    pub(super) fn path(&mut self, path: PathBuf) -> usize {
        let name = path.strip_prefix(self.images()).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        match self.known(&name) {
            Some(Some(number)) => number,
            _ => self.add(&name, Stored::File(path)),
        }
    }

    /// A caption. Blank ones are faults, and so are those in a language that was not asked for.
    pub(super) fn caption(
        &mut self,
        text: &str,
        picture: usize,
        also: Vec<usize>,
        language: Option<&str>,
        place: &Place,
    ) {
        let text = text.trim();
        if text.is_empty() {
            return self.fault(Reason::NoText, place.clone(), "the caption is empty");
        }
        let asked = self.options.language.as_deref();
        if let (Some(language), Some(asked)) = (language, asked)
            && language != asked
        {
            let detail = format!("language {}, {} was asked for", quote(language), quote(asked));
            return self.fault(Reason::OtherLanguage, place.clone(), detail);
        }
        let language = self.language(language.or(asked).unwrap_or_default());
        self.captions.push(SetCaption { text: text.to_owned(), picture, also, language });
    }

    /// One copy of each language's name.
    fn language(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.languages.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.languages.insert(Arc::clone(&new));
        new
    }

    /// The lines of a file with their numbers from 1, without line ends and byte-order mark.
    pub(super) fn lines(
        &mut self,
        path: &Path,
        from: &'static str,
        mut line: impl FnMut(&mut Self, &str, Place),
    ) -> Result<(), Error> {
        let mut reader = BufReader::new(open(path, from)?);
        let name: Arc<str> = path.display().to_string().into();
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let limit = MAX_TEXT_BYTES as u64 + 1;
            let mut limited = reader.by_ref().take(limit);
            let read = limited.read_until(b'\n', &mut bytes).map_err(|e| Error::io(path, e))?;
            if read == 0 {
                return Ok(());
            }
            let place = Place::line(&name, number);
            if read as u64 == limit {
                reader.skip_until(b'\n').map_err(|e| Error::io(path, e))?;
                self.fault(Reason::TooLong, place, format!("more than {MAX_TEXT_BYTES} bytes"));
                continue;
            }
            let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let text =
                if number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
            match std::str::from_utf8(text) {
                Ok(text) if text.contains('\0') => {
                    self.fault(Reason::Nul, place, "a text has no such character");
                }
                Ok(text) => line(self, text, place),
                Err(error) => {
                    let detail = format!("byte {} of the line", error.valid_up_to() + 1);
                    self.fault(Reason::NotUtf8, place, detail);
                }
            }
        }
        Ok(())
    }

    /// The whole set.
    pub(super) fn finish(mut self) -> Result<RetrievalSet, Error> {
        if self.captions.is_empty() {
            let last = self.faults.first().cloned();
            return Err(last.map_or_else(
                || Error::List {
                    path: self.spec.path.clone(),
                    what: "there is no caption".to_owned(),
                    help: "check the file, and --split",
                },
                Error::Fatal,
            ));
        }
        chinese::look(&mut self.captions, self.options.clean, &mut self.notices);
        let spoken = self.captions.iter().filter(|caption| caption.language.is_empty()).count();
        if spoken > 0 && spoken < self.captions.len() {
            self.notices.push(format!(
                "{spoken} of {} captions do not say their language; --language gives it",
                self.captions.len()
            ));
        }
        Ok(RetrievalSet {
            name: self.spec.name(),
            pictures: self.pictures,
            captions: self.captions,
            faults: self.faults,
            notices: self.notices,
            samples: self.samples,
            files: self.files,
        })
    }
}

/// A file of the set, or where it comes from.
pub(super) fn open(path: &Path, from: &'static str) -> Result<File, Error> {
    let file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Absent { path: path.to_owned(), from },
        _ => Error::io(path, source),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(Error::io(path, std::io::Error::other("not a regular file"))),
        Err(source) => Err(Error::io(path, source)),
    }
}
