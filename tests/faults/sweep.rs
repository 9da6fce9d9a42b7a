//! The operator is killed before and after each of its writes, and every run ends as the undisturbed one.

use std::time::Instant;

use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;

use crate::life::{self, Application};
use crate::proxy::{Action, Call};
use crate::site::{self, Site};
use crate::state;

/// How many lives are lived side by side.
const SIDE_BY_SIDE: usize = 4;

/// What a life came to.
struct Outcome {
    state: Value,
    writes: Vec<String>,
    crashed: bool,
}

/// Lives a life in a world of its own. `Err` tells what went wrong in it.
async fn run(application: &Application, crash: Option<(usize, Action)>) -> Result<Outcome, String> {
    let world = site::world(site::shared(), "sweep").await;
    let script = move |call: &Call| match crash {
        Some((number, action)) if call.write == Some(number) => action,
        _ => Action::Forward,
    };
    let mut site = Site::start(&world, |proxy| proxy.follow(script)).await;
    let lived = std::panic::AssertUnwindSafe(site.tending(life::live(&world, application))).catch_unwind().await;
    if let Err(panic) = lived {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a check failed".into());
        return Err(format!("{why}\n{}", life::story(&site)));
    }
    site.settle(&world).await;
    let writes = site.proxy.writes();
    life::written_once(&world, application, &writes).map_err(|why| format!("{why}\n{}", life::story(&site)))?;
    let crashed = site.proxy.has_crashed();
    if crashed != (site.restarts() == 1) {
        return Err(format!("crashed: {crashed}, started again {} times", site.restarts()));
    }
    Ok(Outcome { state: state::of(&world).await, writes: writes.into_iter().map(|w| w.line).collect(), crashed })
}

/// Crashes before and after every write of a life, and compares each end with the undisturbed one.
async fn sweep(application: &Application) {
    let start = Instant::now();
    let reference = run(application, None).await.unwrap();
    let again = run(application, None).await.unwrap();
    assert_eq!(state::differences(&reference.state, &again.state), Vec::<String>::new(), "two undisturbed lives differ");
    assert!(reference.writes.len() > 2 * application.size(), "all writes are counted: {:?}", reference.writes);

    let only: Option<usize> = std::env::var("PILOTAGE_SWEEP_AT").ok().and_then(|at| at.parse().ok());
    let crashes = (1..=reference.writes.len()).filter(|number| only.is_none_or(|only| only == *number));
    let crashes = crashes.flat_map(|number| [(number, Action::CrashBefore), (number, Action::CrashAfter)]);
    let lives = stream::iter(crashes.map(|(number, action)| async move {
        let outcome = run(application, Some((number, action))).await;
        (number, action, outcome)
    }));
    let lives: Vec<_> = lives.buffer_unordered(SIDE_BY_SIDE).collect().await;

    let mut wrong = Vec::new();
    let mut crashed = 0;
    for (number, action, outcome) in &lives {
        let what = || format!("{action:?} write {number}, which is about {}", reference.writes[number - 1]);
        match outcome {
            Err(why) => wrong.push(format!("{}: {why}", what())),
            Ok(outcome) => {
                crashed += usize::from(outcome.crashed);
                let differences = state::differences(&reference.state, &outcome.state);
                if !differences.is_empty() {
                    wrong.push(format!("{}:\n  {}", what(), differences.join("\n  ")));
                }
            }
        }
    }
    println!(
        "{}: {} lives, {crashed} crashes around {} writes, in {:.0} s",
        application.name,
        lives.len(),
        reference.writes.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{} of {} lives ended otherwise:\n\n{}", wrong.len(), lives.len(), wrong.join("\n\n"));
    // Writes that meet are put into one, so that a life may have a few fewer than another.
    assert!(crashed + 8 >= lives.len(), "only {crashed} of {} crashes happened", lives.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_of_the_operator_the_same_end_is_reached() {
    sweep(&Application::small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_with_a_large_application_the_same_end_is_reached() {
    if std::env::var("PILOTAGE_SWEEP").as_deref() != Ok("all") {
        return;
    }
    for application in Application::large() {
        sweep(&application).await;
    }
}
