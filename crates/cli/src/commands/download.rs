//! `altclip download`: a model from the hub into the standard cache.

use crate::args::Download;
use crate::failure::{Failure, Reporter};
use crate::model;
use crate::output::Out;
use altclip::hub::{Progress, RepoId, Snapshot};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

pub(crate) fn run(args: &Download, reporter: Reporter) -> Result<(), Failure> {
    let hub = model::hub(|name| std::env::var_os(name))?;
    let repo: RepoId = args.repo.parse()?;
    let hidden = std::env::var_os("HF_HUB_DISABLE_PROGRESS_BARS").is_some_and(|value| value != "0");
    let mut bars = Bars { current: None, shown: reporter.shows_progress() && !hidden };
    let snapshot =
        hub.download_model(&repo, &args.revision, &mut |progress| bars.show(&progress))?;
    print(args, &snapshot)
}

struct Bars {
    current: Option<ProgressBar>,
    shown: bool,
}

impl Bars {
    fn show(&mut self, progress: &Progress<'_>) {
        if !self.shown {
            return;
        }
        match progress {
            Progress::Started { file, bytes, resumed_at } => {
                let template = "{msg:32} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
                let style = ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = ProgressBar::new((*bytes).unwrap_or(0)).with_style(style);
                bar.set_message((*file).to_owned());
                bar.set_position(*resumed_at);
                self.current = Some(bar);
            }
            Progress::Advanced { bytes_done, .. } => {
                if let Some(bar) = &self.current {
                    bar.set_position(*bytes_done);
                }
            }
            Progress::Finished { .. } => {
                if let Some(bar) = self.current.take() {
                    bar.finish();
                }
            }
            _ => {}
        }
    }
}

fn print(args: &Download, snapshot: &Snapshot) -> Result<(), Failure> {
    let mut out = Out::new();
    if args.json {
        let files = snapshot.files.iter().map(
            |file| json!({ "name": file.name, "bytes": file.bytes, "from_cache": file.from_cache }),
        );
        out.json(&json!({
            "repo": args.repo,
            "revision": args.revision,
            "commit": snapshot.commit,
            "dir": snapshot.dir.to_string_lossy(),
            "license": snapshot.license,
            "files": files.collect::<Vec<_>>(),
        }))?;
        return out.flush();
    }
    for file in &snapshot.files {
        let how = if file.from_cache { "already there" } else { "downloaded" };
        out.line(format!("{:<32} {how}", file.name))?;
    }
    out.line(format!(
        "licence  {}",
        snapshot.license.as_deref().unwrap_or("not stated by the hub")
    ))?;
    out.line(format!("folder   {}", snapshot.dir.display()))?;
    out.line(format!(
        "next     altclip classify --model {} --label 一只猫 --label 'a dog' PICTURE",
        args.repo
    ))?;
    out.flush()
}
