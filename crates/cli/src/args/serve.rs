//! `altclip serve`.

use super::RunArgs;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The folder of an index whose pictures are searched
    #[arg(long, env = "ALTCLIP_INDEX", value_name = "DIR")]
    pub(crate) index: Option<PathBuf>,
    /// The address to listen on; one that other machines reach needs a key
    #[arg(long, env = "ALTCLIP_HOST", value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port; 0 takes a free one, which the line on stdout names
    #[arg(long, env = "ALTCLIP_PORT", value_name = "N", default_value_t = 8000)]
    pub(crate) port: u16,
    /// The key that requests need; in a variable or a file it is not in the list of processes
    #[arg(long, env = "ALTCLIP_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// A file with a key a line, each with its scopes behind it: KEY embed,search,write,admin
    #[arg(long, env = "ALTCLIP_API_KEY_FILE", value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Listen where other machines reach it without asking for a key
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// A fixed time for each batch instead of a model, for load tests
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) stub_ms: Option<u64>,
    /// Connections at once
    #[arg(long, env = "ALTCLIP_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_connections: u32,
    /// Longest body of a request
    #[arg(long, env = "ALTCLIP_MAX_BODY_MIB", value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) max_body_mib: u32,
    /// Bodies and answers in memory at once
    #[arg(long, env = "ALTCLIP_IN_FLIGHT_MIB", value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight_mib: u32,
    /// Pictures that are being decoded at once
    #[arg(long, env = "ALTCLIP_DECODE_MIB", value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(crate) decode_mib: u32,
    /// Longest wait for the encoder; what would wait longer is refused
    #[arg(long, env = "ALTCLIP_ADMISSION_MS", value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) admission_ms: u64,
    /// Longest time for a request
    #[arg(long, env = "ALTCLIP_REQUEST_SECONDS", value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) request_seconds: u64,
    /// Time for what was accepted when the server is told to stop
    #[arg(long, env = "ALTCLIP_DRAIN_SECONDS", value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) drain_seconds: u64,
}
