//! Times the kernels at the shapes of the real models, next to what the processor can do.
//!
//! `cargo bench -p altclip-kernels --bench kernels -- [FILTER]` prints a table; `--test` for the filter runs each row once. The
//! yardstick `peak` is multiply-adds on registers alone, measured in the same run on as many
//! threads. Weights of the small-M rows are rotated through more memory than the caches hold.

use std::time::{Duration, Instant};

use altclip_kernels::{
    Activation, AttentionBf16, AttentionF32, GemmF32, GemmReduced, Isa, Kernels, Out, PackedBf16,
    PackedF32, PackedI8, Pool, Quantized, ReducedWeight, RowScale, Source, Tiles, tiles_bytes,
};

/// Bytes of weights to rotate through, so that they come from memory.
const ROTATED_BYTES: usize = 192 << 20;

struct Bench {
    /// Only check that everything runs.
    test: bool,
    filter: Option<String>,
}

/// M, K, N, activation.
const PRODUCTS: [(usize, usize, usize, Activation); 14] = [
    (257, 1024, 1024, Activation::Identity),
    (257, 1024, 3072, Activation::Identity),
    (257, 1024, 4096, Activation::Identity),
    (257, 1024, 4096, Activation::QuickGelu),
    (257, 1024, 4096, Activation::Gelu),
    (257, 4096, 1024, Activation::Identity),
    (257, 1280, 5120, Activation::Identity),
    (2056, 1024, 4096, Activation::Identity),
    (77, 1024, 4096, Activation::Identity),
    (16, 1024, 4096, Activation::Identity),
    (16, 4096, 1024, Activation::Identity),
    (8, 1024, 4096, Activation::Identity),
    (4, 1024, 4096, Activation::Identity),
    (1, 1024, 4096, Activation::Identity),
];

/// Segments, rows of each, heads, head size, causal.
const ATTENTIONS: [(usize, usize, usize, usize, bool); 6] = [
    (1, 257, 16, 64, false),
    (1, 257, 16, 80, false),
    (8, 257, 16, 64, false),
    (8, 77, 16, 64, false),
    (32, 16, 16, 64, false),
    (8, 77, 12, 64, true),
];

#[allow(clippy::print_stdout, reason = "a benchmark prints its table")]
fn main() {
    let mut bench = Bench { test: false, filter: None };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--test" => bench.test = true,
            argument if argument.starts_with('-') => {}
            argument => bench.filter = Some(argument.to_owned()),
        }
    }
    let best = Kernels::get();
    println!("levels here: {:?}; GFLOP/s, best of several runs", Isa::available());
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        bench.table(best, &pool);
    }
    // The next best level, once.
    if let Some(kernels) = Isa::available().get(1).and_then(|&isa| Kernels::for_isa(isa))
        && kernels.isa() != Isa::Scalar
    {
        bench.table(kernels, &Pool::new(2));
    }
}

impl Bench {
    fn table(&self, kernels: &Kernels, pool: &Pool) {
        let steps = if self.test { 1_000 } else { 3_000_000 };
        let flops = kernels.peak_f32(1) * steps as u64 * pool.threads() as u64;
        let peak = || {
            let seconds = self.seconds(&mut || {
                pool.run(pool.threads(), &|_| {
                    kernels.peak_f32(steps);
                });
            });
            flops as f64 / seconds / 1e9
        };
        let before = peak();
        for (m, k, n, activation) in PRODUCTS {
            let name = format!("gemm {m}×{k}×{n} {activation:?}");
            self.row(kernels, pool, before, &name, &|| product(m, k, n, activation, kernels, pool));
        }
        for (segments, rows, heads, size, causal) in ATTENTIONS {
            let name = format!("attention {segments}·{rows} rows {heads}·{size} causal={causal}");
            self.row(kernels, pool, before, &name, &|| {
                attention(segments, rows, heads, size, causal, kernels, pool)
            });
        }
        self.row(kernels, pool, before, "layer_norm 257×1024 (8 per value)", &|| {
            layer_norm(257, 1024, kernels, pool)
        });
        self.print(kernels, pool, "peak again", peak(), before);
        for eight_bits in [false, true] {
            self.reduced(kernels, pool, eight_bits, before);
        }
    }

    /// The rows of one reduced precision; its yardstick is its own instruction where there is one.
    fn reduced(&self, kernels: &Kernels, pool: &Pool, eight_bits: bool, peak_f32: f64) {
        let rounds = if self.test { 1_000 } else { 2_000_000 };
        let peak = kernels.peak_reduced(eight_bits, 1).map_or(peak_f32, |operations| {
            let seconds = self.seconds(&mut || {
                pool.run(pool.threads(), &|_| {
                    kernels.peak_reduced(eight_bits, rounds);
                });
            });
            (operations * rounds as u64) as f64 * pool.threads() as f64 / seconds / 1e9
        });
        let precision = if eight_bits { "i8" } else { "bf16" };
        for (m, k, n, activation) in PRODUCTS {
            let name = format!("{precision} {m}×{k}×{n} {activation:?}");
            self.row(kernels, pool, peak, &name, &|| {
                product_reduced(m, k, n, activation, eight_bits, kernels, pool)
            });
        }
        if eight_bits {
            self.row(kernels, pool, peak, "quantize 257×4096 (1 per value)", &|| {
                quantize(257, 4096, kernels, pool)
            });
            return;
        }
        for (segments, rows, heads, size, causal) in ATTENTIONS {
            let name =
                format!("bf16 attention {segments}·{rows} rows {heads}·{size} causal={causal}");
            self.row(kernels, pool, peak, &name, &|| {
                attention_bf16(segments, rows, heads, size, causal, kernels, pool)
            });
        }
    }

    fn row<'a>(
        &self,
        kernels: &Kernels,
        pool: &Pool,
        peak: f64,
        name: &str,
        make: &dyn Fn() -> (f64, Box<dyn FnMut() + 'a>),
    ) {
        if self.filter.as_ref().is_some_and(|filter| !name.contains(filter)) {
            return;
        }
        let (flops, mut op) = make();
        let seconds = self.seconds(&mut op);
        self.print(kernels, pool, name, flops / seconds / 1e9, peak);
    }

    #[allow(clippy::print_stdout, reason = "a benchmark prints its table")]
    fn print(&self, kernels: &Kernels, pool: &Pool, name: &str, rate: f64, peak: f64) {
        let (isa, threads) = (kernels.isa(), pool.threads());
        let share = 100.0 * rate / peak;
        println!("{isa:<7} {threads} threads  {name:<44} {rate:8.1}  {share:5.1} % of {peak:.1}");
    }

    /// The shortest of several runs.
    fn seconds(&self, op: &mut dyn FnMut()) -> f64 {
        op();
        let budget = Duration::from_millis(if self.test { 0 } else { 300 });
        let begin = Instant::now();
        let mut best = f64::INFINITY;
        let mut runs = 0;
        while runs < 1 || (begin.elapsed() < budget) || (runs < 5 && !self.test) {
            let start = Instant::now();
            op();
            best = best.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        best
    }
}

fn product<'a>(
    m: usize,
    k: usize,
    n: usize,
    activation: Activation,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let copies = if m <= 16 { ROTATED_BYTES / (4 * k * n) } else { 1 };
    let weight = values(n * k);
    let weights: Vec<_> =
        (0..copies).map(|_| PackedF32::pack(kernels.isa(), &weight, n, k)).collect();
    let (x, bias) = (values(m * k), values(n));
    let mut out = vec![0.0; m * n];
    let mut next = 0;
    let op = move || {
        next = (next + 1) % copies;
        let args = GemmF32 {
            x: &x,
            x_stride: k,
            m,
            weight: &weights[next],
            bias: Some(&bias),
            activation,
            residual: None,
        };
        kernels.gemm_f32(pool, &args, &mut out);
    };
    ((2 * m * k * n) as f64, Box::new(op))
}

fn product_reduced<'a>(
    m: usize,
    k: usize,
    n: usize,
    activation: Activation,
    eight_bits: bool,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let copies = if m <= 16 { ROTATED_BYTES / (k * n) } else { 1 };
    let weight = values(n * k);
    let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
        out.copy_from_slice(&weight[rows.start * k..rows.end * k]);
        Ok::<(), std::convert::Infallible>(())
    };
    let bf16: Vec<_> = (0..if eight_bits { 0 } else { copies })
        .filter_map(|_| PackedBf16::with_rows(pool, n, k, None, &fill).ok())
        .collect();
    let i8: Vec<_> = (0..if eight_bits { copies } else { 0 })
        .filter_map(|_| PackedI8::with_rows(pool, n, k, None, None, &fill).ok())
        .collect();
    let (x, bias) = (values(m * k), values(n));
    let mut tiles = vec![0; tiles_bytes(m, k)];
    kernels.pack_tiles(pool, &x, m, k, &mut tiles);
    let mut bytes = vec![0; Quantized::bytes_of(m, k)];
    let mut scales = vec![RowScale::default(); m];
    kernels.quantize(pool, &Source::Rows(&x), m, k, None, &mut bytes, &mut scales);
    let mut out = vec![0; tiles_bytes(m, n)];
    let mut next = 0;
    let op = move || {
        next = (next + 1) % copies;
        let operands = if eight_bits {
            let x = Quantized { bytes: &bytes, scales: &scales, cols: k };
            ReducedWeight::I8(x, &i8[next])
        } else {
            ReducedWeight::Bf16(Tiles::new(&tiles, m, k), &bf16[next])
        };
        let args = GemmReduced { operands, bias: Some(&bias), activation, residual: None };
        kernels.gemm_reduced(pool, &args, Out::Tiles(&mut out));
    };
    ((2 * m * k * n) as f64, Box::new(op))
}

fn quantize<'a>(
    m: usize,
    k: usize,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let x = values(m * k);
    let mut tiles = vec![0; tiles_bytes(m, k)];
    kernels.pack_tiles(pool, &x, m, k, &mut tiles);
    let mut bytes = vec![0; Quantized::bytes_of(m, k)];
    let mut scales = vec![RowScale::default(); m];
    let op = move || {
        let x = Source::Tiles(Tiles::new(&tiles, m, k));
        kernels.quantize(pool, &x, m, k, None, &mut bytes, &mut scales);
    };
    ((m * k) as f64, Box::new(op))
}

fn attention_bf16<'a>(
    segments: usize,
    rows: usize,
    heads: usize,
    head_size: usize,
    causal: bool,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let (width, all) = (heads * head_size, segments * rows);
    let mut q = vec![0; tiles_bytes(all, width)];
    let mut kv = vec![0; tiles_bytes(all, 2 * width)];
    kernels.pack_tiles(pool, &values(all * width), all, width, &mut q);
    kernels.pack_tiles(pool, &values(all * 2 * width), all, 2 * width, &mut kv);
    let offsets: Vec<usize> = (0..=segments).map(|segment| segment * rows).collect();
    let mut out = vec![0; tiles_bytes(all, width)];
    let op = move || {
        let args = AttentionBf16 {
            q: Tiles::new(&q, all, width),
            kv: Tiles::new(&kv, all, 2 * width),
            query_segments: &offsets,
            key_segments: &offsets,
            heads,
            head_size,
            scale: 1.0 / (head_size as f32).sqrt(),
            causal,
        };
        kernels.attention_bf16(pool, &args, &mut out);
    };
    ((4 * segments * rows * rows * width) as f64, Box::new(op))
}

fn attention<'a>(
    segments: usize,
    rows: usize,
    heads: usize,
    head_size: usize,
    causal: bool,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let width = heads * head_size;
    let qkv = values(segments * rows * 3 * width);
    let offsets: Vec<usize> = (0..=segments).map(|segment| segment * rows).collect();
    let mut out = vec![0.0; segments * rows * width];
    let op = move || {
        let args = AttentionF32 {
            q: &qkv,
            q_stride: 3 * width,
            k: &qkv[width..],
            k_stride: 3 * width,
            v: &qkv[2 * width..],
            v_stride: 3 * width,
            query_segments: &offsets,
            key_segments: &offsets,
            heads,
            head_size,
            scale: 1.0 / (head_size as f32).sqrt(),
            causal,
            key_mask: None,
        };
        kernels.attention_f32(pool, &args, &mut out);
    };
    ((4 * segments * rows * rows * width) as f64, Box::new(op))
}

fn layer_norm<'a>(
    rows: usize,
    cols: usize,
    kernels: &'a Kernels,
    pool: &'a Pool,
) -> (f64, Box<dyn FnMut() + 'a>) {
    let x = values(rows * cols);
    let (weight, bias) = (vec![1.0; cols], vec![0.0; cols]);
    let mut out = vec![0.0; rows * cols];
    let op = move || kernels.layer_norm_f32(pool, &x, &weight, &bias, 1e-5, &mut out);
    ((8 * rows * cols) as f64, Box::new(op))
}

/// Values in [-1, 1) that look random.
fn values(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}
