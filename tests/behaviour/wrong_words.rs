//! What each verb says to wrong input, to what is missing or gone, and to whoever may not: it ends with the code that is documented, says
//! one sentence that tells what to do, and never shows what others wrote as it is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::CommandFactory;
use pilotage::cli::command::Cli;
use serde_json::json;

use crate::plugin::{Ran, person, run};
use crate::world::{World, phase};

/// Who uses the plugin, and the namespace that they name.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// The administrator of the host.
    Olga,
    /// A maker, in development.
    Dana,
    /// Somebody without any right in the host and in development.
    Mallory,
}

use Who::{Dana, Mallory, Olga};

/// Each verb: as whom, the words, the exit code, and a part of what is said.
const WRONG: &[(Who, &[&str], i32, &str)] = &[
    (Olga, &["approve"], 2, "REQUEST"),
    (Olga, &["approve", "nothing", "--yes"], 5, "not found"),
    (Mallory, &["approve", "waits", "--yes"], 6, "pilotage-delegate"),
    (Olga, &["reject", "nothing", "--yes"], 5, "not found"),
    (Olga, &["reject", "waits", "--property", "x"], 2, "write NAME=VALUE"),
    (Mallory, &["reject", "waits", "--yes"], 6, "pilotage-delegate"),
    (Olga, &["artifact"], 2, "Usage"),
    (Mallory, &["artifact", "list"], 6, "you may not list artifacts"),
    (Olga, &["artifact", "show", "orders"], 5, "does not exist"),
    (Olga, &["artifact", "show", "orders@9.9.9"], 5, "does not exist"),
    (Mallory, &["artifact", "show", "orders@1.0.0"], 6, "you may not read"),
    (Olga, &["artifact", "pull", "orders@9.9.9"], 5, "does not exist"),
    (Olga, &["artifact", "pull", "orders@1.0.0", "-o", "csv"], 2, "-o csv is for lists"),
    (Olga, &["artifact", "diff", "orders@1.0.0"], 2, "SOLUTION@VERSION"),
    (Olga, &["cancel"], 2, "REQUEST"),
    (Olga, &["cancel", "nothing"], 5, "not found"),
    (Olga, &["cancel", "done"], 1, "ended"),
    (Mallory, &["cancel", "waits"], 6, "you may not read request waits"),
    (Dana, &["cancel", "nothing"], 5, "none of your Solutions"),
    (Olga, &["check", "extra"], 2, "unexpected argument"),
    (Mallory, &["check"], 1, "let a cluster administrator run this"),
    (Olga, &["completion"], 2, "SHELL"),
    (Olga, &["completion", "tcsh"], 2, "possible values"),
    (Dana, &["deploy"], 2, "SOLUTION"),
    (Dana, &["deploy", "nothing"], 5, "does not exist in namespace"),
    (Dana, &["deploy", "orders", "--artifact", "x"], 2, "write oci://"),
    (Mallory, &["deploy", "orders"], 6, "reading Solution orders"),
    (Olga, &["diff"], 2, "NAME"),
    (Olga, &["diff", "nothing"], 5, "request nothing"),
    (Mallory, &["diff", "waits"], 6, "-n names the host"),
    (Olga, &["grant"], 2, "Usage"),
    (Olga, &["grant", "operator", "--stage", "nothing"], 5, "Stage nothing"),
    (Mallory, &["grant", "host", "--apply"], 6, "you may not write it"),
    (Olga, &["history", "--since", "yesterday"], 2, "write a time"),
    (Olga, &["history", "--limit", "many"], 2, "invalid value"),
    (Mallory, &["history"], 6, "you may read neither"),
    (Olga, &["inbox", "extra"], 2, "unexpected argument"),
    (Olga, &["init"], 2, "--host NAMESPACE"),
    (Olga, &["init", "--host", "Upper_case", "--dev", "d", "--stages", "qa"], 2, "is no name of a namespace"),
    (Olga, &["lint"], 2, "FILE"),
    (Olga, &["lint", "/does/not/exist"], 1, "/does/not/exist"),
    (Olga, &["purge"], 2, "Usage"),
    (Olga, &["purge", "request", "nothing", "--yes"], 5, "does not exist"),
    (Olga, &["purge", "request", "waits", "--yes"], 1, "cancel it with"),
    (Olga, &["purge", "artifact", "orders-1.0.0"], 2, "--yes"),
    (Mallory, &["purge", "request", "done", "--yes"], 6, "reading DeploymentRequest done"),
    (Olga, &["redeploy", "orders"], 2, "VERSION"),
    (Olga, &["redeploy", "orders", "9.9.9", "--stage", "qa"], 5, "is not stored in host"),
    (Olga, &["redeploy", "orders", "1.0.0", "--stage", "nowhere"], 5, "stage nowhere does not exist"),
    (Mallory, &["redeploy", "orders", "1.0.0", "--stage", "qa"], 6, "you may not read stage qa"),
    (Olga, &["report", "--since", "2026-02-31"], 2, "not a day"),
    (Olga, &["report", "--by", "year"], 2, "possible values"),
    (Mallory, &["report"], 6, "pilotage-viewer"),
    (Olga, &["retention"], 2, "Usage"),
    (Olga, &["retention", "preview", "--pipeline", "nothing"], 5, "nothing"),
    (Mallory, &["retention", "preview"], 6, "you may not"),
    (Olga, &["retry", "nothing"], 5, "does not exist in host"),
    (Olga, &["retry", "done"], 1, "succeeded. To deploy that version again"),
    (Mallory, &["retry", "done"], 6, "you may not read request done"),
    (Dana, &["retry", "nothing"], 5, "none of your Solutions"),
    (Olga, &["rollback", "orders"], 2, "--stage"),
    (Olga, &["rollback", "orders", "--stage", "nowhere"], 5, "stage nowhere does not exist"),
    (Mallory, &["rollback", "orders", "--stage", "qa"], 6, "you may not read stage qa"),
    (Olga, &["share"], 2, "PIPELINE"),
    (Olga, &["share", "standard", "--with", "serviceaccount:x"], 2, "serviceaccount"),
    (Olga, &["share", "standard", "--without", "user:nobody"], 5, "not shared with User nobody"),
    (Olga, &["share", "nothing", "--with", "user:sam"], 5, "nothing"),
    (Mallory, &["share", "standard", "--with", "user:mallory"], 6, "standard"),
    (Olga, &["status", "--phase", "Nowhere"], 2, "there is none of that name"),
    (Olga, &["status", "-A"], 2, "exclude each other"),
    (Mallory, &["status"], 6, "you may read neither"),
    (Olga, &["tree", "nothing"], 5, "does not exist"),
    (Mallory, &["tree", "standard"], 6, "you may not read pipeline standard"),
    (Olga, &["version", "extra"], 2, "unexpected argument"),
    (Olga, &["watch", "nothing", "--until-done"], 5, "-n names the host"),
    (Olga, &["watch", "--until-done", "--timeout", "soon"], 2, "is not a duration"),
    (Mallory, &["watch"], 6, "watching deploymentrequests"),
    (Olga, &["where"], 2, "SOLUTION"),
    (Olga, &["where", "orders@"], 2, "write SOLUTION or SOLUTION@VERSION"),
    (Olga, &["nothing"], 2, "unrecognized subcommand"),
];

/// Names that nothing can have. Each verb that takes one refuses it, and nothing else happens.
const NAMES: [&str; 6] = ["", "../artifacts/orders-1.0.0", "done/status", "done?dryRun=All", "\u{1b}[2J\u{202e}done\nforged", "Done"];

/// The verbs with a name, in whose place one of those is put.
const NAMED: &[(Who, &[&str])] = &[
    (Olga, &["approve", "NAME", "--yes"]),
    (Olga, &["reject", "NAME", "--yes"]),
    (Olga, &["artifact", "show", "NAME"]),
    (Olga, &["artifact", "pull", "NAME"]),
    (Olga, &["artifact", "diff", "NAME", "orders@1.0.0"]),
    (Olga, &["cancel", "NAME"]),
    (Dana, &["cancel", "NAME"]),
    (Dana, &["deploy", "NAME"]),
    (Dana, &["deploy", "orders", "--to", "NAME"]),
    (Olga, &["diff", "NAME"]),
    (Olga, &["diff", "orders", "1.0.0", "--to", "NAME"]),
    (Olga, &["grant", "operator", "--stage", "NAME"]),
    (Olga, &["purge", "request", "NAME", "--yes"]),
    (Olga, &["purge", "artifact", "NAME", "--yes"]),
    (Olga, &["redeploy", "orders", "1.0.0", "--stage", "NAME"]),
    (Olga, &["redeploy", "orders", "NAME", "--stage", "qa"]),
    (Olga, &["retry", "NAME"]),
    (Dana, &["retry", "NAME"]),
    (Olga, &["rollback", "orders", "--stage", "NAME"]),
    (Olga, &["share", "NAME", "--with", "user:sam"]),
    (Olga, &["tree", "NAME"]),
    (Olga, &["watch", "NAME", "--until-done"]),
];

/// What is wrong with how it ended.
fn complaints(ran: &Ran, codes: &[i32], part: &str) -> Vec<String> {
    let is_shown = |c: char| c == '\n' || !(c.is_control() || matches!(c, '\u{200b}' | '\u{202a}'..='\u{202e}'));
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    expect(codes.contains(&ran.code), &format!("ends with none of {codes:?}"));
    let said = format!("{}{}", ran.out, ran.err);
    expect(said.contains(part), &format!("does not say {part:?}"));
    expect(ran.code == 2 || ran.err.lines().filter(|line| line.starts_with("error: ")).count() == 1, "does not say one error");
    expect(ran.out.chars().chain(ran.err.chars()).all(is_shown), "shows what controls a terminal");
    for program in ["panicked", "RUST_BACKTRACE", "Status {", "ApiError", "kube::"] {
        expect(!said.contains(program), &format!("shows {program:?} of its own inside"));
    }
    wrong
}

struct Scene {
    world: World,
    people: [PathBuf; 3],
}

impl Scene {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
        assert_eq!(phase(&world.deploy("done", "qa", "orders", "1.0.0").await), "Succeeded");
        world.ask(&world.request("waits", "prod", "orders", "1.0.0")).await;
        world.until_request("waits", |r| phase(r) == "AwaitingApproval").await;
        let people = ["olga", "dana", "mallory"].map(|who| person(&world, who));
        Self { world, people }
    }

    fn run(&self, who: Who, args: &[&str]) -> Ran {
        let (at, namespace) = match who {
            Olga => (0, &self.world.host),
            Dana => (1, &self.world.dev),
            Mallory if args[0] == "deploy" => (2, &self.world.dev),
            Mallory => (2, &self.world.host),
        };
        run(&self.people[at], &[args, &["-n", namespace]].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_says_what_is_wrong_with_the_code_that_is_documented() {
    let covered: BTreeSet<&str> = WRONG.iter().map(|(_, args, _, _)| args[0]).collect();
    for verb in Cli::command().get_subcommands() {
        assert!(covered.contains(verb.get_name()), "nothing is tried with {}", verb.get_name());
    }
    let scene = Scene::new("wrong").await;
    let mut wrong = Vec::new();
    for (who, args, code, part) in WRONG {
        let ran = scene.run(*who, args);
        wrong.extend(complaints(&ran, &[*code], part).into_iter().map(|complaint| format!("{who:?} {args:?} {complaint}: {ran:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_nothing_has_lead_nowhere() {
    let scene = Scene::new("names").await;
    let mut wrong = Vec::new();
    for (who, words) in NAMED {
        for name in NAMES {
            let args: Vec<&str> = words.iter().map(|word| if *word == "NAME" { name } else { *word }).collect();
            let ran = scene.run(*who, &args);
            wrong.extend(complaints(&ran, &[2, 5], "").into_iter().map(|complaint| format!("{who:?} {args:?} {complaint}: {ran:?}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let waits = scene.world.until_request("waits", |_| true).await;
    assert_eq!(phase(&waits), "AwaitingApproval", "nothing was decided or withdrawn");
    assert_eq!(phase(&scene.world.until_request("done", |_| true).await), "Succeeded");
}
