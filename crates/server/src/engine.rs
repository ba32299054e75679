//! What turns tokens and pixel values into rows: a model, or whatever takes its place in a test.

use altclip_report::Report;

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name under which clients see it.
    pub name: String,
    /// Numbers of a row, `E`.
    pub width: usize,
    /// Longest text in tokens.
    pub max_length: usize,
    /// Height and width of the pixel values of a picture.
    pub picture: (usize, usize),
    /// What it computes in: `f32`, `bf16`, `int8`.
    pub precision: String,
    /// Languages that it was trained on, where that is known.
    pub languages: Option<Vec<String>>,
}

/// The ids of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// At most [`About::max_length`] of them.
    pub ids: Vec<u32>,
    /// Tokens of the whole text.
    pub total: usize,
}

/// Computes rows. Errors are reports, so that they reach a client in the words of the part that failed.
///
/// Rows are not normalised, `[N, E]`; [`Engine::normalize`] does that. A row must not depend on its
/// neighbours in a batch.
pub trait Engine: Send + Sync + 'static {
    /// What it is.
    fn about(&self) -> &About;

    /// Ids of a text.
    ///
    /// # Errors
    /// The text is refused.
    fn tokenize(&self, text: &str) -> Result<Tokens, Report>;

    /// Pixel values `[3, Y, X]` of a picture file.
    ///
    /// # Errors
    /// The bytes are not a picture that is decoded.
    fn preprocess(&self, file: &[u8]) -> Result<Vec<f32>, Report>;

    /// Rows of texts.
    ///
    /// # Errors
    /// The batch failed.
    fn encode_ids(&self, ids: &[&[u32]]) -> Result<Vec<f32>, Report>;

    /// Rows of pictures, from pixel values `[N, 3, Y, X]`.
    ///
    /// # Errors
    /// The batch failed.
    fn encode_pixels(&self, pixels: &[f32], count: usize) -> Result<Vec<f32>, Report>;

    /// Each row divided by its L2 norm.
    ///
    /// # Errors
    /// A row is zero or not finite.
    fn normalize(&self, rows: Vec<f32>) -> Result<Vec<f32>, Report>;

    /// What a cosine is multiplied by before the softmax.
    fn scale(&self) -> f32;

    /// The model behind it, for what is computed outside of requests: an index that follows its folders.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded.
    fn model(&self) -> Result<std::sync::Arc<altclip::Model>, Report>;
}
