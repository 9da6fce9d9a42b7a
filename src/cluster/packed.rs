//! Long lists in messages of limited length. Nothing is left out: a long list becomes several messages.

use crate::api::plan::MAX_MESSAGE;
use crate::cluster::errors::bounded;

/// How many characters of a message are reserved for the text before the list.
const HEAD: usize = 400;

/// Joins the parts into as few texts as possible.
pub(crate) fn packed(parts: impl Iterator<Item = String>, between: &str) -> Vec<String> {
    let most = MAX_MESSAGE - HEAD;
    let mut texts: Vec<String> = Vec::new();
    for part in parts {
        let part = bounded(&part, most);
        match texts.last_mut() {
            Some(text) if text.chars().count() + between.len() + part.chars().count() <= most => {
                text.push_str(between);
                text.push_str(&part);
            }
            _ => texts.push(part),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_of_a_long_list() {
        let names = || (0..500).map(|n| format!("name-{n}"));
        let texts = packed(names(), "; ");
        assert!(texts.len() > 1 && texts.iter().all(|text| text.chars().count() <= MAX_MESSAGE - HEAD));
        assert_eq!(texts.join("; "), names().collect::<Vec<_>>().join("; "));
        assert_eq!(packed(std::iter::empty(), "; "), [""; 0]);
    }
}
