//! Noto Color Emoji: the picture of a sequence out of the font's bitmaps.
//!
//! Joined sequences and flags are ligatures of the font, so the text is shaped; it is drawn by the font if one
//! glyph comes out that is not the one for missing characters.

use harfrust::{Buffer, Font, ShapeOptions, ShaperFont, shape};
use skrifa::bitmap::{BitmapData, BitmapStrikes};
use skrifa::{FontRef, GlyphId};

use crate::Result;

/// The font file.
pub(crate) struct Noto {
    bytes: Vec<u8>,
    font: Font,
}

impl Noto {
    /// Reads the font.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self> {
        let font = Font::new(bytes.clone(), 0).ok_or("the font cannot be read")?;
        Ok(Self { bytes, font })
    }

    /// The PNG of `text`, if the font draws it with one glyph.
    pub(crate) fn png(&self, text: &str) -> Result<Option<&[u8]>> {
        let mut buffer = Buffer::new();
        buffer.push_str(text);
        buffer.guess_segment_properties();
        shape(&ShaperFont::new(&self.font), &mut buffer, ShapeOptions::new())
            .map_err(|error| error.to_string())?;
        let [glyph] = buffer.glyph_infos() else { return Ok(None) };
        if glyph.glyph_id == 0 {
            return Ok(None);
        }
        let font = FontRef::new(&self.bytes).map_err(|error| error.to_string())?;
        let strike = BitmapStrikes::new(&font).iter().next().ok_or("the font has no bitmaps")?;
        Ok(strike.get(GlyphId::new(glyph.glyph_id)).and_then(|glyph| match glyph.data {
            BitmapData::Png(png) => Some(png),
            _ => None,
        }))
    }
}
