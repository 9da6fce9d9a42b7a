use serde_json::json;

use super::super::credentials::Credentials;
use super::super::scripted::{Server, ok, says, server};
use super::super::{Access, Origin};
use super::*;
use crate::api::repository::Repository;
use crate::artifact::bundle::digest;

const BYTES: &[u8] = b"what is kept";

fn access(config: &serde_json::Value) -> Access {
    let credentials = Credentials::parse(config.to_string().as_bytes()).unwrap();
    Access { credentials, plain_http: true, origin: Origin::Operator, ..Access::default() }
}

async fn blob_with(server: &Server, access: &Access) -> Result<(), OciError> {
    let repository = Repository::parse(&format!("oci://{}/kept/host/orders", server.host)).unwrap();
    Session::writing(&repository, access).unwrap().put_blob("layer", &digest(BYTES), BYTES.into()).await
}

async fn blob(server: &Server) -> Result<(), OciError> {
    blob_with(server, &access(&json!({"auths": {}}))).await
}

/// A head has no body.
fn bare(code: u16, header: &str) -> String {
    format!("HTTP/1.1 {code} X\r\n{header}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn methods(server: &Server) -> Vec<String> {
    server.asked().iter().map(|head| head.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_there_is_not_sent_and_what_is_sent_goes_under_its_digest() {
    for code in [200, 307] {
        let has = server(move |_, _| bare(code, "location: https://elsewhere.example.test/"));
        blob(&has).await.unwrap();
        assert_eq!(methods(&has), ["HEAD"]);
    }
    for location in ["/v2/kept/up/1?_state=a%2Fb", "http://HOST/v2/kept/up/1?_state=a%2Fb", "../../../../up/1?_state=a%2Fb"] {
        let takes = server(move |head, host| match head.split(' ').next().unwrap() {
            "HEAD" => bare(404, "x: y"),
            "POST" => bare(202, &format!("location: {}", location.replace("HOST", host))),
            _ => bare(201, "x: y"),
        });
        blob(&takes).await.unwrap();
        let asked = takes.asked();
        assert_eq!(methods(&takes), ["HEAD", "POST", "PUT"]);
        assert!(asked[1].starts_with("POST /v2/kept/host/orders/blobs/uploads/ "), "{}", asked[1]);
        let expected = format!("PUT /v2/kept/up/1?_state=a%2Fb&digest={} ", digest(BYTES).replace(':', "%3A"));
        assert!(asked[2].starts_with(&expected), "{}", asked[2]);
        assert!(asked[2].to_ascii_lowercase().contains(&format!("content-length: {}", BYTES.len())));
    }
}

#[tokio::test]
async fn an_upload_is_sent_to_no_other_host_and_in_no_other_way() {
    let elsewhere = server(|_, _| bare(201, "x: y"));
    for location in [
        format!("http://{}/v2/up", elsewhere.host),
        format!("//{}/v2/up", elsewhere.host),
        "https://HOST/v2/up".to_owned(),
        "http://user:canary@HOST/v2/up".to_owned(),
        "http://HOST.evil.example.test/v2/up".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let to = location.clone();
        let leads = server(move |head, host| {
            if head.starts_with("HEAD") { bare(404, "x: y") } else { bare(202, &format!("location: {}", to.replace("HOST", host))) }
        });
        let error = blob(&leads).await.unwrap_err();
        let text = error.to_string();
        assert!(
            error.reason().as_str() == "RegistryRedirectRefused" && text.contains("upload") && !text.contains("canary"),
            "{location}: {text}"
        );
        assert_eq!(methods(&leads), ["HEAD", "POST"], "{location}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_token_is_asked_for_to_write_and_credentials_never_go_over_http() {
    let tokens = server(|head, host| {
        let head = head.to_ascii_lowercase();
        if head.starts_with("get /token?") {
            assert!(head.contains("scope=repository%3akept%2fhost%2forders%3apull%2cpush&service=r"), "{head}");
            ok(r#"{"token": "tok"}"#)
        } else if head.contains("authorization: bearer tok") {
            bare(200, "x: y")
        } else {
            bare(401, &format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"r\""))
        }
    });
    blob(&tokens).await.unwrap();
    assert_eq!(methods(&tokens), ["HEAD", "GET", "HEAD"]);
    let basic = server(|_, _| bare(401, "www-authenticate: Basic realm=\"x\""));
    let error =
        blob_with(&basic, &access(&json!({"auths": {(basic.host.clone()): {"username": "ci", "password": "canary"}}}))).await.unwrap_err();
    assert_eq!(error.reason().as_str(), "RegistryUnauthorized");
    assert!(basic.asked().iter().all(|head| !head.to_ascii_lowercase().contains("authorization")));
}

#[tokio::test]
async fn what_is_not_taken_is_said_by_its_cause_and_without_the_registrys_words() {
    let quota = "HTTP/1.1 403 X\r\ncontent-length: 30\r\nconnection: close\r\n\r\ncanary: Quota has been exceeded";
    for (answer, reason, words) in [
        (says(403, "x: y"), "RegistryUnauthorized", "does not let anybody without credentials write to oci://"),
        (quota.to_owned(), "RegistryFull", "its quota is used up"),
        (says(507, "x: y"), "RegistryFull", "its quota is used up"),
        (says(413, "x: y"), "RegistryRefused", "does not take its layer (12 bytes) for oci://"),
        (says(404, "x: y"), "RegistryRefused", "makes none by itself: create it there"),
        (says(400, "x: y"), "RegistryRefused", "its own log says why"),
        (says(307, "location: /x"), "RegistryRedirectRefused", "uploads go to it alone: name it by the address that it answers at"),
        (says(429, "x: y"), "RegistryUnreachable", "answered 429"),
        (says(502, "x: y"), "RegistryUnreachable", "answered 502"),
    ] {
        let refuses = server(move |head, _| if head.starts_with("HEAD") { bare(404, "x: y") } else { answer.clone() });
        let error = blob(&refuses).await.unwrap_err();
        let text = error.to_string();
        assert!(error.reason().as_str() == reason && text.contains(words) && !text.contains("canary"), "{reason}: {text}");
        assert!(text.contains(&refuses.host), "{text}");
    }
}

#[tokio::test]
async fn a_manifest_is_there_under_its_digest_or_is_said_not_to_be() {
    let forgets = server(|head, _| if head.starts_with("HEAD") { bare(404, "x: y") } else { bare(201, "x: y") });
    let repository = Repository::parse(&format!("oci://{}/kept/host/orders", forgets.host)).unwrap();
    let access = access(&json!({"auths": {}}));
    let mut session = Session::writing(&repository, &access).unwrap();
    let error = session.put_manifest(&digest(BYTES), BYTES.into()).await.unwrap_err();
    assert!(error.reason().as_str() == "RegistryUnreachable" && error.to_string().contains("does not have it under its digest"), "{error}");
    assert!(forgets.asked()[1].starts_with(&format!("PUT /v2/kept/host/orders/manifests/{} ", digest(BYTES))));
    assert!(forgets.asked()[1].contains(manifest::MANIFEST));
}

#[tokio::test]
async fn a_manifest_that_is_said_to_be_elsewhere_is_not_stored() {
    // As a registry does that speaks https alone, or a proxy before it that wants everybody to log in.
    for (code, to) in [(308, "https://HOST/v2/"), (302, "https://login.example.test/")] {
        let leads = server(move |_, host| bare(code, &format!("location: {}", to.replace("HOST", host))));
        blob(&leads).await.unwrap();
        let repository = Repository::parse(&format!("oci://{}/kept/host/orders", leads.host)).unwrap();
        let access = access(&json!({"auths": {}}));
        let mut session = Session::writing(&repository, &access).unwrap();
        for error in [
            session.put_manifest(&digest(BYTES), BYTES.into()).await.unwrap_err(),
            session.put_tag("1.4.0", BYTES.into()).await.unwrap_err(),
            session.has_manifest("1.4.0").await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                error.reason().as_str() == "RegistryRedirectRefused" && text.contains("name it by the address that it answers at"),
                "{text}"
            );
        }
    }
}
