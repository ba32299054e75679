//! Writes a page with one of everything to stdout: `cargo run -p altclip-page --example sample > a.html`.
#![allow(clippy::print_stdout)]

use altclip_page::{
    Axis, Bar, BarChart, Cell, Heatmap, KeyFigure, LineChart, Mark, Page, Picture, Point, Sheet,
    Table, Tile,
};

/// A PNG of one colour, 1 by 1, of stored blocks only.
fn pixel(colour: [u8; 3]) -> Vec<u8> {
    let row = [0, colour[0], colour[1], colour[2]];
    let (mut a, mut b) = (1u32, 0u32);
    for byte in row {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let adler = (b << 16 | a).to_be_bytes();
    let data = [&[0x78, 0x01, 1, 4, 0, 0xfb, 0xff][..], &row, &adler].concat();
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let crc = !body.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
    };
    let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0];
    let start = b"\x89PNG\r\n\x1a\n".to_vec();
    [start, chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", &[])].concat()
}

fn main() -> Result<(), altclip_page::Error> {
    let mut page = Page::new("Training of a small AltCLIP");
    page.paragraph("Two stages, three seeds. Everything on this page is made by formula.").figures(
        &[
            KeyFigure::new("Mean recall, English", "72.4 %").note("95 %: 70.9 to 73.8"),
            KeyFigure::new("Mean recall, Chinese", "68.1 %").note("94 % of English"),
            KeyFigure::new("Speed", "412 pairs/s").note("2 threads, bf16"),
            KeyFigure::new("Time", "38 min"),
        ],
    );
    page.section("Loss");
    let noise = |n: u32| f64::from(n.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    let mut loss = LineChart::new("Loss", Axis::linear("step"), Axis::log("loss"));
    let falls = move |n: u32, floor: f64| {
        floor + 4.0 * (-f64::from(n) / 700.0).exp() + 0.15 * noise(n) * floor
    };
    loss.line("train", (1..4_000).map(|n| (f64::from(n), falls(n, 0.4))));
    loss.line("validation", (1..20).map(|n| (f64::from(n * 200), falls(n * 200, 0.55))));
    page.add(&loss);
    let mut recall =
        LineChart::new("R@1 against step", Axis::linear("step"), Axis::from_zero("R@1").percent());
    for (name, top) in [("en", 0.75), ("zh", 0.68), ("ko", 0.61), ("ar", 0.52)] {
        let point = |n: u32| {
            let y = top * (1.0 - (-f64::from(n) / 6.0).exp());
            Point { x: f64::from(n * 200), y, interval: Some([y - 0.03, y + 0.03]) }
        };
        recall.line_with_intervals(name, (0..20).map(point));
    }
    page.add(&recall).note("Bands are 95 % intervals over 1,300 pictures.");
    page.section("Evaluation");
    let mut table = Table::new(["model", "R@1", "R@5", "R@10", "MR"]);
    table.caption("Text to image, in percent");
    for (name, at) in [("CLIP (teacher)", 65.0), ("after stage 1", 66.3)] {
        table.row(
            [name.into()]
                .into_iter()
                .chain([0.0, 22.1, 27.2, 22.6].map(|d| Cell::number(at + d, 1))),
        );
    }
    let best = [72.5, 91.6, 95.4, 90.4].map(|value| Cell::number(value, 1).strong());
    table.row([Cell::text("after stage 2")].into_iter().chain(best));
    page.add(&table);
    let mut bars = BarChart::new(
        "R@1 by language",
        Axis::from_zero("R@1").percent(),
        ["text to image", "image to text"],
    );
    for (n, name) in
        ["English", "中文", "한국어", "العربية", "a language with quite a long name indeed"]
            .iter()
            .enumerate()
    {
        let value = 0.78 - 0.09 * n as f64;
        let bar = |value: f64| Bar { value, interval: Some([value - 0.03, value + 0.03]) };
        bars.group(*name, [bar(value), bar(value + 0.06)]);
    }
    page.add(&bars);
    let names =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let counts: Vec<u64> = (0..100)
        .map(|n| match (n / 10, n % 10) {
            (a, b) if a == b => 820 - 31 * a,
            (3, 5) | (5, 3) => 140,
            (1, 9) | (9, 1) => 90,
            (a, b) => (a * 7 + b * 5) % 13,
        })
        .collect();
    page.add(&Heatmap::new("What is taken for what", ("class", "taken for"), names, &counts));
    page.section("What was found").heading("a red square");
    let mut sheet = Sheet::new();
    let colours = [
        [200, 40, 40],
        [220, 60, 90],
        [40, 120, 200],
        [240, 150, 30],
        [90, 60, 160],
        [60, 160, 90],
    ];
    for (n, colour) in colours.into_iter().enumerate() {
        let tile =
            Tile::new(Picture::new(&pixel(colour), "a colour")?, format!("colour {n}: 一种颜色"));
        let mark = if n == 0 { Mark::Right } else { Mark::Wrong };
        let tile = tile.note(format!("{}. cosine {:.3}", n + 1, 0.31 - 0.02 * n as f64));
        sheet.tile(if n < 2 { tile.mark(mark) } else { tile });
    }
    page.add(&sheet);
    page.section("Configuration").preformatted("[train]\nbatch-size = 512\nlr = 1e-4\n");
    print!("{}", page.html());
    Ok(())
}
