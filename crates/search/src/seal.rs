//! Short texts under their own hash, so that no byte of them can differ and be believed.

use altclip_durable::Digest;

/// The text with its hash on a line of its own behind it.
pub(crate) fn sealed(body: &str) -> String {
    format!("{body}\n{}\n", Digest::of(body.as_bytes()))
}

/// The text of [`sealed`]; `None` where a byte is not as it was written.
pub(crate) fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, _) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    (text == sealed(body)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_byte_is_found() {
        let bytes = sealed("altclip index 1\ng1").into_bytes();
        assert_eq!(unsealed(&bytes), Some("altclip index 1\ng1"));
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 1 << bit;
                assert_eq!(unsealed(&damaged), None, "byte {byte}");
            }
            assert_eq!(unsealed(&bytes[..byte]), None, "cut at {byte}");
        }
        assert_eq!(unsealed(&[&bytes[..], b"\n"].concat()), None);
        assert_eq!(unsealed(sealed("").as_bytes()), Some(""));
    }
}
