//! Which names of tensors, archive entries and shards are acceptable.

use crate::limits;

/// Why a tensor or entry name is refused, if it is.
pub(crate) fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > limits::NAME_BYTES {
        Some("is longer than 512 bytes")
    } else if name.chars().any(char::is_control) {
        Some("has a control character")
    } else if name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..") {
        Some("is a path out of the file")
    } else {
        None
    }
}

/// Why a shard's file name is refused, if it is: a shard lies in the folder of its index.
pub(crate) fn shard_fault(name: &str) -> Option<&'static str> {
    if let Some(fault) = name_fault(name) {
        Some(fault)
    } else if name.contains(['/', '\\', ':']) || name == "." {
        Some("is not a plain file name")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_file_are_refused() {
        let long = "x".repeat(513);
        for bad in ["", "a\0b", "a\nb", "../x", "a/../b", "..", "..\\x", "/etc/passwd", &long] {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
        for good in ["a.weight", "a..b", "blocks/0/w", "名前", &long[1..]] {
            assert!(name_fault(good).is_none(), "{good:?}");
        }
        for bad in ["a/b", "C:x", ".", "..", "a\\b"] {
            assert!(shard_fault(bad).is_some(), "{bad:?}");
        }
        assert_eq!(shard_fault("model-00001-of-00002.safetensors"), None);
    }
}
