//! Paths that foreign data names: inside their folder, without links, and regular files.

use std::fs::FileType;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a path is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It leaves the folder or is not a regular file; what it is.
    Forbidden(&'static str),
    /// Nothing is there, or it may not be read; what it is.
    Missing(&'static str),
    /// The file system failed.
    Failed(String),
}

/// What is wrong with a relative name, as text alone.
pub(crate) fn forbidden(name: &str) -> Option<&'static str> {
    if name.contains('\0') {
        return Some("has the character NUL");
    }
    if name.is_empty() {
        return Some("is empty");
    }
    // Windows' forms too, so that a dataset means the same everywhere.
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with(['/', '\\']) || drive || Path::new(name).is_absolute() {
        return Some("is absolute");
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Some("has `..`");
    }
    None
}

/// The regular file that `name` is in `folder`; no part of `name` may be a link.
pub(crate) fn inside(folder: &Path, name: &str) -> Result<PathBuf, Refused> {
    if let Some(what) = forbidden(name) {
        return Err(Refused::Forbidden(what));
    }
    let mut path = folder.to_owned();
    let mut kind: Option<FileType> = None;
    for component in Path::new(name).components() {
        match component {
            Component::CurDir => continue,
            Component::Normal(part) => path.push(part),
            _ => return Err(Refused::Forbidden("leaves the folder")),
        }
        let metadata = std::fs::symlink_metadata(&path).map_err(|error| refusal(&error))?;
        if metadata.is_symlink() {
            return Err(Refused::Forbidden("is a symbolic link"));
        }
        kind = Some(metadata.file_type());
    }
    match kind {
        Some(kind) if kind.is_file() => Ok(path),
        Some(kind) if kind.is_dir() => Err(Refused::Forbidden("is a folder")),
        _ => Err(Refused::Forbidden("is not a regular file")),
    }
}

fn refusal(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Refused::Missing("does not exist")
        }
        io::ErrorKind::PermissionDenied => Refused::Missing("may not be read"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            Refused::Missing("cannot be the name of a file")
        }
        _ => Refused::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("images");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a/b.jpg"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        assert_eq!(inside(&root, "a/b.jpg"), Ok(root.join("a/b.jpg")));
        assert_eq!(inside(&root, "./a/b.jpg"), Ok(root.join("a/b.jpg")));
        for name in
            ["../secret", "a/../../secret", "/etc/passwd", "a\0", "", "c:x", "\\x", "a", "a/.."]
        {
            assert!(matches!(inside(&root, name), Err(Refused::Forbidden(_))), "{name:?}");
        }
        for name in ["a/c.jpg", "a/b.jpg/c"] {
            assert!(matches!(inside(&root, name), Err(Refused::Missing(_))), "{name:?}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
            std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
            for name in ["link", "out/secret"] {
                assert!(matches!(inside(&root, name), Err(Refused::Forbidden(_))), "{name:?}");
            }
        }
    }
}
