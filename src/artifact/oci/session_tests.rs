//! What is sent to a malicious registry, and which of its answers are trusted. Tests with real registries are in tests/behaviour.

use serde_json::json;

use crate::cluster::blocked::{Until, Wait};

use super::super::scripted::{Server, ok, says, server};
use super::*;

fn access(credentials: bool, host: &str) -> Access {
    let config = json!({"auths": {host: {"username": "ci", "password": "canary"}}}).to_string();
    let credentials = if credentials { Credentials::parse(config.as_bytes()).unwrap() } else { Credentials::default() };
    Access { credentials, plain_http: true, ..Access::default() }
}

async fn manifest(server: &Server, access: &Access, reference: &str) -> Result<Vec<u8>, OciError> {
    let repository = Repository::parse(&format!("oci://{}/team/orders", server.host)).unwrap();
    Session::new(&repository, access).unwrap().manifest(reference, "x/y").await
}

#[tokio::test]
async fn a_token_for_everybody_is_fetched_where_the_registry_says() {
    let server = server(|head, host| {
        if head.starts_with("GET /token?") {
            assert!(head.contains("scope=repository%3Ateam%2Forders%3Apull&service=r"), "{head}");
            ok(r#"{"token": "tok"}"#)
        } else if head.to_ascii_lowercase().contains("authorization: bearer tok") {
            ok("{}")
        } else {
            says(401, &format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"r\""))
        }
    });
    assert_eq!(manifest(&server, &access(false, ""), "1").await.unwrap(), b"{}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn credentials_are_sent_neither_over_http_nor_to_whom_they_are_not_for() {
    let basic = server(|_, _| says(401, "www-authenticate: Basic realm=\"x\""));
    let error = manifest(&basic, &access(true, &basic.host), "1").await.unwrap_err();
    assert_eq!(error.reason().as_str(), "RegistryUnauthorized");
    let elsewhere = server(|_, _| ok(r#"{"token": "tok"}"#));
    let to = elsewhere.host.clone();
    let bearer = server(move |_, _| says(401, &format!("www-authenticate: Bearer realm=\"http://{to}/token\"")));
    let error = manifest(&bearer, &access(true, &bearer.host), "1").await.unwrap_err();
    assert!(error.reason().as_str() == "RegistryRealmNotAllowed" && error.to_string().contains(&elsewhere.host), "{error}");
    let secure = server(|_, _| says(401, "www-authenticate: Bearer realm=\"https://auth.example.test/token\""));
    let error = manifest(&secure, &access(true, &secure.host), "1").await.unwrap_err();
    assert!(error.to_string().contains("add an entry for auth.example.test to the Secret"), "{error}");
    assert!(elsewhere.asked().is_empty());
    let sent = [basic.asked(), bearer.asked(), secure.asked()].concat().join("").to_ascii_lowercase();
    assert!(!sent.contains("authorization") && !error.to_string().contains("canary"), "{sent}");
}

#[tokio::test]
async fn a_page_to_log_in_is_waited_out_and_is_no_altered_artifact() {
    for (media_type, reason) in [
        ("text/html; charset=utf-8", "RegistryUnreachable"),
        ("TEXT/HTML", "RegistryUnreachable"),
        ("application/octet-stream", "DigestMismatch"),
    ] {
        let server = server(move |_, _| says(200, &format!("content-type: {media_type}")));
        let error = manifest(&server, &access(false, ""), &format!("sha256:{}", "a".repeat(64))).await.unwrap_err();
        assert_eq!(error.reason().as_str(), reason, "{error}");
        if reason == "RegistryUnreachable" {
            assert!(
                error.until() == Until::Wait(Wait::Server) && error.to_string().contains("a web page in place of the manifest"),
                "{error}"
            );
        }
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_leads_to_https_or_nowhere_and_takes_no_token_along() {
    let elsewhere = server(|_, _| ok("{}"));
    for (location, words) in [
        (format!("http://{}/x", elsewhere.host), "does not lead to https"),
        ("https://169.254.169.254/latest".to_owned(), "link-local address"),
        ("https://user:password@elsewhere.example.test/".to_owned(), "carries credentials"),
        ("file:///etc/passwd".to_owned(), "the address can't be read"),
        ("/again".to_owned(), "more than 3"),
    ] {
        let to = location.clone();
        let server = server(move |_, _| says(307, &format!("location: {to}")));
        let error = manifest(&server, &access(false, ""), "1").await.unwrap_err();
        assert!(error.reason().as_str() == "RegistryRedirectRefused" && error.to_string().contains(words), "{location}: {error}");
        assert!(!error.to_string().contains("password"), "{error}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn what_is_longer_or_other_than_it_should_be_is_left() {
    let long = "x".repeat(usize::try_from(limits::MANIFEST).unwrap() + 1);
    let endless = server(move |_, _| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}"));
    assert_eq!(manifest(&endless, &access(false, ""), "1").await.unwrap_err().reason().as_str(), "ArtifactTooLarge");
    let other = server(|_, _| ok("{}"));
    let digest = format!("sha256:{}", "0".repeat(64));
    let error = manifest(&other, &access(false, ""), &digest).await.unwrap_err();
    assert!(error.reason().as_str() == "DigestMismatch" && error.to_string().contains(&digest), "{error}");
    let repository = Repository::parse(&format!("oci://{}/team/orders", other.host)).unwrap();
    let access = access(false, "");
    let mut session = Session::new(&repository, &access).unwrap();
    let error = session.blob("layer", &digest, 1, "r").await.unwrap_err();
    assert!(error.reason().as_str() == "DigestMismatch" && error.to_string().contains("longer than 1 bytes"), "{error}");
}

#[tokio::test]
async fn what_a_registry_answers_is_repeated_nowhere() {
    for (code, reason) in [
        (401, "RegistryUnauthorized"),
        (403, "RegistryUnauthorized"),
        (404, "ArtifactNotFound"),
        (500, "RegistryUnreachable"),
        (429, "RegistryUnreachable"),
    ] {
        let server = server(move |_, _| says(code, "x-canary: canary"));
        let error = manifest(&server, &access(false, ""), "1").await.unwrap_err();
        assert!(error.reason().as_str() == reason && !error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn what_answers_badly_is_not_said_to_be_down() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\nconnection: close\r\n\r\nhalf";
    for answer in [says(500, "x: y"), says(429, "x: y"), broken.to_owned()] {
        let server = server(move |_, _| answer.clone());
        let error = manifest(&server, &access(false, ""), "1").await.unwrap_err();
        assert!(matches!(error, OciError::Unwell { .. }), "{error}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = Repository::parse(&format!("oci://{gone}/team/orders")).unwrap();
    let access = access(false, "");
    let error = Session::new(&repository, &access).unwrap().manifest("1", "x/y").await.unwrap_err();
    assert!(matches!(error, OciError::Unreachable { .. }), "{error}");
}

#[test]
fn a_wrong_certificate_authority_is_said_to_be_that() {
    let repository = Repository::parse("oci://r.test/team/orders").unwrap();
    for (authority, words) in
        [("canary", "has no certificate"), ("-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n", "is not PEM")]
    {
        let access = Access { authority: Some(authority.to_owned()), ..Access::default() };
        let error = Session::new(&repository, &access).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.reason().as_str(), "CertificateAuthorityUnreadable", "{text}");
        assert!(text.contains(words) && text.contains("its certificateAuthority in the pipeline") && !text.contains("canary"), "{text}");
    }
}
