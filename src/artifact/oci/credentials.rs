//! Credentials for registries, in the form that `kubectl create secret docker-registry` stores.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The key of such a Secret.
pub(crate) const KEY: &str = ".dockerconfigjson";

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// The user name. It may be shown.
    pub(crate) username: String,
    password: String,
}

impl Login {
    /// The value of an `Authorization` header.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, …)", self.username)
    }
}

/// Credentials by host. They are never sent to another host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    hosts: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Parses the value of a Secret's key. Errors contain nothing of the value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let config: DockerConfig = serde_json::from_slice(bytes).map_err(|_| "is not the JSON of a docker configuration with auths")?;
        let mut hosts = BTreeMap::new();
        for (host, entry) in config.auths {
            let login = match (entry.username, entry.password, entry.auth) {
                (Some(username), Some(password), _) => Some((username, password)),
                (_, _, Some(auth)) => STANDARD
                    .decode(auth.trim())
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .and_then(|text| text.split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))),
                _ => None,
            };
            let Some((username, password)) = login else {
                return Err("has an entry without username and password (tokens of other forms are not supported)");
            };
            // Older tools write a URL.
            let host = host.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
            hosts.insert(host, Login { username, password });
        }
        Ok(Self { hosts })
    }

    /// The credentials for a host, with its port if it has one.
    pub(crate) fn of(&self, host: &str) -> Option<&Login> {
        // Docker Hub has several names.
        let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
        self.hosts.get(host).or_else(|| hub.contains(&host).then(|| hub.iter().find_map(|h| self.hosts.get(*h)))?)
    }

    /// Whether there are no credentials at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_for_the_host_that_they_are_written_for() {
        let config = json!({"auths": {
            "registry.test:5000": {"username": "ci", "password": "p:w"},
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:x:y")},
        }});
        let all = Credentials::parse(config.to_string().as_bytes()).unwrap();
        assert_eq!(all.of("registry.test:5000").unwrap().basic(), format!("Basic {}", STANDARD.encode("ci:p:w")));
        assert_eq!(all.of("registry-1.docker.io").unwrap().basic(), format!("Basic {}", STANDARD.encode("hub:x:y")));
        for other in ["registry.test", "registry.test:5001", "evil.registry.test:5000", "auth.docker.io", ""] {
            assert_eq!(all.of(other), None, "{other}");
        }
        assert!(!format!("{all:?}").contains("p:w"), "a password is never printed");
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_there() {
        for (text, words) in [
            ("canary", "is not the JSON"),
            (r#"{"credsStore": "canary"}"#, "is not the JSON"),
            (r#"{"auths": {"r": {"identitytoken": "canary"}}}"#, "without username and password"),
            (r#"{"auths": {"r": {"auth": "canary"}}}"#, "without username and password"),
        ] {
            let why = Credentials::parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(words) && !why.contains("canary"), "{why}");
        }
    }
}
