//! Backward forms, each beside the formula of its operation.
//!
//! They are written against the oracle's arithmetic (f64 sums), row by row; the saved tensors are
//! what the formula needs and nothing more.

use super::CpuBackend;
use crate::{Backend, Error, Grads, Op, Result, Saved, Tensor, Weight};

impl CpuBackend {
    pub(super) fn forward_with_saved(&self, op: &Op) -> Result<(Tensor, Saved)> {
        match op {
            Op::LayerNorm { x, eps, .. } => {
                Ok((self.forward(op)?, Saved(vec![self.row_statistics(x, *eps)?])))
            }
            Op::Add { .. } => Ok((self.forward(op)?, Saved::default())),
            _ => Err(Error::Unsupported { op: op.name(), backend: self.name() }),
        }
    }

    pub(super) fn gradients(&self, op: &Op, saved: &Saved, grad: &Tensor) -> Result<Grads> {
        match (op, saved.0.as_slice()) {
            (Op::LayerNorm { x, weight, .. }, [statistics]) => {
                self.layer_norm_backward(x, weight, statistics, grad)
            }
            (Op::Add { .. }, _) => {
                Ok(Grads { inputs: vec![Some(grad.clone()), Some(grad.clone())], weights: vec![] })
            }
            _ => Err(Error::Unsupported { op: op.name(), backend: self.name() }),
        }
    }

    /// Mean and reciprocal standard deviation of each row: `[T, 2]`.
    fn row_statistics(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        let numbers = self.numbers("layer_norm", "x", x)?;
        self.produce(x.rows(), 2, |out| {
            for (row, out) in numbers.chunks_exact(x.cols()).zip(out.chunks_exact_mut(2)) {
                let n = row.len() as f64;
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
                out[0] = mean as f32;
                out[1] = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
            }
            Ok(())
        })
    }

    /// With `n = (x − mean) · rstd` and `g = dy · weight`:
    /// `dx = rstd · (g − mean(g) − n · mean(g · n))`, `dweight = Σ dy · n`, `dbias = Σ dy`.
    fn layer_norm_backward(
        &self,
        x: &Tensor,
        weight: &Weight,
        statistics: &Tensor,
        grad: &Tensor,
    ) -> Result<Grads> {
        const OP: &str = "layer_norm";
        let cols = x.cols();
        let scale = super::vector(OP, "weight", weight, cols)?;
        let (x_numbers, dy) = (self.numbers(OP, "x", x)?, self.numbers(OP, "grad", grad)?);
        let statistics = self.numbers(OP, "statistics", statistics)?;
        let (mut d_weight, mut d_bias) = (vec![0.0f64; cols], vec![0.0f64; cols]);
        let dx = self.produce(x.rows(), cols, |out| {
            let rows = x_numbers
                .chunks_exact(cols)
                .zip(dy.chunks_exact(cols))
                .zip(statistics.chunks_exact(2));
            for (((x, dy), statistics), dx) in rows.zip(out.chunks_exact_mut(cols)) {
                let (mean, rstd) = (f64::from(statistics[0]), f64::from(statistics[1]));
                let n = |i: usize| (f64::from(x[i]) - mean) * rstd;
                let g = |i: usize| f64::from(dy[i]) * f64::from(scale[i]);
                let mean_g = (0..cols).map(g).sum::<f64>() / cols as f64;
                let mean_gn = (0..cols).map(|i| g(i) * n(i)).sum::<f64>() / cols as f64;
                for i in 0..cols {
                    dx[i] = (rstd * (g(i) - mean_g - n(i) * mean_gn)) as f32;
                    d_weight[i] += f64::from(dy[i]) * n(i);
                    d_bias[i] += f64::from(dy[i]);
                }
            }
            Ok(())
        })?;
        let narrow = |sums: &[f64]| sums.iter().map(|&sum| sum as f32).collect::<Vec<_>>();
        Ok(Grads {
            inputs: vec![Some(dx)],
            weights: vec![
                Some(self.tensor(1, cols, &narrow(&d_weight))?),
                Some(self.tensor(1, cols, &narrow(&d_bias))?),
            ],
        })
    }
}
