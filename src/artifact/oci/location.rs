//! Where an answer redirects to, by its header `Location`.
//!
//! Not by url: it brings 24 crates (IDNA and Unicode tables), and it rewrites what it reads (`\` to `/`, `127.1` to `127.0.0.1`), while the
//! client that makes the call and the checks of where it may lead read addresses as `hyper::Uri` does.

use hyper::header::LOCATION;
use hyper::http::uri::PathAndQuery;
use hyper::{Response, Uri};

/// The URL that the header names. It may be relative to the URL of the call (RFC 9110).
///
/// # Errors
/// Why it is not a URL, in words that follow "the address".
pub(super) fn of<T>(response: &Response<T>, asked: &Uri) -> Result<Uri, &'static str> {
    let named = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).filter(|l| !l.is_empty()).ok_or("is not said")?;
    let uri = joined(asked, named).ok_or("can't be read")?;
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("carries credentials");
    }
    Ok(uri)
}

fn joined(asked: &Uri, named: &str) -> Option<Uri> {
    let scheme = asked.scheme_str().unwrap_or("https");
    if has_scheme(named) {
        return named.parse().ok();
    }
    if named.starts_with("//") {
        return format!("{scheme}:{named}").parse().ok();
    }
    let named = named.split('#').next().unwrap_or_default();
    let (path, query) = named.split_once('?').map_or((named, None), |(path, query)| (path, Some(query)));
    let path = if path.is_empty() {
        asked.path().to_owned()
    } else if path.starts_with('/') {
        path.to_owned()
    } else {
        let folder = asked.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        plain(&format!("{folder}/{path}"))
    };
    let query = if named.is_empty() { asked.query() } else { query };
    let path = query.map_or(path.clone(), |query| format!("{path}?{query}"));
    let path: PathAndQuery = path.parse().ok()?;
    Uri::builder().scheme(scheme).authority(asked.authority()?.clone()).path_and_query(path).build().ok()
}

/// Whether it starts with a scheme. Without one the first part has no colon.
fn has_scheme(named: &str) -> bool {
    let first = named.split(['/', '?', '#']).next().unwrap_or_default();
    first.contains(':')
}

/// A path without `.` and `..`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let end = if path.ends_with("/.") || path.ends_with("/..") { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(named: &str) -> Result<String, &'static str> {
        let response = Response::builder().header(LOCATION, named).body(()).unwrap();
        of(&response, &"http://r.test:5000/v2/kept/blobs/uploads/?old=1".parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn an_address_may_be_relative_to_the_one_that_was_asked() {
        for (named, address) in [
            ("https://other.test/x?y=%2F", "https://other.test/x?y=%2F"),
            ("//other.test/x", "http://other.test/x"),
            ("/v2/up/1?_state=a", "http://r.test:5000/v2/up/1?_state=a"),
            ("1?_state=a:b/c", "http://r.test:5000/v2/kept/blobs/uploads/1?_state=a:b/c"),
            ("./1", "http://r.test:5000/v2/kept/blobs/uploads/1"),
            ("../../up/1", "http://r.test:5000/v2/kept/up/1"),
            ("../../../../../../1", "http://r.test:5000/1"),
            ("?_state=a", "http://r.test:5000/v2/kept/blobs/uploads/?_state=a"),
        ] {
            assert_eq!(located(named).as_deref(), Ok(address), "{named}");
        }
    }

    #[test]
    fn what_is_no_address_or_carries_credentials_is_none() {
        for (named, why) in [
            ("", "is not said"),
            ("http://", "can't be read"),
            ("file:///etc/passwd", "can't be read"),
            ("https://user:canary@other.test/", "carries credentials"),
            ("//user:canary@other.test/", "carries credentials"),
        ] {
            assert_eq!(located(named), Err(why), "{named}");
        }
    }
}
