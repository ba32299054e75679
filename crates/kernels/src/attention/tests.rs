//! Attention against the oracle, and against itself: segments, masks, threads, levels.

use super::*;
use crate::reference;
use crate::testing::{Bound, Random, Runner, assert_same_bits};

/// Buffers of a call; q, k and v are columns of wider rows.
struct Case {
    qkv_stride: usize,
    q: Vec<f32>,
    kv: Vec<f32>,
    query_segments: Vec<usize>,
    key_segments: Vec<usize>,
    heads: usize,
    head_size: usize,
    causal: bool,
    key_mask: Option<Vec<bool>>,
}

impl Case {
    fn new(
        queries: &[usize],
        keys: &[usize],
        heads: usize,
        size: usize,
        random: &mut Random,
    ) -> Self {
        let offsets = |lens: &[usize]| {
            let mut at = 0;
            let ends = lens.iter().map(|len| {
                at += len;
                at
            });
            std::iter::once(0).chain(ends).collect::<Vec<_>>()
        };
        let (query_segments, key_segments) = (offsets(queries), offsets(keys));
        let stride = 2 * heads * size + 3;
        Case {
            qkv_stride: stride,
            q: random.values(queries.iter().sum::<usize>() * stride),
            kv: random.values(keys.iter().sum::<usize>() * stride),
            query_segments,
            key_segments,
            heads,
            head_size: size,
            causal: false,
            key_mask: None,
        }
    }

    fn args(&self) -> AttentionF32<'_> {
        let width = self.heads * self.head_size;
        AttentionF32 {
            q: &self.q,
            q_stride: self.qkv_stride,
            k: &self.kv,
            k_stride: self.qkv_stride,
            v: self.kv.get(width..).unwrap_or(&[]),
            v_stride: self.qkv_stride,
            query_segments: &self.query_segments,
            key_segments: &self.key_segments,
            heads: self.heads,
            head_size: self.head_size,
            // Larger than usual, so that weights differ much.
            scale: 3.0 / (self.head_size as f32).sqrt(),
            causal: self.causal,
            key_mask: self.key_mask.as_deref(),
        }
    }

    fn run(&self, kernels: &Kernels, pool: &Pool) -> Vec<f32> {
        let queries = self.query_segments.last().copied().unwrap_or(0);
        let mut out = vec![f32::NAN; queries * self.heads * self.head_size];
        kernels.attention_f32(pool, &self.args(), &mut out);
        out
    }

    fn check(&self, runner: &Runner) -> Vec<f32> {
        let expected = reference::attention(&self.args());
        let name = format!(
            "attention of {:?} to {:?}, {} heads of {}, causal {}",
            self.query_segments, self.key_segments, self.heads, self.head_size, self.causal
        );
        // Scores are below 3 · sqrt(head_size) with an error below head_size · 2^-24 of that, and
        // weights take over the absolute error of scores as a relative one; values are below 1.
        let size = self.head_size as f64;
        let keys = self.key_segments.last().copied().unwrap_or(0) as f64;
        let bound = (size * 3.0 * size.sqrt() + keys + 16.0) * 2f64.powi(-24);
        let op = |kernels: &Kernels, pool: &Pool| self.run(kernels, pool);
        runner.check(&name, &expected, &Bound::Absolute(bound), &op)
    }
}

#[test]
fn every_shape_agrees_with_the_oracle() {
    let runner = Runner::new();
    let mut random = Random::new(1);
    for size in [1, 8, 16, 17, 64, 80] {
        for (queries, keys) in [
            (&[1][..], &[1][..]),
            (&[7], &[7]),
            (&[3, 0, 5], &[20, 4, 0]),
            (&[1, 1], &[17, 65]),
            (&[13, 2], &[2, 70]),
            (&[50], &[50]),
        ] {
            for causal in [false, true] {
                let mut case = Case::new(queries, keys, 2, size, &mut random);
                case.causal = causal;
                case.check(&runner);
                let mask = (0..keys.iter().sum()).map(|_| random.below(3) > 0).collect();
                case.key_mask = Some(mask);
                case.check(&runner);
            }
        }
    }
}

#[test]
fn long_segments_agree_with_the_oracle() {
    // More than one block of queries and more than one panel of keys.
    let runner = Runner::new();
    let mut random = Random::new(2);
    Case::new(&[257], &[257], 1, 16, &mut random).check(&runner);
}

#[test]
fn a_segment_has_the_same_bits_alone() {
    let runner = Runner::new();
    let mut random = Random::new(3);
    let mut case = Case::new(&[5, 130, 1, 33], &[5, 130, 40, 33], 2, 8, &mut random);
    for causal in [false, true] {
        case.causal = causal;
        let together = case.check(&runner);
        for segment in 0..4 {
            let q = case.query_segments[segment]..case.query_segments[segment + 1];
            let k = case.key_segments[segment]..case.key_segments[segment + 1];
            let stride = case.qkv_stride;
            let alone = Case {
                q: case.q[q.start * stride..q.end * stride].to_vec(),
                kv: case.kv[k.start * stride..k.end * stride].to_vec(),
                query_segments: vec![0, q.len()],
                key_segments: vec![0, k.len()],
                key_mask: None,
                ..case
            };
            let found = runner.same_bits("one segment", &|kernels, pool| alone.run(kernels, pool));
            assert_same_bits("alone and together", &found, &together[q.start * 16..q.end * 16]);
        }
    }
}

#[test]
fn one_query_has_the_same_bits_as_all() {
    // The last layer of a tower asks for the first row alone.
    let mut random = Random::new(4);
    let case = Case::new(&[77], &[77], 2, 16, &mut random);
    let pool = Pool::new(2);
    for kernels in Runner::new().kernels() {
        let all = case.run(kernels, &pool);
        let first = Case {
            q: case.q.clone(),
            kv: case.kv.clone(),
            query_segments: vec![0, 1],
            key_segments: vec![0, 77],
            key_mask: None,
            ..case
        };
        assert_same_bits("first row", &first.run(kernels, &pool), &all[..32]);
    }
}

#[test]
fn a_hidden_key_leaves_no_trace() {
    let runner = Runner::new();
    let mut random = Random::new(5);
    for causal in [false, true] {
        let mut plain = Case::new(&[20], &[20], 2, 16, &mut random);
        plain.causal = causal;
        let expected = plain.check(&runner);
        // The same keys with hidden ones behind, full of NaN.
        let mut padded = Case { key_segments: vec![0, 30], causal: false, ..plain };
        padded.kv.resize(30 * padded.qkv_stride, f32::NAN);
        padded.key_mask = Some((0..30).map(|row| row < 20).collect());
        if !causal {
            let op = |kernels: &Kernels, pool: &Pool| padded.run(kernels, pool);
            assert_same_bits("padded", &runner.same_bits("padded", &op), &expected);
        }
    }
}

#[test]
fn the_future_leaves_no_trace() {
    let runner = Runner::new();
    let mut random = Random::new(6);
    let mut case = Case::new(&[23], &[23], 1, 16, &mut random);
    case.causal = true;
    let clean = case.check(&runner);
    for (row, bad) in [(9, f32::NAN), (10, f32::INFINITY), (22, f32::NEG_INFINITY)] {
        let stride = case.qkv_stride;
        let saved = case.kv.clone();
        case.kv[row * stride..(row + 1) * stride].fill(bad);
        let found = runner.same_bits("future", &|kernels, pool| case.run(kernels, pool));
        assert_same_bits("before the bad row", &found[..row * 16], &clean[..row * 16]);
        assert!(found[row * 16..].iter().all(|x| x.is_nan()), "behind the bad row");
        case.kv = saved;
    }
}

#[test]
fn a_query_without_keys_gives_zeros() {
    let runner = Runner::new();
    let mut random = Random::new(7);
    let mut case = Case::new(&[4], &[3], 1, 8, &mut random);
    case.key_mask = Some(vec![false; 3]);
    assert!(case.check(&runner).iter().all(|&x| x == 0.0));
    // Four causal queries to three keys: the first sees none.
    case.key_mask = None;
    case.causal = true;
    let found = case.check(&runner);
    assert!(found[..8].iter().all(|&x| x == 0.0) && found[8] != 0.0);
}

#[test]
fn large_scores_do_not_overflow() {
    let runner = Runner::new();
    let mut random = Random::new(8);
    let mut case = Case::new(&[9], &[30], 1, 16, &mut random);
    case.q.iter_mut().for_each(|x| *x *= 1e6);
    let op = |kernels: &Kernels, pool: &Pool| case.run(kernels, pool);
    let found = runner.same_bits("large scores", &op);
    assert!(found.iter().all(|x| x.abs() <= 1.0));
}

#[test]
#[should_panic(expected = "attention: k has 7 values, needs 8")]
fn short_keys_are_refused() {
    let args = AttentionF32 {
        q: &[0.0; 4],
        q_stride: 4,
        k: &[0.0; 7],
        k_stride: 4,
        v: &[0.0; 8],
        v_stride: 4,
        query_segments: &[0, 1],
        key_segments: &[0, 2],
        heads: 2,
        head_size: 2,
        scale: 1.0,
        causal: false,
        key_mask: None,
    };
    Kernels::get().attention_f32(&Pool::new(1), &args, &mut [0.0; 4]);
}
