//! The operator is killed before and after each of its writes, and every run ends like the undisturbed one.

use std::time::Instant;

use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::{Action, Call};
use crate::state;

/// How many lives run in parallel.
const SIDE_BY_SIDE: usize = 4;

/// If there are fewer objects than this, they may stay until the whole control plane is removed.
const FEW: usize = 5;

/// What is lived, and when crashes begin.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// From the pipeline's creation to the end in production. Crashes happen from the beginning.
    Whole,
    /// A new version in QA. Crashes happen after it was created.
    Upgrade,
    /// The same, but it fails midway and is rolled back.
    Rollback,
}

/// The result of a life.
struct Outcome {
    state: Value,
    writes: Vec<String>,
    carried_out: Vec<String>,
    repeatable: Vec<String>,
    crashed: bool,
}

/// Does `action` at the write with that number, starting at 1, and nothing else.
fn at(crash: Option<(usize, Action)>) -> impl FnMut(&Call) -> Action + Send + 'static {
    let mut writes = 0;
    move |call| {
        writes += usize::from(call.write.is_some());
        match crash {
            Some((number, action)) if call.write.is_some() && number == writes => action,
            _ => Action::Forward,
        }
    }
}

/// Lives a life in a world of its own. `Err` says what went wrong.
async fn run(life: Life, application: &Application, crash: Option<(usize, Action)>) -> Result<Outcome, String> {
    let mut world = fixture::world(fixture::shared(), "sweep").await;
    // Hundreds of lives of large applications would leave more pods than the control plane can manage.
    world.keep = application.size() < FEW;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let before = match life {
        Life::Whole => 0,
        Life::Upgrade | Life::Rollback => {
            fixture
                .tending(async {
                    world.configure().await;
                    if let Life::Rollback = life {
                        life::will_fail(&world).await;
                    }
                    world.apply(&application.objects(&world)).await;
                    life::deploy_to(&world, application, "qa").await;
                })
                .await;
            fixture.settle(&world).await;
            fixture.proxy.writes().len()
        }
    };
    fixture.proxy.follow(at(crash));
    let lived = async {
        match life {
            Life::Whole => life::live(&world, application).await,
            Life::Upgrade => life::upgrade(&world, application).await,
            Life::Rollback => life::upgrade_in_vain(&world, application).await,
        }
    };
    if let Err(panic) = std::panic::AssertUnwindSafe(fixture.tending(lived)).catch_unwind().await {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a check failed".into());
        return Err(format!("{why}\n{}", life::writes_and_log(&fixture)));
    }
    fixture.settle(&world).await;
    if let Life::Rollback = life {
        world.refuses_no_more().await;
    }
    let writes = fixture.proxy.writes().split_off(before);
    let crashed = fixture.proxy.has_crashed();
    if crashed != (fixture.restarts() == 1) {
        return Err(format!("crashed: {crashed}, started again {} times", fixture.restarts()));
    }
    Ok(Outcome {
        state: state::of(&world).await,
        carried_out: life::carried_out(&world, &writes),
        repeatable: life::repeatable(&world, &writes),
        writes: writes.into_iter().map(|w| w.line).collect(),
        crashed,
    })
}

/// Crashes before and after every write of a life, and compares each end with the undisturbed one.
async fn sweep(life: Life, application: &Application) {
    let start = Instant::now();
    let reference = run(life, application, None).await.unwrap();
    let again = run(life, application, None).await.unwrap();
    assert_eq!(state::differences(&reference.state, &again.state), Vec::<String>::new(), "two undisturbed lives differ");
    assert!(reference.carried_out.len() > 3 && reference.writes.len() > reference.carried_out.len(), "{:?}", reference.writes);

    let crashes = (1..=reference.writes.len()).filter(|number| at_hand(*number));
    let crashes = crashes.flat_map(|number| [Action::CrashBefore, Action::CrashAfter].map(|action| (number, action)));
    let lives = stream::iter(crashes.map(|(number, action)| async move {
        let outcome = run(life, application, Some((number, action))).await;
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
                if !outcome.crashed && outcome.writes.len() >= *number {
                    wrong.push(format!("{}: it made {} writes and was not killed", what(), outcome.writes.len()));
                }
                let mut differences = state::differences(&reference.state, &outcome.state);
                differences.extend(written_otherwise(&reference.carried_out, outcome));
                if !differences.is_empty() {
                    wrong.push(format!("{}:\n  {}", what(), differences.join("\n  ")));
                }
            }
        }
    }
    println!(
        "{life:?} of {}: {} lives, {crashed} crashes around {} writes, in {:.0} s",
        application.name,
        lives.len(),
        reference.writes.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{} of {} lives ended otherwise:\n\n{}", wrong.len(), lives.len(), wrong.join("\n\n"));
    // Writes that come together are put into one. So a life may be over before the number at which it should have been killed. No crash is
    // missing then, as long as these are the last numbers.
    assert!(crashed * 4 >= lives.len() * 3, "only {crashed} of {} crashes happened", lives.len());
}

/// What was written to targets in this life but not in the undisturbed one, and the other way round.
fn written_otherwise(reference: &[String], outcome: &Outcome) -> Option<String> {
    let without = |all: &[String], some: &[String]| {
        let mut rest = all.to_vec();
        for line in some {
            if let Some(index) = rest.iter().position(|r| r == line) {
                rest.remove(index);
            }
        }
        rest
    };
    let more = without(&without(&outcome.carried_out, reference), &outcome.repeatable);
    let missing = without(reference, &outcome.carried_out);
    (!more.is_empty() || !missing.is_empty()).then(|| format!("targets were written otherwise: {more:?} more, {missing:?} missing"))
}

/// Whether to crash at that write: always, or only where `PILOTAGE_SWEEP_AT` says so, for example `7` or `31-43`.
fn at_hand(number: usize) -> bool {
    let Ok(wanted) = std::env::var("PILOTAGE_SWEEP_AT") else { return true };
    let (first, last) = wanted.split_once('-').unwrap_or((&wanted, &wanted));
    (first.parse().unwrap()..=last.parse().unwrap()).contains(&number)
}

/// Whether there is time for a large application: `PILOTAGE_SWEEP` is `all`, or its name.
fn wanted(application: &Application) -> bool {
    std::env::var("PILOTAGE_SWEEP").is_ok_and(|wanted| wanted == "all" || wanted == application.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_of_the_operator_the_same_end_is_reached() {
    sweep(Life::Whole, &Application::small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_in_an_upgrade_the_same_end_is_reached() {
    sweep(Life::Upgrade, &Application::small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_in_an_upgrade_that_is_taken_back_the_same_end_is_reached() {
    sweep(Life::Rollback, &Application::small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_crash_with_a_large_application_the_same_end_is_reached() {
    for application in Application::large().iter().filter(|application| wanted(application)) {
        sweep(Life::Whole, application).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_again_and_again_gets_there() {
    let world = fixture::world(fixture::shared(), "again").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    // If the previous write was refused, its repetition has an odd number and is forwarded.
    fixture.proxy.follow(|call| match call.write {
        Some(number) if number % 4 == 2 => Action::CrashBefore,
        Some(number) if number % 4 == 0 => Action::CrashAfter,
        _ => Action::Forward,
    });
    fixture.tending(life::live(&world, &Application::small())).await;
    assert!(fixture.restarts() >= 12, "it died {} times only", fixture.restarts());
    life::check(&world, &mut fixture).await;
    life::written_once(&world, &Application::small(), &fixture.proxy.writes()).unwrap();
}
