//! An attack, and the required result. `make attacks` counts the lines that are printed here.

use std::fmt::Debug;
use std::future::Future;

use kube::Error;

use crate::proof;

/// The API server refuses with this code and a message with all of these words.
pub async fn refused<T: Debug>(attack: u16, what: &str, attempt: impl Future<Output = kube::Result<T>>, code: u16, words: &[&str]) {
    println!("attack {attack} attempted: {what}");
    match attempt.await {
        Ok(done) => panic!("attack {attack} ({what}) succeeded: {done:?}"),
        Err(Error::Api(status)) => {
            assert_eq!(status.code, code, "attack {attack} ({what}): {}", status.message);
            for word in words {
                assert!(status.message.contains(word), "attack {attack} ({what}) does not say {word:?}: {}", status.message);
            }
        }
        Err(error) => panic!("attack {attack} ({what}) did not reach the API server: {error:?}"),
    }
    proof::prove(attack, what).await;
    println!("attack {attack} refused: {what}");
}

/// Whatever was tried had no effect.
pub fn ignored(attack: u16, what: &str, harmless: bool, seen: &dyn Debug) {
    println!("attack {attack} attempted: {what}");
    assert!(harmless, "attack {attack} ({what}) had an effect: {seen:?}");
    println!("attack {attack} refused: {what}");
}

/// The operator refuses, with a message with all of these words.
pub fn told(attack: u16, what: &str, message: &str, words: &[&str]) {
    println!("attack {attack} attempted: {what}");
    for word in words {
        assert!(message.contains(word), "attack {attack} ({what}) does not say {word:?}: {message}");
    }
    println!("attack {attack} refused: {what}");
}
