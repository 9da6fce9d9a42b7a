//! Work that needs much memory for a moment: packing and unpacking whole artifacts.

use tokio::sync::Semaphore;

/// How many such works run at the same time, for all callers together. Each may take a hundred MiB, and the operator has a limit.
const AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Does the work when it is its turn, on a thread of its own. `None` if the work was aborted.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let turn = TURNS.acquire().await.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        // The turn is released together with the memory, even if nobody waits for the result any more.
        let _turn = turn;
        work()
    });
    done.await.ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::sync::SemaphorePermit;

    use super::*;

    /// Takes all turns until the result is dropped.
    pub(crate) async fn taken() -> SemaphorePermit<'static> {
        TURNS.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn two_are_done_at_once_and_one_that_nobody_waits_for_counts_to_its_end() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        };
        let done = futures::future::join_all((0..8).map(|_| apart(work))).await;
        assert!(done.iter().all(Option::is_some) && MOST.load(Ordering::SeqCst) <= AT_ONCE);

        let (begun, wait) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let mut left = Box::pin(apart(move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
        }));
        // Waits until it has begun. Others may come first.
        while wait.try_recv().is_err() {
            assert!(futures::poll!(&mut left).is_pending());
            tokio::task::yield_now().await;
        }
        drop(left);
        let mut all = Box::pin(taken());
        assert!(futures::poll!(&mut all).is_pending(), "its memory is still in use");
        end.send(()).unwrap();
        drop(all.await);
    }
}
