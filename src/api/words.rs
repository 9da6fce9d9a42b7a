//! Words that programs compare and people look up: an enum whose variants are the words themselves, each with what it means and what to
//! do about it, said once. `docs/reasons.md` is made of them (`pilotage reasons`).

/// Declares such an enum. The doc comment of a variant is its meaning; the text behind the arrow is what to do, empty for nothing.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[doc = $meaning:literal])+ $variant:ident => $remedy:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub enum $name {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word, as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning,)+).trim_ascii(),)+
                }
            }

            /// What to do about it; empty where there is nothing to do.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)+
                }
            }

            /// The one of that word; `None` for a word of another version of the operator.
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        // What is read back from the API server is text.
        impl PartialEq<$name> for String {
            fn eq(&self, word: &$name) -> bool {
                self == word.as_str()
            }
        }
    };
}
pub(crate) use words;

use super::phase::Phase;
use super::reason::Reason;

/// The head of the page.
const HEAD: &str = "# Reasons and phases

Every condition, Event, plan result and error of Pilotage carries one of these words as its `reason`, and every request one of the phases.
The message beside it says which object and whom it is about.

Generated from `src/api/reason.rs` and `src/api/phase.rs` by `make reasons`.
";

/// The page `docs/reasons.md`.
pub fn page() -> String {
    let mut reasons: Vec<Reason> = Reason::ALL.to_vec();
    reasons.sort_by_key(|reason| reason.as_str());
    let row = |word: &str, meaning: &str, remedy: &str| format!("| `{word}` | {} | {remedy} |", meaning.trim_end_matches('.'));
    let reasons = reasons.into_iter().map(|reason| row(reason.as_str(), reason.meaning(), reason.remedy()));
    let phases = Phase::ALL.iter().map(|phase| row(phase.as_str(), phase.meaning(), phase.remedy()));
    let table = |first: &str, rows: Vec<String>| format!("| {first} | Meaning | What to do |\n|---|---|---|\n{}\n", rows.join("\n"));
    format!("{HEAD}\n## Phases\n\n{}\n## Reasons\n\n{}", table("Phase", phases.collect()), table("Reason", reasons.collect()))
}
