//! The trait that every device implements, and the short names that models call.

use crate::{Error, Lookup, Op, Result, Segments, Tensor, Weight};
use altclip_kernels::{PackedBf16, PackedI8};
use altclip_report::Report;
use std::ops::Range;
use std::sync::Arc;

/// Where the numbers of one weight come from: rows of f32, read when they are needed.
pub trait RowSource: Send + Sync {
    /// Logical shape `[rows, cols]`; a vector is `[1, n]`.
    fn shape(&self) -> [usize; 2];

    /// Fills `out` (`rows.len() * cols` numbers) with these rows.
    ///
    /// # Errors
    /// Whatever the source has to say: an unreadable file, a number that is not finite.
    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report>;

    /// How this matrix is to be kept, where that is not the backend's own choice.
    fn format(&self) -> Option<Format> {
        None
    }

    /// The matrix as it was packed before, if it was.
    ///
    /// # Errors
    /// As [`RowSource::read_rows`].
    fn packed(&self) -> std::result::Result<Option<Packed>, Report> {
        Ok(None)
    }
}

/// Numbers per value: what the towers compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision: the reference's numbers.
    #[default]
    F32,
    /// `bf16` weights and products, `f32` sums, norms and residuals.
    Bf16,
    /// 8-bit weights and products where that keeps 2 %, else `bf16`.
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// The name: `f32`, `bf16`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How one matrix is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// `f32`.
    F32,
    /// `bf16`.
    Bf16 {
        /// Mean of the inputs, for what rounding does to all of them alike.
        mean: Option<Arc<[f32]>>,
    },
    /// 8 bits.
    Int8 {
        /// Factors of the inputs that move outliers into the weight.
        smoothing: Option<Arc<[f32]>>,
        /// As for `Bf16`.
        mean: Option<Arc<[f32]>>,
    },
}

impl Format {
    /// `bf16` without anything known of the inputs.
    pub const BF16: Self = Self::Bf16 { mean: None };
    /// 8 bits likewise.
    pub const INT8: Self = Self::Int8 { smoothing: None, mean: None };
}

/// A matrix in the layout of the kernels, the same on every processor.
#[derive(Clone, Debug)]
pub enum Packed {
    /// `bf16`.
    Bf16(PackedBf16),
    /// 8 bits.
    Int8(PackedI8),
}

/// How a weight will be used, which decides how the backend prepares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// `[N, K]`, the right side of a matrix product: read whole and packed.
    Matrix,
    /// A matrix where a tower begins or ends: little of the work, and its errors are not evened
    /// out by later layers, so it is never kept in 8 bits.
    Edge,
    /// `[1, D]`: a bias, a norm's weight, a class token.
    Vector,
    /// `[V, D]`, looked up by row: read only where rows are used, so that a word table of 1 GB
    /// costs nothing.
    Table,
}

/// What a forward pass keeps for its backward pass.
#[derive(Clone, Debug, Default)]
pub struct Saved(pub Vec<Tensor>);

/// Which operands of an operation a gradient is wanted of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// In the order of [`Op::inputs`].
    pub inputs: Vec<bool>,
    /// In the order of [`Op::weights`].
    pub weights: Vec<bool>,
}

impl Wanted {
    /// All operands of an operation.
    pub fn all(op: &Op) -> Self {
        Self { inputs: vec![true; op.inputs().len()], weights: vec![true; op.weights().len()] }
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.inputs.iter().chain(&self.weights).any(|&wanted| wanted)
    }

    /// Whether input `nth` is wanted.
    pub fn input(&self, nth: usize) -> bool {
        self.inputs.get(nth).copied().unwrap_or(false)
    }

    /// Whether weight `nth` is wanted.
    pub fn weight(&self, nth: usize) -> bool {
        self.weights.get(nth).copied().unwrap_or(false)
    }
}

/// The gradient of a weight.
#[derive(Clone, Debug)]
pub enum WeightGrad {
    /// Of the weight's logical shape.
    Dense(Tensor),
    /// Of the rows of a table that took part; that of the others is zero.
    Rows {
        /// Row numbers, ascending, each once.
        rows: Arc<[u32]>,
        /// `[rows.len(), D]`
        values: Tensor,
    },
}

/// Gradients of one operation, `None` where none is wanted.
#[derive(Clone, Debug, Default)]
pub struct Grads {
    /// In the order of [`Op::inputs`], same shapes.
    pub inputs: Vec<Option<Tensor>>,
    /// In the order of [`Op::weights`].
    pub weights: Vec<Option<WeightGrad>>,
}

/// A device, or a decorator around one. Object-safe: models hold `&dyn Backend`.
///
/// A backend that lacks an operation returns [`Error::Unsupported`].
pub trait Backend: Send + Sync {
    /// Name for messages: `cpu`, `cuda`.
    fn name(&self) -> &'static str;

    /// A tensor `[rows, cols]` with these numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` has another length.
    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Tensor>;

    /// Prepares a weight for its use.
    ///
    /// # Errors
    /// [`Error::Source`] if the numbers cannot be had.
    fn weight(&self, kind: WeightKind, source: Arc<dyn RowSource>) -> Result<Weight>;

    /// The numbers of a tensor, row-major.
    ///
    /// # Errors
    /// [`Error::ForeignHandle`] if another backend made it.
    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>>;

    /// Executes an operation.
    ///
    /// # Errors
    /// Operands that do not fit, or an operation that this backend lacks.
    fn forward(&self, op: &Op) -> Result<Tensor>;

    /// Executes an operation and keeps what [`Backend::backward`] needs for the wanted gradients. The
    /// result has the bits of [`Backend::forward`].
    ///
    /// # Errors
    /// As [`Backend::forward`]; [`Error::NotTrainable`] for a weight in 8 bits.
    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        let _ = wanted;
        Err(Error::Unsupported { op: op.name(), backend: self.name() })
    }

    /// The wanted gradients of an operation's operands from the gradient of its output, in f32.
    ///
    /// # Errors
    /// As [`Backend::forward_saving`].
    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        let _ = (saved, grad, wanted);
        Err(Error::Unsupported { op: op.name(), backend: self.name() })
    }

    /// Is told by a model that a block ends with `x`, and that nothing behind it needs more of the
    /// block than `x`.
    fn block_end(&self, x: &Tensor) {
        let _ = x;
    }
}

/// Short names for the operations, so that a model reads as its formula.
pub trait Ops {
    /// [`Op::Attention`].
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    fn attention(
        &self,
        q: &Tensor,
        kv: &Tensor,
        heads: usize,
        queries: &Segments,
        keys: &Segments,
        causal: bool,
    ) -> Result<Tensor>;
    /// [`Op::Embed`].
    fn embed(&self, lookups: Vec<Lookup>) -> Result<Tensor>;
    /// [`Op::Rows`].
    fn rows(&self, x: &Tensor, rows: &Arc<[u32]>) -> Result<Tensor>;
    /// [`Op::L2Normalize`].
    fn l2_normalize(&self, x: &Tensor) -> Result<Tensor>;
    /// [`Op::Similarity`].
    fn similarity(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor>;
}

impl<B: Backend + ?Sized> Ops for B {
    fn attention(
        &self,
        q: &Tensor,
        kv: &Tensor,
        heads: usize,
        queries: &Segments,
        keys: &Segments,
        causal: bool,
    ) -> Result<Tensor> {
        self.forward(&Op::Attention {
            q: q.clone(),
            kv: kv.clone(),
            heads,
            queries: queries.clone(),
            keys: keys.clone(),
            causal,
        })
    }

    fn embed(&self, lookups: Vec<Lookup>) -> Result<Tensor> {
        self.forward(&Op::Embed { lookups })
    }

    fn rows(&self, x: &Tensor, rows: &Arc<[u32]>) -> Result<Tensor> {
        self.forward(&Op::Rows { x: x.clone(), rows: rows.clone() })
    }

    fn l2_normalize(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&Op::L2Normalize { x: x.clone() })
    }

    fn similarity(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        self.forward(&Op::Similarity { a: a.clone(), b: b.clone(), scale })
    }
}
