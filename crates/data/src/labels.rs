//! Labelled pictures: a folder for each class, webdataset shards with `.cls` and `classnames.txt`, or CIFAR-10's batches.
//!
//! What is handed out is a class's name in words: that is what a text encoder can use. A number is refused, since a
//! model would learn the numeral.
//!
//! # Source
//! Layout of shards: LAION-AI/CLIP_benchmark 48de38c, `clip_benchmark/webdataset_builder.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use altclip_report::quote;

use crate::cifar::Cifar;
use crate::dataset::Hasher;
use crate::files::Files;
use crate::shards::{Role, Shards};
use crate::{Dataset, Error, Fault, Fingerprint, MAX_FILES, Picture, Place, Reason, list, paths};

/// Endings of the pictures of a folder.
const PICTURES: &[&str] = &[".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"];

/// A picture with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The picture, encoded.
    pub picture: Picture,
    /// Index of the class in [`LabelledPictures::class_names`].
    pub class: usize,
    /// The name of the class.
    pub class_name: Arc<str>,
}

/// How labelled pictures are read.
#[derive(Clone, Debug)]
pub struct LabelsOptions {
    /// The folder of the split, as `train` or `test`, inside of a CLIP_benchmark folder or a folder of class folders;
    /// looked at only if it is there.
    pub split: String,
    /// The file of class names, one a line in order of the labels; if not given, `classnames.txt` in the folder of
    /// the shards or in the one above. A folder of folders has its names from the folders.
    pub class_names: Option<PathBuf>,
    /// The class names themselves, taken as they are instead of a file of shards.
    pub names: Option<Vec<String>>,
}

impl Default for LabelsOptions {
    /// Split `test`.
    fn default() -> Self {
        Self { split: "test".to_owned(), class_names: None, names: None }
    }
}

/// Labelled pictures.
pub struct LabelledPictures {
    source: Source,
    class_names: Vec<Arc<str>>,
    templates: Option<Vec<String>>,
    fingerprint: Fingerprint,
    notices: Vec<String>,
}

enum Source {
    Shards(Shards),
    Cifar(Cifar),
    Folder {
        root: PathBuf,
        /// Class, and path inside of the root.
        pictures: Vec<(u32, Box<str>)>,
    },
}

impl LabelledPictures {
    /// Opens a folder of folders, a folder of shards, a CLIP_benchmark folder or one shard.
    ///
    /// # Errors
    /// [`Error::ClassNames`] for names that are numbers, empty or twice there; else as for the other datasets.
    pub fn open(path: &Path, options: &LabelsOptions) -> Result<Self, Error> {
        if let Some(cifar) = Cifar::open(path, &options.split)? {
            return Self::from_cifar(path, cifar);
        }
        let split = path.join(&options.split);
        let is_split = split.join("nshards.txt").is_file() || holds_folders(&split);
        let root = if is_split { &split } else { path };
        if !root.exists() {
            let from = "folders of classes are ImageNet's and your own; shards are written by CLIP_benchmark's \
                        webdataset builder";
            return Err(Error::Absent { path: root.to_owned(), from });
        }
        let is_shard = list::has_ending(root, &[".tar"]);
        if is_shard || root.join("nshards.txt").is_file() || has_shards(root) {
            Self::from_shards(root, options)
        } else {
            Self::from_folder(root)
        }
    }

    fn from_shards(root: &Path, options: &LabelsOptions) -> Result<Self, Error> {
        let folder = if root.is_dir() { root } else { root.parent().unwrap_or(root) };
        let beside = |name: &str| {
            let folders = [Some(folder), folder.parent()];
            folders
                .into_iter()
                .flatten()
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        if let Some(path) = beside("dataset_type.txt")
            && read(&path)?.trim() == "retrieval"
        {
            return Err(Error::List {
                path,
                what: "the dataset has captions, not classes".to_owned(),
                help: "use it as pictures with captions",
            });
        }
        let class_names = match &options.names {
            Some(names) => names.iter().map(|name| Arc::from(name.as_str())).collect(),
            None => {
                let names = options.class_names.clone().or_else(|| beside("classnames.txt"));
                let names = names.ok_or_else(|| Error::ClassNames {
                    path: folder.join("classnames.txt"),
                    line: None,
                    what: "there are no class names".to_owned(),
                })?;
                checked(&names, lines(&names)?, true)?
            }
        };
        let templates = beside("zeroshot_classification_templates.txt");
        let templates = templates.map(|path| lines(&path)).transpose()?;
        let shards = Shards::open(list::expand(&[root.to_owned()], &[".tar"])?)?;
        let mut hasher = Hasher::default();
        hasher.piece(&shards.fingerprint.0.to_le_bytes());
        class_names.iter().for_each(|name| hasher.piece(name.as_bytes()));
        let (fingerprint, notices) = (hasher.finish(), shards.notices.clone());
        Ok(Self { source: Source::Shards(shards), class_names, templates, fingerprint, notices })
    }

    fn from_cifar(path: &Path, cifar: Cifar) -> Result<Self, Error> {
        let class_names = checked(path, cifar.class_names.clone(), false)?;
        let fingerprint = cifar.fingerprint;
        let source = Source::Cifar(cifar);
        Ok(Self { source, class_names, templates: None, fingerprint, notices: Vec::new() })
    }

    fn from_folder(root: &Path) -> Result<Self, Error> {
        let mut names = Vec::new();
        for (name, kind) in entries(root)? {
            if kind.is_dir() && !name.starts_with('.') {
                names.push(name);
            }
        }
        if names.is_empty() {
            return Err(Error::List {
                path: root.to_owned(),
                what: "neither shards nor a folder for each class".to_owned(),
                help: "give a folder with one folder of pictures a class, or with .tar files",
            });
        }
        let class_names = checked(root, names, false)?;
        let mut pictures = Vec::new();
        let mut left_out = 0u64;
        let mut hasher = Hasher::default();
        for (class, name) in (0u32..).zip(&class_names) {
            let folder = root.join(&**name);
            for (file, kind) in entries(&folder)? {
                if kind.is_dir() || !list::has_ending(Path::new(&file), PICTURES) {
                    left_out += 1;
                    continue;
                }
                // Of what a link leads to, nothing is asked: it is refused when it is read.
                let metadata = fs::symlink_metadata(folder.join(&file));
                hasher.number(metadata.map_err(|source| Error::io(&folder, source))?.len());
                let path = format!("{name}/{file}");
                hasher.piece(path.as_bytes());
                pictures.push((class, path.into_boxed_str()));
            }
        }
        let notice =
            format!("{left_out} entries of the class folders are no pictures and are left out");
        let notices = if left_out > 0 { vec![notice] } else { Vec::new() };
        let source = Source::Folder { root: root.to_owned(), pictures };
        Ok(Self { source, class_names, templates: None, fingerprint: hasher.finish(), notices })
    }

    /// The names of the classes in order of their labels.
    pub fn class_names(&self) -> &[Arc<str>] {
        &self.class_names
    }

    /// The prompts that come with the dataset (`zeroshot_classification_templates.txt`), `{c}` in place of the class.
    pub fn templates(&self) -> Option<&[String]> {
        self.templates.as_deref()
    }

    fn sample_of_shard(&self, shards: &Shards, number: u64) -> Result<Labelled, Fault> {
        let bad = |detail: String| shards.fault(number, Reason::BadLabel, detail);
        let label = shards.text(number, Role::Class)?.ok_or_else(|| bad("no .cls".to_owned()))?;
        let class: usize =
            label.trim().parse().map_err(|_| bad(format!("the label is {}", quote(&label))))?;
        let count = self.class_names.len();
        let name = self.class_names.get(class);
        let class_name = name.ok_or_else(|| bad(format!("label {class} of {count} classes")))?;
        let picture = Picture::Bytes(shards.picture(number)?);
        Ok(Labelled { picture, class, class_name: Arc::clone(class_name) })
    }

    fn sample_of_file(
        &self,
        root: &Path,
        pictures: &[(u32, Box<str>)],
        number: u64,
    ) -> Result<Labelled, Fault> {
        let fault = |reason, detail: &str| Fault::new(reason, self.place(number), detail);
        let picture = usize::try_from(number).ok().and_then(|number| pictures.get(number));
        let (class, name) = picture.ok_or_else(|| fault(Reason::NoSuchSample, "no such sample"))?;
        let path = paths::inside(root, name).map_err(|refused| match refused {
            paths::Refused::Forbidden(what) => fault(Reason::ForbiddenPath, what),
            paths::Refused::Missing(what) => fault(Reason::MissingImage, what),
            paths::Refused::Failed(what) => fault(Reason::Unreadable, &what),
        })?;
        let class = *class as usize;
        let class_name = Arc::clone(&self.class_names[class]);
        Ok(Labelled { picture: Picture::File(path), class, class_name })
    }
}

impl Dataset for LabelledPictures {
    type Sample = Labelled;

    fn len(&self) -> u64 {
        match &self.source {
            Source::Shards(shards) => shards.len(),
            Source::Cifar(cifar) => cifar.len(),
            Source::Folder { pictures, .. } => pictures.len() as u64,
        }
    }

    fn get(&self, number: u64) -> Result<Labelled, Fault> {
        match &self.source {
            Source::Shards(shards) => self.sample_of_shard(shards, number),
            Source::Cifar(cifar) => {
                let (picture, class) = cifar.get(number)?;
                let class_name = self.class_names.get(class).cloned().ok_or_else(|| {
                    let detail = format!("label {class} of {} classes", self.class_names.len());
                    Fault::new(Reason::BadLabel, cifar.place(number), detail)
                })?;
                Ok(Labelled { picture: Picture::Bytes(picture), class, class_name })
            }
            Source::Folder { root, pictures } => self.sample_of_file(root, pictures, number),
        }
    }

    /// In a folder the file is the class's folder, so that faults are counted by class.
    fn place(&self, number: u64) -> Place {
        match &self.source {
            Source::Shards(shards) => shards.place(number),
            Source::Cifar(cifar) => cifar.place(number),
            Source::Folder { root, pictures } => {
                let picture = usize::try_from(number).ok().and_then(|number| pictures.get(number));
                let (class, file) = picture
                    .map_or(("", ""), |(_, name)| name.split_once('/').unwrap_or(("", name)));
                let mut place = Place::file(&root.join(class).display().to_string().into());
                place.key = Some(file.to_owned());
                place
            }
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// In a folder this lists all pictures again and compares their paths and sizes.
    fn check_unchanged(&self) -> Result<(), Error> {
        match &self.source {
            Source::Shards(shards) => shards.check_unchanged(),
            Source::Cifar(cifar) => cifar.check_unchanged(),
            Source::Folder { root, .. } => {
                let now = Self::from_folder(root)?.fingerprint;
                if now == self.fingerprint {
                    return Ok(());
                }
                Err(Error::Changed { path: root.clone(), what: "other pictures".to_owned() })
            }
        }
    }

    fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// The class names as they are used; no number, none empty or twice.
fn checked(path: &Path, names: Vec<String>, by_line: bool) -> Result<Vec<Arc<str>>, Error> {
    let mut seen = std::collections::HashSet::new();
    for (at, name) in names.iter().enumerate() {
        let what = if name.trim().is_empty() {
            "a class name is empty".to_owned()
        } else if name.trim().parse::<f64>().is_ok() {
            format!("the class name {} is a number, not a name", quote(name))
        } else if !seen.insert(name) {
            format!("the class name {} occurs twice", quote(name))
        } else {
            continue;
        };
        let line = by_line.then_some(at as u64 + 1);
        return Err(Error::ClassNames { path: path.to_owned(), line, what });
    }
    if names.is_empty() {
        let what = "there are no class names".to_owned();
        return Err(Error::ClassNames { path: path.to_owned(), line: None, what });
    }
    Ok(names.into_iter().map(Arc::from).collect())
}

/// Whether there is a folder with folders: a split of classes.
fn holds_folders(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
    })
}

fn has_shards(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| list::has_ending(&entry.path(), &[".tar"]))
    })
}

/// Names and kinds of what is in a folder, sorted; links are not followed.
fn entries(folder: &Path) -> Result<Vec<(String, fs::FileType)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        let kind = entry.file_type().map_err(|source| Error::io(folder, source))?;
        let name = entry.file_name().into_string().map_err(|name| Error::List {
            path: folder.join(name),
            what: "the name of a file is not UTF-8".to_owned(),
            help: "rename the file",
        })?;
        found.push((name, kind));
        if found.len() > 10 * MAX_FILES {
            return Err(Error::List {
                path: folder.to_owned(),
                what: "too many files in one folder".to_owned(),
                help: "write the pictures into .tar shards",
            });
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The lines of a small text file.
fn lines(path: &Path) -> Result<Vec<String>, Error> {
    Ok(read(path)?.lines().map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<String, Error> {
    let files = Files::new(vec![path.to_owned()])?;
    let len = usize::try_from(files.bytes(0)).ok().filter(|&len| len <= crate::MAX_TEXT_BYTES);
    let len = len.ok_or_else(|| Error::table(path, "the file is too long", "a short list"))?;
    let mut bytes = vec![0; len];
    files.read(0, 0, &mut bytes).map_err(|source| Error::io(path, source))?;
    String::from_utf8(bytes).map_err(|_| Error::table(path, "the file is not UTF-8", "UTF-8"))
}
