//! Signatures under what we send, so that whoever gets it can tell that it is ours.

use aws_lc_rs::hmac;
use data_encoding::BASE64;

/// The `webhook-signature` of a message, version 1 of Standard Webhooks
/// (<https://www.standardwebhooks.com>): HMAC-SHA256 over `id.timestamp.body`. A key that begins with `whsec_` is base64
/// behind it, any other is taken as it is. Nothing when the base64 cannot be read.
pub fn standard_webhook(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let decoded;
    let key = match key.strip_prefix(b"whsec_") {
        Some(encoded) => {
            decoded = BASE64.decode(encoded).ok()?;
            &decoded
        }
        None => key,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", BASE64.encode(context.sign().as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own test suite.
    #[test]
    fn as_others_compute_it() {
        let body = br#"{"test": 2432232314}"#;
        let key = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(
            standard_webhook(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        assert_eq!(standard_webhook(b"whsec_*", "m", 0, b""), None);
        assert_ne!(standard_webhook(b"a", "m", 0, b""), standard_webhook(b"b", "m", 0, b""));
    }
}
