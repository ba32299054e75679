//! The Hub as a caller sees it: download a model, find it in the cache, read its licence.

use std::path::PathBuf;

use crate::api::{self, Card, Gated, RepoInfo, Sibling};
use crate::blob::{Checksum, Wanted};
use crate::cache::{RepoCache, file_bytes};
use crate::http::{Client, Subject, shown};
use crate::names::{check_revision, file_path};
use crate::select::missing_part;
use crate::{Error, HubConfig, RepoId, model_files};

/// What happens during a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The files are known.
    Listed {
        /// How many there are.
        files: usize,
        /// Bytes of all of them, cached ones too, where the Hub says.
        bytes: Option<u64>,
    },
    /// Another process downloads the file; it is waited for.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// A file begins.
    Started {
        /// The file.
        file: &'a str,
        /// Its size, where the Hub says.
        bytes: Option<u64>,
        /// Bytes that are there already from a broken download.
        resumed_at: u64,
    },
    /// Bytes came. The count can fall back where a download must start again.
    Advanced {
        /// The file.
        file: &'a str,
        /// Bytes so far.
        bytes_done: u64,
        /// Its size, where the Hub says.
        bytes_total: Option<u64>,
    },
    /// All bytes are there; the checksum is computed.
    Verifying {
        /// The file.
        file: &'a str,
    },
    /// The file is in the cache.
    Finished {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
        /// Nothing was downloaded for it.
        from_cache: bool,
    },
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the repository, with slashes.
    pub name: String,
    /// Where it is in the cache.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether it was in the cache before.
    pub from_cache: bool,
}

/// A revision of a model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with the files, to be loaded as a model folder.
    pub dir: PathBuf,
    /// The commit that it holds.
    pub commit: String,
    /// The files that were asked for.
    pub files: Vec<SnapshotFile>,
    /// The licence, unless offline.
    pub license: Option<String>,
    /// Whether the licence had to be accepted; `None` when offline.
    pub gated: Option<Gated>,
}

/// Picks files out of all names, or says which part of a model is missing.
type Choose<'a> = dyn Fn(&[String]) -> Result<Vec<String>, &'static str> + 'a;

/// A Hub and its cache.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    pub(crate) client: Client,
    /// Off only in the test that shows what the check is for.
    pub(crate) verify: bool,
}

impl Hub {
    /// A Hub by its settings; no connection is made yet.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Token`] for settings that cannot be used.
    pub fn new(config: HubConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(&config)?, config, verify: true })
    }

    /// The settings.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// Downloads what [`model_files`] names, as [`Hub::download`] does.
    ///
    /// # Errors
    /// As [`Hub::download`]; [`Error::NotAModel`] before anything is downloaded if the repository
    /// has no settings or no weights, [`Error::NotCached`] if the cache lacks them when offline.
    pub fn download_model(
        &self,
        repo: &RepoId,
        revision: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        let choose = |all: &[String]| {
            let chosen = model_files(all);
            missing_part(&chosen).map_or(Ok(chosen), Err)
        };
        self.download_with(repo, revision, &choose, progress)
    }

    /// Brings the files that `select` says yes to into the cache, and links them in the snapshot
    /// folder of the commit. Files that are there are not asked for again. All files are there
    /// before the first is linked, and a branch or tag is written down last.
    ///
    /// With `offline`, the cache alone is looked at.
    ///
    /// # Errors
    /// What the Hub refuses, what the network does, a wrong size or checksum, a cache that cannot
    /// be written, and offline what is not in the cache; see [`Error`].
    pub fn download(
        &self,
        repo: &RepoId,
        revision: &str,
        select: &dyn Fn(&str) -> bool,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        let choose = |all: &[String]| Ok(all.iter().filter(|name| select(name)).cloned().collect());
        self.download_with(repo, revision, &choose, progress)
    }

    /// The snapshot folder of a revision in the cache, without network. A branch or tag is what it
    /// was when it was last downloaded. A folder that this library wrote is whole; one that another
    /// program began and did not finish can lack files, which the loader then names.
    ///
    /// # Errors
    /// [`Error::NotCached`] if there is none.
    pub fn cached(&self, repo: &RepoId, revision: &str) -> Result<PathBuf, Error> {
        check_revision(revision)?;
        let found = RepoCache::new(&self.config.cache_dir, repo).find(revision);
        found.map(|(_, dir)| dir).ok_or_else(|| self.not_cached(repo, revision, None))
    }

    /// What the page of a model says about its use: licence and gate.
    ///
    /// # Errors
    /// As [`Hub::download`]; [`Error::NotCached`] when offline, for the cache does not hold it.
    pub fn card(&self, repo: &RepoId, revision: &str) -> Result<Card, Error> {
        if self.config.offline {
            return Err(self.not_cached(repo, revision, None));
        }
        Ok(self.info(repo, revision)?.card)
    }

    fn info(&self, repo: &RepoId, revision: &str) -> Result<RepoInfo, Error> {
        check_revision(revision)?;
        let url = self.client.info_url(repo, revision);
        let json = self.client.json(&url, Subject { repo, revision, file: None })?;
        api::parse(&shown(&url), &json)
    }

    fn download_with(
        &self,
        repo: &RepoId,
        revision: &str,
        choose: &Choose<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        check_revision(revision)?;
        let cache = RepoCache::new(&self.config.cache_dir, repo);
        if self.config.offline {
            return self.offline_snapshot(&cache, repo, revision, choose);
        }
        let info = self.info(repo, revision)?;
        let commit = &info.card.commit;
        let all: Vec<String> = info.siblings.iter().map(|file| file.name.clone()).collect();
        let chosen =
            choose(&all).map_err(|missing| Error::NotAModel { repo: repo.to_string(), missing })?;
        let siblings: Vec<&Sibling> =
            info.siblings.iter().filter(|file| chosen.contains(&file.name)).collect();
        if siblings.is_empty() {
            let missing = "file that was asked for";
            return Err(Error::NotAModel { repo: repo.to_string(), missing });
        }
        // Every name is checked before anything is written.
        let mut paths = Vec::new();
        for sibling in &siblings {
            paths.push(file_path(repo, &sibling.name)?);
        }
        cache.create()?;
        progress(Progress::Listed {
            files: siblings.len(),
            bytes: siblings.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes()?)),
        });
        let mut files = Vec::new();
        let mut links = Vec::new();
        for (sibling, path) in siblings.into_iter().zip(paths) {
            let name = sibling.name.as_str();
            let pointer = cache.snapshot(commit).join(&path);
            let there = file_bytes(&pointer)
                .filter(|&found| sibling.bytes().is_none_or(|bytes| bytes == found));
            let (bytes, from_cache) = match there {
                Some(bytes) => (bytes, true),
                None => {
                    let subject = Subject { repo, revision, file: Some(name) };
                    let wanted = self.wanted(sibling, commit, subject)?;
                    let fetched = wanted.fetch(&self.client, &cache, progress)?;
                    links.push((path, wanted.checksum));
                    fetched
                }
            };
            progress(Progress::Finished { file: name, bytes, from_cache });
            files.push(SnapshotFile { name: name.to_owned(), path: pointer, bytes, from_cache });
        }
        for (path, checksum) in links {
            cache.link(commit, &path, checksum.as_str())?;
        }
        cache.write_ref(revision, commit)?;
        Ok(Snapshot {
            dir: cache.snapshot(commit),
            files,
            license: info.card.license.clone().or_else(|| info.card.license_name.clone()),
            gated: Some(info.card.gated),
            commit: info.card.commit,
        })
    }

    /// Asks for checksum and size of a file, and joins them with what the listing says.
    fn wanted<'a>(
        &self,
        sibling: &'a Sibling,
        commit: &str,
        subject: Subject<'a>,
    ) -> Result<Wanted<'a>, Error> {
        let name = sibling.name.as_str();
        let url = self.client.file_url(subject.repo, commit, name);
        let head = self.client.head(&url, subject)?;
        if head.commit.as_ref().is_some_and(|found| found != commit) {
            return Err(Error::BadAnswer {
                url: shown(&url),
                reason: "the file comes from another commit".to_owned(),
            });
        }
        // A mirror may send an ETag of its own; the listing knows the checksum too.
        let checksum = head.checksum.as_deref().and_then(Checksum::parse);
        let checksum = checksum.or_else(|| Checksum::parse(sibling.checksum()?));
        let Some(checksum) = checksum else {
            return Err(Error::NoChecksum { file: name.to_owned() });
        };
        let bytes = head.bytes.or_else(|| sibling.bytes());
        Ok(Wanted { name, url, checksum, bytes, subject, verify: self.verify })
    }

    fn offline_snapshot(
        &self,
        cache: &RepoCache,
        repo: &RepoId,
        revision: &str,
        choose: &Choose<'_>,
    ) -> Result<Snapshot, Error> {
        let missing = |file: Option<&str>| self.not_cached(repo, revision, file);
        let (commit, dir) = cache.find(revision).ok_or_else(|| missing(None))?;
        let chosen = choose(&cache.list(&commit)?).map_err(|what| missing(Some(what)))?;
        if chosen.is_empty() {
            return Err(missing(None));
        }
        let mut files = Vec::new();
        for name in chosen {
            let path = dir.join(file_path(repo, &name)?);
            let bytes = file_bytes(&path).ok_or_else(|| missing(Some(&name)))?;
            files.push(SnapshotFile { name, path, bytes, from_cache: true });
        }
        Ok(Snapshot { dir, commit, files, license: None, gated: None })
    }

    fn not_cached(&self, repo: &RepoId, revision: &str, file: Option<&str>) -> Error {
        Error::NotCached {
            repo: repo.to_string(),
            revision: revision.to_owned(),
            cache_dir: self.config.cache_dir.clone(),
            file: file.map(str::to_owned),
        }
    }
}
