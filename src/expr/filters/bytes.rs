//! Filters that encode. Text is taken as UTF-8.

use data_encoding::{BASE64, HEXLOWER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

use super::super::eval;
use super::{Args, Fault};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// RFC 4648 base64, with padding.
pub(super) fn base64(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.input(value)?;
    args.budget.bytes(text.len() * 4 / 3)?;
    Ok(Json::from(BASE64.encode(text.as_bytes())))
}

/// The text behind RFC 4648 base64, with padding.
pub(super) fn base64_decode(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let bytes = BASE64.decode(args.input(value)?.as_bytes());
    let bytes = bytes.map_err(|cause| Fault::value(format!("this is not base64: {cause}")))?;
    String::from_utf8(bytes).map(Json::from).map_err(|_| Fault::value("what this base64 holds is not text"))
}

/// Percent-encoded for a query or a path segment; an object becomes `key=value&…`.
pub(super) fn urlencode(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let encode = |value: &Json| {
        args.budget.bytes(3 * eval::printed_bytes(value))?;
        Ok(utf8_percent_encode(&eval::printed(value), RESERVED).to_string())
    };
    let Json::Object(members) = value else {
        return match value {
            Json::Array(_) => Err(args.refuse("text or an object", value)),
            value => encode(value).map(Json::from),
        };
    };
    let mut pairs = Vec::with_capacity(members.len());
    for (key, value) in members {
        pairs.push(format!("{}={}", utf8_percent_encode(key, RESERVED), encode(value)?));
    }
    Ok(Json::from(pairs.join("&")))
}

/// SHA-256, 64 lower-case hex digits.
pub(super) fn sha256(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, args.input(value)?.as_bytes());
    Ok(Json::from(HEXLOWER.encode(digest.as_ref())))
}
