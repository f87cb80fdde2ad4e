//! Reading the words of configuration and health back from JSON, for the client.

use lb_core::config::{AdminState, AttachMode, Mode, Protocol, Role, WhenAllDown};
use lb_core::health::Verdict;
use serde::{Deserialize, Deserializer, de};

macro_rules! words {
    ($($function:ident -> $type:ident),+ $(,)?) => {$(
        pub(super) fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            let word = String::deserialize(deserializer)?;
            $type::from_word(&word).ok_or_else(|| {
                let known = $type::ALL.iter().map(|value| value.word()).collect::<Vec<_>>().join(", ");
                de::Error::custom(format!("\"{word}\" is none of: {known}"))
            })
        }
    )+};
}

words! {
    admin_state -> AdminState,
    attach_mode -> AttachMode,
    mode -> Mode,
    protocol -> Protocol,
    role -> Role,
    when_all_down -> WhenAllDown,
}

/// Verdict of a health check.
pub(super) fn verdict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Verdict, D::Error> {
    let word = String::deserialize(deserializer)?;
    [Verdict::Unchecked, Verdict::Unknown, Verdict::Up, Verdict::Down]
        .into_iter()
        .find(|verdict| verdict.to_string() == word)
        .ok_or_else(|| de::Error::custom(format!("\"{word}\" is none of: unchecked, unknown, up, down")))
}
