//! `/thumbnail/{id}` and `/picture/{id}`: pictures of the index, by the numbers that it gave them.

use super::respond;
use super::search::{catalog, read};
use crate::app::App;
use crate::call::Call;
use crate::embed::decoder_bytes;
use crate::fault::Fault;
use crate::model::DECODE_TIME;
use altclip::image::{DecodeOptions, Format, Limits, read_file, sniff};
use altclip_report::{Code, Diagnose as _, Report, quote};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use std::path::Path;
use std::sync::Arc;

/// Pixels of the longer side of a thumbnail.
const SIDE: u32 = 256;
const SIDES: std::ops::RangeInclusive<u32> = 16..=1024;
/// A picture is only ever shown.
const SANDBOX: &str = "default-src 'none'; sandbox";

pub(super) async fn thumbnail(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&["size"])?;
    let (catalog, id) = (catalog(&app)?, call.number()?);
    let side = match call.parameter("size") {
        None | Some("") => SIDE,
        Some(text) => match text.parse() {
            Ok(side) if SIDES.contains(&side) => side,
            _ => return Err(Fault::field("size", quote(text), "pixels from 16 to 1024")),
        },
    };
    let decoding = app.decoding.clone();
    let make = move || -> Result<Vec<u8>, Fault> {
        let file = file(&catalog.picture(id)?.path)?;
        let _held = decoding.wait(memory_of(&file));
        let limits = Limits { time: Some(DECODE_TIME), ..Limits::default() };
        let decode =
            DecodeOptions { limits, apply_exif_orientation: true, ..DecodeOptions::default() };
        altclip_search::thumbnail(&file, side, &decode)
            .map_err(|error| cannot_show(&error.report()))
    };
    let png = read(&app, &call, make).await??;
    Ok(shown("image/png", png))
}

pub(super) async fn picture(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&[])?;
    let (catalog, id) = (catalog(&app)?, call.number()?);
    let load = move || -> Result<(Format, Vec<u8>), Fault> {
        let file = file(&catalog.picture(id)?.path)?;
        Ok((sniff(&file).map_err(|error| cannot_show(&error.report()))?, file))
    };
    let (format, file) = read(&app, &call, load).await??;
    call.grow(file.len())?;
    let media = match format {
        Format::Jpeg => "image/jpeg",
        Format::Png => "image/png",
        Format::WebP => "image/webp",
        Format::Gif => "image/gif",
        Format::Bmp => "image/bmp",
        Format::Tiff => "image/tiff",
        Format::Pnm => "image/x-portable-anymap",
        Format::Avif => "image/avif",
        Format::Heic => "image/heic",
        _ => "application/octet-stream",
    };
    Ok(shown(media, file))
}

/// A file that the index names, of any kind that the index takes. What it holds now is told to nobody
/// unless it is a picture.
fn file(path: &str) -> Result<Vec<u8>, Fault> {
    let decode = DecodeOptions::default();
    let file = read_file(Path::new(path), &decode).map_err(|error| cannot_show(&error.report()))?;
    sniff(&file).map_err(|error| cannot_show(&error.report()))?;
    Ok(file)
}

/// What decoding a file takes; the most where its head does not say.
fn memory_of(file: &[u8]) -> usize {
    match sniff(file) {
        Ok(Format::Tiff | Format::Pnm) => usize::MAX,
        _ => decoder_bytes(file),
    }
}

fn cannot_show(report: &Report) -> Fault {
    let help = match report.code {
        Code::E4002 => "no decoder of the server reads this kind of picture: convert it",
        _ => "its file is gone or changed since it was indexed: update the index",
    };
    Report::new(report.code, "index", "the picture cannot be shown").help(help).into()
}

fn shown(media: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = respond(media, bytes);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    response
}
