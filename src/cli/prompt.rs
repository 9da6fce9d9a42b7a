//! Questions to whoever sits at the terminal. Where nobody does, nothing is asked.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;

use super::exit::Exit;
use crate::text;

/// Whether somebody can answer.
pub fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether the answer to a question is yes.
///
/// # Errors
/// If nobody can answer. `otherwise` says which flag answers it.
pub fn confirm(question: &str, otherwise: &str) -> anyhow::Result<bool> {
    if !is_possible() {
        return Err(Exit::Usage.because(format!("nobody can be asked here, as this is no terminal: {otherwise}")));
    }
    Ok(is_yes(&ask(&format!("{question} [y/N]"), "")?))
}

/// The answer to a question; `default` if it is empty.
///
/// # Errors
/// If the terminal can't be read.
pub fn ask(question: &str, default: &str) -> anyhow::Result<String> {
    let mut to = io::stderr();
    let hint = if default.is_empty() { String::new() } else { format!(" ({})", text::line(default)) };
    write!(to, "{}{hint}: ", text::line(question))?;
    to.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(["y", "Y", "yes", "YES"].into_iter().all(is_yes));
        assert!(["", "n", "no", "yess", "ok"].into_iter().all(|answer| !is_yes(answer)));
    }
}
