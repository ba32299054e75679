//! What a text must be before it is tokenized: UTF-8, and not too large.

use crate::Error;

/// Largest text on the command line, in bytes; the caller enforces it with [`check_size`].
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The text of these bytes.
///
/// # Errors
/// [`Error::Utf8`] with the position of the first bad byte.
pub fn from_utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|e| Error::Utf8 { offset: e.valid_up_to() })
}

/// Checks that `text` has at most `limit` bytes.
///
/// # Errors
/// [`Error::TextSize`] if it has more.
pub fn check_size(text: &str, limit: usize) -> Result<(), Error> {
    match text.len() {
        found if found > limit => Err(Error::TextSize { found, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_texts_are_named() {
        assert!(matches!(from_utf8(b"caf\xe9"), Err(Error::Utf8 { offset: 3 })));
        assert!(from_utf8("é".as_bytes()).is_ok());
        assert!(matches!(check_size("abc", 2), Err(Error::TextSize { found: 3, limit: 2 })));
        assert!(check_size("abc", 3).is_ok());
    }
}
