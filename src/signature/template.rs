//! The text that is signed, as a template: `v0:{timestamp}:{body}`.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::inbound::{Inbound, Reject};

/// A value that a template can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Body,
    Timestamp,
    Id,
    Url,
    Method,
    Path,
    Query,
    Target,
    BodySha256,
}

const SLOTS: [(&str, Slot); 9] = [
    ("body", Slot::Body),
    ("timestamp", Slot::Timestamp),
    ("id", Slot::Id),
    ("url", Slot::Url),
    ("method", Slot::Method),
    ("path", Slot::Path),
    ("query", Slot::Query),
    ("target", Slot::Target),
    ("body_sha256", Slot::BodySha256),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Slot(Slot),
}

/// A template, split into its parts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

/// What fills a template besides the request: values that come out of headers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filling<'a> {
    pub(super) timestamp: Option<&'a [u8]>,
    pub(super) id: Option<&'a [u8]>,
    pub(super) url: Option<&'a str>,
    pub(super) made: Option<&'a Made>,
}

/// Pieces of a signed text that are made for it; empty where the template does not hold them.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Path and query as received.
    target: String,
    /// The body's SHA-256 in lower-case hex.
    body_sha256: String,
}

impl Template {
    /// Splits a template, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, tail) = after.split_once('}').ok_or_else(|| format!("`{{{after}` has no closing `}}`"))?;
            let (_, slot) =
                SLOTS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("`{{{name}}}` is not known"))?;
            if !literal.is_empty() {
                parts.push(Part::Text(literal.into()));
            }
            parts.push(Part::Slot(*slot));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The placeholders that exist, for help texts.
    pub(super) fn known() -> String {
        SLOTS.map(|(name, _)| format!("`{{{name}}}`")).join(", ")
    }

    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.0.contains(&Part::Slot(slot))
    }

    /// Whether the whole body decides the text.
    pub(super) fn covers_body(&self) -> bool {
        self.holds(Slot::Body) || self.holds(Slot::BodySha256)
    }

    /// Makes the pieces that are not there as they are.
    pub(super) fn make(&self, request: &Inbound<'_>) -> Made {
        let mut made = Made::default();
        if self.holds(Slot::Target) {
            made.target = match request.query {
                "" => request.path.to_owned(),
                query => format!("{}?{query}", request.path),
            };
        }
        if self.holds(Slot::BodySha256) {
            made.body_sha256 = HEXLOWER.encode(digest::digest(&digest::SHA256, request.body).as_ref());
        }
        made
    }

    /// The signed text, piece by piece in order, without joining them: a body is never copied for this.
    pub(super) fn fill<'a>(
        &'a self,
        request: &'a Inbound<'_>,
        filling: Filling<'a>,
    ) -> impl Iterator<Item = Result<&'a [u8], Reject>> {
        self.0.iter().map(move |part| {
            Ok(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Slot(Slot::Body) => request.body,
                Part::Slot(Slot::Timestamp) => filling.timestamp.unwrap_or_default(),
                Part::Slot(Slot::Id) => filling.id.unwrap_or_default(),
                Part::Slot(Slot::Url) => filling.url.or(request.url).ok_or(Reject::UnknownUrl)?.as_bytes(),
                Part::Slot(Slot::Method) => request.method.as_bytes(),
                Part::Slot(Slot::Path) => request.path.as_bytes(),
                Part::Slot(Slot::Query) => request.query.as_bytes(),
                Part::Slot(Slot::Target) => filling.made.map_or(&[][..], |made| made.target.as_bytes()),
                Part::Slot(Slot::BodySha256) => filling.made.map_or(&[][..], |made| made.body_sha256.as_bytes()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::signature::Headers;

    fn check(template: &str, filled: Result<&str, &str>) {
        let headers = Headers::default();
        let request = Inbound {
            method: "POST",
            path: "/a%20b",
            query: "c=d",
            url: Some("https://gw.example/a"),
            headers: &headers,
            body: b"{}",
            client_chain: &[],
            received_at: Timestamp::from_secs(0),
            random: [0; crate::signature::RANDOM_BYTES],
        };
        let filling = Filling { timestamp: Some(b"17"), id: Some(b"i"), url: None, made: None };
        let text = Template::parse(template).map(|parsed| {
            let made = parsed.make(&request);
            let filling = Filling { made: Some(&made), ..filling };
            let pieces: Result<Vec<_>, _> = parsed.fill(&request, filling).collect();
            String::from_utf8_lossy(&pieces.unwrap_or_default().concat()).into_owned()
        });
        assert_eq!(text.as_deref().map_err(String::as_str), filled, "{template}");
    }

    #[test]
    fn templates() {
        check("{body}", Ok("{}"));
        check("v0:{timestamp}:{body}", Ok("v0:17:{}"));
        check("{method}\n{path}\n{query}\n{url}|{id}.", Ok("POST\n/a%20b\nc=d\nhttps://gw.example/a|i."));
        check("{target} {id}", Ok("/a%20b?c=d i"));
        check("{body_sha256}", Ok("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"));
        check("", Ok(""));
        check("a}b", Ok("a}b"));
        check("{bdy}", Err("`{bdy}` is not known"));
        check("{{body}}", Err("`{{body}` is not known"));
        check("x{body", Err("`{body` has no closing `}`"));
    }
}
