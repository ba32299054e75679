//! From what a user names to a list of files: folders, ranges such as `{0..9}.tar`, CLIP_benchmark's `nshards.txt`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::{Error, MAX_FILES};

/// The files that `specs` name, in order; files in a folder are those with one of `endings`, sorted by name.
///
/// # Errors
/// [`Error::Address`] for anything that is not a file name; [`Error::List`] for no file, too many, or one twice.
pub(crate) fn expand(specs: &[PathBuf], endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for spec in specs {
        let text = spec.to_string_lossy();
        if ["pipe:", "file:"].iter().any(|scheme| text.starts_with(scheme)) || text.contains("://")
        {
            return Err(Error::Address { address: text.into_owned() });
        }
        if spec.is_dir() {
            files.extend(folder(spec, endings)?);
        } else if let Some(range) = range(&text).filter(|_| !spec.exists()) {
            files.extend(range.map_err(|what| list(spec, what))?);
        } else {
            files.push(spec.clone());
        }
        if files.len() > MAX_FILES {
            return Err(list(spec, "more files than a dataset may have"));
        }
    }
    let mut seen = HashSet::new();
    for file in &files {
        // A file that is not there has no canonical name; opening it will say so.
        if !seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
            return Err(list(file, "a file is named twice"));
        }
    }
    match (files.is_empty(), specs.first()) {
        (false, _) => Ok(files),
        (true, Some(spec)) => Err(list(spec, "no file of a known kind")),
        (true, None) => Err(list(Path::new("dataset"), "no file was named")),
    }
}

/// Whether a file's name ends with one of `endings`, whatever its case.
pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

fn list(path: &Path, what: &str) -> Error {
    Error::List {
        path: path.to_owned(),
        what: what.to_owned(),
        help: "name each file once, or a folder with them: .tsv, .jsonl, .csv, .parquet or .tar",
    }
}

fn folder(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let counted = folder.join("nshards.txt");
    if endings.contains(&".tar") && counted.is_file() {
        let text = std::fs::read_to_string(&counted).map_err(|e| Error::io(&counted, e))?;
        let count: usize =
            text.trim().parse().map_err(|_| list(&counted, "the number of shards is no number"))?;
        if count > MAX_FILES {
            return Err(list(&counted, "more files than a dataset may have"));
        }
        return Ok((0..count).map(|shard| folder.join(format!("{shard}.tar"))).collect());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let path = entry.map_err(|source| Error::io(folder, source))?.path();
        if has_ending(&path, endings) {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(list(folder, "more files than a dataset may have"));
        }
    }
    files.sort();
    Ok(files)
}

/// The names that `a{00..12}b` stands for; `None` if there is no range.
fn range(text: &str) -> Option<Result<Vec<PathBuf>, &'static str>> {
    let (before, rest) = text.split_once('{')?;
    let (inside, after) = rest.split_once('}')?;
    let (first, last) = inside.split_once("..")?;
    let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else {
        return Some(Err("a range is {FIRST..LAST} with two numbers"));
    };
    if from > to {
        return Some(Err("a range runs upwards"));
    }
    if to - from >= MAX_FILES as u64 {
        return Some(Err("more files than a dataset may have"));
    }
    let width = first.len();
    Some(Ok((from..=to).map(|n| format!("{before}{n:0width$}{after}").into()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(specs: &[&str]) -> Result<Vec<String>, Error> {
        let specs: Vec<PathBuf> = specs.iter().map(PathBuf::from).collect();
        let files = expand(&specs, &[".tar"])?;
        Ok(files.iter().map(|file| file.display().to_string()).collect())
    }

    #[test]
    fn ranges_keep_their_width() {
        assert_eq!(names(&["a/{08..10}.tar"]).unwrap(), ["a/08.tar", "a/09.tar", "a/10.tar"]);
        assert_eq!(names(&["{9..10}.tar", "b.tar"]).unwrap(), ["9.tar", "10.tar", "b.tar"]);
        for wrong in ["{3..1}.tar", "{a..b}.tar", "{0..9999999}.tar"] {
            assert!(matches!(names(&[wrong]), Err(Error::List { .. })), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_refused() {
        for wrong in ["pipe:curl x", "http://a/b.tar", "s3://a/{0..2}.tar", "file:/a"] {
            assert!(matches!(names(&[wrong]), Err(Error::Address { .. })), "{wrong}");
        }
    }

    #[test]
    fn twice_or_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let spec = |name: &str| dir.path().join(name);
        let empty = expand(&[spec("")], &[".tar"]);
        assert!(matches!(empty, Err(Error::List { .. })));
        assert!(matches!(expand(&[], &[".tar"]), Err(Error::List { .. })));
        for name in ["b.tar", "a.TAR", "x.txt"] {
            std::fs::write(spec(name), "").unwrap();
        }
        assert_eq!(expand(&[spec("")], &[".tar"]).unwrap(), [spec("a.TAR"), spec("b.tar")]);
        let twice = expand(&[spec("b.tar"), spec("./b.tar")], &[".tar"]);
        assert!(matches!(twice, Err(Error::List { .. })));
    }
}
