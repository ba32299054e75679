//! The CPU backend: checks operands, takes a buffer from the pool, calls one kernel.

mod backward;
mod buffers;
mod reduced;
mod weights;

use crate::{
    Backend, Error, Format, Grads, Lookup, Op, Packed, Precision, Result, RowSource, Saved,
    Segments, Tensor, Wanted, Weight, WeightKind,
};
use altclip_kernels::{
    AttentionBf16, AttentionF32, DropoutMask, GemmF32, Isa, Kernels, PackedF32, Pool,
};
use buffers::{Buffer, Buffers, TileBuffer};
use std::ops::Deref;
use std::sync::Arc;
use weights::{Form, Matrix, Preparation, Table, Vector};

/// The CPU, with its own threads and its own pool of buffers.
///
/// # Numerics
/// Results do not depend on the number of threads or on the batch. In f32 they do not depend on the
/// instruction set either; in `bf16` the instruction decides how terms are grouped.
pub struct CpuBackend {
    kernels: &'static Kernels,
    pool: Pool,
    buffers: Arc<Buffers>,
    precision: Precision,
    /// Tables are copied whatever their size.
    own_tables: bool,
}

impl CpuBackend {
    /// A backend with `threads` threads (at least one) and the best kernels of this CPU.
    pub fn new(threads: usize) -> Self {
        Self::with_kernels(threads, Kernels::get())
    }

    /// A backend with the kernels of one instruction set, for tests and comparisons.
    pub fn with_kernels(threads: usize, kernels: &'static Kernels) -> Self {
        Self {
            kernels,
            pool: Pool::new(threads.max(1)),
            buffers: Arc::default(),
            precision: Precision::F32,
            own_tables: false,
        }
    }

    /// The same backend, which copies every table when it prepares it, where it would else read large ones
    /// row by row from their files.
    #[must_use]
    pub fn with_own_tables(mut self) -> Self {
        self.own_tables = true;
        self
    }

    /// The same backend, which prepares matrices in this precision and keeps compact results in
    /// `bf16` unless it is f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The precision of matrices whose source does not ask for another.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// A matrix as it is packed, for a file; `None` for other weights and for f32.
    pub fn packed<'w>(&self, weight: &'w Weight) -> Option<&'w Packed> {
        match &weight.storage::<Matrix>()?.packed {
            Form::F32(_) => None,
            Form::Reduced(packed) => Some(packed),
        }
    }

    /// An f32 matrix in another format.
    ///
    /// # Errors
    /// [`Error::ForeignHandle`] for anything else.
    pub fn repacked(&self, weight: &Weight, format: Format) -> Result<Weight> {
        let source = Arc::new(Repacked { packed: weight.clone(), format });
        source.matrix()?;
        self.weight(WeightKind::Matrix, source)
    }

    /// The largest magnitude in each of the `K` columns of an f32 matrix `[N, K]`.
    ///
    /// # Errors
    /// As [`CpuBackend::repacked`].
    pub fn column_maxima(&self, weight: &Weight) -> Result<Vec<f32>> {
        let source = Repacked { packed: weight.clone(), format: Format::F32 };
        let packed = source.matrix()?;
        let (mut row, mut maxima) = (vec![0.0; packed.k()], vec![0.0f32; packed.k()]);
        for n in 0..packed.n() {
            packed.unpack_row(n, &mut row);
            maxima.iter_mut().zip(&row).for_each(|(max, w)| *max = max.max(w.abs()));
        }
        Ok(maxima)
    }

    /// The kernels and threads, for measurements.
    pub fn kernels(&self) -> (&'static Kernels, &Pool) {
        (self.kernels, &self.pool)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn preparation(&self) -> Preparation<'_> {
        let Self { kernels, pool, buffers, precision, own_tables } = self;
        let (precision, own_tables) = (*precision, *own_tables);
        Preparation { kernels, pool, buffers, precision, own_tables }
    }

    fn numbers<'t>(
        &self,
        op: &'static str,
        what: &'static str,
        tensor: &'t Tensor,
    ) -> Result<Numbers<'t>> {
        if let Some(buffer) = tensor.storage::<Buffer>() {
            return Ok(Numbers::Kept(buffer.as_slice()));
        }
        let tiles = tensor.storage::<TileBuffer>().ok_or(Error::ForeignHandle { op, what })?;
        let mut numbers = self.buffers.take(tensor.rows() * tensor.cols());
        self.kernels.unpack_tiles(&self.pool, &tiles.tiles(), numbers.as_mut_slice());
        Ok(Numbers::Unpacked(numbers))
    }

    /// A new tensor whose numbers `fill` writes; every one of them must be written.
    fn produce(
        &self,
        rows: usize,
        cols: usize,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Tensor> {
        let mut buffer = self.buffers.take(rows * cols);
        fill(buffer.as_mut_slice())?;
        Ok(Tensor::from_storage(rows, cols, Arc::new(buffer)))
    }

    /// The result, and with `keep` also what the activation is applied to.
    fn linear(&self, op: &Op, keep: bool) -> Result<(Tensor, Option<Tensor>)> {
        let Op::Linear { x, weight, bias, activation, residual, compact } = op else {
            unreachable!("dispatched by kind")
        };
        let matrix = stored::<Matrix>("linear", "weight", weight)?;
        let [n, k] = matrix.shape();
        fits("linear", "width of x", k, x.cols())?;
        let bias = bias.as_ref().map(|bias| vector("linear", "bias", bias, n)).transpose()?;
        if let Some(residual) = residual {
            fits("linear", "rows of the residual", x.rows(), residual.rows())?;
            fits("linear", "width of the residual", n, residual.cols())?;
        }
        let residual =
            residual.as_ref().map(|r| self.numbers("linear", "residual", r)).transpose()?;
        let residual = residual.as_deref();
        let packed = match &matrix.packed {
            Form::F32(packed) => packed,
            Form::Reduced(weight) => {
                let extras = reduced::Extras { bias, activation: *activation, residual, keep };
                return self.linear_reduced(x, weight, n, &extras, *compact);
            }
        };
        let args = GemmF32 {
            x: &self.numbers("linear", "x", x)?,
            x_stride: x.cols(),
            m: x.rows(),
            weight: packed,
            bias,
            activation: *activation,
            residual,
        };
        let mut before = None;
        let out = self.produce(x.rows(), n, |out| {
            if keep {
                before = Some(self.produce(x.rows(), n, |before| {
                    self.kernels.gemm_f32_keeping(&self.pool, &args, out, before);
                    Ok(())
                })?);
            } else {
                self.kernels.gemm_f32(&self.pool, &args, out);
            }
            Ok(())
        })?;
        Ok((out, before))
    }

    fn layer_norm(
        &self,
        x: &Tensor,
        (weight, bias): (&Weight, &Weight),
        eps: f32,
        compact: bool,
    ) -> Result<Tensor> {
        let weight = vector("layer_norm", "weight", weight, x.cols())?;
        let bias = vector("layer_norm", "bias", bias, x.cols())?;
        let numbers = &*self.numbers("layer_norm", "x", x)?;
        if compact && self.precision != Precision::F32 {
            return Ok(self.produce_tiles(x.rows(), x.cols(), |out| {
                self.kernels.layer_norm_tiles(&self.pool, numbers, weight, bias, eps, out);
            }));
        }
        self.produce(x.rows(), x.cols(), |out| {
            self.kernels.layer_norm_f32(&self.pool, numbers, weight, bias, eps, out);
            Ok(())
        })
    }

    fn attention(
        &self,
        (q, kv): (&Tensor, &Tensor),
        heads: usize,
        (queries, keys): (&Segments, &Segments),
        causal: bool,
    ) -> Result<Tensor> {
        const OP: &str = "attention";
        let (width, head_size) = (q.cols(), head_size((q, kv), heads, (queries, keys))?);
        if let (Some(q_tiles), Some(kv_tiles)) =
            (q.storage::<TileBuffer>(), kv.storage::<TileBuffer>())
        {
            let args = AttentionBf16 {
                q: q_tiles.tiles(),
                kv: kv_tiles.tiles(),
                query_segments: queries.offsets(),
                key_segments: keys.offsets(),
                heads,
                head_size,
                scale: 1.0 / (head_size as f32).sqrt(),
                causal,
            };
            return Ok(self.produce_tiles(q.rows(), width, |out| {
                self.kernels.attention_bf16(&self.pool, &args, out);
            }));
        }
        let kv_numbers = &*self.numbers(OP, "kv", kv)?;
        let args = AttentionF32 {
            q: &self.numbers(OP, "q", q)?,
            q_stride: width,
            k: kv_numbers,
            k_stride: kv.cols(),
            v: kv_numbers.get(width..).unwrap_or(&[]),
            v_stride: kv.cols(),
            query_segments: queries.offsets(),
            key_segments: keys.offsets(),
            heads,
            head_size,
            scale: 1.0 / (head_size as f32).sqrt(),
            causal,
            key_mask: None,
        };
        self.produce(q.rows(), width, |out| {
            self.kernels.attention_f32(&self.pool, &args, out);
            Ok(())
        })
    }

    fn embed(&self, lookups: &[Lookup]) -> Result<Tensor> {
        let Some(first) = lookups.first() else {
            return Err(Error::Shape {
                op: "embed",
                what: "number of tables",
                expected: 1,
                found: 0,
            });
        };
        let (rows, cols) = (first.ids.len(), first.table.cols());
        let mut row = self.buffers.take(cols);
        self.produce(rows, cols, |out| {
            for (nth, lookup) in lookups.iter().enumerate() {
                fits("embed", "number of ids", rows, lookup.ids.len())?;
                fits("embed", "width of the table", cols, lookup.table.cols())?;
                let table = stored::<Table>("embed", "table", &lookup.table)?;
                for (out, &id) in out.chunks_exact_mut(cols).zip(&*lookup.ids) {
                    if nth == 0 {
                        table.read_row(id, out)?;
                    } else {
                        table.read_row(id, row.as_mut_slice())?;
                        out.iter_mut().zip(row.as_slice()).for_each(|(sum, term)| *sum += term);
                    }
                }
            }
            Ok(())
        })
    }

    fn rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let source = self.source("rows", "x", x)?;
        let cols = x.cols();
        self.produce(rows.len(), cols, |out| {
            for (out, &row) in out.chunks_exact_mut(cols.max(1)).zip(rows) {
                let row = row as usize;
                if row >= x.rows() {
                    return Err(Error::RowOutOfRange { op: "rows", row, rows: x.rows() });
                }
                self.kernels.read_row(&source, row, cols, out);
            }
            Ok(())
        })
    }

    fn patches(
        &self,
        pixels: &Tensor,
        channels: usize,
        [height, width]: [usize; 2],
        patch: usize,
    ) -> Result<Tensor> {
        fits("patches", "numbers of a picture", channels * height * width, pixels.cols())?;
        fits("patches", "remainder of a patch side of zero", 0, usize::from(patch == 0))?;
        let numbers = &*self.numbers("patches", "pixels", pixels)?;
        let (down, across) = (height / patch, width / patch);
        let cols = channels * patch * patch;
        self.produce(pixels.rows() * down * across, cols, |out| {
            // Copying is a hundredth of the product that follows; it is not worth the threads.
            for (index, out) in out.chunks_exact_mut(cols).enumerate() {
                let (picture, patch_index) = (index / (down * across), index % (down * across));
                let (y0, x0) = (patch_index / across * patch, patch_index % across * patch);
                for (line, out) in out.chunks_exact_mut(patch).enumerate() {
                    let (channel, y) = (line / patch, y0 + line % patch);
                    let start = ((picture * channels + channel) * height + y) * width + x0;
                    out.copy_from_slice(&numbers[start..start + patch]);
                }
            }
            Ok(())
        })
    }

    fn dropout(&self, x: &Tensor, (p, seed, offset): (f32, u64, u64)) -> Result<Tensor> {
        fits(
            "dropout",
            "probability that is not in 0.0..1.0",
            0,
            usize::from(!(0.0..1.0).contains(&p)),
        )?;
        let numbers = self.numbers("dropout", "x", x)?;
        let mask = DropoutMask::new(p, seed, offset);
        self.produce(x.rows(), x.cols(), |out| {
            self.kernels.dropout(&self.pool, &mask, &numbers, out);
            Ok(())
        })
    }

    fn class_token(&self, x: &Tensor, class: &Weight, positions: &Weight) -> Result<Tensor> {
        const OP: &str = "class_token";
        let (cols, tokens) = (x.cols(), positions.rows());
        let class = vector(OP, "class", class, cols)?;
        let positions = stored::<Table>(OP, "positions", positions)?.whole()?;
        fits(OP, "width of the positions", tokens * cols, positions.len())?;
        fits(OP, "patches of the last picture", 0, x.rows() % (tokens - 1).max(1))?;
        let numbers = &*self.numbers(OP, "x", x)?;
        let pictures = x.rows() / (tokens - 1).max(1);
        self.produce(pictures * tokens, cols, |out| {
            for (row, out) in out.chunks_exact_mut(cols).enumerate() {
                let (picture, token) = (row / tokens, row % tokens);
                let from = match token.checked_sub(1) {
                    None => class,
                    Some(patch) => &numbers[(picture * (tokens - 1) + patch) * cols..][..cols],
                };
                let position = &positions[token * cols..][..cols];
                out.iter_mut()
                    .zip(from.iter().zip(position))
                    .for_each(|(sum, (a, b))| *sum = a + b);
            }
            Ok(())
        })
    }

    fn similarity(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        fits("similarity", "width of b", a.cols(), b.cols())?;
        let packed = PackedF32::pack(
            self.kernels.isa(),
            &self.numbers("similarity", "b", b)?,
            b.rows(),
            b.cols(),
        );
        let args = GemmF32 {
            x: &self.numbers("similarity", "a", a)?,
            x_stride: a.cols(),
            m: a.rows(),
            weight: &packed,
            bias: None,
            activation: crate::Activation::Identity,
            residual: None,
        };
        self.produce(a.rows(), b.rows(), |out| {
            self.kernels.gemm_f32(&self.pool, &args, out);
            out.iter_mut().for_each(|cosine| *cosine *= scale);
            Ok(())
        })
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Tensor> {
        fits("tensor", "length of the data", rows * cols, data.len())?;
        self.produce(rows, cols, |out| {
            out.copy_from_slice(data);
            Ok(())
        })
    }

    fn weight(&self, kind: WeightKind, source: Arc<dyn RowSource>) -> Result<Weight> {
        self.preparation().weight(kind, source)
    }

    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        Ok(self.numbers("read", "tensor", tensor)?.to_vec())
    }

    fn forward(&self, op: &Op) -> Result<Tensor> {
        match op {
            Op::Linear { .. } => Ok(self.linear(op, false)?.0),
            Op::LayerNorm { x, weight, bias, eps, compact } => {
                self.layer_norm(x, (weight, bias), *eps, *compact)
            }
            Op::Attention { q, kv, heads, queries, keys, causal } => {
                self.attention((q, kv), *heads, (queries, keys), *causal)
            }
            Op::Embed { lookups } => self.embed(lookups),
            Op::Rows { x, rows } => self.rows(x, rows),
            Op::Patches { pixels, channels, size, patch } => {
                self.patches(pixels, *channels, *size, *patch)
            }
            Op::ClassToken { x, class, positions } => self.class_token(x, class, positions),
            Op::L2Normalize { x } => {
                let numbers = &*self.numbers("l2_normalize", "x", x)?;
                self.produce(x.rows(), x.cols(), |out| {
                    self.kernels.l2_normalize_rows(&self.pool, numbers, x.cols(), out);
                    Ok(())
                })
            }
            Op::Similarity { a, b, scale } => self.similarity(a, b, *scale),
            Op::Dropout { x, p, seed, offset } => self.dropout(x, (*p, *seed, *offset)),
            Op::Add { a, b } => {
                fits("add", "rows of b", a.rows(), b.rows())?;
                fits("add", "width of b", a.cols(), b.cols())?;
                let (left, right) = (self.numbers("add", "a", a)?, self.numbers("add", "b", b)?);
                self.produce(a.rows(), a.cols(), |out| {
                    self.kernels.add(&self.pool, &left, &right, out);
                    Ok(())
                })
            }
        }
    }

    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        self.forward_with_saved(op, wanted)
    }

    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        self.gradients(op, saved, grad, wanted)
    }
}

/// The width of a head, where the operands of an attention fit each other.
fn head_size(
    (q, kv): (&Tensor, &Tensor),
    heads: usize,
    (queries, keys): (&Segments, &Segments),
) -> Result<usize> {
    const OP: &str = "attention";
    let width = q.cols();
    fits(OP, "width of keys and values", 2 * width, kv.cols())?;
    fits(OP, "rows of the queries", queries.rows(), q.rows())?;
    fits(OP, "rows of the keys", keys.rows(), kv.rows())?;
    fits(OP, "number of key segments", queries.len(), keys.len())?;
    fits(OP, "remainder of width by heads", 0, if heads == 0 { 1 } else { width % heads })?;
    Ok(width / heads)
}

/// A packed f32 matrix as a source of rows.
struct Repacked {
    packed: Weight,
    format: Format,
}

impl Repacked {
    fn matrix(&self) -> Result<&PackedF32> {
        match &stored::<Matrix>("repack", "weight", &self.packed)?.packed {
            Form::F32(packed) => Ok(packed),
            Form::Reduced(_) => Err(Error::ForeignHandle { op: "repack", what: "weight" }),
        }
    }
}

impl RowSource for Repacked {
    fn shape(&self) -> [usize; 2] {
        [self.packed.rows(), self.packed.cols()]
    }

    fn read_rows(
        &self,
        rows: std::ops::Range<usize>,
        out: &mut [f32],
    ) -> std::result::Result<(), altclip_report::Report> {
        let packed = self.matrix().map_err(|error| altclip_report::Diagnose::report(&error))?;
        for (row, out) in rows.zip(out.chunks_exact_mut(packed.k().max(1))) {
            packed.unpack_row(row, out);
        }
        Ok(())
    }

    fn format(&self) -> Option<Format> {
        Some(self.format.clone())
    }
}

/// The numbers of a tensor as f32 rows.
enum Numbers<'t> {
    Kept(&'t [f32]),
    /// From tiles.
    Unpacked(Buffer),
}

impl Deref for Numbers<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Numbers::Kept(numbers) => numbers,
            Numbers::Unpacked(buffer) => buffer.as_slice(),
        }
    }
}

fn fits(op: &'static str, what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Shape { op, what, expected, found }) }
}

fn stored<'w, S: crate::Storage>(
    op: &'static str,
    what: &'static str,
    weight: &'w Weight,
) -> Result<&'w S> {
    weight.storage().ok_or(Error::ForeignHandle { op, what })
}

fn vector<'w>(
    op: &'static str,
    what: &'static str,
    weight: &'w Weight,
    len: usize,
) -> Result<&'w [f32]> {
    let Vector(numbers) = stored(op, what, weight)?;
    fits(op, what, len, numbers.len())?;
    Ok(numbers)
}
