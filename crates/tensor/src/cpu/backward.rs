//! Backward forms, each beside the formula of its operation.
//!
//! What a forward pass keeps is what an activation was applied to; everything else is computed again
//! from the operands, which the record of an operation holds anyway.

use super::reduced::Extras;
use super::weights::{Form, Matrix, Table, always};
use super::{Buffer, CpuBackend, fits, head_size, stored, vector};
use crate::{
    Activation, Backend, Error, Grads, Lookup, Op, Packed, Precision, Result, Saved, Segments,
    Tensor, Wanted, Weight, WeightGrad,
};
use altclip_kernels::{
    AttentionBf16, AttentionF32, AttentionGradients, DropoutMask, GemmF32, Source,
};
use std::sync::Arc;

impl CpuBackend {
    pub(super) fn forward_with_saved(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        self.buffers.keep_peak();
        let Op::Linear { weight, activation, .. } = op else {
            return Ok((self.forward(op)?, Saved::default()));
        };
        if let Form::Reduced(Packed::Int8(_)) = stored::<Matrix>("linear", "weight", weight)?.packed
        {
            return Err(Error::NotTrainable { op: "linear", precision: Precision::Int8 });
        }
        // A residual's gradient passes by the activation.
        let keep = *activation != Activation::Identity && (wanted.input(0) || any(&wanted.weights));
        let (out, before) = self.linear(op, keep)?;
        Ok((out, Saved(before.into_iter().collect())))
    }

    pub(super) fn gradients(
        &self,
        op: &Op,
        saved: &Saved,
        grad: &Tensor,
        wanted: &Wanted,
    ) -> Result<Grads> {
        let inputs = match op {
            Op::Linear { .. } => return self.linear_backward(op, saved, grad, wanted),
            Op::LayerNorm { x, weight, eps, .. } => {
                return self.layer_norm_backward(x, weight, *eps, grad, wanted);
            }
            Op::Embed { lookups } => return self.embed_backward(lookups, grad, wanted),
            Op::ClassToken { x, positions, .. } => {
                return self.class_token_backward(x, positions, grad, wanted);
            }
            Op::Attention { q, kv, heads, queries, keys, causal } => {
                self.attention_backward((q, kv), *heads, (queries, keys), *causal, grad)?
            }
            Op::Rows { x, rows } => vec![self.rows_backward(x, rows, grad)?],
            Op::Patches { pixels, channels, size, patch } => {
                vec![self.patches_backward(pixels, *channels, *size, *patch, grad)?]
            }
            Op::L2Normalize { x } => vec![self.l2_normalize_backward(x, grad)?],
            Op::Similarity { a, b, scale } => self.similarity_backward((a, b), *scale, grad)?,
            Op::Dropout { x, p, seed, offset } => {
                fits(
                    "dropout",
                    "numbers of the gradient",
                    x.rows() * x.cols(),
                    grad.rows() * grad.cols(),
                )?;
                let mask = DropoutMask::new(*p, *seed, *offset);
                let dy = self.numbers("dropout", "grad", grad)?;
                vec![self.produce(x.rows(), x.cols(), |out| {
                    self.kernels.dropout(&self.pool, &mask, &dy, out);
                    Ok(())
                })?]
            }
            Op::Add { .. } => vec![grad.clone(), grad.clone()],
        };
        let inputs = inputs.into_iter().zip(&wanted.inputs);
        let inputs = inputs.map(|(grad, wanted)| wanted.then_some(grad)).collect();
        Ok(Grads { inputs, weights: vec![] })
    }

    /// With `z = x · Wᵀ + bias` and `dz = dy · act'(z)`: `dx = dz · W`, `dW = dzᵀ · x`,
    /// `dbias = Σ dz`, and the residual's gradient is `dy`.
    fn linear_backward(
        &self,
        op: &Op,
        saved: &Saved,
        grad: &Tensor,
        wanted: &Wanted,
    ) -> Result<Grads> {
        const OP: &str = "linear";
        let Op::Linear { x, weight, bias, activation, residual, .. } = op else {
            unreachable!("dispatched by kind")
        };
        let mut grads =
            Grads { inputs: vec![None], weights: vec![None; 1 + usize::from(bias.is_some())] };
        if residual.is_some() {
            grads.inputs.push(wanted.input(1).then(|| grad.clone()));
        }
        if !wanted.input(0) && !any(&wanted.weights) {
            return Ok(grads);
        }
        let matrix = stored::<Matrix>(OP, "weight", weight)?;
        fits(OP, "rows of the gradient", x.rows(), grad.rows())?;
        fits(OP, "width of the gradient", weight.rows(), grad.cols())?;
        let before = match activation {
            Activation::Identity => None,
            _ => Some(saved.0.first().ok_or(Error::ForeignHandle { op: OP, what: "saved" })?),
        };
        let dz = match &matrix.packed {
            Form::F32(_) => self.slope_rows(*activation, before, grad)?,
            Form::Reduced(_) => self.slope_tiles(*activation, before, grad)?,
        };
        if wanted.input(0) {
            grads.inputs[0] = Some(self.times(&dz, matrix.transposed(self.preparation())?)?);
        }
        if wanted.weight(0) {
            let (n, k) = (weight.rows(), weight.cols());
            let across = self.transposed(&dz)?;
            let columns = self.columns(x, matches!(matrix.packed, Form::Reduced(_)))?;
            fits(OP, "width of x", k, x.cols())?;
            debug_assert_eq!(across.rows(), n);
            grads.weights[0] = Some(WeightGrad::Dense(self.times(&across, &columns)?));
        }
        if wanted.weight(1) {
            // Of the gradient itself where nothing was applied to it: dz may be rounded.
            let of = if before.is_some() { &dz } else { grad };
            grads.weights[1] = Some(WeightGrad::Dense(self.column_sums(of)?));
        }
        Ok(grads)
    }

    /// `dy · act'(z)` as rows.
    fn slope_rows(
        &self,
        activation: Activation,
        z: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let Some(z) = z else { return Ok(grad.clone()) };
        let (z, dy) = (self.numbers("linear", "saved", z)?, self.numbers("linear", "grad", grad)?);
        self.produce(grad.rows(), grad.cols(), |out| {
            self.kernels.activation_backward_f32(&self.pool, activation, &z, &dy, out);
            Ok(())
        })
    }

    /// `dy · act'(z)` as tiles.
    fn slope_tiles(
        &self,
        activation: Activation,
        z: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let (rows, cols) = (grad.rows(), grad.cols());
        let z = z.map(|z| self.source("linear", "saved", z)).transpose()?;
        let dy = self.numbers("linear", "grad", grad)?;
        Ok(self.produce_tiles(rows, cols, |out| match &z {
            Some(z) => {
                let (kernels, pool) = (self.kernels, &self.pool);
                kernels.activation_backward_tiles(pool, activation, z, &dy, rows, cols, out);
            }
            None => self.kernels.pack_tiles(&self.pool, &dy, rows, cols, out),
        }))
    }

    /// `x · Wᵀ` in f32.
    fn times(&self, x: &Tensor, weight: &Form) -> Result<Tensor> {
        let (bias, activation, residual) = (None, Activation::Identity, None);
        match weight {
            Form::F32(packed) => {
                let (m, x_stride) = (x.rows(), x.cols());
                let x = &self.numbers("linear", "x", x)?;
                let args = GemmF32 { x, x_stride, m, weight: packed, bias, activation, residual };
                self.produce(m, packed.n(), |out| {
                    self.kernels.gemm_f32(&self.pool, &args, out);
                    Ok(())
                })
            }
            Form::Reduced(packed) => {
                let n = match packed {
                    Packed::Bf16(packed) => packed.n(),
                    Packed::Int8(packed) => packed.n(),
                };
                let extras = Extras { bias, activation, residual, keep: false };
                Ok(self.linear_reduced(x, packed, n, &extras, false)?.0)
            }
        }
    }

    /// `xᵀ`, rows of rows and tiles of tiles.
    fn transposed(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, cols) = (x.rows(), x.cols());
        match self.source("transpose", "x", x)? {
            Source::Tiles(tiles) => Ok(self.produce_tiles(cols, rows, |out| {
                self.kernels.transpose_tiles(&self.pool, &tiles, out);
            })),
            Source::Rows(x) => self.produce(cols, rows, |out| {
                self.kernels.transpose_f32(&self.pool, x, rows, cols, out);
                Ok(())
            }),
        }
    }

    /// `xᵀ` as the right side of a product, in a buffer of the pool.
    fn columns(&self, x: &Tensor, bf16: bool) -> Result<Form> {
        const OP: &str = "transpose";
        let (rows, cols) = (x.rows(), x.cols());
        let (kernels, pool) = (self.kernels, &self.pool);
        if bf16 {
            let source = self.source(OP, "x", x)?;
            return Ok(always(self.preparation().bf16(cols, rows, |out| {
                kernels.pack_columns_bf16(pool, &source, rows, cols, out);
                Ok(())
            })));
        }
        let numbers = self.numbers(OP, "x", x)?;
        Ok(always(self.preparation().f32(cols, rows, |out| {
            kernels.pack_columns_f32(pool, &numbers, rows, cols, out);
            Ok(())
        })))
    }

    fn column_sums(&self, x: &Tensor) -> Result<Tensor> {
        let source = self.source("sum", "x", x)?;
        self.produce(1, x.cols(), |out| {
            self.kernels.column_sums(&self.pool, &source, x.rows(), out);
            Ok(())
        })
    }

    fn layer_norm_backward(
        &self,
        x: &Tensor,
        weight: &Weight,
        eps: f32,
        grad: &Tensor,
        wanted: &Wanted,
    ) -> Result<Grads> {
        const OP: &str = "layer_norm";
        let cols = x.cols();
        fits(OP, "numbers of the gradient", x.rows() * cols, grad.rows() * grad.cols())?;
        let scale = vector(OP, "weight", weight, cols)?;
        let (x_numbers, dy) = (self.numbers(OP, "x", x)?, self.numbers(OP, "grad", grad)?);
        let mut d_weight = self.buffers.take(cols);
        let mut d_bias = self.buffers.take(cols);
        let dx = self.produce(x.rows(), cols, |dx| {
            let sums = [d_weight.as_mut_slice(), d_bias.as_mut_slice()];
            self.kernels.layer_norm_backward(&self.pool, &x_numbers, &dy, scale, eps, dx, sums);
            Ok(())
        })?;
        let dense = |buffer, nth: usize| {
            let tensor = Tensor::from_storage(1, cols, Arc::<Buffer>::new(buffer));
            wanted.weight(nth).then_some(WeightGrad::Dense(tensor))
        };
        Ok(Grads {
            inputs: vec![wanted.input(0).then_some(dx)],
            weights: vec![dense(d_weight, 0), dense(d_bias, 1)],
        })
    }

    fn attention_backward(
        &self,
        (q, kv): (&Tensor, &Tensor),
        heads: usize,
        (queries, keys): (&Segments, &Segments),
        causal: bool,
        grad: &Tensor,
    ) -> Result<Vec<Tensor>> {
        const OP: &str = "attention";
        let (width, head_size) = (q.cols(), head_size((q, kv), heads, (queries, keys))?);
        fits(OP, "numbers of the gradient", q.rows() * width, grad.rows() * grad.cols())?;
        let mut dkv = self.buffers.take(kv.rows() * kv.cols());
        if let (Source::Tiles(q_tiles), Source::Tiles(kv_tiles)) =
            (self.source(OP, "q", q)?, self.source(OP, "kv", kv)?)
        {
            let args = AttentionBf16 {
                q: q_tiles,
                kv: kv_tiles,
                query_segments: queries.offsets(),
                key_segments: keys.offsets(),
                heads,
                head_size,
                scale: 1.0 / (head_size as f32).sqrt(),
                causal,
            };
            let dy = self.slope_tiles(Activation::Identity, None, grad)?;
            let Source::Tiles(dy) = self.source(OP, "grad", &dy)? else {
                return Err(Error::ForeignHandle { op: OP, what: "grad" });
            };
            let dq = self.produce(q.rows(), width, |dq| {
                let mut out = AttentionGradients { dq, dkv: dkv.as_mut_slice() };
                self.kernels.attention_backward_bf16(&self.pool, &args, &dy, &mut out);
                Ok(())
            })?;
            return Ok(vec![dq, Tensor::from_storage(kv.rows(), kv.cols(), Arc::new(dkv))]);
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
        let dy = self.numbers(OP, "grad", grad)?;
        let dq = self.produce(q.rows(), width, |dq| {
            let mut out = AttentionGradients { dq, dkv: dkv.as_mut_slice() };
            self.kernels.attention_backward_f32(&self.pool, &args, &dy, &mut out);
            Ok(())
        })?;
        Ok(vec![dq, Tensor::from_storage(kv.rows(), kv.cols(), Arc::new(dkv))])
    }

    /// The gradient of each table: for each of its rows that took part, the sum over its places.
    fn embed_backward(&self, lookups: &[Lookup], grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        let dy = self.numbers("embed", "grad", grad)?;
        let of = |(nth, lookup): (usize, &Lookup)| {
            if !wanted.weight(nth) {
                return Ok(None);
            }
            fits("embed", "rows of the gradient", lookup.ids.len(), grad.rows())?;
            fits("embed", "width of the gradient", lookup.table.cols(), grad.cols())?;
            let mut places: Vec<u32> = (0..grad.rows() as u32).collect();
            places.sort_by_key(|&place| lookup.ids[place as usize]);
            let (mut rows, mut starts) = (Vec::new(), Vec::new());
            for (at, &place) in places.iter().enumerate() {
                let id = lookup.ids[place as usize];
                if rows.last() != Some(&id) {
                    rows.push(id);
                    starts.push(at);
                }
            }
            starts.push(places.len());
            let values = self.produce(rows.len(), grad.cols(), |out| {
                let groups: (&[u32], &[usize]) = (&places, &starts);
                self.kernels.sum_rows(&self.pool, &dy, grad.cols(), groups, out);
                Ok(())
            })?;
            Ok(Some(WeightGrad::Rows { rows: rows.into(), values }))
        };
        let weights = lookups.iter().enumerate().map(of).collect::<Result<_>>()?;
        Ok(Grads { inputs: vec![], weights })
    }

    /// Each row's gradient is the sum over its copies.
    fn rows_backward(&self, x: &Tensor, rows: &[u32], grad: &Tensor) -> Result<Tensor> {
        let cols = x.cols();
        fits("rows", "numbers of the gradient", rows.len() * cols, grad.rows() * grad.cols())?;
        let dy = self.numbers("rows", "grad", grad)?;
        self.produce(x.rows(), cols, |dx| {
            dx.fill(0.0);
            for (dy, &row) in dy.chunks_exact(cols.max(1)).zip(rows) {
                let dx = dx.chunks_exact_mut(cols.max(1)).nth(row as usize);
                let error = Error::RowOutOfRange { op: "rows", row: row as usize, rows: x.rows() };
                dx.ok_or(error)?.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
            Ok(())
        })
    }

    /// Each pixel's gradient is that of its copy; what is in no patch gets zero.
    fn patches_backward(
        &self,
        pixels: &Tensor,
        channels: usize,
        [height, width]: [usize; 2],
        patch: usize,
        grad: &Tensor,
    ) -> Result<Tensor> {
        const OP: &str = "patches";
        fits(OP, "numbers of a picture", channels * height * width, pixels.cols())?;
        fits(OP, "remainder of a patch side of zero", 0, usize::from(patch == 0))?;
        let (down, across) = (height / patch, width / patch);
        fits(OP, "rows of the gradient", pixels.rows() * down * across, grad.rows())?;
        fits(OP, "width of the gradient", channels * patch * patch, grad.cols())?;
        let dy = self.numbers(OP, "grad", grad)?;
        self.produce(pixels.rows(), pixels.cols(), |out| {
            out.fill(0.0);
            for (index, dy) in dy.chunks_exact(grad.cols().max(1)).enumerate() {
                let (picture, at) = (index / (down * across), index % (down * across));
                let (y0, x0) = (at / across * patch, at % across * patch);
                for (line, dy) in dy.chunks_exact(patch).enumerate() {
                    let (channel, y) = (line / patch, y0 + line % patch);
                    let start = ((picture * channels + channel) * height + y) * width + x0;
                    out[start..start + patch].copy_from_slice(dy);
                }
            }
            Ok(())
        })
    }

    /// Patches get the gradients of their rows; the class token and the positions the sums over
    /// pictures.
    fn class_token_backward(
        &self,
        x: &Tensor,
        positions: &Weight,
        grad: &Tensor,
        wanted: &Wanted,
    ) -> Result<Grads> {
        const OP: &str = "class_token";
        let (cols, tokens) = (x.cols(), positions.rows());
        stored::<Table>(OP, "positions", positions)?;
        fits(OP, "width of the gradient", cols, grad.cols())?;
        fits(OP, "rows of the last picture", 0, grad.rows() % tokens.max(1))?;
        let pictures = grad.rows() / tokens.max(1);
        fits(OP, "patches of all pictures", pictures * tokens.saturating_sub(1), x.rows())?;
        let dy = self.numbers(OP, "grad", grad)?;
        let picture = tokens * cols;
        let dx = self.produce(x.rows(), cols, |dx| {
            let patches = picture.saturating_sub(cols).max(1);
            for (dx, dy) in dx.chunks_exact_mut(patches).zip(dy.chunks_exact(picture.max(1))) {
                dx.copy_from_slice(&dy[cols..]);
            }
            Ok(())
        })?;
        // A picture is one long row.
        let sums = self.produce(tokens, cols, |out| {
            self.kernels.column_sums(&self.pool, &Source::Rows(&dy), pictures, out);
            Ok(())
        })?;
        let class = self.numbers(OP, "sums", &sums)?.get(..cols).unwrap_or(&[]).to_vec();
        let class = self.tensor(1, cols, &class)?;
        let dense = |tensor, nth| wanted.weight(nth).then_some(WeightGrad::Dense(tensor));
        Ok(Grads {
            inputs: vec![wanted.input(0).then_some(dx)],
            weights: vec![dense(class, 0), dense(sums, 1)],
        })
    }

    /// With `y = x / ‖x‖`: `dx = (dy - y · (y·dy)) / ‖x‖`.
    fn l2_normalize_backward(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        const OP: &str = "l2_normalize";
        let cols = x.cols();
        fits(OP, "numbers of the gradient", x.rows() * cols, grad.rows() * grad.cols())?;
        let (x_numbers, dy) = (self.numbers(OP, "x", x)?, self.numbers(OP, "grad", grad)?);
        self.produce(x.rows(), cols, |out| {
            let rows = x_numbers.chunks_exact(cols.max(1)).zip(dy.chunks_exact(cols.max(1)));
            for ((x, dy), out) in rows.zip(out.chunks_exact_mut(cols.max(1))) {
                let squared = self.kernels.dot(x, x);
                let (norm, along) = (squared.sqrt(), self.kernels.dot(x, dy) / squared);
                let terms = x.iter().zip(dy);
                out.iter_mut().zip(terms).for_each(|(dx, (x, dy))| *dx = (dy - x * along) / norm);
            }
            Ok(())
        })
    }

    /// `da = scale · g · b`, `db = scale · gᵀ · a`.
    fn similarity_backward(
        &self,
        (a, b): (&Tensor, &Tensor),
        scale: f32,
        grad: &Tensor,
    ) -> Result<Vec<Tensor>> {
        const OP: &str = "similarity";
        fits(OP, "rows of the gradient", a.rows(), grad.rows())?;
        fits(OP, "width of the gradient", b.rows(), grad.cols())?;
        let dy = self.numbers(OP, "grad", grad)?;
        let scaled = self.produce(grad.rows(), grad.cols(), |out| {
            out.iter_mut().zip(&*dy).for_each(|(out, dy)| *out = dy * scale);
            Ok(())
        })?;
        let da = self.times(&scaled, &self.columns(b, false)?)?;
        let db = self.times(&self.transposed(&scaled)?, &self.columns(a, false)?)?;
        Ok(vec![da, db])
    }
}

fn any(wanted: &[bool]) -> bool {
    wanted.iter().any(|&wanted| wanted)
}
