//! Paths in one form, so that `a`, `./a`, `a//` and `b/../a` are the same thing.

use std::path::{Component, Path, PathBuf};

/// A path without `.`, `..` and doubled separators, by its letters alone: nothing is looked up, so behind a
/// link it may name another place than `path` does.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match (component, plain.components().next_back()) {
            (Component::CurDir, _) => {}
            // Above the root there is nothing but the root.
            (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                plain.pop();
            }
            _ => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_place() {
        for (path, expected) in [
            ("/p/a", "/p/a"),
            ("/p/./a/", "/p/a"),
            ("//p///a//", "/p/a"),
            ("/p/a/../a", "/p/a"),
            ("/p/a/b/../../a/.", "/p/a"),
            ("/../p/a", "/p/a"),
            ("/..", "/"),
            ("/", "/"),
            ("./a/../b", "b"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("../../b", "../../b"),
            ("/p/猫/../..a/a..", "/p/..a/a.."),
            ("", ""),
        ] {
            assert_eq!(plain(Path::new(path)), Path::new(expected), "{path}");
            assert_eq!(plain(Path::new(expected)), Path::new(expected), "{path}");
        }
    }
}
