use std::cell::Cell;
use std::future::pending;

use futures::poll;

use super::*;

fn asker(host: &str, entry: &str) -> Asker {
    Asker { host: host.to_owned(), entry: entry.to_owned() }
}

fn repository(path: &str) -> Repository {
    Repository { registry: "r".to_owned(), path: path.to_owned() }
}

fn orders() -> Repository {
    repository("orders")
}

fn unreachable() -> Result<(), OciError> {
    Err(OciError::Unreachable { registry: "r".into(), why: "is down".into() })
}

async fn hang(limiter: &Limiter, asker: Asker) -> Result<(), OciError> {
    limiter.ask(&asker, &orders(), pending()).await
}

#[tokio::test]
async fn a_registry_that_is_down_is_asked_once_and_answers_all_who_wait() {
    let limiter = Limiter::to_own(16);
    let asked = Cell::new(0);
    let ask = async |entry: &str| {
        let work = async {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            unreachable()
        };
        limiter.ask(&asker("host", entry), &orders(), work).await
    };
    let all = futures::join!(ask("a"), ask("a"), ask("a"), ask("b"));
    assert!([all.0, all.1, all.2, all.3].iter().all(|said| said.as_ref().is_err_and(|e| e.to_string().contains("is down (since "))));
    // Two had their turn at once, the third was told, and the other entry is another matter.
    assert_eq!(asked.get(), 3);
}

#[tokio::test]
async fn one_that_hangs_holds_no_more_than_a_share_of_the_passes() {
    let limiter = Limiter::to_own(16);
    let mut held = futures::future::join_all((0..4).map(|_| Box::pin(hang(&limiter, asker("host", "a")))));
    assert!(poll!(&mut held).is_pending());
    assert_eq!(hang(&limiter, asker("host", "a")).await, Err(OciError::Busy), "at once");
    drop(held);
    assert_eq!(limiter.ask(&asker("host", "a"), &orders(), async { Ok(1) }).await, Ok(1));
}

#[tokio::test]
async fn registries_of_one_host_that_hang_hold_up_no_other_host() {
    let limiter = Limiter::to_any(16);
    // It names as many as it likes, in as many pipelines.
    let entries = ["a", "b", "c", "d", "e"];
    let mut held: Vec<_> = entries.iter().map(|entry| Box::pin(hang(&limiter, asker("theirs", entry)))).collect();
    let mut waiting = 0;
    for one in &mut held {
        match poll!(one) {
            std::task::Poll::Pending => waiting += 1,
            std::task::Poll::Ready(said) => assert_eq!(said, Err(OciError::Busy)),
        }
    }
    assert_eq!(waiting, 2, "one has its turn, and one is next");
    let (mine, orders) = (asker("mine", "a"), orders());
    assert_eq!(poll!(Box::pin(limiter.ask(&mine, &orders, async { Ok(1) }))), std::task::Poll::Ready(Ok(1)), "at once");
    drop(held);
    assert_eq!(limiter.ask(&asker("theirs", "a"), &orders, async { Ok(1) }).await, Ok(1));
    assert_eq!(limiter.hosts.lock().unwrap().len(), 1, "who asks no more is forgotten");
}

#[tokio::test]
async fn who_waits_for_a_registry_that_hangs_is_told_the_same_all_the_time() {
    let limiter = Limiter::to_any(16);
    let first = limiter.ask(&asker("host", "a"), &orders(), async { unreachable() }).await;
    // Its pause is over, and it is asked again.
    limiter.failing().get_mut(&Key::Entry("a".to_owned())).unwrap().last = Instant::now().checked_sub(AGAIN).unwrap();
    let mut held = [Box::pin(hang(&limiter, asker("host", "a"))), Box::pin(hang(&limiter, asker("host", "a")))];
    for one in &mut held {
        assert!(poll!(one).is_pending());
    }
    assert_eq!(hang(&limiter, asker("host", "a")).await, first);
    assert_eq!(hang(&limiter, asker("host", "b")).await, Err(OciError::Busy), "nothing is known of that one");
}

#[tokio::test]
async fn one_repository_that_is_answered_badly_closes_no_other() {
    let limiter = Limiter::to_own(16);
    let asker = asker("host", "a");
    let unwell = async || Err::<i32, _>(OciError::Unwell { registry: "r".into(), why: "answered 500".into() });
    let said = limiter.ask(&asker, &orders(), unwell()).await.unwrap_err();
    assert!(said.to_string().contains("answered 500 (since ") && said.to_string().contains("see what its log says"), "{said}");
    assert!(!said.to_string().contains("start it"), "{said}");
    assert_eq!(limiter.ask(&asker, &orders(), async { Ok(1) }).await, Err(said), "a moment later");
    assert_eq!(limiter.ask(&asker, &repository("web"), async { Ok(1) }).await, Ok(1));
    // One that can't be reached can't be for any of them.
    let down = limiter.ask(&asker, &repository("web"), async { unreachable().map(|()| 1) }).await;
    assert!(down.is_err() && limiter.ask(&asker, &repository("more"), async { Ok(1) }).await == down);
}
