//! One-file HTML pages with plots and pictures, readable offline.
//!
//! A [`Page`] is a title and blocks: sections, paragraphs, [`KeyFigure`]s, [`Table`]s, plots
//! ([`LineChart`], [`BarChart`], [`Heatmap`]) and [`Sheet`]s of pictures. It holds no script, no font
//! and no address; its content policy forbids a browser to load any. It follows the reader's choice of
//! light or dark, and a plot has its numbers beside it as a table.
//!
//! Every text may be foreign: it is escaped where it is written, and there is no way round.
//!
//! ```
//! use altclip_page::{Axis, LineChart, Page};
//! let mut page = Page::new("Training of a small model");
//! page.section("Loss").paragraph("It falls.");
//! let loss = (1..=100).map(|step| (f64::from(step), 1.0 / f64::from(step)));
//! let mut chart = LineChart::new("Loss", Axis::linear("step"), Axis::log("loss"));
//! chart.line("train", loss);
//! page.add(&chart);
//! assert!(page.html().starts_with("<!doctype html>"));
//! ```

#![forbid(unsafe_code)]

mod escape;
mod page;
mod picture;
mod plot;
mod table;

pub use page::{Block, HEAD_BYTES, KeyFigure, Page, is_page};
pub use picture::{Error, Mark, Picture, Sheet, Tile};
pub use plot::{Axis, Bar, BarChart, Heatmap, LineChart, Point};
pub use table::{Cell, Table};
