//! Products with weights of reduced precision: inputs are brought into the weight's precision, unless
//! they are kept in it.

use super::CpuBackend;
use super::buffers::{Buffer, TileBuffer};
use crate::{Activation, Error, Packed, Result, Tensor};
use altclip_kernels::{GemmReduced, Out, Quantized, ReducedWeight, RowScale, Source};
use std::sync::Arc;

/// What is added to a product.
pub(super) struct Extras<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) residual: Option<&'a [f32]>,
    /// Give back what the activation is applied to.
    pub(super) keep: bool,
}

impl CpuBackend {
    /// A new compact tensor whose tiles `fill` writes.
    pub(super) fn produce_tiles(
        &self,
        rows: usize,
        cols: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Tensor {
        let mut tiles = self.buffers.take_tiles(rows, cols);
        fill(tiles.as_bytes_mut());
        Tensor::from_storage(rows, cols, Arc::new(tiles))
    }

    /// The rows of a tensor in whichever form it keeps them.
    pub(super) fn source<'t>(
        &self,
        op: &'static str,
        what: &'static str,
        tensor: &'t Tensor,
    ) -> Result<Source<'t>> {
        if let Some(tiles) = tensor.storage::<TileBuffer>() {
            return Ok(Source::Tiles(tiles.tiles()));
        }
        let buffer = tensor.storage::<Buffer>().ok_or(Error::ForeignHandle { op, what })?;
        Ok(Source::Rows(buffer.as_slice()))
    }

    /// `activation(x · weightᵀ + bias) + residual`, compact if it may be.
    pub(super) fn linear_reduced(
        &self,
        x: &Tensor,
        weight: &Packed,
        n: usize,
        extras: &Extras<'_>,
        compact: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (rows, cols) = (x.rows(), x.cols());
        let correction = match weight {
            Packed::Bf16(weight) => weight.correction(),
            Packed::Int8(weight) => weight.correction(),
        };
        let corrected: Option<Vec<f32>> = correction.zip(extras.bias).map(|(correction, bias)| {
            correction.iter().zip(bias).map(|(correction, bias)| correction + bias).collect()
        });
        let bias = corrected.as_deref().or(correction).or(extras.bias);
        let extras = &Extras { bias, ..*extras };
        match (weight, self.source("linear", "x", x)?) {
            (Packed::Bf16(weight), Source::Tiles(tiles)) => {
                self.product(ReducedWeight::Bf16(tiles, weight), [rows, n], extras, compact)
            }
            (Packed::Bf16(weight), Source::Rows(numbers)) => {
                let mut tiles = self.buffers.take_tiles(rows, cols);
                let bytes = tiles.as_bytes_mut();
                self.kernels.pack_tiles(&self.pool, numbers, rows, cols, bytes);
                let operands = ReducedWeight::Bf16(tiles.tiles(), weight);
                self.product(operands, [rows, n], extras, compact)
            }
            (Packed::Int8(weight), source) => {
                let mut bytes = self.buffers.take(Quantized::bytes_of(rows, cols) / 4);
                let mut scales = vec![RowScale::default(); rows];
                let smoothing = weight.smoothing().map(|factors| &**factors);
                let out = bytes.as_bytes_mut();
                self.kernels.quantize(&self.pool, &source, rows, cols, smoothing, out, &mut scales);
                let x = Quantized { bytes: bytes.as_bytes(), scales: &scales, cols };
                self.product(ReducedWeight::I8(x, weight), [rows, n], extras, compact)
            }
        }
    }

    fn product(
        &self,
        operands: ReducedWeight<'_>,
        [rows, n]: [usize; 2],
        extras: &Extras<'_>,
        compact: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let &Extras { bias, activation, residual, keep } = extras;
        let args = GemmReduced { operands, bias, activation, residual };
        let run = |out: Out<'_>, before: Option<Out<'_>>| match before {
            Some(before) => self.kernels.gemm_reduced_keeping(&self.pool, &args, out, before),
            None => self.kernels.gemm_reduced(&self.pool, &args, out),
        };
        if compact {
            let mut before = keep.then(|| self.buffers.take_tiles(rows, n));
            let out = self.produce_tiles(rows, n, |out| {
                run(Out::Tiles(out), before.as_mut().map(|b| Out::Tiles(b.as_bytes_mut())));
            });
            return Ok((out, before.map(|b| Tensor::from_storage(rows, n, Arc::new(b)))));
        }
        let mut before = keep.then(|| self.buffers.take(rows * n));
        let out = self.produce(rows, n, |out| {
            run(Out::Rows(out), before.as_mut().map(|b| Out::Rows(b.as_mut_slice())));
            Ok(())
        })?;
        Ok((out, before.map(|b| Tensor::from_storage(rows, n, Arc::new(b)))))
    }
}
