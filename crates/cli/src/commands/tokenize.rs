//! `altclip tokenize`: texts to token ids.

use super::Tally;
use crate::args::{MaxBad, Tokenize};
use crate::failure::{Failure, Reporter};
use crate::inputs::{self, Input};
use crate::model;
use crate::output::{Out, bad_row};
use altclip::tokenizer::{Encoding, Tokenizer};
use altclip_report::{Diagnose, Report, quote};
use serde_json::json;

pub(crate) fn run(args: &Tokenize, _: Reporter) -> Result<(), Failure> {
    let tokenizer = altclip::tokenizer_in(&model::folder(&args.model)?)?;
    let (mut out, mut tally) = (Out::new(), Tally::default());
    for text in &args.texts {
        let input = inputs::text(text);
        match encode(&tokenizer, &input, usize::from(args.max_length)) {
            Ok(encoding) => {
                tally.good();
                print(&mut out, args, &tokenizer, input.shown(), &encoding)?;
            }
            Err(report) => {
                tally.bad(&report);
                if args.json {
                    out.json(&bad_row("text", input.shown(), &report))?;
                } else {
                    out.line(format!("{}  {report}", quote(input.shown())))?;
                }
            }
        }
    }
    out.flush()?;
    tally.verdict(MaxBad::Count(0))
}

fn encode(tokenizer: &Tokenizer, input: &Input, max_length: usize) -> Result<Encoding, Report> {
    match input {
        Input::Text { text: Ok(text), .. } => {
            tokenizer.encode(text, max_length).map_err(|error| error.report())
        }
        Input::Text { text: Err(report), .. } | Input::Image { path: Err(report), .. } => {
            Err(report.clone())
        }
        Input::Image { .. } => unreachable!("texts only"),
    }
}

fn print(
    out: &mut Out,
    args: &Tokenize,
    tokenizer: &Tokenizer,
    shown: &str,
    encoding: &Encoding,
) -> Result<(), Failure> {
    if args.json {
        let mask = vec![1; encoding.input_ids.len()];
        let mut row = json!({
            "input": shown,
            "input_ids": encoding.input_ids,
            "attention_mask": mask,
            "truncated": encoding.truncated,
        });
        if encoding.truncated {
            row["tokens_total"] = encoding.tokens_total.into();
        }
        return out.json(&row);
    }
    out.line(shown)?;
    let name = |&id: &u32| format!("{id} {}", tokenizer.token(id).unwrap_or_default());
    out.line(format!("  {}", encoding.input_ids.iter().map(name).collect::<Vec<_>>().join(" · ")))?;
    if encoding.truncated {
        out.line(format!(
            "  truncated: {} of {} tokens",
            encoding.input_ids.len(),
            encoding.tokens_total
        ))?;
    }
    Ok(())
}
