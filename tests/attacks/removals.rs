//! The proof that what the operator's code refuses would succeed without: the checks of `removals.yaml` are made removable in a copy of
//! the source tree, which is built once, and each attack is repeated on a control plane of its own, with an operator that lacks one
//! of them. Its test has to fail, and to show what the attacker got. By `make attacks-proof`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use futures::{StreamExt as _, stream};
use serde::Deserialize;

/// How many control planes there are at once.
const SIDE_BY_SIDE: usize = 2;

/// A check, and the attack that it refuses.
#[derive(Deserialize)]
struct Removal {
    /// The attack's number, and a word where there are several.
    id: String,
    /// The test that tries it.
    test: String,
    /// How the check is made removable: `REMOVED` stands for the condition that it is removed.
    edits: Vec<Edit>,
    /// What the failing test says when the attack has succeeded.
    shows: String,
}

#[derive(Deserialize)]
struct Edit {
    file: PathBuf,
    find: String,
    replace: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_checks_the_attacks_succeed() {
    if std::env::var("PILOTAGE_PROOF").as_deref() != Ok("removals") {
        return;
    }
    let mut removals: Vec<Removal> = serde_saphyr::from_str(include_str!("removals.yaml")).unwrap();
    let only = std::env::var("PILOTAGE_PROOF_OF").unwrap_or_default();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = source.join("target/removals/tree");
    make_removable(source, &tree, &removals);
    let built = Built::from(&tree);
    removals.retain(|removal| only.is_empty() || only.split(',').any(|wanted| removal.id.starts_with(wanted)));
    let tried = stream::iter(removals.into_iter().map(|removal| {
        let built = built.clone();
        async move {
            tokio::task::spawn_blocking(move || {
                let output = built.run(&removal);
                (removal, output)
            })
            .await
            .unwrap()
        }
    }));
    let tried: Vec<_> = tried.buffer_unordered(SIDE_BY_SIDE).map(judge).collect().await;
    let wrong: Vec<&str> = tried.iter().filter_map(|t| t.as_ref().err().map(String::as_str)).collect();
    println!("removals: {} checks taken away, {} attacks succeeded", tried.len(), tried.len() - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_check_is_where_its_removal_looks_for_it() {
    let removals: Vec<Removal> = serde_saphyr::from_str(include_str!("removals.yaml")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in removals.iter().flat_map(|r| &r.edits).map(|e| &e.file).collect::<BTreeSet<_>>() {
        edit(path, fs::read_to_string(source.join(path)).unwrap(), &removals);
    }
    let ids: BTreeSet<&str> = removals.iter().map(|removal| removal.id.as_str()).collect();
    assert_eq!(ids.len(), removals.len(), "no two have one name");
}

/// A test fails, for the attack has succeeded.
fn judge((removal, output): (Removal, Output)) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.contains(&removal.shows) {
        let said = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or_default();
        println!("proof: {}: {}", removal.id, said.chars().take(160).collect::<String>());
        return Ok(());
    }
    let said: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let end = said[said.len().saturating_sub(60)..].join("\n");
    let why = if output.status.success() { "was refused all the same" } else { "ended otherwise" };
    println!("no proof: {}: it {why}", removal.id);
    Err(format!("without its check attack {} {why}; wanted {:?}:\n{end}", removal.id, removal.shows))
}

/// Copies what builds, and makes the edits. Files that are as they were keep their times, so that little is built again.
fn make_removable(source: &Path, tree: &Path, removals: &[Removal]) {
    let listed = Command::new("git").current_dir(source).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output();
    let listed = String::from_utf8(listed.expect("git").stdout).unwrap();
    let edited: BTreeSet<&Path> = removals.iter().flat_map(|r| r.edits.iter().map(|e| e.file.as_path())).collect();
    let listed: BTreeSet<&Path> = listed.split('\0').map(Path::new).filter(|path| source.join(path).is_file()).collect();
    for gone in files(tree).into_iter().filter(|file| !listed.contains(file.strip_prefix(tree).unwrap())) {
        fs::remove_file(gone).unwrap();
    }
    for path in listed {
        let text = fs::read(source.join(path)).unwrap();
        let text = if edited.contains(path) || path == Path::new("src/lib.rs") || path == Path::new("tests/world/mod.rs") {
            edit(path, String::from_utf8(text).unwrap(), removals).into_bytes()
        } else {
            text
        };
        let copy = tree.join(path);
        if fs::read(&copy).is_ok_and(|before| before == text) {
            continue;
        }
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, text).unwrap();
    }
}

/// All files below a folder, where there is one.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn edit(path: &Path, mut text: String, removals: &[Removal]) -> String {
    let replace = |text: &str, find: &str, with: &str, of: &str| {
        assert_eq!(text.matches(find).count(), 1, "{of}: {} does not hold exactly once: {find}", path.display());
        text.replacen(find, with, 1)
    };
    for removal in removals {
        for edit in removal.edits.iter().filter(|edit| edit.file == path) {
            let condition = format!("crate::is_removed({:?})", removal.id);
            text = replace(&text, edit.find.trim_end(), &edit.replace.trim_end().replace("REMOVED", &condition), &removal.id);
        }
    }
    if path == Path::new("src/lib.rs") {
        let condition = "std::env::var(\"PILOTAGE_REMOVED\").is_ok_and(|removed| removed == check)";
        write!(text, "\n/// Whether a check is taken away.\npub fn is_removed(check: &str) -> bool {{\n    {condition}\n}}\n").unwrap();
    }
    if path == Path::new("tests/world/mod.rs") {
        // What is waited for in vain here is the refusal.
        text = replace(&text, "PATIENCE: Duration = Duration::from_mins(1)", "PATIENCE: Duration = Duration::from_secs(20)", "patience");
    }
    text
}

/// What was built of the copy.
#[derive(Clone)]
struct Built {
    tests: PathBuf,
    programs: PathBuf,
}

impl Built {
    fn from(tree: &Path) -> Self {
        let target = tree.with_file_name("build");
        let cargo = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO"));
            command.current_dir(tree).args(args).arg("--target-dir").arg(&target);
            let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
            assert!(output.status.success(), "cargo {} fails", args.join(" "));
            String::from_utf8(output.stdout).unwrap()
        };
        cargo(&["build", "--package", "pilotage-harness", "--bins"]);
        let messages =
            cargo(&["test", "--package", "pilotage", "--test", "attacks", "--no-run", "--message-format=json-render-diagnostics"]);
        let tests = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|message| message["target"]["name"] == "attacks" && message["executable"].is_string())
            .expect("the test's program");
        Self { tests: tests["executable"].as_str().unwrap().into(), programs: target.join("debug") }
    }

    /// Runs the test of an attack without the check.
    fn run(&self, removal: &Removal) -> Output {
        let mut command = Command::new(self.programs.join("pilotage-dev"));
        command.arg("run").arg("--operator").arg(self.programs.join("pilotage")).arg("--").arg(&self.tests);
        command.args([removal.test.as_str(), "--exact", "--test-threads=1"]);
        // The control plane's programs are where they were built.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        command.env("CARGO_TARGET_DIR", target).env("PILOTAGE_REMOVED", &removal.id);
        command.env("RUST_BACKTRACE", "0").env_remove("PILOTAGE_PROOF");
        command.output().unwrap()
    }
}
