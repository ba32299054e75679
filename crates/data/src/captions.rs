//! Pictures with captions: from lists that name picture files, from tables, and from webdataset shards.

use std::path::PathBuf;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::paths::Refused;
use crate::records::{Record, Records, Tsv, Wanted};
use crate::shards::{Role, Shards};
use crate::{
    Dataset, Error, Fault, Fingerprint, MAX_PICTURE_BYTES, Picture, Place, Reason, list, paths,
};

/// A picture with its captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captioned {
    /// The picture, encoded.
    pub picture: Picture,
    /// At least one; none is empty.
    pub captions: Vec<String>,
    /// The language of the captions, where the data says it.
    pub language: Option<String>,
}

/// How pictures with captions are read.
#[derive(Clone, Debug)]
pub struct CaptionsOptions {
    /// Folder that picture paths of lists are relative to, and never leave.
    pub images: PathBuf,
    /// Column of the picture: a path, or bytes in a table.
    pub image_column: String,
    /// Column of the caption or captions.
    pub text_column: String,
    /// Column of the language; need not be there.
    pub language_column: String,
    /// Column of an id that must not occur twice; need not be there.
    pub id_column: String,
    /// Languages to keep; all if empty. A sample that names another one is bad, one that names none is kept.
    pub languages: Vec<String>,
    /// Folder for what compressed files and tables are expanded to; nothing stays there.
    pub scratch: PathBuf,
}

impl CaptionsOptions {
    /// Columns `image`, `text`, `language` and `id`; all languages.
    pub fn new(images: impl Into<PathBuf>, scratch: impl Into<PathBuf>) -> Self {
        Self {
            images: images.into(),
            image_column: "image".to_owned(),
            text_column: "text".to_owned(),
            language_column: "language".to_owned(),
            id_column: "id".to_owned(),
            languages: Vec::new(),
            scratch: scratch.into(),
        }
    }
}

/// Pictures with captions from `.jsonl`, `.csv`, `.tsv` with a header (each perhaps `.gz`), `.parquet` or `.tar` files.
pub struct CaptionedPictures {
    source: Source,
    options: CaptionsOptions,
    /// Records whose id occurred before, in order.
    repeated: Vec<u64>,
}

enum Source {
    Records(Records),
    Shards(Shards),
}

impl CaptionedPictures {
    /// Opens files, folders of them, or ranges such as `{00000..00012}.tar`; shards are not mixed with lists.
    ///
    /// # Errors
    /// Any [`Error`] but those of a run: a file that cannot be read, a table without the columns, a list that is none.
    pub fn open(paths: &[PathBuf], options: &CaptionsOptions) -> Result<Self, Error> {
        let kinds = [
            ".tar",
            ".jsonl",
            ".jsonl.gz",
            ".ndjson",
            ".ndjson.gz",
            ".csv",
            ".csv.gz",
            ".tsv",
            ".tsv.gz",
            ".parquet",
        ];
        let files = list::expand(paths, &kinds)?;
        let shards = files.iter().filter(|file| list::has_ending(file, &[".tar"])).count();
        let mut repeated = Vec::new();
        let source = if shards == files.len() {
            Source::Shards(Shards::open(files)?)
        } else if let Some(shard) = files.iter().find(|file| list::has_ending(file, &[".tar"])) {
            return Err(Error::List {
                path: shard.clone(),
                what: "shards and lists are mixed".to_owned(),
                help: "name shards only, or lists only",
            });
        } else {
            let wanted = Wanted {
                columns: &[
                    &options.image_column,
                    &options.text_column,
                    &options.language_column,
                    &options.id_column,
                ],
                required: 2,
                pictures: Some(&options.image_column),
                tsv: Tsv::Table,
                scratch: &options.scratch,
            };
            let records = Records::open(files, &wanted)?;
            repeated = repeated_ids(&records, &options.id_column);
            Source::Records(records)
        };
        Ok(Self { source, options: options.clone(), repeated })
    }

    fn sample_of_record(&self, records: &Records, number: u64) -> Result<Captioned, Fault> {
        let record = records.record(number)?;
        let fault = |reason, detail: String| Err(Fault::new(reason, self.place(number), detail));
        if self.repeated.binary_search(&number).is_ok() {
            return fault(Reason::DuplicateKey, "the id occurred before".to_owned());
        }
        let Some(captions) = captions(record.get(&self.options.text_column)) else {
            return fault(
                Reason::BrokenLine,
                "the captions are no text or list of texts".to_owned(),
            );
        };
        let language = language(&record, &self.options.language_column);
        let picture = match records.picture(number)? {
            Some(bytes) if bytes.len() as u64 > MAX_PICTURE_BYTES => {
                return fault(Reason::TooLong, format!("a picture of {} bytes", bytes.len()));
            }
            Some(bytes) if bytes.is_empty() => {
                return fault(Reason::MissingImage, "the picture has no bytes".to_owned());
            }
            Some(bytes) => Picture::Bytes(bytes),
            None => match record.get(&self.options.image_column) {
                Some(Value::String(name)) => match paths::inside(&self.options.images, name) {
                    Ok(path) => Picture::File(path),
                    Err(refused) => {
                        let name = altclip_report::quote(name);
                        return match refused {
                            Refused::Forbidden(what) => {
                                fault(Reason::ForbiddenPath, format!("{name} {what}"))
                            }
                            Refused::Missing(what) => {
                                fault(Reason::MissingImage, format!("{name} {what}"))
                            }
                            Refused::Failed(what) => {
                                fault(Reason::Unreadable, format!("{name}: {what}"))
                            }
                        };
                    }
                },
                None | Some(Value::Null) => {
                    return fault(Reason::MissingImage, "the sample names no picture".to_owned());
                }
                Some(_) => {
                    return fault(Reason::BrokenLine, "the picture's path is no text".to_owned());
                }
            },
        };
        self.captioned(number, picture, captions, language)
    }

    fn sample_of_shard(&self, shards: &Shards, number: u64) -> Result<Captioned, Fault> {
        let mut found = Vec::new();
        let mut spoken = None;
        if let Some(text) = shards.text(number, Role::Json)? {
            let Ok(Value::Object(record)) = serde_json::from_str(&text) else {
                return Err(shards.fault(number, Reason::BrokenLine, "the .json is not an object"));
            };
            let names = [self.options.text_column.as_str(), "captions", "caption", "texts", "text"];
            let value = names.iter().find_map(|name| record.get(*name));
            found = captions(value).unwrap_or_default();
            spoken = language(&record, &self.options.language_column);
        }
        if found.is_empty()
            && let Some(text) = shards.text(number, Role::Text)?
        {
            // As CLIP_benchmark writes them: one caption a line.
            found = text.lines().map(str::to_owned).collect();
        }
        // Captions first: they are cheaper to read than a picture that would be of no use.
        if found.iter().all(|caption| caption.trim().is_empty()) {
            return Err(shards.fault(number, Reason::NoText, "no caption in .txt or .json"));
        }
        self.captioned(number, Picture::Bytes(shards.picture(number)?), found, spoken)
    }

    /// What holds for every sample, wherever it is from.
    fn captioned(
        &self,
        number: u64,
        picture: Picture,
        mut captions: Vec<String>,
        language: Option<String>,
    ) -> Result<Captioned, Fault> {
        captions.retain(|caption| !caption.trim().is_empty());
        if captions.is_empty() {
            return Err(Fault::new(Reason::NoText, self.place(number), "no caption"));
        }
        if let Some(language) = &language
            && !self.options.languages.is_empty()
            && !self.options.languages.contains(language)
        {
            let detail = format!("language {}", altclip_report::quote(language));
            return Err(Fault::new(Reason::OtherLanguage, self.place(number), detail));
        }
        Ok(Captioned { picture, captions, language })
    }
}

impl Dataset for CaptionedPictures {
    type Sample = Captioned;

    fn len(&self) -> u64 {
        match &self.source {
            Source::Records(records) => records.len(),
            Source::Shards(shards) => shards.len(),
        }
    }

    fn get(&self, number: u64) -> Result<Captioned, Fault> {
        match &self.source {
            Source::Records(records) => self.sample_of_record(records, number),
            Source::Shards(shards) => self.sample_of_shard(shards, number),
        }
    }

    fn place(&self, number: u64) -> Place {
        match &self.source {
            Source::Records(records) => records.place(number),
            Source::Shards(shards) => shards.place(number),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match &self.source {
            Source::Records(records) => records.fingerprint,
            Source::Shards(shards) => shards.fingerprint,
        }
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        match &self.source {
            Source::Records(records) => records.check_unchanged(),
            Source::Shards(shards) => shards.check_unchanged(),
        }
    }

    fn notices(&self) -> &[String] {
        match &self.source {
            Source::Records(records) => &records.notices,
            Source::Shards(shards) => &shards.notices,
        }
    }
}

/// One caption or a list of them; `None` for anything else.
fn captions(value: Option<&Value>) -> Option<Vec<String>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        }
        Some(_) => None,
    }
}

fn language(record: &Record, column: &str) -> Option<String> {
    record.get(column)?.as_str().filter(|language| !language.is_empty()).map(str::to_owned)
}

/// The records whose id occurred in one before. Read only if the first record has an id.
fn repeated_ids(records: &Records, column: &str) -> Vec<u64> {
    let id = |number| {
        let record = records.record(number).ok()?;
        let id = record.get(column).filter(|id| !id.is_null())?;
        Some((xxh3_64(id.to_string().as_bytes()), number))
    };
    if id(0).is_none() {
        return Vec::new();
    }
    let mut ids: Vec<(u64, u64)> = (0..records.len()).filter_map(id).collect();
    ids.sort_unstable();
    let later = |pair: &[(u64, u64)]| (pair[0].0 == pair[1].0).then_some(pair[1].1);
    let mut repeated: Vec<u64> = ids.windows(2).filter_map(later).collect();
    repeated.sort_unstable();
    repeated
}
