//! Tokenizer and image processor of a model, without its weights.

use crate::error::{Fault, detached};
use crate::input;
use crate::model::at;
use crate::watch::Watch;
use altclip::image::{DecodeOptions, Preprocessor};
use altclip::tokenizer::{Encoding, Tokenizer};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList};
use std::path::PathBuf;

/// What makes the inputs of a model.
#[pyclass(frozen, module = "altclip._native")]
pub(crate) struct Processor {
    tokenizer: Tokenizer,
    /// A folder of texts alone has none; a picture then says why.
    preprocessor: Result<Preprocessor, Vec<altclip_report::Report>>,
    path: PathBuf,
}

#[pymethods]
impl Processor {
    /// Those of a model by path, hub id or `nano`.
    #[staticmethod]
    fn load(py: Python<'_>, name: PathBuf) -> PyResult<Self> {
        detached(py, move || {
            let path = altclip_cli::model_folder(&name).map_err(Fault::Reports)?;
            let tokenizer = altclip::tokenizer_in(&path)?;
            let preprocessor = altclip::preprocessor(&path);
            let preprocessor =
                preprocessor.map_err(|error| altclip_report::Diagnose::reports(&error));
            Ok(Self { tokenizer, preprocessor, path })
        })
    }

    /// The folder or packed file.
    #[getter]
    fn folder(&self) -> PathBuf {
        self.path.clone()
    }

    /// The id that fills up shorter texts.
    #[getter]
    fn pad_id(&self) -> u32 {
        self.tokenizer.pad_id()
    }

    /// The token of an id, as the tokenizer's files write it.
    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.token(id)
    }

    /// The ids of texts, one after the other; how many each has; how many it would have untruncated.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        max_length: usize,
    ) -> PyResult<(Bound<'py, PyByteArray>, Vec<usize>, Vec<usize>)> {
        let texts = input::texts(texts).map_err(|fault| fault.into_exception(py))?;
        let encodings = detached(py, || {
            let mut watch = Watch::new(None);
            let encode = |(n, text): (usize, &String)| -> Result<Encoding, Fault> {
                watch.look(n)?;
                let encoding = self.tokenizer.encode(text, max_length);
                encoding.map_err(|error| at("text", n, &error.into()))
            };
            texts.iter().enumerate().map(encode).collect::<Result<Vec<_>, Fault>>()
        })?;
        let lengths = encodings.iter().map(|encoding| encoding.input_ids.len()).collect();
        let totals = encodings.iter().map(|encoding| encoding.tokens_total).collect();
        let ids: Vec<u32> = encodings.into_iter().flat_map(|encoding| encoding.input_ids).collect();
        Ok((input::id_bytes(py, &ids)?, lengths, totals))
    }

    /// Pixel values of pictures, `[N, 3, Y, X]`; Y and X.
    #[pyo3(signature = (pictures, exif_orient=false))]
    fn pixel_values<'py>(
        &self,
        py: Python<'py>,
        pictures: &Bound<'py, PyList>,
        exif_orient: bool,
    ) -> PyResult<(Bound<'py, PyByteArray>, usize, usize)> {
        let pictures = input::pictures(pictures).map_err(|fault| fault.into_exception(py))?;
        let (numbers, height, width) = detached(py, || {
            let preprocessor =
                self.preprocessor.as_ref().map_err(|reports| Fault::Reports(reports.clone()))?;
            let (height, width) = preprocessor.output_size();
            let options =
                DecodeOptions { apply_exif_orientation: exif_orient, ..DecodeOptions::default() };
            let size = 3 * height * width;
            let mut numbers = vec![0.0; pictures.len() * size];
            let mut watch = Watch::new(None);
            for (n, (picture, out)) in
                pictures.into_iter().zip(numbers.chunks_exact_mut(size)).enumerate()
            {
                let done = picture.preprocess(&options, preprocessor, out);
                done.map_err(|error| at("image", n, &error))?;
                watch.look(n + 1)?;
            }
            Ok((numbers, height, width))
        })?;
        Ok((input::bytes(py, &numbers)?, height, width))
    }
}
