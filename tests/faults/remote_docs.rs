//! Follows `docs/remote-clusters.md` exactly: its blocks are marked with the cluster that they are for.

use std::path::Path;
use std::process::Command;

use pilotage::api::Environment;
use pilotage_harness::ControlPlane;
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::remote_fixture::{self, TURNS};

/// The blocks of the page: their marks and their content.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

/// Runs the commands of a block on a control plane, or applies its manifests.
fn done(plane: &ControlPlane, folder: &Path, kind: &str, text: &str) {
    let path = format!("{}:{}", plane.bin().display(), std::env::var("PATH").unwrap());
    let commands = if kind == "yaml" { "kubectl apply -f block.yaml" } else { text };
    std::fs::write(folder.join("block.yaml"), text).unwrap();
    let output = Command::new("bash")
        .args(["-euc", commands])
        .current_dir(folder)
        .env("PATH", path)
        .env("KUBECONFIG", plane.admin_kubeconfig())
        .env("SERVER", remote_fixture::plane().server())
        .output()
        .unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_remote_clusters_does_what_it_says() {
    let _turn = TURNS.read().await;
    let mut world = fixture::world(fixture::shared(), "page").await;
    "contoso-host".clone_into(&mut world.host);
    let host = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.host, "labels": {"pilotage.dev/host": "true"}}});
    world.apply(&[host]).await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let folder = world.plane.dir().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), folder.join("deploy")).unwrap();
    let page = include_str!("../../docs/remote-clusters.md");
    let mut sides = Vec::new();
    for (mark, text) in blocks(page) {
        let (kind, side) = mark.split_once(' ').unwrap_or_else(|| panic!("a block without a side: {mark}"));
        let plane = if side == "there" { remote_fixture::plane() } else { &world.plane };
        let (folder, kind, text) = (folder.clone(), kind.to_owned(), text.to_owned());
        let work = async { tokio::task::block_in_place(|| done(plane, &folder, &kind, &text)) };
        fixture.tending(work).await;
        sides.push(side);
    }
    assert_eq!(sides, ["there", "there", "there", "here", "here", "here"]);
    let message = world.until_condition::<Environment>("contoso-prod", "Ready", "Validated").await;
    assert_eq!(message, "namespace contoso-prod of cluster eu can be used");
}
