//! Pictures inside a page, and sheets of them.

use crate::escape;
use crate::page::sealed::Html;
use altclip_report::{Code, Diagnose, Report};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Why bytes cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes begin like no picture that every browser shows.
    #[error("these {bytes} bytes are no picture that every browser shows")]
    NotAPicture {
        /// How many there are.
        bytes: usize,
    },
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let Error::NotAPicture { bytes } = self;
        Report::new(Code::E4002, "page", self.to_string())
            .place("picture of a page")
            .got(format!("{bytes} bytes"))
            .expected("JPEG, PNG, GIF or WebP")
            .help("convert it to PNG first")
    }
}

/// A picture file as it is, with words for who cannot see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    uri: String,
    alt: String,
}

impl Picture {
    /// A picture of the bytes of its file; `alt` says what it shows.
    ///
    /// # Errors
    /// [`Error::NotAPicture`] unless it begins as JPEG, PNG, GIF or WebP does.
    pub fn new(file: &[u8], alt: &str) -> Result<Self, Error> {
        let media = match file {
            [0xff, 0xd8, 0xff, ..] => "jpeg",
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "png",
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "gif",
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
            _ => return Err(Error::NotAPicture { bytes: file.len() }),
        };
        let uri = format!("data:image/{media};base64,{}", BASE64_STANDARD.encode(file));
        Ok(Self { uri, alt: alt.to_owned() })
    }

    fn img(&self, out: &mut String) {
        // The address is of letters, digits, `+`, `/` and `=` only.
        out.push_str(&format!("<img src=\"{}\" alt=\"", self.uri));
        escape::push(out, &self.alt);
        out.push_str("\">");
    }
}

impl Html for Picture {
    fn html(&self, out: &mut String) {
        out.push_str("<figure class=\"picture\">");
        self.img(out);
        out.push_str("</figure>\n");
    }
}

/// A judgement on a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Right,
    /// Not as it should be.
    Wrong,
}

/// A picture of a sheet with what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    picture: Picture,
    caption: String,
    note: String,
    mark: Option<Mark>,
}

impl Tile {
    /// A picture and its caption.
    pub fn new(picture: Picture, caption: impl Into<String>) -> Self {
        Self { picture, caption: caption.into(), note: String::new(), mark: None }
    }

    /// A second line in small letters, such as a score.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// A judgement, shown as a coloured edge and a sign.
    #[must_use]
    pub fn mark(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }
}

/// Pictures in rows, as many side by side as fit.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    tiles: Vec<Tile>,
}

impl Sheet {
    /// A sheet without pictures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a picture.
    pub fn tile(&mut self, tile: Tile) -> &mut Self {
        self.tiles.push(tile);
        self
    }
}

impl Html for Sheet {
    fn html(&self, out: &mut String) {
        out.push_str("<div class=\"sheet\">\n");
        for tile in &self.tiles {
            let (class, sign) = match tile.mark {
                None => ("", ""),
                Some(Mark::Right) => (" class=\"right\"", "<b>✓</b> "),
                Some(Mark::Wrong) => (" class=\"wrong\"", "<b>✗</b> "),
            };
            out.push_str(&format!("<figure{class}>"));
            tile.picture.img(out);
            out.push_str(&format!("<figcaption dir=\"auto\">{sign}"));
            escape::push(out, &tile.caption);
            if !tile.note.is_empty() {
                out.push_str("<small dir=\"auto\">");
                escape::push(out, &tile.note);
                out.push_str("</small>");
            }
            out.push_str("</figcaption></figure>\n");
        }
        out.push_str("</div>\n");
    }
}
