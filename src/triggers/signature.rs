//! Standard Webhooks: symmetric keys and signatures.
//!
//! The crate standardwebhooks is not used here. It accepts keys without `whsec_` and of any length, signs no bytes that are not UTF-8, and
//! needs an older base64, a second HMAC and `time`. The tests use it to verify these signatures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The prefix of every key.
const PREFIX: &str = "whsec_";
/// The fewest bytes of a key, as Standard Webhooks requires.
const FEWEST: usize = 24;
/// The most bytes of a key.
const MOST: usize = 64;
/// The most keys in one Secret. While a key is replaced, there are two.
const MOST_KEYS: usize = 4;

/// The keys that deliveries to one sink are signed with. It has no `Debug`, so that no key gets into a log.
#[derive(Clone)]
pub(crate) struct Keys(Vec<Vec<u8>>);

/// Why the value of a Secret is no signing key. It says nothing about the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// It is not text.
    #[error("is not text")]
    NotText,
    /// There is none.
    #[error("is empty")]
    Empty,
    /// Too many keys.
    #[error("holds more than {MOST_KEYS} keys")]
    TooMany,
    /// Not in the form that Standard Webhooks requires.
    #[error("is not {PREFIX} followed by base64")]
    Form,
    /// Too short or too long for a key.
    #[error("has fewer than {FEWEST} or more than {MOST} bytes")]
    Length,
}

impl Keys {
    /// The keys in the value of a Secret: one, or several with white space between them. Each is `whsec_` and base64.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(value).map_err(|_| KeyError::NotText)?;
        let keys = text.split_ascii_whitespace().map(key).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(KeyError::Empty),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err(KeyError::TooMany),
        }
    }

    /// The header `webhook-signature`. It has one signature for each key, so that a receiver may know either key.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self.0.iter().filter_map(|key| signature(key, id, timestamp, body)).collect();
        signatures.join(" ")
    }
}

fn key(text: &str) -> Result<Vec<u8>, KeyError> {
    let key = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok()).ok_or(KeyError::Form)?;
    if (FEWEST..=MOST).contains(&key.len()) { Ok(key) } else { Err(KeyError::Length) }
}

fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    // HMAC accepts keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let keys = Keys::parse(KEY.as_bytes()).ok();
        let signed = keys.map(|k| k.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#));
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn while_a_key_is_exchanged_both_sign() {
        let both = format!("{KEY}\n  whsec_{}\n", STANDARD.encode([7u8; 32]));
        let signed = Keys::parse(both.as_bytes()).map(|k| k.sign("id", 1, b"body")).unwrap_or_default();
        assert_eq!(signed.split(' ').filter(|s| s.starts_with("v1,")).count(), 2, "{signed}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let cases = [
            ("", KeyError::Empty),
            ("canary", KeyError::Form),
            ("whsec_!!!", KeyError::Form),
            ("whsec_c2hvcnQ=", KeyError::Length),
            (&[KEY; 5].join(" "), KeyError::TooMany),
        ];
        for (value, wanted) in cases {
            assert_eq!(Keys::parse(value.as_bytes()).err(), Some(wanted), "{value}");
        }
        assert_eq!(Keys::parse(&[0xff]).err(), Some(KeyError::NotText));
        assert!(!KeyError::Form.to_string().contains("canary"));
    }
}
