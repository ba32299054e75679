//! Pictures inside of JSON: a data URI or base64. Addresses are not fetched.

use crate::fault::Fault;
use altclip_report::{Code, Report, quote};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The bytes of a picture.
///
/// # Errors
/// E8301 for an address, whatever it names: nothing is looked up. 400 for what is not base64.
pub(crate) fn bytes(text: &str, param: &str) -> Result<Vec<u8>, Fault> {
    let text = text.trim();
    if let Some(uri) = strip_scheme(text, "data:") {
        return match uri.split_once(',') {
            Some((head, data)) if head.to_ascii_lowercase().ends_with(";base64") => {
                decode(data, param)
            }
            _ => Err(not_base64(param, "a data URI without base64")),
        };
    }
    let head = text.get(..text.len().min(16)).unwrap_or_default();
    if head.contains("://") || strip_scheme(text, "file:").is_some() {
        let report = Report::new(Code::E8301, "request", "addresses are not fetched")
            .place(param)
            .got(quote(text))
            .expected("the picture itself: data:image/jpeg;base64,…")
            .help("read the picture and send its bytes as base64");
        return Err(crate::embed::unprocessable(report));
    }
    decode(text, param)
}

fn strip_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| text.get(scheme.len()..))?
}

fn decode(text: &str, param: &str) -> Result<Vec<u8>, Fault> {
    let joined: String;
    let text = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        joined = text.split_ascii_whitespace().collect();
        &joined
    } else {
        text
    };
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    let decoded = GeneralPurpose::new(&alphabet, LENIENT).decode(text);
    match decoded {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) => Err(not_base64(param, "nothing")),
        Err(error) => Err(not_base64(param, &error.to_string())),
    }
}

fn not_base64(param: &str, got: &str) -> Fault {
    let fault = Fault::field(param, got, "a picture as base64 or as a data URI");
    Fault { status: StatusCode::BAD_REQUEST, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_send_bytes() {
        for text in ["data:image/png;base64,/+8=", "DATA:;base64,/+8", " /+8= ", "_-8", "/+\n8="] {
            assert_eq!(bytes(text, "image").unwrap(), [0xff, 0xef], "{text}");
        }
    }

    #[test]
    fn nothing_is_fetched_and_nothing_is_guessed() {
        for address in [
            "http://example.org/cat.jpg",
            "HTTPS://127.0.0.1/",
            "file:///etc/passwd",
            "file:/etc/passwd",
            "ftp://x",
            "gopher://x",
        ] {
            let fault = bytes(address, "image").unwrap_err();
            assert_eq!(fault.report.code, Code::E8301, "{address}");
            assert_eq!(fault.status.as_u16(), 422);
        }
        for bad in ["", "data:,", "data:image/png,abc", "!!!!", "猫", "data:image/png;base64,"] {
            assert_eq!(bytes(bad, "image").unwrap_err().status.as_u16(), 400, "{bad}");
        }
    }
}
