//! Words of the language that this version does not have yet, so that people are told the truth about them.

/// Keys of the language that come in a later version: the map that would hold them (its name in the schema), and the keys.
const KEYS: &[(&str, &[&str])] = &[("Listeners", &["grpc"]), ("ListenTls", &["acme"]), ("AuthMethods", &["oidc"])];

/// Values of the language that come in a later version: the key, and the values.
const VALUES: &[(&str, &[&str])] = &[(
    "preset",
    &[
        "aws_sns",
        "azure_event_grid",
        "azure_monitor",
        "lazada",
        "shopee",
        "tiktok_shop",
        "walmart_hmac",
        "walmart_performance",
    ],
)];

/// What other programs call a key of ours: the wrong word and the right one.
const SYNONYMS: &[(&str, &str)] = &[
    ("when", "if"),
    ("uses", "type"),
    ("kind", "type"),
    ("params", "with"),
    ("args", "with"),
    ("steps", "tasks"),
    ("schedule", "cron"),
    ("interval", "every"),
    ("tz", "timezone"),
    ("retries", "retry"),
    ("max_retries", "retry"),
    ("secret", "secret_ref"),
    ("secret", "secret_env"),
    ("user", "username"),
    ("allow_failure", "continue_on_error"),
    ("disabled", "enabled"),
    ("url", "base_url"),
];

/// What other programs call a value of ours.
const VALUE_SYNONYMS: &[(&str, &str)] = &[
    ("text", "string"),
    ("str", "string"),
    ("int", "integer"),
    ("float", "number"),
    ("decimal", "number"),
    ("bool", "boolean"),
    ("map", "object"),
    ("dict", "object"),
    ("list", "array"),
    ("linear", "fixed"),
    ("constant", "fixed"),
    ("cancel", "cancel_running"),
    ("newest", "latest"),
    ("last", "latest"),
];

/// True for a key of the language that this version does not have.
pub(super) fn is_later_key(definition: &str, key: &str) -> bool {
    KEYS.iter().any(|(holder, keys)| *holder == definition && keys.contains(&key))
}

/// True for a value of the language that this version does not have.
pub(super) fn is_later_value(key: &str, value: &str) -> bool {
    VALUES.iter().any(|(holder, values)| *holder == key && values.contains(&value))
}

/// Our word for another program's key, if `known` has it.
pub(super) fn synonym<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    ours(SYNONYMS, key, known)
}

/// Our word for another program's value, if `known` has it.
pub(super) fn value_synonym<'a>(value: &str, known: &[&'a str]) -> Option<&'a str> {
    ours(VALUE_SYNONYMS, value, known)
}

fn ours<'a>(table: &[(&str, &str)], word: &str, known: &[&'a str]) -> Option<&'a str> {
    let is_ours = |name: &str| table.iter().any(|(theirs, ours)| *theirs == word && *ours == name);
    known.iter().copied().find(|name| is_ours(name))
}
