//! The journeys of a maker, an approver, an administrator and an auditor: each with the plugin and their own rights, and with nothing else.

use std::path::PathBuf;

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Solution, Stage};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::plugin::{Ran, person, run};
use crate::shipped::{config, folder, greeting, takes_from};
use crate::world::{World, outcome, phase};

/// Somebody with a kubeconfig, who names a namespace and never a host that they don't know.
struct Seat {
    kubeconfig: PathBuf,
    namespace: String,
}

impl Seat {
    fn new(kubeconfig: PathBuf, namespace: &str) -> Self {
        Self { kubeconfig, namespace: namespace.to_owned() }
    }

    /// What the plugin says, however it ends.
    fn ends(&self, args: &[&str]) -> Ran {
        run(&self.kubeconfig, &[args, &["-n", &self.namespace]].concat())
    }

    /// What the plugin says. It must succeed.
    fn does(&self, args: &[&str]) -> Ran {
        let ran = self.ends(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }

    /// The entries of a list.
    fn lists(&self, args: &[&str]) -> Vec<Value> {
        self.does(&[args, &["-o", "json"]].concat()).json()["items"].as_array().unwrap().clone()
    }

    /// The plugin must end so, with these words among what it says.
    fn is_refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let ran = self.ends(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        for word in words {
            assert!(ran.err.contains(word), "{word:?} is not told to {args:?}: {ran:?}");
        }
    }
}

/// A name as kubectl takes it, without its kind.
fn name(ran: &Ran) -> String {
    ran.out.trim().rsplit('/').next().unwrap().to_owned()
}

async fn develop(world: &World, version: &str) {
    let mut solution = world.solution("orders", version);
    solution["spec"]["environmentVariables"] =
        json!([{"name": "greeting", "required": true, "target": {"kind": "ConfigMap", "name": "orders", "path": "/data/greeting"}}]);
    world.apply(&[solution, world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
}

/// Binds a role in a host, and waits until it is in force.
async fn may(world: &World, who: &str, role: &str, verb: &str, resource: &str) {
    let (kubectl, user) = (world.plane.kubectl(), format!("--user={who}"));
    kubectl.ok(&["create", "rolebinding", &format!("{who}-{role}"), &format!("--clusterrole={role}"), &user, "-n", &world.host]).unwrap();
    let asked = ["auth", "can-i", verb, resource, "-n", &world.host, "--as", who];
    world.until(&format!("{who} may {verb} {resource}"), async || kubectl.run(&asked).unwrap().ok.then_some(())).await;
}

/// Waits until the plugin lists what is wanted.
async fn until_listed(world: &World, seat: &Seat, args: &[&str], what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    world.until(what, async || seat.lists(args).into_iter().find(|item| wanted(item))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_ships_from_development_and_never_names_a_host() {
    let world = World::new("maker").await;
    let dana = Seat::new(person(&world, "dana"), &world.dev);
    develop(&world, "1.0.0").await;
    let can_be_next = |item: &Value| item["stage"] == "qa" && item["next"] == "1.0.0";
    until_listed(&world, &dana, &["status"], "1.0.0 may be asked for", can_be_next).await;

    // What would happen, what is missing, and then the request.
    let planned = dana.does(&["deploy", "orders", "--dry-run", "--set", "greeting=welcome"]);
    assert!(planned.out.contains("ConfigMap orders"), "{planned:?}");
    dana.is_refused(&["deploy", "orders"], 2, &["greeting (String): missing", "no request was made. Add: --set greeting=VALUE"]);
    let first = name(&dana.does(&["deploy", "orders", "--set", "greeting=welcome", "-o", "name"]));
    world.until_request(&first, |r| phase(r) == "AwaitingApproval").await;
    let is_waiting = |item: &Value| item["request"]["phase"] == "AwaitingApproval";
    let waits = until_listed(&world, &dana, &["status"], "the approval is waited for", is_waiting).await;
    assert_eq!((&waits["request"]["name"], &waits["request"]["requestedBy"]), (&json!(first), &json!("dana")));
    let (since, told) = (&waits["request"]["since"], waits["request"]["waitingFor"].as_str().unwrap());
    assert!(since.is_string() && told.contains("for the approval by"), "{waits}");

    // She thinks better of it, by the name that she was told.
    dana.does(&["cancel", &first]);
    until_listed(&world, &dana, &["history"], "the request is withdrawn", |item| item["outcome"] == "Canceled").await;
    dana.is_refused(&["cancel", &first], 1, &["has ended, Canceled"]);
    dana.is_refused(&["retry", &first], 1, &["you may not read the settings", "--set NAME=VALUE"]);
    let again = name(&dana.does(&["retry", &first, "--set", "greeting=welcome", "-o", "name"]));
    let end = world.approved(&again, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    until_listed(&world, &dana, &["history", "--outcome", "succeeded"], "it succeeded", |item| item["request"] == json!(again)).await;
    dana.does(&["watch", &again, "--until-done"]);

    // Where it runs is told by her Solution. What is counted from records is the host's, and she is told whom to ask.
    let runs = dana.lists(&["where", "orders"]);
    assert_eq!((&runs[0]["stage"], &runs[0]["version"]), (&json!("qa"), &json!("1.0.0")), "{runs:?}");
    let host = world.host.as_str();
    dana.is_refused(&["report"], 6, &[&format!("go through host {host}"), "ask its administrator", "pilotage-viewer", "status -n"]);
    dana.is_refused(&["report", "-o", "json"], 6, &["ask its administrator"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_who_develops_nothing_ships_what_a_registry_holds() {
    let world = World::new("maker-oci").await;
    let registry = Registry::start(&world.plane).unwrap();
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}])).await;
    registry.push_flux("team/payments:2.0.0", &folder(&world, &[("app.yaml", &config("payments", "hello"))])).unwrap();
    let dana = Seat::new(person(&world, "dana"), &world.dev);
    let solutions = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    let pushed = format!("{}:2.0.0", registry.url("team/payments"));

    // What goes wrong before the request is made leaves nothing behind.
    dana.is_refused(&["deploy", "payments"], 5, &["Solution payments does not exist", "--artifact"]);
    dana.is_refused(&["deploy", "payments", "--artifact", &pushed, "--to", "nowhere"], 5, &["there is no stage nowhere"]);
    dana.is_refused(&["deploy", "payments", "--artifact", &pushed, "--to", "prod"], 2, &["goes to a first stage"]);
    dana.is_refused(&["deploy", "payments", "--artifact", &registry.url("team/payments")], 2, &["oci://REGISTRY/REPOSITORY:TAG"]);
    assert!(solutions.get_opt("payments").await.unwrap().is_none());

    let asked = dana.does(&["deploy", "payments", "--artifact", &pushed, "-o", "name"]);
    assert!(asked.err.contains("Solution payments was made in namespace"), "{asked:?}");
    let first = name(&asked);
    let waiting = world.until_request(&first, |r| phase(r) == "AwaitingApproval").await;
    assert_eq!((waiting.spec.stage.as_str(), waiting.spec.solution.version.as_str()), ("qa", "2.0.0"));
    assert!(waiting.spec.artifact.is_some() && waiting.spec.source_environment.is_none());
    let is_waiting = |item: &Value| item["solution"] == "payments" && item["request"]["phase"] == "AwaitingApproval";
    until_listed(&world, &dana, &["status"], "she sees that it waits", is_waiting).await;
    dana.does(&["cancel", &first]);
    until_listed(&world, &dana, &["history"], "she sees that it is withdrawn", |item| item["outcome"] == "Canceled").await;
    // It is made again from where it came.
    let again = name(&dana.does(&["retry", &first, "-o", "name"]));
    let end = world.approved(&again, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(greeting(&world, &world.qa, "payments").await.as_deref(), Some("hello"));
    // And goes on as anything else does.
    let is_next = |item: &Value| item["solution"] == "payments" && item["stage"] == "prod" && item["next"] == "2.0.0";
    until_listed(&world, &dana, &["status"], "2.0.0 may go to production", is_next).await;
    let onward = name(&dana.does(&["deploy", "payments", "-o", "name"]));
    let end = world.approved(&onward, "prod").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
}

/// Lets anna decide QA in place of the delegate.
async fn decided_by_anna(world: &World) {
    may(world, "anna", "pilotage-delegate", "get", "dr").await;
    let approval = json!({"spec": {"approval": {"by": "Approvers", "approvers": [{"kind": "User", "name": "anna"}]}}});
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(approval)).await.unwrap();
    world.ready::<Stage>("qa").await;
}

async fn at_the_gate(world: &World, request: &str, version: &str) {
    world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"greeting": version}))]).await;
    world.ask(&world.request(request, "qa", "orders", version)).await;
    world.until_request(request, |r| phase(r) == "AwaitingApproval").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_finds_what_waits_in_all_hosts_looks_at_it_and_decides() {
    let (here, there) = (World::new("approver").await, World::new("approver-too").await);
    for world in [&here, &there] {
        decided_by_anna(world).await;
        at_the_gate(world, "first", "1.0.0").await;
    }
    let anna = person(&here, "anna");
    // She knows of the hosts that she may list, and is told so where that are not all.
    let without = run(&anna, &["inbox"]);
    assert!(without.code == 0 && without.err.contains("you may not list namespaces"), "{without:?}");
    let rights = json!([{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]);
    let (role, rbac) = (format!("{}-hosts", here.host), "rbac.authorization.k8s.io");
    here.apply(&[
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": role}, "rules": rights}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "anna", "apiGroup": rbac}]}),
    ])
    .await;
    let mine = |item: &&Value| [&here.host, &there.host].iter().any(|host| item["host"] == json!(host));
    let waits = here
        .until("both are in her inbox", async || {
            let items = run(&anna, &["inbox", "-o", "json"]).json()["items"].as_array().unwrap().clone();
            let waits: Vec<Value> = items.iter().filter(mine).cloned().collect();
            (waits.len() == 2).then_some(waits)
        })
        .await;
    assert!(waits.iter().all(|item| item["as"] == "you" && item["gate"] == "approval" && item["since"].is_string()), "{waits:?}");

    let at = |world: &World| Seat::new(anna.clone(), &world.host);
    let plan = at(&here).does(&["diff", "first"]);
    assert!(plan.out.contains("+ ConfigMap orders: create"), "{plan:?}");
    // Without anybody to ask, she has to say that she means it.
    at(&here).is_refused(&["approve", "first"], 2, &["--yes"]);
    at(&here).does(&["approve", "first", "--yes", "--comments", "after the backup", "--property", "TICKET=CHG-1"]);
    at(&there).does(&["reject", "first", "--yes", "--comments", "not on a Friday"]);
    assert_eq!(phase(&here.end("first").await), "Succeeded");
    assert_eq!(phase(&there.end("first").await), "Rejected");
    for world in [&here, &there] {
        at(world).is_refused(&["approve", "first", "--yes"], 1, &["there is nothing to decide", "it has ended"]);
    }
    // Her words reach whoever asked.
    let dana = Seat::new(person(&there, "dana"), &there.dev);
    let told = until_listed(&there, &dana, &["status"], "dana is told", |item| item["request"]["phase"] == "Rejected").await;
    assert!(told["request"]["message"].as_str().unwrap().contains("not on a Friday"), "{told}");
    // What is not hers is refused before anything is sent.
    at_the_gate(&here, "second", "1.1.0").await;
    let eve = Seat::new(person(&here, "eve"), &here.host);
    eve.is_refused(&["approve", "second", "--yes"], 6, &["only anna may decide approval, and you are eve"]);
    at(&here).is_refused(&["approve", "second", "--yes", "--as-delegate"], 1, &["under your own name, without --as-delegate"]);
    at(&here).is_refused(&["approve", "second", "--yes", "--gate", "preExport"], 1, &["gate approval is open"]);
    here.plane.kubectl().ok(&["delete", "clusterrolebinding,clusterrole", &role]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_writes_checks_shows_and_cleans_up_a_host() {
    let world = World::new("administrator").await;
    let olga = Seat::new(person(&world, "olga"), &world.host);
    // The files of a host, from answers; a mistake in them is told with its line.
    let made = world.plane.dir().join(&world.host);
    let out = made.to_str().unwrap();
    let args = ["init", "--host", "shop-host", "--dev", "shop-dev", "--stages", "qa=shop-qa", "--administrators", "olga", "--out", out];
    olga.does(&args);
    olga.is_refused(&args, 1, &["would be written over"]);
    assert!(olga.does(&["lint", out]).err.contains("0 errors"));
    let broken = made.join("4-broken.yaml");
    std::fs::write(
        &broken,
        "apiVersion: pilotage.dev/v1alpha1\nkind: Stage\nmetadata: {name: late, namespace: shop-host}\nspec:\n  pipeline: standard\n  \
         targetEnvironment: shop-qa\n  previousStage: qa\n  soak: 3 days\n",
    )
    .unwrap();
    let wrong = olga.ends(&["lint", out, "-o", "json"]);
    let found: Value = serde_json::from_str(&wrong.out).unwrap();
    let at = &found["items"][0];
    assert_eq!((wrong.code, &at["field"], &at["line"]), (1, &json!("spec.soak"), &json!(8)), "{wrong:?}");
    assert!(at["file"].as_str().unwrap().ends_with("4-broken.yaml") && at["object"] == "Stage late", "{at}");

    // Whether the cluster qualifies is for whoever may see it; who may not is told whom to ask.
    olga.is_refused(&["check"], 1, &[]);
    assert!(olga.ends(&["check"]).out.contains("let a cluster administrator run this"));

    develop(&world, "1.0.0").await;
    let dana = Seat::new(person(&world, "dana"), &world.dev);
    until_listed(&world, &dana, &["status"], "1.0.0 may be asked for", |item| item["next"] == "1.0.0").await;
    for (number, decision) in ["Rejected", "Approved"].into_iter().enumerate() {
        let request = name(&dana.does(&["deploy", "orders", "--set", &format!("greeting=hello {number}"), "-o", "name"]));
        world.until_request(&request, |r| phase(r) == "AwaitingApproval").await;
        world.decide("qa", &request, decision).await.unwrap();
        world.end(&request).await;
        until_listed(&world, &dana, &["history"], "its end is told", |item| item["request"] == json!(request)).await;
    }
    // What runs, and what can go on from there.
    let lines = olga.lists(&["status"]);
    let line = |stage: &str| lines.iter().find(|line| line["stage"] == stage).unwrap_or_else(|| panic!("{stage}: {lines:?}"));
    assert_eq!((&line("qa")["runs"], &line("prod")["next"]), (&json!("1.0.0"), &json!("1.0.0")));
    assert!(olga.does(&["status"]).out.contains("1.0.0 may be asked for"));
    assert!(olga.does(&["tree", "standard"]).out.contains("stage qa: ready"));
    assert!(olga.does(&["grant", "own", "bot-qa", "--user", "otto"]).out.contains("kind: Role"));

    // How long people waited counts what was rejected too, which is in no record.
    let figures = olga.lists(&["report"]);
    assert_eq!((&figures[0]["stage"], &figures[0]["deployments"], &figures[0]["approval"]["count"]), (&json!("qa"), &json!(1), &json!(2)));
    let preview = olga.does(&["retention", "preview", "-o", "json"]);
    assert!(serde_json::from_str::<Value>(&preview.out).unwrap().is_object(), "{preview:?}");
    let rejected = olga.lists(&["history", "--outcome", "rejected"]);
    let request = rejected[0]["request"].as_str().unwrap();
    olga.is_refused(&["purge", "request", request], 2, &["for ever", "--yes"]);
    assert_eq!(olga.lists(&["history"]).len(), 2, "nothing was deleted");
    olga.does(&["purge", "request", request, "--yes"]);
    olga.is_refused(&["purge", "request", request, "--yes"], 5, &["does not exist in host"]);
    olga.is_refused(&["purge", "artifact", "orders-1.0.0", "--yes"], 6, &["is deployed in environment qa"]);
    assert_eq!(olga.lists(&["report"])[0]["approval"]["count"], 1, "with the request goes what it told");
}

/// What an auditor must not do: each with words of the refusal.
const REFUSED: [(&[&str], i32, &str); 13] = [
    (&["approve", "waits", "--yes"], 6, "is not yours to decide"),
    (&["reject", "waits", "--yes"], 6, "is not yours to decide"),
    (&["approve", "waits", "--yes", "--as-delegate"], 6, "you need the verb create on serviceaccounts/token"),
    (&["cancel", "waits"], 6, "was not canceled"),
    (&["retry", "no"], 6, "asking for orders 1.1.0"),
    (&["redeploy", "orders", "1.0.0", "--stage", "qa"], 6, "asking for orders 1.0.0"),
    (&["rollback", "orders", "--stage", "qa", "--to", "1.0.0"], 6, "asking for orders 1.0.0"),
    (&["deploy", "orders"], 5, "Solution orders does not exist"),
    (&["share", "standard", "--with", "user:vic"], 6, "pipelines"),
    (&["purge", "request", "no", "--yes"], 6, "was not deleted"),
    (&["purge", "artifact", "orders-1.0.0", "--yes"], 6, "was not deleted"),
    (&["grant", "own", "bot-qa", "--user", "vic", "--apply"], 6, "you may not write it"),
    (&["artifact", "pull", "orders@1.0.0"], 6, "you may not read the ConfigMaps of host"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_sees_everything_of_a_host_and_changes_nothing() {
    let world = World::new("auditor").await;
    may(&world, "vic", "pilotage-viewer", "list", "artifacts.pilotage.dev").await;
    at_the_gate(&world, "done", "1.0.0").await;
    assert_eq!(phase(&world.approved("done", "qa").await), "Succeeded");
    at_the_gate(&world, "no", "1.1.0").await;
    world.decide("qa", "no", "Rejected").await.unwrap();
    world.end("no").await;
    at_the_gate(&world, "waits", "1.2.0").await;
    let vic = Seat::new(person(&world, "vic"), &world.host);

    let history = |args: &[&str]| -> Vec<String> {
        let found = vic.lists(&[&["history"], args].concat());
        found.iter().map(|item| item["request"].as_str().unwrap().to_owned()).collect()
    };
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    assert_eq!(history(&["--person", "dana", "--outcome", "rejected"]), ["no"]);
    assert_eq!(history(&["--person", &bot, "--outcome", "succeeded"]), ["done"]);
    assert!(history(&["--person", "vic"]).is_empty());
    let ended = vic.lists(&["history", "--outcome", "rejected"]);
    let decision = &ended[0]["decisions"][0];
    assert_eq!((&decision["gate"], &decision["by"], &decision["comments"]), (&json!("Approval"), &json!(bot), &json!("as tested")));
    assert!(decision["openedAt"].as_str() <= decision["at"].as_str() && decision["at"].is_string(), "{decision}");

    let waits = vic.lists(&["status", "--phase", "AwaitingApproval"]);
    assert_eq!((&waits[0]["request"]["reason"], &waits[0]["request"]["deciders"]), (&json!("AwaitingApproval"), &json!([bot])));
    assert!(waits[0]["request"]["since"].is_string(), "{waits:?}");
    assert!(vic.does(&["status", "-o", "wide"]).out.contains("MAY DECIDE"));
    assert_eq!(vic.lists(&["where", "orders@1.0.0"])[0]["deployedBy"], json!(bot));
    assert!(vic.lists(&["where", "orders@9.9.9"]).is_empty());
    assert_eq!(vic.lists(&["report"])[0]["approval"]["count"], 2);
    assert!(vic.does(&["artifact", "show", "orders@1.0.0"]).out.contains("Succeeded in stage qa"));
    assert!(vic.does(&["tree", "standard"]).out.contains("request waits"));
    assert!(vic.does(&["diff", "waits"]).out.contains("plan hash:"));
    assert!(vic.lists(&["inbox"]).is_empty());

    let state = || async {
        let api = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host);
        let mut seen = Vec::new();
        for name in ["done", "no", "waits"] {
            let request = api.get(name).await.unwrap();
            seen.push(json!([name, request.metadata.generation, request.spec, request.status.as_ref().map(|s| &s.approval)]));
        }
        (seen, api.list(&kube::api::ListParams::default()).await.unwrap().items.len())
    };
    let before = state().await;
    for (args, code, words) in REFUSED {
        vic.is_refused(args, code, &[words]);
    }
    assert_eq!(state().await, before, "nothing has changed");
    // The bytes are in ConfigMaps. With the right to these too, they are hers to read.
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["create", "role", "bytes", "--verb=get", "--resource=configmaps", "-n", &world.host]).unwrap();
    kubectl.ok(&["create", "rolebinding", "bytes", "--role=bytes", "--user=vic", "-n", &world.host]).unwrap();
    let pulled =
        world.until("she may read the bytes", async || Some(vic.ends(&["artifact", "pull", "orders@1.0.0"])).filter(|r| r.code == 0)).await;
    assert!(pulled.out.contains("greeting: \"1.0.0\""), "{pulled:?}");
}
