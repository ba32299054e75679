//! JPEG, baseline and progressive, bit for bit as libjpeg-turbo decodes it for Pillow.
//!
//! The accurate integer transform, «fancy» upsampling and libjpeg's guess of the colour space. Strict
//! where libjpeg only warns: data that ends early or contradicts its tables is refused, so that a
//! picture is never half grey without notice. A picture in a single scan is decoded band by band; one
//! in several scans keeps its coefficients until all scans are read.
//!
//! # Source
//! ITU-T T.81; libjpeg-turbo 3.1 (`jdapimin.c`, `default_decompress_parms`, for the colour space);
//! Pillow 13.0, `JpegImagePlugin.py` (CMYK is always taken as inverted).

mod block;
mod huffman;
mod idct;
mod rows;

use block::{Band, Block, ZIGZAG};
use fearless_simd::{Level, Simd, dispatch};
use huffman::{Bits, Fault, Table};
use rows::{Colour, Rows};

use crate::bytes::Bytes;
use crate::clock::Clock;
use crate::decode::DecodeOptions;
use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sink::{Sink, Whole};
use crate::sniff::Format;

/// Most blocks in one unit of an interleaved scan (T.81, B.2.3).
const MAX_UNIT_BLOCKS: usize = 10;

/// The picture in `bytes`.
pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let mut whole = Whole::default();
    decode_to(bytes, options, &mut whole)?;
    whole.into_rgb()
}

/// Hands the part of the picture that `sink` wants to it. The whole file is checked all the same; on
/// an error the sink may have seen some rows.
pub(crate) fn decode_to(
    bytes: &[u8],
    options: &DecodeOptions,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut decoder = Decoder {
        bytes,
        input: Bytes::new(bytes, Format::Jpeg),
        options,
        clock: Clock::start(options.limits.time),
        quant: [None; 4],
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart_interval: 0,
        jfif: false,
        adobe: None,
        frame: None,
        n_scans: 0,
        marker: 0xD8,
        marker_at: 0,
    };
    match decoder.run(sink) {
        // Where the frame is known, the rows that are missing can be counted.
        Err(Error::Truncated { rows: None, .. }) => Err(decoder.truncated(0)),
        result => result,
    }
}

/// Pillow's conversion, with its exact division by 255.
pub(crate) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - i32::from(k);
    [c, m, y].map(|ink| {
        let product = i32::from(ink) * white + 128;
        (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

struct Frame {
    width: u32,
    height: u32,
    progressive: bool,
    components: Vec<Component>,
    /// Units of an interleaved scan in a row, and rows of them.
    n_units: (usize, usize),
}

struct Component {
    id: u8,
    /// Sampling factors.
    h: usize,
    v: usize,
    quant_table: usize,
    /// The quantisation as it was when the component's first scan began, row by row.
    quant: Option<Block>,
    /// Real samples in a row, and real rows.
    width: usize,
    height: usize,
    /// Blocks in a row that cover the real samples, and rows of them.
    n_blocks: (usize, usize),
    /// Blocks in a row with those that fill up the last unit.
    stride_blocks: usize,
    /// Coefficients, one vector for each row of blocks; empty where no scan has reached yet.
    rows: Vec<Vec<Block>>,
}

/// One component's part of a scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
    previous: i32,
}

struct Scan {
    parts: Vec<Part>,
    band: Band,
    end_run: u32,
}

struct Decoder<'a> {
    bytes: &'a [u8],
    input: Bytes<'a>,
    options: &'a DecodeOptions,
    clock: Clock,
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: u32,
    jfif: bool,
    /// The colour transform that an Adobe segment names.
    adobe: Option<u8>,
    frame: Option<Frame>,
    n_scans: u32,
    marker: u8,
    marker_at: usize,
}

impl<'a> Decoder<'a> {
    fn run(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        self.input.take(2)?;
        loop {
            self.next_marker()?;
            match self.marker {
                0x01 | 0xD0..=0xD7 => {}
                0xD8 => return Err(self.damaged("a second start of image")),
                0xD9 => return self.finish(sink),
                0xC0..=0xC2 => {
                    let segment = self.segment()?;
                    self.start_frame(segment)?;
                }
                0xC3 => return Err(unsupported("lossless")),
                0xC5..=0xC7 | 0xDE => return Err(unsupported("hierarchical")),
                0xC9..=0xCF => return Err(unsupported("arithmetic coding")),
                0xC4 => {
                    let segment = self.segment()?;
                    self.huffman_tables(segment)?;
                }
                0xDB => {
                    let segment = self.segment()?;
                    self.quant_tables(segment)?;
                }
                0xDD => {
                    let mut segment = self.segment()?;
                    self.restart_interval = u32::from(self.field(segment.u16_be())?);
                }
                0xDA => {
                    let segment = self.segment()?;
                    if self.scan(segment, sink)? {
                        return Ok(());
                    }
                }
                0xE0 => {
                    let segment = self.segment()?;
                    self.jfif |=
                        segment.rest().starts_with(b"JFIF\0") && segment.rest().len() >= 14;
                }
                0xEE => {
                    let segment = self.segment()?;
                    if segment.rest().starts_with(b"Adobe") && segment.rest().len() >= 12 {
                        self.adobe = segment.rest().get(11).copied();
                    }
                }
                _ => {
                    self.segment()?;
                }
            }
        }
    }

    /// Goes to the next marker; bytes before it are skipped, as by libjpeg.
    fn next_marker(&mut self) -> Result<(), Error> {
        loop {
            while self.input.u8()? != 0xFF {}
            let mut marker = self.input.u8()?;
            while marker == 0xFF {
                marker = self.input.u8()?;
            }
            if marker != 0 {
                self.marker = marker;
                self.marker_at = self.input.position() - 2;
                return Ok(());
            }
        }
    }

    /// The body of the segment at the current marker.
    fn segment(&mut self) -> Result<Bytes<'a>, Error> {
        let len = usize::from(self.input.u16_be()?);
        match len.checked_sub(2) {
            Some(len) => Ok(Bytes::new(self.input.take(len)?, Format::Jpeg)),
            None => Err(self.damaged("a segment shorter than its own length field")),
        }
    }

    /// A field that must lie inside of its segment.
    fn field<T>(&self, field: Result<T, Error>) -> Result<T, Error> {
        field.map_err(|_| self.damaged("the segment is too short"))
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged {
            format: Format::Jpeg,
            what: what.into(),
            marker: Some(self.marker),
            offset: Some(self.marker_at as u64),
        }
    }

    fn truncated(&self, n_rows: u32) -> Error {
        let rows = self.frame.as_ref().map(|frame| (n_rows, frame.height));
        // Only the end marker is missing.
        let rows = rows.filter(|(n_rows, height)| n_rows < height);
        Error::Truncated { format: Format::Jpeg, rows, bytes: self.bytes.len() as u64 }
    }

    fn quant_tables(&mut self, mut segment: Bytes<'_>) -> Result<(), Error> {
        while !segment.rest().is_empty() {
            let kind = self.field(segment.u8())?;
            let mut table = [0u16; 64];
            for &place in &ZIGZAG {
                let value = match kind >> 4 {
                    0 => self.field(segment.u8()).map(u16::from)?,
                    1 => self.field(segment.u16_be())?,
                    _ => return Err(self.damaged("a quantisation table of unknown precision")),
                };
                table[usize::from(place & 63)] = value;
            }
            match self.quant.get_mut(usize::from(kind & 15)) {
                Some(slot) => *slot = Some(table),
                None => return Err(self.damaged("a quantisation table with a number above 3")),
            }
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut segment: Bytes<'_>) -> Result<(), Error> {
        while !segment.rest().is_empty() {
            let kind = self.field(segment.u8())?;
            let counts = self.field(segment.array::<16>())?;
            let n_symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
            if n_symbols > 256 {
                return Err(self.damaged("a Huffman table of more than 256 symbols"));
            }
            let symbols = self.field(segment.take(n_symbols))?;
            let (tables, max_symbol) = match kind >> 4 {
                0 => (&mut self.dc, 15),
                1 => (&mut self.ac, 255),
                _ => return Err(self.damaged("a Huffman table of unknown class")),
            };
            let table = Table::new(&counts, symbols, max_symbol);
            match (tables.get_mut(usize::from(kind & 15)), table) {
                (Some(slot), Some(table)) => *slot = Some(table),
                _ => return Err(self.damaged("a Huffman table that is not a prefix code")),
            }
        }
        Ok(())
    }

    fn start_frame(&mut self, mut segment: Bytes<'_>) -> Result<(), Error> {
        if self.frame.is_some() {
            return Err(self.damaged("a second frame"));
        }
        let precision = self.field(segment.u8())?;
        let height = self.field(segment.u16_be())?;
        let width = self.field(segment.u16_be())?;
        let n_components = self.field(segment.u8())?;
        if precision != 8 {
            return Err(Error::JpegUnsupported { kind: format!("{precision} bits per sample") });
        }
        let (width, height, _) =
            self.options.limits.check(Format::Jpeg, u64::from(width), u64::from(height))?;
        if !matches!(n_components, 1 | 3 | 4) {
            return Err(Error::JpegUnsupported { kind: format!("{n_components} components") });
        }
        let mut components = Vec::new();
        for _ in 0..n_components {
            let [id, factors, quant_table] = self.field(segment.array())?;
            let (h, v) = (usize::from(factors >> 4), usize::from(factors & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(self.damaged(format!("sampling factors {h} x {v}")));
            }
            components.push(Component {
                id,
                h,
                v,
                quant_table: usize::from(quant_table),
                quant: None,
                width: 0,
                height: 0,
                n_blocks: (0, 0),
                stride_blocks: 0,
                rows: Vec::new(),
            });
        }
        let max_h = components.iter().map(|c| c.h).max().unwrap_or(1);
        let max_v = components.iter().map(|c| c.v).max().unwrap_or(1);
        let n_units = ((width as usize).div_ceil(8 * max_h), (height as usize).div_ceil(8 * max_v));
        for component in &mut components {
            component.width = (width as usize * component.h).div_ceil(max_h);
            component.height = (height as usize * component.v).div_ceil(max_v);
            component.n_blocks = (component.width.div_ceil(8), component.height.div_ceil(8));
            component.stride_blocks = n_units.0 * component.h;
            component.rows = with_room(n_units.1 * component.v)?;
            component.rows.resize(n_units.1 * component.v, Vec::new());
        }
        let progressive = self.marker == 0xC2;
        self.frame = Some(Frame { width, height, progressive, components, n_units });
        Ok(())
    }

    /// What the components mean, by libjpeg's rules.
    fn colour(&self, components: &[Component]) -> Colour {
        let ids: Vec<u8> = components.iter().map(|component| component.id).collect();
        match (components.len(), self.adobe) {
            (1, _) => Colour::Grey,
            (3, _) if self.jfif => Colour::YCbCr,
            (3, Some(0)) => Colour::Rgb,
            (3, None) if ids == *b"RGB" => Colour::Rgb,
            (3, _) => Colour::YCbCr,
            (_, None | Some(0)) => Colour::Cmyk,
            (_, Some(_)) => Colour::Ycck,
        }
    }

    fn rows<'s>(&self, frame: &Frame, sink: &'s mut dyn Sink) -> Result<Rows<'s>, Error> {
        let size = (frame.width, frame.height);
        Rows::new(&frame.components, self.colour(&frame.components), size, sink)
            .unwrap_or_else(|| Err(unsupported("sampling factors that are no multiples")))
    }

    /// Reads a scan; says whether this one scan was all of the picture.
    fn scan(&mut self, mut segment: Bytes<'_>, sink: &mut dyn Sink) -> Result<bool, Error> {
        let Some(mut frame) = self.frame.take() else {
            return Err(self.damaged("a scan before its frame"));
        };
        self.n_scans += 1;
        let limit = self.options.limits.jpeg_scans;
        if self.n_scans > limit {
            return Err(Error::OverLimit {
                format: Format::Jpeg,
                what: "scans",
                size: (u64::from(frame.width), u64::from(frame.height)),
                found: u64::from(self.n_scans),
                limit: u64::from(limit),
            });
        }
        let mut scan = self.scan_header(&mut segment, &frame)?;
        for part in &scan.parts {
            if let Some(component) = frame.components.get_mut(part.component)
                && component.quant.is_none()
            {
                let table = self.quant.get(component.quant_table).copied().flatten();
                component.quant = table.map(|table| table.map(u16::cast_signed));
                if component.quant.is_none() {
                    return Err(self.damaged("a component without quantisation table"));
                }
            }
        }
        let whole = scan.parts.len() == frame.components.len();
        if whole && !frame.progressive && self.n_scans == 1 {
            let mut rows = self.rows(&frame, sink)?;
            let at = self.stream(&mut scan, &frame, &mut rows);
            self.frame = Some(frame);
            let at = at.map_err(|stop| self.explain(stop, rows.n_rows()))?;
            self.input.seek(at);
            let n_rows = rows.n_rows();
            self.next_marker().map_err(|_| self.truncated(n_rows))?;
            rows.finish();
            return Ok(true);
        }
        let at = self.collect(&mut scan, &mut frame);
        self.frame = Some(frame);
        let at = match at {
            Ok(at) => at.map_err(|stop| self.explain(stop, 0))?,
            Err(error) => return Err(error),
        };
        self.input.seek(at);
        Ok(false)
    }

    fn scan_header(&self, segment: &mut Bytes<'_>, frame: &Frame) -> Result<Scan, Error> {
        let n_parts = usize::from(self.field(segment.u8())?);
        if n_parts == 0 || n_parts > frame.components.len() {
            return Err(self.damaged(format!("a scan of {n_parts} components")));
        }
        let mut parts: Vec<Part> = Vec::new();
        for _ in 0..n_parts {
            let [id, tables] = self.field(segment.array())?;
            let taken = |i: usize| parts.iter().any(|part| part.component == i);
            let component =
                frame.components.iter().enumerate().position(|(i, c)| c.id == id && !taken(i));
            let Some(component) = component else {
                return Err(self.damaged(format!("a scan of component {id}, which does not exist")));
            };
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            parts.push(Part { component, dc, ac, previous: 0 });
        }
        let [start, end, bits] = self.field(segment.array())?;
        let band = if frame.progressive {
            Band { start, end, high: bits >> 4, low: bits & 15 }
        } else {
            // Some writers leave these wrong in sequential files.
            Band { start: 0, end: 63, high: 0, low: 0 }
        };
        let valid = if band.start == 0 {
            band.end == 0 || !frame.progressive
        } else {
            band.start <= band.end && band.end < 64 && n_parts == 1
        };
        if !valid || band.low > 13 || (band.high != 0 && band.high != band.low + 1) {
            return Err(self.damaged("progression parameters that contradict each other"));
        }
        for part in &parts {
            let needs_dc = band.start == 0 && band.high == 0;
            let needs_ac = band.end > 0;
            let has = |tables: &[Option<Table>; 4], i: usize| {
                tables.get(i).is_some_and(|table| table.is_some())
            };
            if (needs_dc && !has(&self.dc, part.dc)) || (needs_ac && !has(&self.ac, part.ac)) {
                return Err(self.damaged("a scan without its Huffman table"));
            }
        }
        let n_blocks: usize = parts
            .iter()
            .filter_map(|part| frame.components.get(part.component))
            .map(|component| component.h * component.v)
            .sum();
        if n_parts > 1 && n_blocks > MAX_UNIT_BLOCKS {
            return Err(self.damaged(format!("{n_blocks} blocks in a unit")));
        }
        Ok(Scan { parts, band, end_run: 0 })
    }

    fn explain(&self, stop: Stop, n_rows: u32) -> Error {
        match stop {
            Stop::EndOfFile => self.truncated(n_rows),
            Stop::Slow(error) => error,
            Stop::Damaged { what, at } => Error::Damaged {
                format: Format::Jpeg,
                what: what.into(),
                marker: Some(self.marker),
                offset: Some(at as u64),
            },
        }
    }

    /// Decodes the only scan of a sequential picture band by band; gives where it ended.
    fn stream(&self, scan: &mut Scan, frame: &Frame, rows: &mut Rows<'_>) -> Result<usize, Stop> {
        dispatch!(Level::new(), simd => self.stream_with(simd, scan, frame, rows))
    }

    #[inline(always)]
    fn stream_with<S: Simd>(
        &self,
        simd: S,
        scan: &mut Scan,
        frame: &Frame,
        rows: &mut Rows<'_>,
    ) -> Result<usize, Stop> {
        let mut bits = Bits::new(self.bytes, self.input.position());
        let mut restarts = Restarts::new(self.restart_interval);
        // The units of a single component are its blocks, without those that only fill up.
        let single = frame.components.first().filter(|_| frame.components.len() == 1);
        let units_across = single.map_or(frame.n_units.0, |component| component.n_blocks.0);
        for band in 0..frame.n_units.1 {
            self.clock.check(Format::Jpeg, (frame.width, frame.height)).map_err(Stop::Slow)?;
            let unit_rows = single.map_or(1, |c| c.v.min(c.n_blocks.1.saturating_sub(band * c.v)));
            for unit_row in 0..unit_rows {
                for unit in 0..units_across {
                    restarts.before_unit(&mut bits, &mut scan.parts, &mut 0)?;
                    for part in &mut scan.parts {
                        let Some(component) = frame.components.get(part.component) else {
                            continue;
                        };
                        let (h, v) = single.map_or((component.h, component.v), |_| (1, 1));
                        for y in unit_row..unit_row + v {
                            for x in unit * h..(unit + 1) * h {
                                let read =
                                    self.stream_block(simd, &mut bits, part, component, rows, x, y);
                                after_unit(&bits, read)?;
                            }
                        }
                    }
                }
            }
            rows.end_band();
        }
        Ok(bits.position())
    }

    /// Reads block (`x`, `y`) of the current band and makes its samples where they are wanted.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the body of the loop above")]
    fn stream_block<S: Simd>(
        &self,
        simd: S,
        bits: &mut Bits<'_>,
        part: &mut Part,
        component: &Component,
        rows: &mut Rows<'_>,
        x: usize,
        y: usize,
    ) -> Result<(), Fault> {
        let (Some(dc), Some(ac)) = (self.dc_table(part.dc), self.ac_table(part.ac)) else {
            return Ok(());
        };
        let mut block = [0; 64];
        let last = block::sequential(bits, dc, ac, &mut part.previous, &mut block)?;
        if rows.blocks(part.component).contains(&x) {
            let (plane, stride) = rows.plane(part.component);
            let out = plane.get_mut(8 * (y * stride + x)..).unwrap_or_default();
            let quant = component.quant.as_ref().unwrap_or(&[1; 64]);
            idct::idct(simd, &block, quant, last, out, stride);
        }
        Ok(())
    }

    /// Adds the coefficients of one of several scans; gives where it ended.
    fn collect(&self, scan: &mut Scan, frame: &mut Frame) -> Result<Result<usize, Stop>, Error> {
        // Room is made row by row, when a scan gets there: a short file cannot claim much.
        let mut bits = Bits::new(self.bytes, self.input.position());
        let mut restarts = Restarts::new(self.restart_interval);
        let band = scan.band;
        let (units_across, units_down) = frame.n_units;
        let single = scan.parts.len() == 1;
        let n_rows = match scan.parts.first().and_then(|p| frame.components.get(p.component)) {
            Some(component) if single => component.n_blocks.1,
            _ => units_down,
        };
        let size = (frame.width, frame.height);
        for row in 0..n_rows {
            self.clock.check(Format::Jpeg, size)?;
            for part in &scan.parts {
                let Some(c) = frame.components.get_mut(part.component) else { continue };
                let (start, n) = if single { (row, 1) } else { (row * c.v, c.v) };
                for blocks in c.rows.iter_mut().skip(start).take(n) {
                    if blocks.is_empty() {
                        let mut room = with_room::<Block>(c.stride_blocks)?;
                        room.resize(c.stride_blocks, [0; 64]);
                        *blocks = room;
                    }
                }
            }
            let n_units = match scan.parts.first().and_then(|p| frame.components.get(p.component)) {
                Some(component) if single => component.n_blocks.0,
                _ => units_across,
            };
            for unit in 0..n_units {
                let start = restarts.before_unit(&mut bits, &mut scan.parts, &mut scan.end_run);
                if let Err(stop) = start {
                    return Ok(Err(stop));
                }
                for part in &mut scan.parts {
                    let Some(c) = frame.components.get_mut(part.component) else { continue };
                    let (rows, columns) = if single {
                        (row..row + 1, unit..unit + 1)
                    } else {
                        (row * c.v..(row + 1) * c.v, unit * c.h..(unit + 1) * c.h)
                    };
                    for blocks in c.rows.get_mut(rows).unwrap_or_default() {
                        for block in blocks.get_mut(columns.clone()).unwrap_or_default() {
                            let read = self.read_block(
                                &mut bits,
                                part,
                                frame.progressive,
                                band,
                                &mut scan.end_run,
                                block,
                            );
                            if let Err(stop) = after_unit(&bits, read) {
                                return Ok(Err(stop));
                            }
                        }
                    }
                }
            }
        }
        Ok(Ok(bits.position()))
    }

    fn read_block(
        &self,
        bits: &mut Bits<'_>,
        part: &mut Part,
        progressive: bool,
        band: Band,
        end_run: &mut u32,
        block: &mut Block,
    ) -> Result<(), Fault> {
        let tables = (self.dc_table(part.dc), self.ac_table(part.ac));
        match (band.start, band.high, tables) {
            (0, _, (Some(dc), Some(ac))) if !progressive => {
                *block = [0; 64];
                block::sequential(bits, dc, ac, &mut part.previous, block).map(|_| ())
            }
            (0, 0, (Some(dc), _)) => block::first_dc(bits, dc, &mut part.previous, band.low, block),
            (0, _, _) => {
                block::refine_dc(bits, band.low, block);
                Ok(())
            }
            (_, 0, (_, Some(ac))) => block::first_ac(bits, ac, band, end_run, block),
            (_, _, (_, Some(ac))) => block::refine_ac(bits, ac, band, end_run, block),
            _ => Err(Fault::Code),
        }
    }

    fn dc_table(&self, i: usize) -> Option<&Table> {
        self.dc.get(i).and_then(Option::as_ref)
    }

    fn ac_table(&self, i: usize) -> Option<&Table> {
        self.ac.get(i).and_then(Option::as_ref)
    }

    /// The end of the image: makes the picture of all coefficients.
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(mut frame) = self.frame.take() else {
            return Err(self.damaged("no frame before the end of the image"));
        };
        let missing = frame.components.iter().find(|component| component.quant.is_none());
        if let Some(component) = missing {
            return Err(self.damaged(format!("component {} is in no scan", component.id)));
        }
        let mut rows = self.rows(&frame, sink)?;
        for unit_row in 0..frame.n_units.1 {
            self.clock.check(Format::Jpeg, (frame.width, frame.height))?;
            for (i, component) in frame.components.iter_mut().enumerate() {
                for y in 0..component.v {
                    let Some(blocks) = component.rows.get_mut(unit_row * component.v + y) else {
                        continue;
                    };
                    // The row is not needed again.
                    let mut blocks = std::mem::take(blocks);
                    if blocks.is_empty() {
                        blocks = zeros_blocks(component.stride_blocks)?;
                    }
                    let quant = component.quant.as_ref().unwrap_or(&[1; 64]);
                    dispatch!(Level::new(), simd => {
                        transform_row(simd, &blocks, quant, &mut rows, i, y);
                    });
                }
            }
            rows.end_band();
        }
        rows.finish();
        Ok(())
    }
}

/// The samples of row `y` of blocks of component `i` in the current band.
#[inline(always)]
fn transform_row<S: Simd>(
    simd: S,
    blocks: &[Block],
    quant: &Block,
    rows: &mut Rows<'_>,
    i: usize,
    y: usize,
) {
    let wanted = rows.blocks(i);
    let (plane, stride) = rows.plane(i);
    for (x, block) in blocks.iter().enumerate().take(wanted.end).skip(wanted.start) {
        let out = plane.get_mut(8 * (y * stride + x)..).unwrap_or_default();
        let last = if block[1..] == [0; 63] { 0 } else { 63 };
        idct::idct(simd, block, quant, last, out, stride);
    }
}

fn zeros_blocks(n: usize) -> Result<Vec<Block>, Error> {
    let values = zeros::<i16>(64 * n)?;
    Ok(values.as_chunks::<64>().0.to_vec())
}

fn unsupported(kind: &str) -> Error {
    Error::JpegUnsupported { kind: kind.to_owned() }
}

/// Why a scan ended too early.
enum Stop {
    EndOfFile,
    Damaged { what: &'static str, at: usize },
    Slow(Error),
}

/// Damage is reported as the end of the file where the bits simply ran out there.
fn after_unit(bits: &Bits<'_>, read: Result<(), Fault>) -> Result<(), Stop> {
    if read.is_ok() && !bits.overrun() {
        return Ok(());
    }
    if bits.overrun() && bits.at_end_of_file() {
        return Err(Stop::EndOfFile);
    }
    let what = match read {
        _ if bits.overrun() => "the data ends before the picture does",
        Err(Fault::Run) => "a run of zeros leads out of its block",
        _ => "bits that belong to no Huffman code",
    };
    Err(Stop::Damaged { what, at: bits.position() })
}

/// Counts the units between restart markers.
struct Restarts {
    interval: u32,
    left: u32,
    number: u8,
}

impl Restarts {
    fn new(interval: u32) -> Self {
        Self { interval, left: interval, number: 0 }
    }

    /// Before each unit: after so many units a restart marker must stand.
    #[inline]
    fn before_unit(
        &mut self,
        bits: &mut Bits<'_>,
        parts: &mut [Part],
        end_run: &mut u32,
    ) -> Result<(), Stop> {
        if self.interval == 0 {
            return Ok(());
        }
        if self.left == 0 {
            if !bits.restart(self.number) {
                return Err(if bits.at_end_of_file() {
                    Stop::EndOfFile
                } else {
                    Stop::Damaged { what: "a restart marker is missing", at: bits.position() }
                });
            }
            self.number = (self.number + 1) & 7;
            self.left = self.interval;
            *end_run = 0;
            parts.iter_mut().for_each(|part| part.previous = 0);
        }
        self.left -= 1;
        Ok(())
    }
}
