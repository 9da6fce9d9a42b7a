//! Where large artifacts are stored, as configured by whoever runs the operator.

use std::path::PathBuf;

use super::CHUNK_BYTES;
use crate::api::repository::Repository;
use crate::artifact::oci::credentials::Credentials;
use crate::artifact::oci::{Access, OciError, Origin};

/// The most characters of the path. Host and solution follow it, and registries allow 255 in all.
const LONGEST_PATH: usize = 120;

/// The operator's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `--artifact-store`.
    pub(crate) store: Option<String>,
    /// `--artifact-store-from`.
    pub(crate) from: Option<usize>,
    /// `--artifact-store-credentials`.
    pub(crate) credentials: Option<PathBuf>,
    /// `--artifact-store-certificate-authority`.
    pub(crate) authority: Option<PathBuf>,
    /// `--artifact-store-plain-http`.
    pub(crate) plain_http: bool,
}

/// A path in a registry, and how the registry is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    prefix: Repository,
    from: usize,
    credentials: Option<PathBuf>,
    authority: Option<PathBuf>,
    plain_http: bool,
}

impl Place {
    /// Parses the flags. `None` means `ConfigMaps` only.
    ///
    /// # Errors
    /// Which flags contradict each other, and what to write.
    pub(crate) fn of(wanted: Wanted) -> Result<Option<Self>, String> {
        let Wanted { store, from, credentials, authority, plain_http } = wanted;
        let Some(store) = store else {
            let others = [
                (from.is_some(), "--artifact-store-from"),
                (credentials.is_some(), "--artifact-store-credentials"),
                (authority.is_some(), "--artifact-store-certificate-authority"),
                (plain_http, "--artifact-store-plain-http"),
            ];
            return match others.iter().find(|(is_set, _)| *is_set) {
                Some((_, flag)) => {
                    Err(format!("{flag} says something of a registry that is not named: name it with --artifact-store, or leave it out"))
                }
                None => Ok(None),
            };
        };
        let prefix = Repository::parse(&store).filter(|r| !r.path.is_empty() && r.path.len() <= LONGEST_PATH).ok_or_else(|| {
            // It may contain a password.
            format!(
                "--artifact-store is oci://HOST[:PORT]/PATH, host and path in lower case, the path with at most {LONGEST_PATH} characters; no tag, \
                 user, password or query"
            )
        })?;
        if plain_http && (credentials.is_some() || authority.is_some()) {
            return Err("--artifact-store-plain-http goes without --artifact-store-credentials and --artifact-store-certificate-authority: credentials \
                        are never sent over http"
                .to_owned());
        }
        if from == Some(0) {
            return Err(
                "--artifact-store-from is a number of bytes from 1: the compressed size from which an artifact goes to the registry"
                    .to_owned(),
            );
        }
        // By default, what does not fit into one chunk.
        let from = from.unwrap_or(CHUNK_BYTES + 1);
        Ok(Some(Self { prefix, from, credentials, authority, plain_http }))
    }

    /// The compressed size from which an artifact is stored there.
    pub(crate) fn from(&self) -> usize {
        self.from
    }

    /// The place, as messages name it.
    pub(crate) fn prefix(&self) -> &Repository {
        &self.prefix
    }

    /// The repository of one solution of one host. No two solutions of a cluster share one.
    pub(crate) fn repository(&self, host: &str, solution: &str) -> Repository {
        Repository { registry: self.prefix.registry.clone(), path: format!("{}/{host}/{solution}", self.prefix.path) }
    }

    /// The repository of what retention removes from a host, requests and artifacts apart. A solution's name has no slash, so none has it.
    pub(crate) fn archive(&self, host: &str, folder: &str) -> Repository {
        Repository { registry: self.prefix.registry.clone(), path: format!("{}/{host}/archive/{folder}", self.prefix.path) }
    }

    /// Whether a repository may be one of the hosts' repositories, by its name: the default ports of http and https count as one registry.
    pub(crate) fn holds(&self, repository: &Repository) -> bool {
        let named = |r: &Repository| {
            let (host, port) = r.registry.split_once(':').map_or((r.registry.as_str(), None), |(host, port)| (host, port.parse().ok()));
            Repository {
                registry: format!("{host}:{}", port.filter(|p: &u16| !matches!(p, 80 | 443)).unwrap_or_default()),
                path: r.path.clone(),
            }
        };
        named(&self.prefix).covers(&named(repository))
    }

    /// How the registry is reached. Files are read each time, so that newly mounted ones count at once.
    ///
    /// # Errors
    /// If a file can't be read.
    pub(crate) fn access(&self) -> Result<Access, OciError> {
        let registry = || self.prefix.registry.clone();
        let credentials = match &self.credentials {
            None => Credentials::default(),
            Some(path) => {
                let read = std::fs::read(path).map_err(|error| format!("can't be read: {error}"));
                let parsed = read.and_then(|bytes| Credentials::parse(&bytes).map_err(str::to_owned));
                parsed.map_err(|why| {
                    let why = format!("the file {} of --artifact-store-credentials {why}: mount a .dockerconfigjson there", path.display());
                    OciError::NoCredentials { registry: registry(), why }
                })?
            }
        };
        let read = self.authority.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|error| {
                let why = format!(
                    "the file {} of --artifact-store-certificate-authority can't be read: {error}: mount a certificate authority (PEM) there",
                    path.display()
                );
                OciError::NoAuthority { registry: registry(), why }
            })
        });
        Ok(Access { credentials, authority: read.transpose()?, plain_http: self.plain_http, origin: Origin::Operator })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(store: &str) -> Wanted {
        Wanted { store: Some(store.to_owned()), ..Wanted::default() }
    }

    fn refusal(wanted: Wanted) -> String {
        Place::of(wanted).unwrap_err()
    }

    #[test]
    fn without_a_registry_there_is_none_and_nothing_to_say_of_it() {
        assert_eq!(Place::of(Wanted::default()), Ok(None));
        for (wanted, flag) in [
            (Wanted { from: Some(1), ..Wanted::default() }, "--artifact-store-from"),
            (Wanted { credentials: Some("x".into()), ..Wanted::default() }, "--artifact-store-credentials"),
            (Wanted { authority: Some("x".into()), ..Wanted::default() }, "--artifact-store-certificate-authority"),
            (Wanted { plain_http: true, ..Wanted::default() }, "--artifact-store-plain-http"),
        ] {
            let why = refusal(wanted);
            assert!(why.starts_with(flag) && why.contains("name it with --artifact-store"), "{why}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_said_without_what_was_written() {
        let long = format!("oci://r.test/{}", "a".repeat(LONGEST_PATH + 1));
        for store in
            ["", "oci://r.test", "https://r.test/x", "oci://user:canary@r.test/x", "oci://r.test/x:canary", "oci://r.test/../x", &long]
        {
            let why = refusal(at(store));
            assert!(why.starts_with("--artifact-store is oci://HOST[:PORT]/PATH") && !why.contains("canary"), "{store}: {why}");
        }
        for wanted in [
            Wanted { plain_http: true, credentials: Some("x".into()), ..at("oci://r.test/x") },
            Wanted { plain_http: true, authority: Some("x".into()), ..at("oci://r.test/x") },
        ] {
            assert!(refusal(wanted).contains("credentials are never sent over http"));
        }
        assert!(refusal(Wanted { from: Some(0), ..at("oci://r.test/x") }).contains("a number of bytes from 1"));
    }

    #[test]
    fn each_solution_of_each_host_has_a_repository_of_its_own() {
        let place = Place::of(at("oci://r.test:5000/team/pilotage")).unwrap().unwrap();
        assert_eq!(place.repository("contoso-host", "orders").to_string(), "oci://r.test:5000/team/pilotage/contoso-host/orders");
        assert_eq!(place.from(), CHUNK_BYTES + 1);
        // Names of namespaces and solutions contain no slash.
        assert_ne!(place.repository("a", "b-c"), place.repository("a-b", "c"));
        assert_eq!(place.archive("a", "requests").to_string(), "oci://r.test:5000/team/pilotage/a/archive/requests");
    }

    #[test]
    fn what_is_kept_is_known_by_its_name_however_the_port_is_written() {
        let holds = |store: &str, url: &str| Place::of(at(store)).unwrap().unwrap().holds(&Repository::parse(url).unwrap());
        for (store, url) in [
            ("oci://r.test:5000/kept", "oci://r.test:5000/kept/host/orders"),
            ("oci://r.test:5000/kept", "oci://r.test:05000/kept"),
            ("oci://r.test/kept", "oci://r.test:443/kept/host/orders"),
            ("oci://r.test/kept", "oci://r.test:80/kept/host/orders"),
            ("oci://r.test:443/kept", "oci://r.test/kept/host/orders"),
        ] {
            assert!(holds(store, url), "{url}");
        }
        for url in ["oci://r.test:5001/kept/host", "oci://r.test/kept/host", "oci://r.test:5000/kept-b", "oci://r2.test:5000/kept/host"] {
            assert!(!holds("oci://r.test:5000/kept", url), "{url}");
        }
    }

    #[test]
    fn files_are_read_each_time() {
        let path = std::env::temp_dir().join(format!("pilotage-credentials-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let login = |user: &str| format!(r#"{{"auths": {{"r.test": {{"username": "{user}", "password": "canary"}}}}}}"#);
        let place = Place::of(Wanted { credentials: Some(path.clone()), ..at("oci://r.test/x") }).unwrap().unwrap();
        let missing = place.access().unwrap_err();
        assert_eq!(missing.reason().as_str(), "CredentialsUnreadable");
        assert!(
            missing.to_string().contains(&format!("the file {} of --artifact-store-credentials can't be read", path.display())),
            "{missing}"
        );
        write("canary");
        let wrong = place.access().unwrap_err().to_string();
        assert!(wrong.contains("is not the JSON of a docker configuration") && !wrong.contains("canary"), "{wrong}");
        for user in ["before", "after"] {
            write(&login(user));
            assert_eq!(place.access().unwrap().credentials.of("r.test").unwrap().username, user);
        }
        std::fs::remove_file(&path).unwrap();
        let place = Place::of(Wanted { authority: Some(path), ..at("oci://r.test/x") }).unwrap().unwrap();
        let error = place.access().unwrap_err();
        assert_eq!(error.reason().as_str(), "CertificateAuthorityUnreadable");
        assert!(
            error.to_string().contains("is not asked: the file ") && error.to_string().contains("mount a certificate authority"),
            "{error}"
        );
    }
}
