//! The mean squared error of a student's embeddings: stage 1 of AltCLIP.
//!
//! # Source
//! `torch.nn.functional.mse_loss`; "AltCLIP", arXiv 2211.06679, section 3.1.

use altclip_kernels::Pool;

use crate::parallel::{PIECE, lane_sum, map, tree_sum};

/// The mean of `(student - teacher)²` over all values, and its gradient with respect to `student`.
///
/// # Shapes
/// `student` and `teacher` [B, D].
///
/// # Panics
/// Panics if the lengths differ.
pub fn mse(pool: &Pool, student: &[f32], teacher: &[f32]) -> (f32, Vec<f32>) {
    assert_eq!(student.len(), teacher.len(), "mse: student and teacher differ in length");
    let mut gradient = vec![0.0; student.len()];
    let factor = 2.0 / student.len() as f64;
    let pieces = gradient.chunks_mut(PIECE).zip(student.chunks(PIECE)).zip(teacher.chunks(PIECE));
    let sums = map(pool, pieces.collect(), |((gradient, student), teacher)| {
        let difference = |student: f32, teacher: f32| f64::from(student) - f64::from(teacher);
        for ((gradient, &student), &teacher) in gradient.iter_mut().zip(student).zip(teacher) {
            *gradient = (factor * difference(student, teacher)) as f32;
        }
        lane_sum(student, teacher, |student, teacher| difference(student, teacher).powi(2))
    });
    ((tree_sum(&sums) / student.len() as f64) as f32, gradient)
}
