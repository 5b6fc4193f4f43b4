//! What somebody meant who wrote a duration, a size or a rate in another way than ours.

use serde_json::Value;

/// What to type for a value in another form. `form` is the name of the schema; `entry` puts a value behind its key.
pub(super) fn advice(form: &str, value: &Value, entry: impl Fn(&str) -> String) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.to_lowercase(),
        _ => return None,
    };
    if let Some(ours) = rewrite(form, &text) {
        return Some(format!("write `{}`", entry(&ours)));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(match form {
        "Duration" => format!("say the unit: `{text}s`, `{text}m`, `{text}h` or `{text}d`"),
        "Size" => format!("say the unit: `{text}B`, `{text}KiB` or `{text}MiB`"),
        "Rate" => format!("say the time: `{text}/s`, `{text}/m` or `{text}/h`"),
        _ => return None,
    })
}

/// The same value in our form, if it is plain what was meant.
fn rewrite(form: &str, text: &str) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().trim_start_matches(['/', '-', ' ']).trim_start_matches("per ").trim_end_matches('.');
    if number.is_empty() || number.len() > 9 {
        return None;
    }
    let unit = match form {
        "Duration" => duration_unit(unit)?,
        "Size" => size_unit(unit)?,
        "Rate" => rate_unit(unit)?,
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

fn duration_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "millis" | "millisecond" | "milliseconds" | "msec" | "ms" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" | "秒" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" | "分钟" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" | "小时" => "h",
        "d" | "day" | "days" | "天" => "d",
        _ => return None,
    })
}

fn size_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        _ => return None,
    })
}

fn rate_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" | "sec" | "second" | "rps" | "qps" => "/s",
        "m" | "min" | "minute" | "rpm" => "/m",
        "h" | "hour" => "/h",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_spellings() {
        let check = |form, value: Value, ours: Option<&str>| {
            assert_eq!(advice(form, &value, str::to_owned).as_deref(), ours, "{value}");
        };
        check("Duration", json!(30), Some("say the unit: `30s`, `30m`, `30h` or `30d`"));
        check("Duration", json!("10 minutes"), Some("write `10m`"));
        check("Duration", json!("3days"), Some("write `3d`"));
        check("Duration", json!("a while"), None);
        check("Duration", json!("5 parsecs"), None);
        check("Duration", json!(2.5), None);
        check("Size", json!("2MB"), Some("write `2MiB`"));
        check("Size", json!("64"), Some("say the unit: `64B`, `64KiB` or `64MiB`"));
        check("Rate", json!("50 per minute"), Some("write `50/m`"));
        check("Rate", json!("50/second"), Some("write `50/s`"));
    }
}
