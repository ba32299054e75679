//! Every kernel with its operands unaligned, and flush against pages that must not be touched, over
//! all tails: the results are the same bits, and an access out of bounds ends the process.
//!
//! Scratch and packed `f32` weights are the crate's own buffers, so what reads and writes them (the
//! register tile, the blocks of reduced precision) is also called directly.

use std::convert::Infallible;
use std::sync::Arc;

use crate::gemm::TileArgs;
use crate::reduced::{
    AnyRow, BLOCK_ROWS, BlockArgs, FinishBlock, OutPlace, PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES,
    TILE_BYTES, TILE_ROWS,
};
use crate::testing::{Place, Placed, Random, Runner, lengths};
use crate::{
    Activation, AttentionBf16, AttentionF32, GemmF32, GemmReduced, Kernels, Out, PackedBf16,
    PackedF32, PackedI8, Pool, Quantized, ReducedWeight, RowScale, Source, Tiles, WeightBytes,
    tiles_bytes,
};

const ACTIVATIONS: [Activation; 3] =
    [Activation::Identity, Activation::Gelu, Activation::QuickGelu];
const MS: [usize; 7] = [1, 2, 7, 15, 16, 17, 33];
const NS: [usize; 9] = [1, 2, 15, 16, 17, 31, 33, 65, 100];
const KS: [usize; 10] = [0, 1, 2, 3, 15, 31, 33, 64, 65, 300];

fn as_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().map(|&byte| f32::from(byte)).collect()
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// Bytes that are finite `bf16` values of moderate size.
fn bf16_bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let values = random.values(len / 2);
    values.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
}

#[test]
fn slices() {
    let runner = Runner::new();
    let mut random = Random::new(1);
    for len in lengths() {
        let (a, b) = (random.values(len), random.values(len));
        runner.in_all_places(&format!("add {len}"), &|kernels, pool, place| {
            let mut out = place.fill(f32::NAN, len);
            kernels.add(pool, &place.put(&a), &place.put(&b), &mut out);
            out.to_vec()
        });
        runner.in_all_places(&format!("dot {len}"), &|kernels, _, place| {
            vec![kernels.dot(&place.put(&a), &place.put(&b))]
        });
        runner.in_all_places(&format!("scale {len}"), &|kernels, _, place| {
            let mut out = place.fill(f32::NAN, len);
            // SAFETY: a table exists only where its instruction set does; the lengths are equal.
            unsafe { (kernels.scale)(&place.put(&a), 0.3, &mut out) };
            out.to_vec()
        });
        if len > 0 {
            let x: Vec<u16> =
                random.values(5 * len).iter().map(|x| (x.to_bits() >> 17) as u16).collect();
            let q = random.values(5 * len);
            runner.in_all_places(&format!("scan {len}"), &|kernels, pool, place| {
                let mut out = place.fill(f32::NAN, 25);
                kernels.scan_f16(pool, &place.put(&x), len, &place.put(&q), &mut out);
                out.to_vec()
            });
        }
        for activation in ACTIVATIONS {
            runner.in_all_places(&format!("{activation:?} {len}"), &|kernels, pool, place| {
                let mut out = place.fill(f32::NAN, len);
                kernels.activation_f32(pool, activation, &place.put(&a), &mut out);
                out.to_vec()
            });
        }
    }
}

#[test]
fn nibbles() {
    let runner = Runner::new();
    let mut random = Random::new(9);
    for bytes in 1..20 {
        let codes: Vec<u8> = (0..64 * bytes).map(|_| random.below(256) as u8).collect();
        let tables: Vec<u8> = (0..32 * bytes).map(|_| random.below(128) as u8).collect();
        runner.in_all_places(&format!("nibbles {bytes}"), &|kernels, pool, place| {
            let mut out = place.fill(0u32, 3);
            kernels.scan_nibbles(pool, &place.put(&codes), bytes, &place.put(&tables), &mut out);
            out.iter().map(|&sum| sum as f32).collect()
        });
    }
}

#[test]
fn rows() {
    let runner = Runner::new();
    let mut random = Random::new(2);
    for cols in lengths().filter(|&cols| cols > 0) {
        let (x, weight, bias) = (random.values(3 * cols), random.values(cols), random.values(cols));
        runner.in_all_places(&format!("layer norm {cols}"), &|kernels, pool, place| {
            let (weight, bias) = (place.put(&weight), place.put(&bias));
            let mut out = place.fill(f32::NAN, 3 * cols);
            kernels.layer_norm_f32(pool, &place.put(&x), &weight, &bias, 1e-5, &mut out);
            out.to_vec()
        });
        runner.in_all_places(&format!("layer norm to tiles {cols}"), &|kernels, pool, place| {
            let (weight, bias) = (place.put(&weight), place.put(&bias));
            let mut out = place.fill(0, tiles_bytes(3, cols));
            kernels.layer_norm_tiles(pool, &place.put(&x), &weight, &bias, 1e-5, &mut out);
            as_floats(&out)
        });
        runner.in_all_places(&format!("softmax {cols}"), &|kernels, pool, place| {
            let mut out = place.fill(f32::NAN, 3 * cols);
            kernels.softmax_rows(pool, &place.put(&x), cols, &mut out);
            out.to_vec()
        });
        runner.in_all_places(&format!("l2 {cols}"), &|kernels, pool, place| {
            let mut out = place.fill(f32::NAN, 3 * cols);
            kernels.l2_normalize_rows(pool, &place.put(&x), cols, &mut out);
            out.to_vec()
        });
    }
}

#[test]
fn register_tiles() {
    let runner = Runner::new();
    let mut random = Random::new(3);
    // The largest tile of any level; each level runs all that it has.
    let (a, b, c) = (random.values(8 * 33), random.values(33 * 64), random.values(8 * 64));
    for k in [0, 1, 2, 3, 16, 33] {
        runner.in_all_places(&format!("tiles of {k} terms"), &|kernels, _, place| {
            let mut all = Vec::new();
            for (v, tiles) in kernels.tiles.iter().enumerate() {
                let cols = (v + 1) * 16;
                for (r, tile) in tiles.iter().enumerate() {
                    for resume in [false, true] {
                        let rows = r + 1;
                        let (a, b) = (place.put(&a[..rows * k]), place.put(&b[..k * cols]));
                        let mut c = place.put(&c[..rows * cols]);
                        // SAFETY: a table exists only where its instruction set does; the operands
                        // have exactly what the tile takes.
                        unsafe {
                            tile(&TileArgs {
                                k,
                                a: a.as_ptr(),
                                a_row: k,
                                b: b.as_ptr(),
                                c: c.as_mut_ptr(),
                                c_row: cols,
                                resume,
                            });
                        }
                        all.extend_from_slice(&c);
                    }
                }
            }
            all
        });
    }
}

#[test]
fn products_in_f32() {
    let runner = Runner::new();
    let mut random = Random::new(4);
    for (i, m) in MS.into_iter().enumerate() {
        for (j, n) in NS.into_iter().enumerate() {
            let k = KS[(3 * i + j) % KS.len()];
            // Rows further apart than they are long: what is between them is not x, but there.
            let stride = k + (i + j) % 2 * 3;
            let x = random.values((m - 1) * stride + k);
            let (weight, bias) = (random.values(n * k), random.values(n));
            let residual = random.values(m * n);
            runner.in_all_places(&format!("gemm {m}x{k}x{n}"), &|kernels, pool, place| {
                let weight = PackedF32::pack(kernels.isa(), &place.put(&weight), n, k);
                let (x, bias) = (place.put(&x), place.put(&bias));
                let residual = place.put(&residual);
                let mut out = place.fill(f32::NAN, m * n);
                let args = GemmF32 {
                    x: &x,
                    x_stride: stride,
                    m,
                    weight: &weight,
                    bias: Some(&bias),
                    activation: ACTIVATIONS[(i + j) % 3],
                    residual: Some(&residual),
                };
                kernels.gemm_f32(pool, &args, &mut out);
                out.to_vec()
            });
        }
    }
}

/// Segments of queries and of keys, heads, head size, causal.
type AttentionCase = (&'static [usize], &'static [usize], usize, usize, bool);
const ATTENTIONS: [AttentionCase; 9] = [
    (&[0, 1], &[0, 1], 1, 64, false),
    (&[0, 5, 21, 54], &[0, 5, 21, 54], 2, 64, false),
    (&[0, 77], &[0, 77], 1, 64, true),
    (&[0, 33], &[0, 33], 2, 80, false),
    (&[0, 9], &[0, 9], 3, 7, false),
    (&[0, 1, 2], &[0, 30, 67], 1, 17, false),
    (&[0, 40, 43], &[0, 1, 34], 1, 32, true),
    (&[0, 3, 3, 4], &[0, 16, 20, 20], 2, 16, false),
    (&[0, 19], &[0, 19], 5, 1, true),
];

#[test]
fn attention_in_f32() {
    let runner = Runner::new();
    let mut random = Random::new(5);
    for (query_segments, key_segments, heads, head_size, causal) in ATTENTIONS {
        let (tq, tk) =
            (query_segments[query_segments.len() - 1], key_segments[key_segments.len() - 1]);
        let width = heads * head_size;
        for gap in [0, 3] {
            let stride = width + gap;
            let len = |rows: usize| (rows - 1) * stride + width;
            let (q, k, v) =
                (random.values(len(tq)), random.values(len(tk)), random.values(len(tk)));
            let mask: Vec<bool> = (0..tk).map(|key| key % 5 != 3).collect();
            let name = format!("attention {tq}x{tk} {heads}x{head_size}");
            runner.in_all_places(&name, &|kernels, pool, place| {
                let (q, k, v) = (place.put(&q), place.put(&k), place.put(&v));
                let mut out = place.fill(f32::NAN, tq * width);
                let args = AttentionF32 {
                    q: &q,
                    q_stride: stride,
                    k: &k,
                    k_stride: stride,
                    v: &v,
                    v_stride: stride,
                    query_segments,
                    key_segments,
                    heads,
                    head_size,
                    scale: 0.3,
                    causal,
                    key_mask: (gap > 0).then_some(&mask),
                };
                kernels.attention_f32(pool, &args, &mut out);
                out.to_vec()
            });
        }
    }
}

#[test]
fn attention_in_bf16() {
    let runner = Runner::new();
    let mut random = Random::new(6);
    for (query_segments, key_segments, heads, head_size, causal) in ATTENTIONS {
        let (tq, tk) =
            (query_segments[query_segments.len() - 1], key_segments[key_segments.len() - 1]);
        let width = heads * head_size;
        let q = bf16_bytes(&mut random, tiles_bytes(tq, width));
        let kv = bf16_bytes(&mut random, tiles_bytes(tk, 2 * width));
        let name = format!("attention in bf16 {tq}x{tk} {heads}x{head_size}");
        runner.in_all_places(&name, &|kernels, pool, place| {
            let (q, kv) = (place.put(&q), place.put(&kv));
            let mut out = place.fill(0, tiles_bytes(tq, width));
            let args = AttentionBf16 {
                q: Tiles::new(&q, tq, width),
                kv: Tiles::new(&kv, tk, 2 * width),
                query_segments,
                key_segments,
                heads,
                head_size,
                scale: 0.3,
                causal,
            };
            kernels.attention_bf16(pool, &args, &mut out);
            as_floats(&out)
        });
    }
}

#[test]
fn rows_to_tiles_and_back() {
    let runner = Runner::new();
    let mut random = Random::new(7);
    for cols in lengths().filter(|&cols| cols > 0) {
        let rows = 1 + cols % 18;
        let x = random.values(rows * cols);
        runner.in_all_places(&format!("tiles {rows}x{cols}"), &|kernels, pool, place| {
            let mut tiles = place.fill(0, tiles_bytes(rows, cols));
            kernels.pack_tiles(pool, &place.put(&x), rows, cols, &mut tiles);
            let mut back = place.fill(f32::NAN, rows * cols);
            kernels.unpack_tiles(pool, &Tiles::new(&tiles, rows, cols), &mut back);
            [as_floats(&tiles), back.to_vec()].concat()
        });
        let smoothing: Vec<f32> = random.values(cols).iter().map(|x| x + 1.5).collect();
        runner.in_all_places(&format!("quantize {rows}x{cols}"), &|kernels, pool, place| {
            let mut out = place.fill(0, Quantized::bytes_of(rows, cols));
            let mut scales = place.fill(RowScale::default(), rows);
            let smoothing = place.put(&smoothing);
            let x = place.put(&x);
            let rows_in = Source::Rows(&x);
            kernels.quantize(pool, &rows_in, rows, cols, Some(&smoothing), &mut out, &mut scales);
            let mut all = as_floats(&out);
            all.extend(scales.iter().flat_map(|s| [s.scale, s.zero as f32]));
            let mut tiles = place.fill(0, tiles_bytes(rows, cols));
            kernels.pack_tiles(pool, &x, rows, cols, &mut tiles);
            let tiles_in = Source::Tiles(Tiles::new(&tiles, rows, cols));
            kernels.quantize(pool, &tiles_in, rows, cols, None, &mut out, &mut scales);
            all.extend(as_floats(&out));
            all
        });
        // The functions of the table on a row of their own, whose places in tiles end with the
        // last 64 bytes that they may touch.
        let row = &x[..cols];
        let name = format!("a row of {cols}");
        runner.in_all_places(&name, &|kernels, _, place| {
            let ends = |values: usize| (cols.div_ceil(values) - 1) * TILE_BYTES + STEP_BYTES;
            let (mut packed, mut weights) = (place.fill(0, ends(32)), place.fill(0, ends(32)));
            let mut quantized = place.fill(0, ends(64));
            let mut back = place.fill(f32::NAN, cols);
            let (row, smoothing) = (place.put(row), place.put(&smoothing));
            let table = &kernels.reduced;
            // SAFETY: a table exists only where its instruction set does; the places in tiles are
            // those that the functions take.
            let (scale, sum) = unsafe {
                (table.pack_row)(&row, packed.as_mut_ptr());
                (table.unpack_row)(packed.as_ptr(), &mut back);
                let out = quantized.as_mut_ptr();
                let scale = (table.quantize_row)(AnyRow::Floats(&row), Some(&smoothing), out);
                let from_tiles = AnyRow::Tiles(packed.as_ptr(), cols);
                (table.quantize_row)(from_tiles, Some(&smoothing), out);
                (scale, (table.softmax)(&row, 0.7, weights.as_mut_ptr()))
            };
            let mut all = vec![scale.scale, scale.zero as f32, sum];
            all.extend_from_slice(&back);
            for bytes in [&packed, &weights, &quantized] {
                all.extend(as_floats(bytes));
            }
            all
        });
    }
}

#[test]
fn blocks_of_reduced_precision() {
    let runner = Runner::new();
    let mut random = Random::new(8);
    for rows in [1usize, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 18, 20, 23, 29, 31, 32] {
        for steps in [0, 1, 2, 7, 8, 9, 17] {
            let a_block = steps * TILE_BYTES;
            let a_len = rows.div_ceil(TILE_ROWS) * a_block;
            let floats =
                (bf16_bytes(&mut random, a_len), bf16_bytes(&mut random, steps * PANEL_STEP_BYTES));
            let integers =
                (bytes(&mut random, a_len), bytes(&mut random, steps * PANEL_STEP_BYTES));
            let sums: Vec<i32> = (0..BLOCK_ROWS * PANEL_COLS).map(|i| i as i32).collect();
            for resume in [false, true] {
                let name = format!("block of {rows} rows, {steps} steps");
                runner.in_all_places(&name, &|kernels, _, place| {
                    let table = &kernels.reduced;
                    let mut all = Vec::new();
                    let blocks = [(&floats, table.block_bf16), (&integers, table.block_i8)];
                    for ((a, b), block) in blocks {
                        let (a, b) = (place.put(a), place.put(b));
                        // As `i32` also what `f32` sums begin with: numbers below the normal ones.
                        let mut c = place.put(&sums);
                        let args = BlockArgs {
                            steps,
                            rows,
                            a: a.as_ptr(),
                            a_block,
                            b: b.as_ptr(),
                            c: c.as_mut_ptr().cast(),
                            c_row: crate::reduced::PANEL_COLS * 4,
                            resume,
                            prefetch: b.as_ptr_range().end,
                            prefetch_lines: 3,
                        };
                        // SAFETY: a table exists only where its instruction set does; the operands
                        // have exactly what the block takes.
                        unsafe {
                            (table.enter)();
                            block(&args);
                            (table.leave)();
                        }
                        // Bits by halves: a NaN would be equal to any other.
                        all.extend(c[..rows * PANEL_COLS].iter().flat_map(|&sum| {
                            let bits = sum.cast_unsigned();
                            [(bits >> 16) as f32, (bits & 0xffff) as f32]
                        }));
                    }
                    all
                });
            }
        }
    }
}

#[test]
fn the_end_of_a_block() {
    let runner = Runner::new();
    let mut random = Random::new(9);
    for rows in [1, 2, 16, 17, 32] {
        for cols in [1, 15, 16, 17, 31, 32] {
            let (c, bias) = (random.values(rows * PANEL_COLS), random.values(cols));
            let residual = random.values(rows * cols);
            for activation in ACTIVATIONS {
                let name = format!("end of a block {rows}x{cols}");
                runner.in_all_places(&name, &|kernels, _, place| {
                    let (c, bias) = (place.put(&c), place.put(&bias));
                    let residual = place.put(&residual);
                    let mut out = place.fill(f32::NAN, rows * cols);
                    let mut tiles = place.fill(0, tiles_bytes(rows, cols));
                    let to_rows = OutPlace::Rows(crate::elementwise::SendPointer(out.as_mut_ptr()));
                    let to_tiles =
                        OutPlace::Tiles(crate::elementwise::SendPointer(tiles.as_mut_ptr()));
                    for out in [to_rows, to_tiles] {
                        let block = FinishBlock {
                            rows,
                            cols,
                            c: c.as_ptr(),
                            scales: None,
                            bias: Some(&bias),
                            activation,
                            residual: Some(&residual),
                            row: 0,
                            column: 0,
                            n: cols,
                            out,
                            before: None,
                        };
                        // SAFETY: a table exists only where its instruction set does; the operands
                        // have exactly what the block takes.
                        unsafe { (kernels.reduced.finish)(&block) };
                    }
                    [out.to_vec(), as_floats(&tiles)].concat()
                });
            }
        }
    }
}

/// A weight whose bytes lie at a place, as if in a mapped file.
fn shared(place: Place, packed: &WeightBytes) -> WeightBytes {
    let bytes: Placed<u8> = place.put(packed.as_slice());
    WeightBytes::Shared(Arc::new(bytes))
}

#[test]
fn products_in_reduced_precision() {
    let runner = Runner::new();
    let mut random = Random::new(10);
    let pool = Pool::new(1);
    for (i, m) in MS.into_iter().enumerate() {
        for (j, n) in NS.into_iter().enumerate() {
            let k = KS[(3 * i + j) % KS.len()];
            let (x, weight) = (random.values(m * k), random.values(n * k));
            let (bias, residual) = (random.values(n), random.values(m * n));
            let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&weight[rows.start * k..rows.end * k]);
                Ok::<(), Infallible>(())
            };
            let bf16 = PackedBf16::with_rows(&pool, n, k, None, &fill).unwrap();
            let i8 = PackedI8::with_rows(&pool, n, k, None, None, &fill).unwrap();
            let run =
                |kernels: &Kernels, pool: &Pool, place: Place, operands: ReducedWeight<'_>| {
                    let (bias, residual) = (place.put(&bias), place.put(&residual));
                    let args = GemmReduced {
                        operands,
                        bias: Some(&bias),
                        activation: ACTIVATIONS[(i + j) % 3],
                        residual: Some(&residual),
                    };
                    let mut rows = place.fill(f32::NAN, m * n);
                    kernels.gemm_reduced(pool, &args, Out::Rows(&mut rows));
                    let mut tiles = place.fill(0, tiles_bytes(m, n));
                    kernels.gemm_reduced(pool, &args, Out::Tiles(&mut tiles));
                    [rows.to_vec(), as_floats(&tiles)].concat()
                };
            runner.in_all_places(&format!("bf16 {m}x{k}x{n}"), &|kernels, pool, place| {
                let weight = PackedBf16::from_bytes(n, k, shared(place, bf16.bytes())).unwrap();
                let mut tiles = place.fill(0, tiles_bytes(m, k));
                kernels.pack_tiles(pool, &x, m, k, &mut tiles);
                let operands = ReducedWeight::Bf16(Tiles::new(&tiles, m, k), &weight);
                run(kernels, pool, place, operands)
            });
            runner.in_all_places(&format!("i8 {m}x{k}x{n}"), &|kernels, pool, place| {
                let bytes = shared(place, i8.bytes());
                let (scales, sums) = (i8.scales(), i8.sums());
                let weight = PackedI8::from_bytes(n, k, bytes, scales, sums, None).unwrap();
                let mut bytes = place.fill(0, Quantized::bytes_of(m, k));
                let mut scales = place.fill(RowScale::default(), m);
                let rows = Source::Rows(&x);
                kernels.quantize(pool, &rows, m, k, None, &mut bytes, &mut scales);
                let x = Quantized { bytes: &bytes, scales: &scales, cols: k };
                run(kernels, pool, place, ReducedWeight::I8(x, &weight))
            });
        }
    }
}
