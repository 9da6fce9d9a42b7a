//! Attacks through sinks: other people's keys, addresses that answer more than they should, receivers that answer too much.

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::Pipeline;
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::receiver::{Answer, KEY, Receiver};
use crate::scene::{administrator, orders};
use crate::world::{World, phase};

fn keyed(url: &str, secret: &str) -> Value {
    json!({"url": url, "signingSecretRef": {"name": secret, "key": "key"}})
}

async fn set(world: &World, who: &kube::Client, spec: Value) -> kube::Result<Pipeline> {
    let pipelines: Api<Pipeline> = Api::namespaced(who.clone(), &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_with_a_key_that_they_can_not_read() {
    let world = World::new("sink-keys").await;
    let ann = administrator(&world, "ann").await;
    let (theirs, hers) = ("https://theirs.example.test", "https://hers.example.test");
    set(&world, &world.admin, json!({"sinks": [keyed(theirs, "theirs"), {"url": hers}]})).await.unwrap();

    let words = |index: usize| [format!("you can't read the Secret of spec.sinks[{index}].signingSecretRef"), "verb get".to_owned()];
    for (what, sinks, index) in [
        ("a sink of others is moved to another address", json!([keyed("https://evil.example.test", "theirs"), {"url": hers}]), 0),
        ("one's own sink is given the key of others", json!([keyed(theirs, "theirs"), keyed(hers, "theirs")]), 1),
        ("a sink of others is given another key", json!([keyed(theirs, "other"), {"url": hers}]), 0),
        (
            "a fourth sink is given the key of others",
            json!([keyed(theirs, "theirs"), {"url": hers}, {"url": "http://a.test"}, keyed("http://b.test", "theirs")]),
            3,
        ),
    ] {
        let words = words(index);
        refused(49, what, set(&world, &ann, json!({"sinks": sinks})), 403, &words.each_ref().map(String::as_str)).await;
    }
    // What stays the same needs no right: an emergency stop is not refused because of it.
    let stopped = set(&world, &ann, json!({"suspend": true})).await.unwrap();
    assert!(stopped.spec.suspend && stopped.spec.sinks.len() == 2);
    let forged = json!({"status": {"sinks": [{"url": theirs, "waiting": 0, "cursor": {"since": "2099-01-01T00:00:00Z"}}]}});
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    let (plain, forge) = (PatchParams::default(), Patch::Merge(forged));
    let attempt = pipelines.patch_status("standard", &plain, &forge);
    refused(133, "progress is forged, to silence a sink", attempt, 403, &["this status is written by the operator alone"]).await;
    let dana = world.dana().await;
    refused(134, "a maker adds a sink", set(&world, &dana, json!({"sinks": [{"url": hers}]})), 403, &["dana", "cannot patch"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_an_address_and_nothing_else() {
    let world = World::new("sink-urls").await;
    let words = ["url is http:// or https://, a host, and a path where one is wanted; no user, password or fragment"];
    for url in [
        "https://user:password@sink.example.test/",
        "https://sink.example.test@169.254.169.254/",
        "file:///etc/passwd",
        "unix:///var/run/docker.sock",
        "gopher://sink.example.test/",
        "https://sink.example.test/#fragment",
        "https://sink.example.test/ x",
        "https://",
    ] {
        let attempt = set(&world, &world.admin, json!({"sinks": [{"url": url}]}));
        refused(135, &format!("a sink at {url}"), attempt, 422, &words).await;
    }
    let many: Vec<Value> = (0..5).map(|n| json!({"url": format!("http://sink-{n}.example.test")})).collect();
    refused(
        136,
        "more sinks than admission checks the keys of",
        set(&world, &world.admin, json!({"sinks": many})),
        422,
        &["spec.sinks", "at most 4"],
    )
    .await;
    let twice = json!([{"url": "http://a.example.test"}, {"url": "http://a.example.test"}]);
    refused(136, "one sink twice", set(&world, &world.admin, json!({"sinks": twice})), 422, &["spec.sinks", "Duplicate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_no_way_into_the_network_and_repeats_nothing_of_an_answer() {
    let world = World::new("sink-ways").await;
    let (leads, elsewhere, talks) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let to = elsewhere.url();
    leads.answer(move |_| Answer::Redirect(to.clone()));
    talks.answer(|_| Answer::Body(500, "canary-of-the-answer ".repeat(100_000)));
    let server = format!("{}/api/v1/namespaces/{}/configmaps", world.plane.server(), world.host);
    world.apply(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sink", "namespace": world.host}, "stringData": {"key": KEY}})]).await;
    let sinks = json!([{"url": leads.url()}, {"url": talks.url()}, {"url": "http://169.254.169.254/latest/meta-data"}, {"url": server}]);
    set(&world, &world.admin, json!({"sinks": sinks})).await.unwrap();
    orders(&world).await;
    assert_eq!(phase(&world.deploy("orders", "qa", "orders", "1.0.0").await), "Succeeded");
    let said = world
        .until("all four fail", async || {
            let said = world.condition::<Pipeline>("standard", "SinksDelivering").await?.1;
            (0..4).all(|n| said.contains(&format!("spec.sinks[{n}]"))).then_some(said)
        })
        .await;
    ignored(
        137,
        "a redirection to another address",
        elsewhere.came().is_empty() && said.contains("answered 307: redirects are not followed"),
        &said,
    );
    ignored(
        138,
        "the address of a machine's metadata",
        said.contains("has the link-local address 169.254.169.254") && said.contains("nothing is sent there"),
        &said,
    );
    ignored(139, "the API server as a sink", said.contains("could not be reached"), &said);
    let (calls, _) = pilotage_harness::audit::since(&world.plane.audit_log(), 0).unwrap();
    let posted: Vec<_> = calls.iter().filter(|c| c.user_agent.starts_with("pilotage/") && c.namespace == world.host).collect();
    ignored(139, "the API server as a sink, by its audit log", posted.is_empty(), &posted);
    let all = world.plane.kubectl().ok(&["get", "pipelines,deploymentrequests,events", "-n", &world.host, "-o", "yaml"]).unwrap();
    ignored(140, "an answer that is to be read by others", said.contains("answered 500") && !all.contains("canary-of-the-answer"), &said);
    let log = std::fs::read_to_string(world.plane.dir().join("operator.log")).unwrap();
    ignored(140, "the same, by the operator's log", log.contains("a sink does not take") && !log.contains("canary-of-the-answer"), &"");
    let came: Vec<_> = leads.came().into_iter().chain(talks.came()).collect();
    assert!(!came.is_empty());
    let secret = ["authorization", "cookie", "proxy-authorization"];
    let harmless = came.iter().all(|d| secret.iter().all(|header| !d.headers.contains_key(*header)));
    ignored(141, "credentials of the operator in what it sends", harmless, &came[0].headers);
}
