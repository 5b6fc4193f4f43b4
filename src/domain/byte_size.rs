//! Sizes as people write them: `2MiB`, `64KiB`, `1GB`, or plain bytes, `512`.
//!
//! `KiB` is 1024 bytes and `KB` is 1000. One-letter units are refused: `2M` has meant both.

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.problem(), self.help())]
pub enum Error {
    /// A unit that we do not use, though we may know what is meant.
    Unit { text: String, number: String, unit: String },
    /// `1.5MiB`: whole numbers only.
    Fraction { text: String },
    /// More than 2^64 - 1 bytes.
    TooLarge { text: String },
    /// Anything else.
    Other { text: String },
}

impl Error {
    /// What is wrong, without the remedy.
    pub fn problem(&self) -> String {
        match self {
            Self::Unit { text, unit, .. } => format!("`{unit}` in `{text}` is not a unit of size"),
            Self::Fraction { text } => format!("`{text}` has a fraction"),
            Self::TooLarge { text } => format!("`{text}` is more bytes than can be counted"),
            Self::Other { text } => format!("`{text}` is not a size"),
        }
    }

    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            Self::Unit { number, unit, .. } => match meant(unit) {
                Some(right) => format!("write `{number}{right}`"),
                None => "use `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`, or plain bytes".into(),
            },
            Self::Fraction { .. } => "write a whole number of a smaller unit, as in `1536KiB`".into(),
            Self::TooLarge { .. } => "write a smaller size".into(),
            Self::Other { .. } => "write a number and a unit, as in `64KiB`, `2MiB` or `512`".into(),
        }
    }
}

/// Units from the largest to the smallest, with their bytes.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a size in bytes.
pub fn parse(text: &str) -> Result<u64, Error> {
    let text = text.trim();
    let shown = || text.chars().take(40).collect::<String>();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Error::Other { text: shown() });
    }
    if unit.starts_with(['.', ',']) {
        return Err(Error::Fraction { text: shown() });
    }
    let bytes = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => *bytes,
        None if unit.is_empty() => 1,
        None => {
            let unit = unit.chars().take(20).collect();
            return Err(Error::Unit { text: shown(), number: number.into(), unit });
        }
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|number| number.checked_mul(bytes)).ok_or_else(|| Error::TooLarge { text: shown() })
}

/// Prints a size in the largest unit that holds it exactly: `2MiB`, `1GB`, `1025B`.
pub fn format(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0B".into(),
    }
}

/// The unit that another spelling most likely stands for.
fn meant(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "ki" | "kib" => Some("KiB"),
        "m" | "mi" | "mib" => Some("MiB"),
        "g" | "gi" | "gib" => Some("GiB"),
        "t" | "ti" | "tib" => Some("TiB"),
        "kb" => Some("KB"),
        "mb" => Some("MB"),
        "gb" => Some("GB"),
        "tb" => Some("TB"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: u64, printed: &str) {
        assert_eq!(parse(text), Ok(bytes), "{text}");
        assert_eq!(format(bytes), printed, "{text}");
    }

    #[track_caller]
    fn refuse(text: &str, message: &str) {
        let error = parse(text).map_or_else(|error| error.to_string(), |value| value.to_string());
        assert_eq!(error, message, "{text}");
    }

    #[test]
    fn reads_and_prints() {
        check("2MiB", 2_097_152, "2MiB");
        check("64KiB", 65_536, "64KiB");
        check("1GB", 1_000_000_000, "1GB");
        check("512", 512, "512B");
        check("1024", 1_024, "1KiB");
        check("1025B", 1_025, "1025B");
        check(" 3TiB ", 3 << 40, "3TiB");
        check("0", 0, "0B");
        check("18446744073709551615", u64::MAX, "18446744073709551615B");
    }

    #[test]
    fn refuses_and_says_what_to_write() {
        refuse("2M", "`M` in `2M` is not a unit of size: write `2MiB`");
        refuse("2 mb", "` mb` in `2 mb` is not a unit of size: write `2MB`");
        refuse("2x", "`x` in `2x` is not a unit of size: use `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`, or plain bytes");
        refuse("1.5MiB", "`1.5MiB` has a fraction: write a whole number of a smaller unit, as in `1536KiB`");
        refuse("big", "`big` is not a size: write a number and a unit, as in `64KiB`, `2MiB` or `512`");
        refuse("-1", "`-1` is not a size: write a number and a unit, as in `64KiB`, `2MiB` or `512`");
        refuse("16777216TiB", "`16777216TiB` is more bytes than can be counted: write a smaller size");
    }
}
