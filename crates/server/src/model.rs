//! A model as an engine. Its weights are in this process's memory, and nothing of its files is read again.

use crate::Error;
use crate::engine::{About, Engine, Tokens};
use altclip::image::{DecodeOptions, Format, Preprocessor, decode_and_preprocess, sniff};
use altclip::{Embeddings, Model, Similarity};
use altclip_report::{Code, Diagnose, Report};
use std::sync::Arc;
use std::time::Duration;

/// Formats of pictures that are decoded for whoever asks; the command line decodes more.
const SERVED: [Format; 5] = [Format::Jpeg, Format::Png, Format::WebP, Format::Gif, Format::Bmp];

/// Most processor time for decoding a picture.
pub(crate) const DECODE_TIME: Duration = Duration::from_secs(2);

/// An [`Engine`] that is a [`Model`].
pub struct ModelEngine {
    model: Arc<Model>,
    about: About,
    preprocessor: Preprocessor,
    decode: DecodeOptions,
    scale: f32,
}

impl ModelEngine {
    /// The model under a name. Both towers are loaded and used once.
    ///
    /// # Errors
    /// Those of the model; [`Error::NoRows`] where it has no single vector for an input.
    pub fn new(
        model: Arc<Model>,
        name: &str,
        languages: Option<Vec<String>>,
    ) -> Result<Self, Error> {
        if model.similarity() == Similarity::TokenWise {
            return Err(Error::NoRows);
        }
        let preprocessor = model.preprocessor()?;
        let (height, width) = preprocessor.output_size();
        model.encode_text(&["altclip"])?;
        model.features_of_pixels(&vec![0.0; 3 * height * width])?;
        let about = About {
            name: name.to_owned(),
            width: model.opened().config().projection_dim,
            max_length: model.max_length(),
            picture: (height, width),
            precision: model.precision().to_string(),
            languages,
        };
        let scale = model.opened().scale().map_err(altclip::Error::from)?;
        let mut decode = model.options().decode.clone();
        decode.limits.time = Some(DECODE_TIME);
        Ok(Self { model, about, preprocessor, decode, scale })
    }
}

impl Engine for ModelEngine {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokenize(&self, text: &str) -> Result<Tokens, Report> {
        let encoding = self.model.tokenize(text).map_err(|error| error.report())?;
        Ok(Tokens { ids: encoding.input_ids, total: encoding.tokens_total })
    }

    fn preprocess(&self, file: &[u8]) -> Result<Vec<f32>, Report> {
        served(file)?;
        let (height, width) = self.about.picture;
        let mut pixels = vec![0.0; 3 * height * width];
        decode_and_preprocess(file, &self.decode, &self.preprocessor, &mut pixels)
            .map_err(|error| error.report())?;
        Ok(pixels)
    }

    fn encode_ids(&self, ids: &[&[u32]]) -> Result<Vec<f32>, Report> {
        let rows = self.model.features_of_ids(ids).map_err(|error| error.report())?;
        Ok(rows.as_slice().to_vec())
    }

    fn encode_pixels(&self, pixels: &[f32], _count: usize) -> Result<Vec<f32>, Report> {
        let rows = self.model.features_of_pixels(pixels).map_err(|error| error.report())?;
        Ok(rows.as_slice().to_vec())
    }

    fn normalize(&self, rows: Vec<f32>) -> Result<Vec<f32>, Report> {
        let normalized = Embeddings::new(self.about.width, rows)
            .and_then(|rows| self.model.normalize(&rows))
            .map_err(|error| error.report())?;
        Ok(normalized.as_slice().to_vec())
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn model(&self) -> Result<Arc<Model>, Report> {
        Ok(Arc::clone(&self.model))
    }
}

/// Refuses formats that are not decoded for everybody.
pub(crate) fn served(file: &[u8]) -> Result<Format, Report> {
    let format = sniff(file).map_err(|error| error.report())?;
    if SERVED.contains(&format) {
        return Ok(format);
    }
    Err(Report::new(Code::E4002, "image", format!("{format} is not supported by the server"))
        .got(format.name())
        .expected("JPEG, PNG, WebP, GIF or BMP")
        .help("convert the picture"))
}
