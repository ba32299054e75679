//! Downloads a model into the Hugging Face cache: `download BAAI/AltCLIP [REVISION]`.
//!
//! The environment says where the Hub and the cache are, as `huggingface_hub` reads it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use altclip_hub::{Error, Hub, HubConfig, Progress, RepoId};
use altclip_report::Diagnose;

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => 0.into(),
        Err(error) => {
            eprintln!("{}", error.report());
            error.code().exit_status().into()
        }
    }
}

fn run() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let repo: RepoId = args.next().unwrap_or_default().parse()?;
    let revision = args.next().unwrap_or_else(|| "main".to_owned());
    let hub = Hub::new(HubConfig::from_env_with(&|name| std::env::var_os(name))?)?;
    let mut progress = |event: Progress<'_>| match event {
        Progress::Started { file, bytes: Some(bytes), resumed_at } => {
            eprintln!("{file}: {resumed_at} of {bytes} bytes are there");
        }
        Progress::Finished { file, from_cache: true, .. } => eprintln!("{file}: cached"),
        Progress::Finished { file, .. } => eprintln!("{file}: done"),
        _ => {}
    };
    let snapshot = hub.download_model(&repo, &revision, &mut progress)?;
    if let Some(license) = &snapshot.license {
        eprintln!("licence: {license}");
    }
    println!("{}", snapshot.dir.display());
    Ok(())
}
