//! How many bytes of artifacts a host, and a development environment in it, keep in `ConfigMaps`. What makers export is stored in the etcd
//! that the whole cluster shares, before anybody has approved it. So there are quotas.

use std::fmt::Write as _;

/// How many artifacts a message names.
const NAMED: usize = 20;

/// How much may be kept, in bytes as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// In one host.
    pub(crate) host: u64,
    /// Of one development environment in one host.
    pub(crate) environment: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { host: 512 * MEBIBYTE, environment: 128 * MEBIBYTE }
    }
}

const MEBIBYTE: u64 = 1024 * 1024;

/// An artifact that a host keeps in its `ConfigMaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) name: String,
    /// The development environment that it came from; `None` if it was fetched from a registry.
    pub(crate) environment: Option<String>,
    /// Its bytes as stored.
    pub(crate) bytes: u64,
    /// Whether it can't be deleted: it was deployed somewhere, or an open request names it.
    pub(crate) needed: bool,
}

/// Why `wanted` more bytes from a development environment (or a registry) are not stored in `host`, and what to do; `None` if they are
/// stored.
pub(crate) fn full(host: &str, environment: Option<&str>, wanted: u64, kept: &[Kept], quota: Quota) -> Option<String> {
    let of = |kept: &[&Kept]| kept.iter().fold(0, |sum: u64, k| sum.saturating_add(k.bytes));
    let all: Vec<&Kept> = kept.iter().collect();
    let from_there: Vec<&Kept> = kept.iter().filter(|k| environment.is_some() && k.environment.as_deref() == environment).collect();
    let (who, flag, most, counted) = if environment.is_some() && of(&from_there).saturating_add(wanted) > quota.environment {
        let who = format!("artifacts of development environment {} in host {host}", environment.unwrap_or_default());
        (who, "--stored-bytes-per-environment", quota.environment, from_there)
    } else if of(&all).saturating_add(wanted) > quota.host {
        (format!("artifacts of host {host}"), "--stored-bytes-per-host", quota.host, all)
    } else {
        return None;
    };
    let mut message = format!(
        "nothing was stored; {who} may take {} as stored (the operator's {flag}), they take {}, and this version needs {} more. ",
        said(most),
        said(of(&counted)),
        if wanted <= 1 { "some".to_owned() } else { said(wanted) }
    );
    let mut idle: Vec<&Kept> = counted.into_iter().filter(|k| !k.needed).collect();
    idle.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    if idle.is_empty() {
        message.push_str(
            "Each of them was deployed, or is in use by a request that has not ended, and stays, unless the retention of its pipelines \
             (spec.retention.artifacts) removes its bytes. ",
        );
    } else {
        let named: Vec<String> = idle.iter().take(NAMED).map(|k| format!("{} ({})", k.name, said(k.bytes))).collect();
        let more = if idle.len() > NAMED { format!(" and {} more", idle.len() - NAMED) } else { String::new() };
        let names: Vec<&str> = idle.iter().take(NAMED).map(|k| k.name.as_str()).collect();
        let _ = write!(
            message,
            "Never deployed were {}{more}, {} together; an administrator of the host deletes what is needed no more: kubectl delete artifacts -n \
             {host} {}. ",
            named.join(", "),
            said(of(&idle)),
            names.join(" ")
        );
    }
    message.push_str("Or whoever runs the operator raises the quota, or has large artifacts kept in a registry (--artifact-store). It goes on by itself then");
    Some(message)
}

/// Bytes for people.
fn said(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..MEBIBYTE => format!("{} KiB", bytes.div_ceil(1024)),
        _ => {
            let tenths = bytes.saturating_mul(10).div_ceil(MEBIBYTE);
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        }
    }
}

/// Parses a number of bytes as flags have it: digits, and optionally Ki, Mi or Gi.
///
/// # Errors
/// Where it is none, in words.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("Ki", 1024), ("Mi", MEBIBYTE), ("Gi", 1024 * MEBIBYTE)];
    let (digits, unit) = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size))).unwrap_or((text, 1));
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no number of bytes, as 134217728, 128Mi or 1Gi"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, environment: &str, mebibytes: u64, needed: bool) -> Kept {
        Kept { name: name.into(), environment: Some(environment.into()), bytes: mebibytes * MEBIBYTE, needed }
    }

    const QUOTA: Quota = Quota { host: 30 * MEBIBYTE, environment: 20 * MEBIBYTE };

    #[test]
    fn what_fits_is_stored_and_what_does_not_says_what_could_go() {
        let all = [kept("fat-1.0.1", "dev", 6, false), kept("fat-1.0.2", "dev", 9, false), kept("orders-1.0.0", "dev", 2, true)];
        assert_eq!(full("host", Some("dev"), 3 * MEBIBYTE, &all, QUOTA), None);
        let message = full("host", Some("dev"), 3 * MEBIBYTE + 1, &all, QUOTA).unwrap();
        for part in [
            "development environment dev in host host may take 20.0 MiB",
            "--stored-bytes-per-environment",
            "they take 17.0 MiB",
            "Never deployed were fat-1.0.2 (9.0 MiB), fat-1.0.1 (6.0 MiB), 15.0 MiB together",
            "kubectl delete artifacts -n host fat-1.0.2 fat-1.0.1. ",
        ] {
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
    }

    #[test]
    fn a_host_is_full_whichever_environments_filled_it_and_what_was_deployed_stays() {
        let all = [kept("a-1.0.0", "one", 15, true), kept("b-1.0.0", "two", 15, true)];
        for environment in [Some("two"), Some("three"), None] {
            let message = full("host", environment, 1, &all, QUOTA).unwrap();
            assert!(
                message.contains("artifacts of host host may take 30.0 MiB") && message.contains("Each of them was deployed"),
                "{message}"
            );
            assert!(!message.contains("kubectl delete"), "{message}");
        }
        assert_eq!(full("host", None, 1, &all[..1], QUOTA), None, "what comes from a registry is in no environment's quota");
    }

    #[test]
    fn a_flag_takes_bytes_and_units() {
        assert_eq!(bytes("134217728"), Ok(128 * MEBIBYTE));
        assert_eq!((bytes("128Mi"), bytes("1Gi"), bytes("1Ki")), (Ok(128 * MEBIBYTE), Ok(1024 * MEBIBYTE), Ok(1024)));
        for wrong in ["", "Mi", "-1", "1 Mi", "1.5Gi", "99999999999999999999", "99999999999999Gi"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!((said(17), said(1025), said(MEBIBYTE + 1)), ("17 B".into(), "2 KiB".into(), "1.1 MiB".into()));
    }
}
