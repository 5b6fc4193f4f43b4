//! Reads single parameters of a query. Unlike a form's, a plus in it stays a plus: signatures and ciphertexts are base64.

use percent_encoding::percent_decode;

use super::inbound::Reject;

/// The one value of a query parameter, still encoded; refuses a parameter that occurs twice, however its name
/// is encoded.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Result<&'a [u8], Reject> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode(key.as_bytes()).eq(name.bytes()).then_some(value.as_bytes())
    });
    let first = values.next().ok_or_else(|| Reject::MissingParameter { name: name.into() })?;
    if values.next().is_some() { Err(Reject::RepeatedParameter { name: name.into() }) } else { Ok(first) }
}

/// The one value of a parameter, decoded to text.
pub(super) fn text(query: &str, name: &str) -> Result<String, Reject> {
    let decoded: Vec<u8> = percent_decode(parameter(query, name)?).collect();
    String::from_utf8(decoded).map_err(|_| Reject::malformed(name, "text"))
}

/// The one value of a parameter that the platform writes in one of two ways; refuses both at once.
pub(super) fn either(query: &str, name: &str, other: &str) -> Result<String, Reject> {
    match (text(query, name), text(query, other)) {
        (Err(Reject::MissingParameter { name }), Err(Reject::MissingParameter { .. })) => {
            Err(Reject::MissingParameter { name })
        }
        (Err(Reject::MissingParameter { .. }), value) | (value, Err(Reject::MissingParameter { .. })) => value,
        _ => Err(Reject::RepeatedParameter { name: name.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_occurs_once() {
        let one = |query| parameter(query, "key").map_err(|reject| reject.code());
        assert_eq!(one("a=b&key=c%2B"), Ok(&b"c%2B"[..]));
        assert_eq!(one("k%65y=c=d"), Ok(&b"c=d"[..]));
        assert_eq!(one("key"), Ok(&b""[..]));
        assert_eq!(one(""), Err("missing_parameter"));
        assert_eq!(one("KEY=c&keys=d"), Err("missing_parameter"));
        assert_eq!(one("key=c&key=c"), Err("repeated_parameter"));
        assert_eq!(one("key=c&%6bey"), Err("repeated_parameter"));
    }

    #[test]
    fn a_plus_stays_and_escapes_go() {
        let one = |query| text(query, "echostr").map_err(|reject| reject.code());
        assert_eq!(one("a=b&echostr=a+b/c=="), Ok("a+b/c==".to_owned()));
        assert_eq!(one("echostr=a%2Bb%2fc%3D%3D"), Ok("a+b/c==".to_owned()));
        assert_eq!(one("echostr=%ff"), Err("malformed"));
        assert_eq!(one("echostr=a&%65chostr=a"), Err("repeated_parameter"));
    }

    #[test]
    fn of_two_names_one_is_there() {
        let one = |query| either(query, "signature", "msg_signature").map_err(|reject| reject.code());
        assert_eq!(one("signature=a"), Ok("a".to_owned()));
        assert_eq!(one("msg_signature=b"), Ok("b".to_owned()));
        assert_eq!(one("x=b"), Err("missing_parameter"));
        for twice in ["signature=a&msg_signature=a", "msg_signature=a&msg_signature=a", "signature=a&signature=a"] {
            assert_eq!(one(twice), Err("repeated_parameter"), "{twice}");
        }
    }
}
