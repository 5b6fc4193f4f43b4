//! Takes secret values out of text before the text is stored, logged or shown.
//!
//! A value is found in clear, percent-encoded, JSON-escaped, in hex, and in base64 (standard and URL alphabet,
//! padded or not), also in the middle of a longer base64 text such as the credential of `Authorization: Basic`.
//! Percent and JSON escapes are undone before the search, so any mix of escaped and plain characters is found.
//!
//! It does not guess: a secret that was compressed, encrypted, hashed or split over two texts is not found. A secret
//! shorter than [`DERIVED_BYTES_MIN`] bytes is masked in clear only, because its derived forms would hit by chance.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use serde_json::Value;

use super::secret::{SecretRef, SecretValue};
use crate::id::SecretName;

/// Shortest secret whose derived forms are masked, bytes.
pub const DERIVED_BYTES_MIN: usize = 4;
/// Escapes inside escapes that are undone, such as JSON text inside a JSON string inside a URL.
const UNESCAPE_ROUNDS_MAX: usize = 3;
/// Shortest line of a secret of several lines (a PEM key) that is masked alone, bytes.
const LINE_BYTES_MIN: usize = 16;
/// Bytes past the kept part of a long body that are searched, so that a secret across its end is still found.
const PREFIX_MARGIN_BYTES: usize = 32 * 1024;

/// Knows the secrets that one piece of work used, and replaces each by a chip such as `[secret:erp-api-key]`.
#[derive(Default)]
pub struct Masker {
    /// Masks first: what all work of the process may have seen.
    beneath: Option<Arc<Masker>>,
    secrets: Vec<Known>,
    search: OnceLock<Option<Search>>,
}

impl Masker {
    /// A masker that knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A masker that also knows whatever `beneath` knows.
    pub fn over(beneath: Arc<Self>) -> Self {
        Self { beneath: Some(beneath), ..Self::default() }
    }

    /// Adds a secret, or a credential made from it; an empty value is ignored.
    pub fn add(&mut self, name: &SecretName, value: &SecretValue) {
        let known = Known { chip: format!("[secret:{name}]"), value: value.clone() };
        if !value.expose().is_empty() && !self.secrets.contains(&known) {
            self.secrets.push(known);
            self.search = OnceLock::new();
        }
    }

    /// Adds what a reference was resolved to, with its prefix and without.
    pub fn learn(&mut self, reference: &SecretRef, value: &SecretValue) {
        self.add(&reference.name, value);
        let prefix = reference.prefix.as_deref().unwrap_or_default();
        if let Some(bare) = value.expose().strip_prefix(prefix.as_bytes()) {
            self.add(&reference.name, &SecretValue::new(bare));
        }
    }

    /// Whether it knows no secret, so that nothing can be masked.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.beneath.as_ref().is_none_or(|beneath| beneath.is_empty())
    }

    /// The text without secrets; borrowed when there were none in it.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.mask_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A secret that is not UTF-8 may end inside a character.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The bytes without secrets; borrowed when there were none in them.
    pub fn mask_bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        self.mask_prefix(bytes, bytes.len())
    }

    /// The first `keep` bytes without secrets. A secret that lies across the cut is masked whole, so no part of it stays.
    pub fn mask_prefix<'t>(&self, bytes: &'t [u8], keep: usize) -> Cow<'t, [u8]> {
        let Some(beneath) = &self.beneath else { return self.own_prefix(bytes, keep) };
        let read = bytes.len().min(keep.saturating_add(PREFIX_MARGIN_BYTES));
        match beneath.mask_prefix(&bytes[..read], read) {
            Cow::Borrowed(_) => self.own_prefix(bytes, keep),
            // A chip may be longer than what it stands for: of a text that is kept whole nothing is cut off.
            Cow::Owned(masked) => {
                let keep = if keep >= bytes.len() { masked.len() } else { keep };
                Cow::Owned(self.own_prefix(&masked, keep).into_owned())
            }
        }
    }

    fn own_prefix<'t>(&self, bytes: &'t [u8], keep: usize) -> Cow<'t, [u8]> {
        let keep = keep.min(bytes.len());
        let Some(search) = self.search.get_or_init(|| Search::new(&self.secrets)) else {
            return Cow::Borrowed(&bytes[..keep]);
        };
        let read = bytes.len().min(keep.saturating_add(PREFIX_MARGIN_BYTES));
        let hits = search.hits(&bytes[..read]);
        if !hits.iter().any(|hit| hit.range.start < keep) {
            return Cow::Borrowed(&bytes[..keep]);
        }
        let mut masked = Vec::with_capacity(keep);
        let mut from = 0;
        for hit in hits.iter().take_while(|hit| hit.range.start < keep) {
            masked.extend_from_slice(&bytes[from..hit.range.start]);
            masked.extend_from_slice(self.secrets[hit.secret].chip.as_bytes());
            from = hit.range.end;
        }
        masked.extend_from_slice(&bytes[from.min(keep)..keep]);
        Cow::Owned(masked)
    }

    /// Masks every string and member name inside a JSON value; a number that holds a secret becomes a string.
    pub fn mask_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.mask(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.mask_json(item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, member)| (self.mask(&name).into_owned(), self.mask_json(member)))
                .collect(),
            Value::Number(number) => match self.mask(&number.to_string()) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(masked) => Value::String(masked),
            },
            plain => plain,
        }
    }
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.secrets.iter().map(|known| &known.chip)).finish()
    }
}

#[derive(PartialEq)]
struct Known {
    chip: String,
    value: SecretValue,
}

/// A place in the text that holds a secret.
struct Hit {
    range: Range<usize>,
    secret: usize,
}

/// What one pattern of the automaton stands for.
struct Form {
    secret: usize,
    /// A hit reaches to the ends of the base64 text around it: its border characters hold bits of the secret too.
    base64: bool,
    /// Searched in the text as it stands only.
    clear_only: bool,
}

struct Search {
    automaton: AhoCorasick,
    forms: Vec<Form>,
}

impl Search {
    /// `None` when there is nothing to search for.
    fn new(secrets: &[Known]) -> Option<Self> {
        let (mut patterns, mut forms) = (Vec::new(), Vec::new());
        for (secret, known) in secrets.iter().enumerate() {
            let value = known.value.expose();
            let clear_only = value.len() < DERIVED_BYTES_MIN;
            let mut push = |pattern: Vec<u8>, base64: bool| {
                patterns.push(pattern);
                forms.push(Form { secret, base64, clear_only });
            };
            push(value.to_vec(), false);
            if clear_only {
                continue;
            }
            for variant in clear_variants(value) {
                push(variant, false);
            }
            push(HEXLOWER.encode(value).into_bytes(), false);
            push(HEXUPPER.encode(value).into_bytes(), false);
            for core in base64_cores(value) {
                push(core, true);
            }
        }
        if patterns.is_empty() {
            return None;
        }
        // The compact automaton: the fast one would take megabytes for a PEM key.
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&patterns).ok()?;
        Some(Self { automaton, forms })
    }

    /// The places that hold secrets, in order and apart from each other.
    fn hits(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.search(&View::plain(text), true, &mut hits);
        self.unescaped(&View::plain(text), UNESCAPE_ROUNDS_MAX, &mut hits);
        merge(hits)
    }

    fn unescaped(&self, view: &View<'_>, rounds: usize, hits: &mut Vec<Hit>) {
        if rounds == 0 {
            return;
        }
        for unescaped in [view.without_json_escapes(), view.without_percent_escapes()].into_iter().flatten() {
            self.search(&unescaped, false, hits);
            self.unescaped(&unescaped, rounds - 1, hits);
        }
    }

    fn search(&self, view: &View<'_>, clear: bool, hits: &mut Vec<Hit>) {
        for found in self.automaton.find_overlapping_iter(view.text.as_ref()) {
            let form = &self.forms[found.pattern()];
            if form.clear_only && !clear {
                continue;
            }
            let mut range = found.range();
            if form.base64 {
                range = base64_around(&view.text, range);
            }
            hits.push(Hit { range: view.origin(range), secret: form.secret });
        }
    }
}

/// A text with one kind of escape undone, and where each of its bytes came from.
struct View<'t> {
    text: Cow<'t, [u8]>,
    /// Start of each byte in the original text, and one past the end; `None` when nothing moved.
    starts: Option<Vec<usize>>,
}

impl<'t> View<'t> {
    fn plain(text: &'t [u8]) -> Self {
        Self { text: Cow::Borrowed(text), starts: None }
    }

    fn origin(&self, range: Range<usize>) -> Range<usize> {
        match &self.starts {
            Some(starts) => starts[range.start]..starts[range.end],
            None => range,
        }
    }

    fn without_json_escapes(&self) -> Option<View<'static>> {
        self.unescape(b'\\', json_escape)
    }

    fn without_percent_escapes(&self) -> Option<View<'static>> {
        self.unescape(b'%', percent_escape)
    }

    /// `read` gets the text at an escape and returns the bytes it stands for and how many bytes it takes.
    /// `None` when there was no escape to undo.
    fn unescape(&self, mark: u8, read: fn(&[u8]) -> Option<(Escaped, usize)>) -> Option<View<'static>> {
        if !self.text.contains(&mark) {
            return None;
        }
        let mut text = Vec::with_capacity(self.text.len());
        let mut starts = Vec::with_capacity(self.text.len() + 1);
        let mut at = 0;
        while at < self.text.len() {
            let start = self.origin(at..at).start;
            let escape = if self.text[at] == mark { read(&self.text[at..]) } else { None };
            let Some((escaped, taken)) = escape else {
                text.push(self.text[at]);
                starts.push(start);
                at += 1;
                continue;
            };
            for byte in escaped.bytes() {
                text.push(*byte);
                starts.push(start);
            }
            at += taken;
        }
        starts.push(self.origin(at..at).start);
        let changed = text.len() < self.text.len();
        changed.then_some(View { text: Cow::Owned(text), starts: Some(starts) })
    }
}

/// The bytes an escape stands for: one character at most.
struct Escaped {
    bytes: [u8; 4],
    length: usize,
}

impl Escaped {
    fn byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], length: 1 }
    }

    fn character(character: char) -> Self {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn percent_escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let value = hex(text.get(1..3)?)?;
    Some((Escaped::byte(u8::try_from(value).ok()?), 3))
}

/// The escapes of RFC 8259 section 7.
fn json_escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let byte = match *text.get(1)? {
        b'u' => return unicode_escape(text),
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        plain @ (b'"' | b'\\' | b'/') => plain,
        _ => return None,
    };
    Some((Escaped::byte(byte), 2))
}

fn unicode_escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let unit = hex(text.get(2..6)?)?;
    if let Some(character) = char::from_u32(unit) {
        return Some((Escaped::character(character), 6));
    }
    let low = match text.get(6..12)? {
        [b'\\', b'u', digits @ ..] => hex(digits)?,
        _ => return None,
    };
    let character = char::decode_utf16([u16::try_from(unit).ok()?, u16::try_from(low).ok()?]).next()?.ok()?;
    Some((Escaped::character(character), 12))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// Forms of the value itself that no unescaping brings back: `+` for a space, and the lines of a longer secret.
fn clear_variants(value: &[u8]) -> Vec<Vec<u8>> {
    let mut variants = Vec::new();
    if value.contains(&b' ') {
        variants.push(value.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect());
    }
    if value.contains(&b'\n') {
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let telling = lines.filter(|line| line.len() >= LINE_BYTES_MIN && !line.starts_with(b"-----"));
        variants.extend(telling.map(<[u8]>::to_vec));
    }
    variants
}

/// The base64 characters that the value alone decides, for each of the three places it can have in the groups of
/// three bytes of a longer text, in both alphabets.
fn base64_cores(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cores = Vec::with_capacity(6);
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value);
        let decided = (before * 8).div_ceil(6)..(bytes.len() * 8) / 6;
        for alphabet in [BASE64_NOPAD, BASE64URL_NOPAD] {
            let core = alphabet.encode(&bytes).as_bytes()[decided.clone()].to_vec();
            if !cores.contains(&core) {
                cores.push(core);
            }
        }
    }
    cores
}

/// Widens a hit to the whole base64 text it stands in, padding included.
fn base64_around(text: &[u8], range: Range<usize>) -> Range<usize> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let before = text[..range.start].iter().rev().take_while(|byte| inside(byte)).count();
    let after = text[range.end..].iter().take_while(|byte| inside(byte)).count();
    let end = range.end + after;
    let padding = text[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
    range.start - before..end + padding
}

/// Joins hits that overlap; the longest names the place.
fn merge(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|hit| (hit.range.start, std::cmp::Reverse(hit.range.end)));
    let mut merged: Vec<Hit> = Vec::new();
    for hit in hits {
        match merged.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if hit.range.len() > last.range.len() {
                    last.secret = hit.secret;
                }
                last.range.end = last.range.end.max(hit.range.end);
            }
            _ => merged.push(hit),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn masker(secrets: &[(&str, &str)]) -> Masker {
        let mut masker = Masker::new();
        for (name, value) in secrets {
            masker.add(&SecretName::new(name).unwrap(), &SecretValue::new(*value));
        }
        masker
    }

    #[track_caller]
    fn check(value: &str, text: &str, expected: &str) {
        assert_eq!(masker(&[("key", value)]).mask(text), expected, "{value} in {text}");
    }

    #[test]
    fn what_lies_beneath_is_masked_too() {
        let mut known = Masker::new();
        known.add(&SecretName::new("erp").unwrap(), &SecretValue::new("erp-s3cret"));
        let mut masker = Masker::over(Arc::new(known));
        masker.add(&SecretName::new("shop").unwrap(), &SecretValue::new("shop-s3cret"));
        assert!(!masker.is_empty());
        assert_eq!(masker.mask("erp-s3cret and shop-s3cret"), "[secret:erp] and [secret:shop]");
        assert_eq!(masker.mask("nothing"), "nothing");
    }

    #[test]
    fn every_form_is_masked() {
        check("s3cr3t/ü", "token=s3cr3t/ü;", "token=[secret:key];");
        check("s3cr3t/ü", "token=s3cr3t%2F%C3%BC;", "token=[secret:key];");
        check("s3cr3t/ü", "token=s3cr3t%2f%c3%bc;", "token=[secret:key];");
        check("s3cr3t/ü", "token=%733cr3t/%C3%BC;", "token=[secret:key];");
        check("s3cr3t/ü", r#"{"a":"s3cr3t\/\u00fc"}"#, r#"{"a":"[secret:key]"}"#);
        check("a\"b\\c\nd", r#"{"a":"a\"b\\c\nd"}"#, r#"{"a":"[secret:key]"}"#);
        check("a\"b\\c\nd", r#"{"a":"{\"b\":\"a\\\"b\\\\c\\nd\"}"}"#, r#"{"a":"{\"b\":\"[secret:key]\"}"}"#);
        check("😀pass", r"\ud83d\ude00pass", "[secret:key]");
        check("two words", "q=two+words&r=two%20words", "q=[secret:key]&r=[secret:key]");
        check("s3cr3t", "733363723374 and 733363723374", "[secret:key] and [secret:key]");
        check("Kö~z", &HEXUPPER.encode("Kö~z".as_bytes()), "[secret:key]");
    }

    #[test]
    fn base64_is_masked_whole_wherever_the_secret_lies_in_it() {
        for user in ["", "a", "ab", "abc", "operator"] {
            for rest in ["", "!", "!!", "!!!"] {
                let text = format!("{user}p?ss>word~{rest}");
                for encoding in [data_encoding::BASE64, BASE64_NOPAD, data_encoding::BASE64URL, BASE64URL_NOPAD] {
                    let encoded = encoding.encode(text.as_bytes());
                    check("p?ss>word~", &format!("Basic {encoded}, x"), "Basic [secret:key], x");
                }
            }
        }
    }

    #[test]
    fn short_secrets_are_masked_in_clear_only() {
        check("abc", "abc YWJj 616263 %61bc", "[secret:key] YWJj 616263 %61bc");
        check("", "abc", "abc");
    }

    #[test]
    fn what_is_masked_beneath_is_not_cut() {
        let masker = Masker::over(Arc::new(masker(&[("a-long-name", "s3cr3t")])));
        assert_eq!(masker.mask("s3cr3t"), "[secret:a-long-name]");
        assert_eq!(masker.mask_prefix(b"abc s3cr3t def", 99).as_ref(), b"abc [secret:a-long-name] def");
    }

    #[test]
    fn a_prefix_does_not_hide_the_secret() {
        let reference = SecretRef { prefix: Some("Key ".into()), ..SecretRef::to(SecretName::new("key").unwrap()) };
        let mut masker = Masker::new();
        masker.learn(&reference, &SecretValue::new("Key s3cr3t"));
        assert_eq!(masker.mask("Key s3cr3t, s3cr3t"), "[secret:key], [secret:key]");
    }

    #[test]
    fn what_is_not_secret_stays() {
        check("s3cr3t", "nothing % here \\ at all \\u12 %zz", "nothing % here \\ at all \\u12 %zz");
        assert!(matches!(masker(&[("key", "s3cr3t")]).mask("plain"), Cow::Borrowed("plain")));
        assert!(matches!(Masker::new().mask("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn the_longer_of_two_secrets_names_the_place() {
        let masker = masker(&[("short", "pass"), ("long", "password1")]);
        assert_eq!(masker.mask("pass password1"), "[secret:short] [secret:long]");
        assert_eq!(format!("{masker:?}"), r#"["[secret:short]", "[secret:long]"]"#);
    }

    #[test]
    fn a_pem_key_is_masked_line_by_line() {
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END KEY-----\n";
        check(pem, "got MIIEvQIBADANBgkqhkiG9w0BAQ!", "got [secret:key]!");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({"4711471147": [4_711_471_147_u64, "x4711471147", true], "b": 12.5});
        let masked = masker(&[("pin", "4711471147")]).mask_json(value);
        let expected = serde_json::json!({"[secret:pin]": ["[secret:pin]", "x[secret:pin]", true], "b": 12.5});
        assert_eq!(masked, expected);
    }

    #[test]
    fn a_cut_leaves_no_part_of_a_secret() {
        let masker = masker(&[("key", "s3cr3t")]);
        assert_eq!(masker.mask_prefix(b"abc s3cr3t def", 7).as_ref(), b"abc [secret:key]");
        assert_eq!(masker.mask_prefix(b"abc s3cr3t def", 12).as_ref(), b"abc [secret:key] d");
        assert_eq!(masker.mask_prefix(b"abc s3cr3t def", 3).as_ref(), b"abc");
        assert_eq!(masker.mask_prefix(b"abc s3cr3t", 99).as_ref(), b"abc [secret:key]");
    }

    #[test]
    fn nested_escapes_of_a_large_text_are_bounded() {
        let masker = masker(&[("key", "s3cr3t-value-1"), ("other", "0123456789abcdef")]);
        let text = "%25\\\\".repeat(16 * 1024);
        assert_eq!(masker.mask(&text), text);
    }
}
