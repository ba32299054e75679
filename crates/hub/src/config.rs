//! Where the Hub and the cache are, and the documented rules by which the environment says so.
//!
//! Source: the environment variables of `huggingface_hub`,
//! <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// The public Hub.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a [`crate::Hub`].
#[derive(Clone)]
pub struct HubConfig {
    /// Address of the Hub or of a mirror, `https://…`.
    pub endpoint: String,
    /// The folder that holds `models--ORG--NAME`.
    pub cache_dir: PathBuf,
    /// Access token; sent to the endpoint only, never printed.
    pub token: Option<String>,
    /// Use the cache alone; no connection is made.
    pub offline: bool,
    /// Longest silence of the network that is waited for.
    pub timeout: Duration,
    /// Address of an HTTP proxy, `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// A PEM file of the certificate authorities to trust, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// Shows everything but the secrets.
impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .field("proxy", &self.proxy.as_ref().map(|_| "(hidden)"))
            .field("no_proxy", &self.no_proxy)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

impl HubConfig {
    /// The public Hub with a cache folder, without token.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            timeout: DEFAULT_TIMEOUT,
            proxy: None,
            no_proxy: None,
            ca_file: None,
        }
    }

    /// The settings that an environment stands for: `HF_HOME`, `HF_HUB_CACHE`, `XDG_CACHE_HOME`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`,
    /// the older names that `huggingface_hub` still reads, and the usual names of proxies and of a
    /// file of certificate authorities (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`). An empty value
    /// counts as not set. `get` looks one variable up; the token file is read here.
    ///
    /// # Errors
    /// [`Error::NoHome`] if nothing says where the cache is; [`Error::Setting`] for a value that
    /// cannot be used; [`Error::TokenFile`] if the token file exists and cannot be read.
    pub fn from_env_with(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let env = Env { get };
        let home = env.first(if cfg!(windows) { &["USERPROFILE", "HOME"] } else { &["HOME"] });
        let home = home.map(PathBuf::from);
        let hf_home = env.path("HF_HOME", home.as_deref()).or_else(|| {
            let cache = env.path("XDG_CACHE_HOME", home.as_deref());
            cache.or_else(|| Some(home.as_ref()?.join(".cache"))).map(|dir| dir.join("huggingface"))
        });
        let cache_dir = env
            .path("HF_HUB_CACHE", home.as_deref())
            .or_else(|| env.path("HUGGINGFACE_HUB_CACHE", home.as_deref()))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")))
            .ok_or(Error::NoHome)?;
        let token = match env.text("HF_TOKEN")?.or(env.text("HUGGING_FACE_HUB_TOKEN")?) {
            Some(token) => Some(token),
            None => env
                .path("HF_TOKEN_PATH", home.as_deref())
                .or_else(|| Some(hf_home.as_ref()?.join("token")))
                .map_or(Ok(None), |path| read_token(&path))?,
        };
        let endpoint = env.text("HF_ENDPOINT")?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self {
            proxy: env.proxy(&endpoint)?,
            endpoint,
            token,
            offline: env.truth("HF_HUB_OFFLINE")? || env.truth("TRANSFORMERS_OFFLINE")?,
            timeout: env.timeout()?,
            no_proxy: env.text("no_proxy")?.or(env.text("NO_PROXY")?),
            ca_file: env.first(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]).map(PathBuf::from),
            ..Self::new(cache_dir)
        })
    }
}

/// An environment behind a look-up function.
struct Env<'a> {
    get: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Env<'_> {
    fn first(&self, names: &[&str]) -> Option<OsString> {
        names.iter().filter_map(|name| (self.get)(name)).find(|value| !value.is_empty())
    }

    /// A folder or file; `~` at its start is the home folder.
    fn path(&self, name: &str, home: Option<&Path>) -> Option<PathBuf> {
        let path = PathBuf::from(self.first(&[name])?);
        match (path.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        }
    }

    /// A trimmed text; its value stays out of the error, for it may be a secret.
    fn text(&self, name: &'static str) -> Result<Option<String>, Error> {
        let Some(value) = self.first(&[name]) else { return Ok(None) };
        let value = value.into_string().map_err(|_| Error::Setting {
            name,
            value: None,
            expected: "text in UTF-8",
        })?;
        Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty()))
    }

    fn truth(&self, name: &'static str) -> Result<bool, Error> {
        let value = self.text(name)?.unwrap_or_default().to_ascii_uppercase();
        Ok(["1", "ON", "YES", "TRUE"].contains(&value.as_str()))
    }

    fn timeout(&self) -> Result<Duration, Error> {
        let name = "HF_HUB_DOWNLOAD_TIMEOUT";
        let Some(value) = self.text(name)? else { return Ok(DEFAULT_TIMEOUT) };
        match value.parse() {
            Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
            _ => Err(Error::Setting {
                name,
                value: Some(value),
                expected: "whole seconds from 1 on",
            }),
        }
    }

    /// The proxy for addresses of the endpoint's scheme.
    fn proxy(&self, endpoint: &str) -> Result<Option<String>, Error> {
        let plain = endpoint.starts_with("http://");
        let own = if plain { ["http_proxy", "HTTP_PROXY"] } else { ["https_proxy", "HTTPS_PROXY"] };
        for name in own.into_iter().chain(["all_proxy", "ALL_PROXY"]) {
            if let Some(proxy) = self.text(name)? {
                return Ok(Some(proxy));
            }
        }
        Ok(None)
    }
}

fn read_token(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::TokenFile { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<HubConfig, Error> {
        HubConfig::from_env_with(&|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn cache(vars: &[(&str, &str)]) -> PathBuf {
        config(vars).expect("a cache folder").cache_dir
    }

    #[test]
    fn the_cache_folder_follows_the_documented_order() {
        let home = ("HOME", "/home/u");
        assert_eq!(cache(&[home]), Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        let hf_home = ("HF_HOME", "/hf");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x"), hf_home]), Path::new("/hf/hub"));
        assert_eq!(cache(&[hf_home, ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[hf_home, ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf")]), Path::new("/home/u/hf/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "")]), Path::new("/home/u/.cache/huggingface/hub"));
        assert!(matches!(config(&[]), Err(Error::NoHome)));
    }

    #[test]
    fn the_token_comes_from_the_variable_or_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let token = |vars: &[(&str, &str)]| config(vars).unwrap().token;
        let hf_home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(token(&[hf_home]), None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(dir.path().join("other"), " \n").unwrap();
        assert_eq!(token(&[hf_home]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[hf_home, ("HF_TOKEN", " hf_env\n")]).as_deref(), Some("hf_env"));
        let other = dir.path().join("other");
        assert_eq!(token(&[hf_home, ("HF_TOKEN_PATH", other.to_str().unwrap())]), None);
        let folder = [hf_home, ("HF_TOKEN_PATH", hf_home.1)];
        assert!(matches!(config(&folder), Err(Error::TokenFile { .. })));
    }

    #[test]
    fn switches_and_numbers() {
        let with = |name, value| config(&[("HOME", "/h"), (name, value)]);
        for (value, offline) in
            [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("", false)]
        {
            assert_eq!(with("HF_HUB_OFFLINE", value).unwrap().offline, offline, "{value:?}");
        }
        let timeout = |value| with("HF_HUB_DOWNLOAD_TIMEOUT", value).map(|c| c.timeout.as_secs());
        assert_eq!(timeout("").unwrap(), 10);
        assert_eq!(timeout("30").unwrap(), 30);
        for bad in ["0", "-1", "ten", "1e9"] {
            assert!(matches!(timeout(bad), Err(Error::Setting { .. })), "{bad}");
        }
        assert_eq!(with("HF_ENDPOINT", "").unwrap().endpoint, DEFAULT_ENDPOINT);
        assert_eq!(with("HF_ENDPOINT", "http://m").unwrap().endpoint, "http://m");
        let shown = with("https_proxy", "http://u:hunter2@p:1").unwrap();
        assert_eq!(shown.proxy.as_deref(), Some("http://u:hunter2@p:1"));
        assert!(!format!("{shown:?}").contains("hunter2"));
        let proxies =
            [("HOME", "/h"), ("https_proxy", "s"), ("HTTP_PROXY", "p"), ("all_proxy", "a")];
        assert_eq!(config(&proxies).unwrap().proxy.as_deref(), Some("s"));
        let plain = [proxies[0], ("HF_ENDPOINT", "http://m"), proxies[1], proxies[3]];
        assert_eq!(config(&plain).unwrap().proxy.as_deref(), Some("a"));
    }
}
