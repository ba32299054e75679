//! The CLIP image processor: resize, crop to the middle, rescale, normalise.
//!
//! # Source
//! transformers 5.23.0, `CLIPImageProcessorPil` (`image_processing_backends.py`, `PilBackend`) and
//! `image_transforms.py`.

use crate::decode::{DecodeOptions, decode, format_within_limits};
use crate::error::Error;
use crate::resize::{Filter, Window, resize_rows, resize_window};
use crate::resizer::Resizer;
use crate::rgb::{Rgb, zeros};
use crate::sink::{Part, Pixel, Sink, Whole};
use crate::sniff::Format;
use crate::{config, exif, jpeg, normalized};

/// Mean of red, green and blue in the pictures that CLIP was trained on.
pub(crate) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of the same.
pub(crate) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// What size a picture is brought to before the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side gets this length; the longer one follows, its fraction cut off.
    ShortestEdge(u32),
    /// Both sides are set; the picture may be squashed.
    Exact {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// The picture keeps its size.
    None,
}

/// Turns pictures into the input of a vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    resize: Resize,
    filter: Filter,
    /// Rows and columns of the crop.
    crop: Option<(u32, u32)>,
    rescale: Option<f64>,
    normalize: Option<([f64; 3], [f64; 3])>,
    /// Values are normalised before they are resized, as Wukong's authors do it.
    normalize_first: bool,
    /// The output for each of the 256 values of each channel.
    table: Box<[[f32; 256]; 3]>,
}

impl Preprocessor {
    /// CLIP's own settings for square inputs of `size` pixels: bicubic, shortest edge, centre crop.
    pub fn clip(size: u32) -> Self {
        Self::new(
            Resize::ShortestEdge(size),
            Filter::Bicubic,
            Some((size, size)),
            Some(1.0 / 255.0),
            Some((CLIP_MEAN, CLIP_STD)),
        )
    }

    /// The settings of Wukong's authors for square inputs of `size` pixels: CLIP's mean and deviation, but
    /// values are normalised first and resized after that, as OpenCV's cubic does it.
    pub fn wukong(size: u32) -> Self {
        Self::clip(size).normalizing_first()
    }

    pub(crate) fn normalizing_first(self) -> Self {
        Self { normalize_first: true, ..self }
    }

    /// The settings of a `preprocessor_config.json`, in its old shape (`"size": 224`) or its new
    /// one (`"size": {"shortest_edge": 224}`). Fields that are missing have CLIP's values.
    ///
    /// # Errors
    /// [`Error::Config`] where a field is not valid, the processor is not one of CLIP's family, or
    /// pictures would come out in different sizes.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        config::parse(bytes)
    }

    pub(crate) fn new(
        resize: Resize,
        filter: Filter,
        crop: Option<(u32, u32)>,
        rescale: Option<f64>,
        normalize: Option<([f64; 3], [f64; 3])>,
    ) -> Self {
        let table = Box::new(std::array::from_fn(|channel| {
            std::array::from_fn(|value| {
                // The reference multiplies in f64, rounds to f32, then normalises in f32.
                let scaled = match rescale {
                    Some(factor) => (value as f64 * factor) as f32,
                    None => value as f32,
                };
                match normalize {
                    Some((mean, std)) => (scaled - mean[channel] as f32) / std[channel] as f32,
                    None => scaled,
                }
            })
        }));
        Self { resize, filter, crop, rescale, normalize, normalize_first: false, table }
    }

    /// How pictures are resized.
    pub fn resize(&self) -> Resize {
        self.resize
    }

    /// The resampling filter.
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Factor of the rescaling, `None` where there is none.
    pub fn rescale_factor(&self) -> Option<f64> {
        self.rescale
    }

    /// Mean and standard deviation of the channels, `None` where nothing is normalised.
    pub fn mean_std(&self) -> Option<([f64; 3], [f64; 3])> {
        self.normalize
    }

    /// Whether values are normalised before they are resized.
    pub fn normalizes_first(&self) -> bool {
        self.normalize_first
    }

    /// Rows and columns of the output. The same for every picture.
    pub fn output_size(&self) -> (usize, usize) {
        let (height, width) = match (self.crop, self.resize) {
            (Some(crop), _) => crop,
            (None, Resize::Exact { height, width }) => (height, width),
            // `config::parse` and `clip` never make such a preprocessor.
            (None, Resize::ShortestEdge(size)) => (size, size),
            (None, Resize::None) => (0, 0),
        };
        (height as usize, width as usize)
    }

    /// The pixel values of `image`.
    ///
    /// # Shapes
    /// `[3, H, W]` with [`Self::output_size`], red first.
    ///
    /// # Numerics
    /// Bit for bit those of `CLIPImageProcessorPil`; where values are normalised first, OpenCV's to some
    /// units of the last place.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn apply(&self, image: &Rgb) -> Result<Vec<f32>, Error> {
        let (height, width) = self.output_size();
        let mut out = zeros(3 * height * width)?;
        self.apply_into(image, &mut out)?;
        Ok(out)
    }

    /// Writes the pixel values of `image` to `out`, `[3, H, W]`.
    ///
    /// # Errors
    /// [`Error::Pixels`] where `out` has another length, [`Error::Memory`].
    pub fn apply_into(&self, image: &Rgb, out: &mut [f32]) -> Result<(), Error> {
        let mut planes = Planes::new(self, out)?;
        if self.normalize_first {
            return normalized::resize(&self.table, image, &self.placed(image.size()), planes.out);
        }
        if let Some(resizer) = self.resizer(image.size()) {
            return resize_rows(image, &mut resizer?, &mut |row| planes.row(row));
        }
        let crop = self.crop_rgb(image)?;
        let mut pixels = zeros::<Pixel>(crop.width() as usize)?;
        for y in 0..crop.height() {
            for (pixel, &[r, g, b]) in pixels.iter_mut().zip(crop.row(y).as_chunks().0) {
                *pixel = [r, g, b, 0];
            }
            planes.row(&pixels);
        }
        Ok(())
    }

    /// Where the crop of a picture of this size comes from and goes to.
    fn placed(&self, source: (u32, u32)) -> normalized::Placed {
        let size = self.resized(source);
        let (height, width) = self.crop.unwrap_or((size.1, size.0));
        let (across, down) = (Span::new(size.0, width), Span::new(size.1, height));
        normalized::Placed {
            size,
            window: Span::window(&across, &down),
            output: (width as usize, height as usize),
            left: across.pad as usize,
            top: down.pad as usize,
        }
    }

    /// What resizes a picture of this size row by row, where that is possible and fills the crop.
    fn resizer(&self, source: (u32, u32)) -> Option<Result<Resizer, Error>> {
        let (width, height) = self.resized(source);
        let (crop_height, crop_width) = self.crop.unwrap_or((height, width));
        let (across, down) = (Span::new(width, crop_width), Span::new(height, crop_height));
        if (across.len, down.len) != (crop_width, crop_height) {
            return None;
        }
        Resizer::new(source, (width, height), self.filter, Span::window(&across, &down))
    }

    /// The resized and cropped picture before it becomes numbers; zeros around it where it is
    /// smaller than the crop. (Where values are normalised first there is none; this is Pillow's.)
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn crop_rgb(&self, image: &Rgb) -> Result<Rgb, Error> {
        let (width, height) = self.resized(image.size());
        let (crop_height, crop_width) = self.crop.unwrap_or((height, width));
        let across = Span::new(width, crop_width);
        let down = Span::new(height, crop_height);
        let window = Span::window(&across, &down);
        let kept = resize_window(image, width, height, self.filter, window)?;
        if (across.len, down.len) == (crop_width, crop_height) {
            return Ok(kept);
        }
        let stride = 3 * crop_width as usize;
        let mut data = zeros::<u8>(stride * crop_height as usize)?;
        let rows = data.chunks_exact_mut(stride).skip(down.pad as usize);
        for (y, row) in (0..kept.height()).zip(rows) {
            let start = 3 * across.pad as usize;
            let source = kept.row(y);
            if let Some(target) = row.get_mut(start..start + source.len()) {
                target.copy_from_slice(source);
            }
        }
        Rgb::from_raw(crop_width, crop_height, data)
    }

    /// Width and height after resizing.
    fn resized(&self, (width, height): (u32, u32)) -> (u32, u32) {
        match self.resize {
            Resize::Exact { height, width } => (width, height),
            Resize::None => (width, height),
            Resize::ShortestEdge(size) => {
                let (short, long) = (width.min(height), width.max(height));
                if self.normalize_first {
                    let long = normalized::long_side(short, long, size);
                    return if width <= height { (size, long) } else { (long, size) };
                }
                let long = (u64::from(size) * u64::from(long)) as f64 / f64::from(short);
                let long = long as u32;
                if width <= height { (size, long) } else { (long, size) }
            }
        }
    }
}

/// The pixel values of the picture in `bytes`, written to `out` `[3, H, W]`: what [`decode`] and
/// [`Preprocessor::apply_into`] give one after the other, bit for bit, with the same errors.
///
/// Of most JPEG files only the part that is kept is ever made, and never as a whole. After an error
/// `out` holds anything.
///
/// # Errors
/// As [`decode`]; [`Error::Pixels`] where `out` has another length than the output.
pub fn decode_and_preprocess(
    bytes: &[u8],
    options: &DecodeOptions,
    preprocessor: &Preprocessor,
    out: &mut [f32],
) -> Result<(), Error> {
    let planes = Planes::new(preprocessor, out)?;
    let format = format_within_limits(bytes, options)?;
    let turned = options.apply_exif_orientation && exif::orientation(bytes, format) != 1;
    if format != Format::Jpeg || turned || preprocessor.normalize_first {
        return preprocessor.apply_into(&decode(bytes, options)?, out);
    }
    let mut stream = Stream { preprocessor, planes, resizer: None, whole: Whole::default() };
    jpeg::decode_to(bytes, options, &mut stream)?;
    if stream.resizer.is_some() {
        return Ok(());
    }
    preprocessor.apply_into(&stream.whole.into_rgb()?, out)
}

/// The way of a JPEG's rows to pixel values; by way of the whole picture where there is no resizer.
struct Stream<'a> {
    preprocessor: &'a Preprocessor,
    planes: Planes<'a>,
    resizer: Option<Resizer>,
    whole: Whole,
}

impl Sink for Stream<'_> {
    fn begin(&mut self, width: u32, height: u32) -> Result<Part, Error> {
        self.resizer = self.preprocessor.resizer((width, height)).transpose()?;
        match &self.resizer {
            Some(resizer) => Ok(resizer.part()),
            None => self.whole.begin(width, height),
        }
    }

    fn row(&mut self, pixels: &[Pixel]) {
        match &mut self.resizer {
            Some(resizer) => resizer.push(pixels, &mut |row| self.planes.row(row)),
            None => self.whole.row(pixels),
        }
    }
}

/// Writes pixel values row by row.
struct Planes<'a> {
    table: &'a [[f32; 256]; 3],
    width: usize,
    out: &'a mut [f32],
    next: usize,
}

impl<'a> Planes<'a> {
    fn new(preprocessor: &'a Preprocessor, out: &'a mut [f32]) -> Result<Self, Error> {
        let (height, width) = preprocessor.output_size();
        let (found, expected) = (out.len() as u64, 3 * (height * width) as u64);
        if found != expected {
            return Err(Error::Pixels { what: "values of the output", found, expected });
        }
        Ok(Self { table: &preprocessor.table, width, out, next: 0 })
    }

    fn row(&mut self, pixels: &[Pixel]) {
        let area = (self.out.len() / 3).max(1);
        let [red, green, blue] = self.table;
        let mut planes = self.out.chunks_exact_mut(area);
        let mut row = || planes.next().and_then(|plane| plane.get_mut(self.next..));
        if let (Some(r), Some(g), Some(b)) = (row(), row(), row()) {
            let values = r.iter_mut().zip(g).zip(b).take(self.width);
            for (((r, g), b), pixel) in values.zip(pixels) {
                *r = red[usize::from(pixel[0])];
                *g = green[usize::from(pixel[1])];
                *b = blue[usize::from(pixel[2])];
            }
        }
        self.next += self.width;
    }
}

/// The part of one direction that the centre crop keeps.
struct Span {
    /// First kept position.
    start: u32,
    len: u32,
    /// Zeros before it.
    pad: u32,
}

impl Span {
    fn window(across: &Self, down: &Self) -> Window {
        Window { left: across.start, top: down.start, width: across.len, height: down.len }
    }

    fn new(size: u32, crop: u32) -> Self {
        if size >= crop {
            // The reference rounds down; torchvision's crop rounds half to even.
            Self { start: (size - crop) / 2, len: crop, pad: 0 }
        } else {
            Self { start: 0, len: size, pad: (crop - size).div_ceil(2) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_side_is_cut_not_rounded() {
        let clip = Preprocessor::clip(224);
        let resized = |w, h| clip.resized((w, h));
        assert_eq!(resized(640, 480), (298, 224));
        assert_eq!(resized(480, 640), (224, 298));
        assert_eq!(resized(1, 3000), (224, 672_000));
        assert_eq!(resized(3, 3), (224, 224));
    }

    #[test]
    fn the_table_is_computed_as_the_reference_does() {
        let clip = Preprocessor::clip(2);
        // float32(255 * (1/255)) = 1, then (1 - mean) / std in float32.
        let (mean, std) = (CLIP_MEAN.map(|v| v as f32), CLIP_STD.map(|v| v as f32));
        assert_eq!(clip.table[0][255], (1.0 - mean[0]) / std[0]);
        assert_eq!(clip.table[2][0], -mean[2] / std[2]);
    }
}
