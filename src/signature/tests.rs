//! The cases that published vectors leave out, through the public API: one line of data each.
#![expect(clippy::unwrap_used, reason = "tests")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;

const NOW: i64 = 1_795_338_000;
const KEY: &str = "a key of some length, not secret";

/// A route and a request for it; `Err` holds the code of the refusal.
struct Case<'a> {
    preset: &'a str,
    with: Value,
    secrets: &'a [(&'a str, &'a str)],
    query: &'a str,
    now: Timestamp,
}

impl Case<'_> {
    fn prepared(&self) -> Prepared {
        let names: Vec<_> = self.secrets.iter().map(|(name, _)| *name).collect();
        let verifier = Verifier::new(self.preset, self.with.as_object().unwrap(), &names).unwrap();
        let mut keys = Keys::default();
        for (name, value) in self.secrets {
            keys.add(name, value.as_bytes());
        }
        verifier.prepare(&keys).unwrap()
    }

    fn send(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Verdict, &'static str> {
        let headers: Headers<'_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Inbound {
            method: "POST",
            path: "/hooks/a",
            query: self.query,
            url: None,
            headers: &headers,
            body,
            received_at: self.now,
        };
        self.prepared().verify(&request).map_err(|reject| reject.code())
    }

    fn proof(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Proof, &'static str> {
        match self.send(headers, body)? {
            Verdict::Deliver(proof) => Ok(proof),
            Verdict::Handshake(answer) => panic!("a handshake: {answer:?}"),
        }
    }
}

fn case<'a>(preset: &'a str, with: Value, secrets: &'a [(&'a str, &'a str)]) -> Case<'a> {
    Case { preset, with, secrets, query: "", now: Timestamp::from_secs(NOW) }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(key: &str, text: &str) -> String {
    HEXLOWER.encode(&mac(key.as_bytes(), text.as_bytes()))
}

fn problems(preset: &str, with: &Value, secrets: &[&str]) -> Vec<String> {
    let found = Verifier::new(preset, with.as_object().unwrap(), secrets).err().unwrap_or_default();
    found.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn every_kind_builds_and_has_a_schema() {
    for kind in kinds() {
        let with = match kind.name {
            "generic_hmac" => json!({ "header": "X-Signature" }),
            "api_key" => json!({ "name": "X-Key" }),
            "jwt" => json!({ "algorithms": ["HS256"] }),
            _ => json!({}),
        };
        let verifier = Verifier::new(kind.name, with.as_object().unwrap(), &[kind.secrets[0].name]).unwrap();
        assert_eq!(verifier.kind().name, kind.name);
        assert!(matches!(verifier.prepare(&Keys::default()), Err(KeyError::Missing { .. })), "{}", kind.name);
        let schema = serde_json::to_value(kind.schema()).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{} {schema}", kind.name);
        for name in with.as_object().unwrap().keys() {
            assert!(schema["required"].as_array().unwrap().contains(&json!(name)), "{} {schema}", kind.name);
        }
    }
}

#[test]
fn configurations_are_refused_with_every_reason() {
    let check = |preset: &str, with: Value, secrets: &[&str], expected: &[&str]| {
        let found = problems(preset, &with, secrets);
        assert_eq!(found.len(), expected.len(), "{preset} {with}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not hold {expected}");
        }
    };
    check("shopfy", json!({}), &[], &["preset: `shopfy` is not a preset"]);
    check("shopify", json!({}), &[], &[": `shopify` has no key"]);
    check("shopify", json!({}), &["secret"], &["secrets: `shopify` has no secret `secret`", "has no key"]);
    check("github", json!({ "tolerance": "5m" }), &["secret"], &["tolerance: unknown field"]);
    check("stripe", json!({ "tolerance": 300 }), &["signing_secret"], &["tolerance: invalid type"]);
    check("slack", json!({ "tolerance": "3d" }), &["signing_secret"], &["tolerance: `3d` is not a duration"]);
    check("standard_webhooks", json!({ "prefix": "a b" }), &["secret"], &["prefix: `a b` is not the name"]);
    check("generic_hmac", json!({}), &["secret"], &["header: the header that carries the signature"]);
    let generic = |more: Value| {
        let mut with = json!({ "header": "X-Signature" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    let timed = generic(json!({ "timestamp_header": "X-Ts" }));
    check("generic_hmac", timed, &["secret"], &["template: the time is not signed"]);
    let untimed = generic(json!({ "template": "{timestamp}{id}" }));
    check("generic_hmac", untimed, &["secret"], &["`{timestamp}` is signed, but", "`{id}` is signed, but"]);
    check("generic_hmac", generic(json!({ "template": "{method}" })), &["secret"], &["neither the body nor a time"]);
    check("generic_hmac", generic(json!({ "template": "{bdy}" })), &["secret"], &["template: `{bdy}` is not known"]);
    check("generic_hmac", generic(json!({ "tolerance": "5m" })), &["secret"], &["tolerance: a tolerance without"]);
    check(
        "generic_hmac",
        json!({ "header": "", "algorithm": "md5", "encoding": "HEX", "key_encoding": "whsec" }),
        &["secret"],
        &["algorithm: unknown variant", "encoding: unknown variant", "key_encoding: unknown variant"],
    );
    check("generic_hmac", generic(json!({ "id_header": "a", "id_member": "b" })), &["secret"], &["not from both"]);
    check("api_key", json!({ "in": "cookie", "name": "k" }), &["key"], &["in: unknown variant"]);
    check("api_key", json!({ "in": "query" }), &["key"], &["name: the place of the key has no name"]);
    check("basic", json!({ "header": "a:b" }), &["userpass"], &["header: `a:b` is not the name"]);
    check("jwt", json!({}), &["hs_secret"], &["algorithms: no algorithm is accepted"]);
    check("jwt", json!({ "algorithms": ["none"] }), &["hs_secret"], &["algorithms: unknown variant"]);
    check("jwt", json!({ "algorithms": ["HS256"] }), &[], &[": `jwt` has no key"]);
    check("jwt", json!({ "algorithms": ["RS256"] }), &["hs_secret"], &["jwks: there is no public key"]);
    check("jwt", json!({ "algorithms": ["HS256", "RS256"] }), &["hs_secret"], &["must not be mixed"]);
    let set = |key: Value| json!({ "algorithms": ["RS256", "ES256"], "jwks": { "keys": [key] } });
    check("jwt", set(json!({ "kty": "oct", "k": "AAAA" })), &[], &["jwks.keys[0]: this key is a secret one"]);
    check("jwt", set(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" })), &[], &["jwks: no key of the set fits"]);
    check("jwt", set(json!({ "kty": "RSA", "n": "AAAA", "e": "AQAB" })), &[], &["shorter than 2048 bits"]);
    check("jwt", set(json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" })), &[], &["as long as its curve"]);
    check("jwt", json!({ "algorithms": ["RS256"], "jwks": [] }), &[], &["jwks: "]);
}

#[test]
fn bad_keys_are_named_and_never_printed() {
    let check = |preset: &str, with: Value, name: &str, value: &str| {
        let verifier = Verifier::new(preset, with.as_object().unwrap(), &[name]).unwrap();
        let mut keys = Keys::default();
        keys.add(name, value.as_bytes());
        let problem = verifier.prepare(&keys).unwrap_err().to_string();
        assert!(problem.contains(name), "{problem}");
        assert!(value.is_empty() || !problem.contains(value), "{problem}");
    };
    check("shopify", json!({}), "client_secret", "");
    check("standard_webhooks", json!({}), "secret", "whsec_%%%");
    check("standard_webhooks", json!({}), "secret", "whpk_iSQSH9AykhWBGj5o3VgkHFGBLcflNAgZnLua7/9qwew=");
    check("standard_webhooks", json!({}), "public_key", "whpk_AAAA");
    check("standard_webhooks", json!({}), "public_key", "%%%");
    check("basic", json!({}), "userpass", "nocolon");
    check("generic_hmac", json!({ "header": "x", "key_encoding": "hex" }), "secret", "xyz");
    check("generic_hmac", json!({ "header": "x", "key_encoding": "base64" }), "secret", "a-b_");
}

#[test]
fn bodies_are_verified_byte_by_byte() {
    let github = case("github", json!({}), &[("secret", KEY)]);
    let bodies: [&[u8]; 9] = [
        b"",
        b"\n",
        b"{}\r\n",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe\0",
        "{\"名\":\"订单 🚚\"}".as_bytes(),
        b"payload=%7B%7D",
        b"\0",
        &[b'a'; 10_000],
    ];
    for body in bodies {
        let signature = format!("sha256={}", HEXLOWER.encode(&mac(KEY.as_bytes(), body)));
        assert!(github.proof(&[("x-hub-signature-256", &signature)], body).unwrap().body_is_signed);
        for other in [[body, b"\n"].concat(), [b"\xef\xbb\xbf", body].concat(), [body, b"\0"].concat()] {
            assert_eq!(github.send(&[("x-hub-signature-256", &signature)], &other), Err("wrong_signature"));
        }
    }
}

#[test]
fn github_wants_its_prefix_and_lower_case() {
    let github = case("github", json!({}), &[("secret", KEY)]);
    let check = |signature: &str, expected: Result<(), &'static str>| {
        let sent = [("X-Hub-Signature-256", signature), ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "d")];
        assert_eq!(github.proof(&sent, b"{}").map(drop), expected, "{signature}");
    };
    let good = hex(KEY, "{}");
    check(&format!("sha256={good}"), Ok(()));
    check(&format!("  sha256={good}\t"), Ok(()));
    for bad in [
        format!("sha256={}", good.to_uppercase()),
        format!("SHA256={good}"),
        format!("sha256=sha256={good}"),
        format!("sha256= {good}"),
        format!("sha256={good}, sha256={good}"),
        format!("sha1={good}"),
        good.clone(),
        "sha256=".into(),
        String::new(),
        "sha256=é".into(),
    ] {
        check(&bad, Err("malformed"));
    }
    check(&format!("sha256={}", &good[..62]), Err("wrong_signature"));
    check(&format!("sha256={good}00"), Err("wrong_signature"));
    // The event header chooses the handshake only once the signature holds.
    let ping = [("X-Hub-Signature-256", "sha256=00"), ("X-GitHub-Event", "ping")];
    assert_eq!(github.send(&ping, b"{}"), Err("wrong_signature"));
}

#[test]
fn shopify_reads_one_set_of_headers() {
    let keys = [("client_secret", "old"), ("client_secret", "new")];
    let shopify = case("shopify", json!({}), &keys);
    let sign = |key: &str, body: &str| BASE64.encode(&mac(key.as_bytes(), body.as_bytes()));
    let (old, new, empty) = (sign("old", "{}"), sign("new", "{}"), sign("old", ""));
    let proof = |headers: &[(&str, &str)], body: &[u8]| shopify.proof(headers, body);
    assert_eq!(proof(&[("X-Shopify-Hmac-SHA256", &old)], b"{}").unwrap().key_index, 0);
    let rotated = proof(&[("x-shopify-hmac-sha256", &new), ("x-shopify-webhook-id", "w")], b"{}").unwrap();
    assert_eq!((rotated.key_index, rotated.delivery_id.as_deref(), rotated.id_is_signed), (1, Some("w"), false));
    let events = proof(&[("Shopify-Hmac-Sha256", &new), ("Shopify-Webhook-Id", "e")], b"{}").unwrap();
    assert_eq!(events.delivery_id.as_deref(), Some("e"));
    let mixed = proof(&[("Shopify-Hmac-Sha256", &new), ("X-Shopify-Webhook-Id", "e")], b"{}").unwrap();
    assert_eq!(mixed.delivery_id, None);
    assert_eq!(proof(&[("x-shopify-hmac-sha256", &empty)], b""), Err("empty_body"));
    for bad in [old.trim_end_matches('='), &old.replace('=', "%3D"), &format!("{}\n", &old[..43])] {
        assert_eq!(proof(&[("x-shopify-hmac-sha256", bad)], b"{}"), Err("malformed"), "{bad}");
    }
    assert_eq!(proof(&[("x-shopify-hmac-sha256", &old), ("x-shopify-webhook-id", "")], b"{}"), Err("malformed"));
}

#[test]
fn stripe_takes_any_v1_and_one_time() {
    let stripe = case("stripe", json!({}), &[("signing_secret", "whsec_AAAA")]);
    let body = r#"{"id":"evt_1"}"#;
    let sign = |time: &str| hex("whsec_AAAA", &format!("{time}.{body}"));
    let check = |header: &str, expected: Result<Option<&str>, &'static str>| {
        let proof = stripe.proof(&[("Stripe-Signature", header)], body.as_bytes());
        assert_eq!(proof.as_ref().map(|p| p.delivery_id.as_deref()).map_err(|code| *code), expected, "{header}");
    };
    let t = NOW.to_string();
    let (good, wrong) = (sign(&t), "0".repeat(64));
    check(&format!("t={t},v1={good}"), Ok(Some("evt_1")));
    check(&format!("v0={wrong},v1={wrong},v1=zz,v1={good},t={t},scheme"), Ok(Some("evt_1")));
    check(&format!("t={t},v1={wrong}"), Err("wrong_signature"));
    check(&format!("t={t},v1={}", good.to_uppercase()), Err("wrong_signature"));
    check(&format!("t={t},v0={good}"), Err("unknown_version"));
    check(&format!("t={t}, v1={good}"), Err("unknown_version"));
    check(&format!("t={t},t={t},v1={good}"), Err("malformed"));
    check(&format!("v1={good}"), Err("malformed"));
    check("", Err("malformed"));
    check(&format!("t={t},{}v1={good}", "v1=00,".repeat(100)), Err("malformed"));
    let key_bytes = BASE64.decode(b"AAAA").unwrap();
    let decoded = HEXLOWER.encode(&mac(&key_bytes, format!("{t}.{body}").as_bytes()));
    check(&format!("t={t},v1={decoded}"), Err("wrong_signature"));
}

#[test]
fn times_are_digits_inside_the_window() {
    let with = json!({ "header": "x-sig", "timestamp_header": "x-ts", "template": "{timestamp}.{body}" });
    let check = |unit: &str, time: &str, expected: Result<(), &'static str>| {
        let mut with = with.clone();
        with["timestamp_unit"] = json!(unit);
        let generic = case("generic_hmac", with, &[("secret", KEY)]);
        let signature = hex(KEY, &format!("{time}."));
        assert_eq!(generic.proof(&[("x-sig", &signature), ("x-ts", time)], b"").map(drop), expected, "{unit} {time}");
    };
    for (time, expected) in
        [(NOW, Ok(())), (NOW - 300, Ok(())), (NOW + 300, Ok(())), (NOW - 301, Err("stale")), (NOW + 301, Err("stale"))]
    {
        check("s", &time.to_string(), expected);
        check("ms", &(time * 1000).to_string(), expected);
    }
    check("ms", &(NOW * 1000 - 300_001).to_string(), Err("stale"));
    check("ms", &NOW.to_string(), Err("stale"));
    check("s", &(NOW * 1000).to_string(), Err("stale"));
    check("s", &format!("000{NOW}"), Ok(()));
    check("s", "9223372036854775808", Err("stale"));
    check("ms", "18446744073709551615", Err("stale"));
    check("s", "0", Err("stale"));
    for bad in [
        "",
        "+1795338000",
        "-1",
        "1795338000.0",
        "1.8e9",
        "0x6b02",
        "1795338000s",
        "18446744073709551616",
        "１７９５３３８０００",
        "1795338000,1795338000",
    ] {
        check("s", bad, Err("malformed"));
    }
    let generic = case("generic_hmac", with, &[("secret", KEY)]);
    assert_eq!(generic.send(&[("x-sig", "00")], b""), Err("missing_header"));
    let twice = [("x-sig", "00"), ("x-ts", "1"), ("X-TS", "1")];
    assert_eq!(generic.send(&twice, b""), Err("repeated_header"));
}

#[test]
fn seconds_are_compared_as_seconds() {
    let mut slack = case("slack", json!({}), &[("signing_secret", KEY)]);
    slack.now = Timestamp::from_millis(NOW * 1000 + 999);
    for (time, expected) in [(NOW - 300, Ok(())), (NOW - 301, Err("stale")), (NOW + 300, Ok(()))] {
        let signature = format!("v0={}", hex(KEY, &format!("v0:{time}:a=b")));
        let headers = [("x-slack-signature", signature.as_str()), ("x-slack-request-timestamp", &time.to_string())];
        assert_eq!(slack.proof(&headers, b"a=b").map(drop), expected, "{time}");
    }
}

#[test]
fn slack_answers_only_signed_challenges() {
    let slack = case("slack", json!({}), &[("signing_secret", KEY)]);
    let send = |body: &str| {
        let signature = format!("v0={}", hex(KEY, &format!("v0:{NOW}:{body}")));
        let time = NOW.to_string();
        slack.send(&[("x-slack-signature", &signature), ("x-slack-request-timestamp", &time)], body.as_bytes())
    };
    let Ok(Verdict::Handshake(answer)) = send(r#"{"type":"url_verification","challenge":"a\"<b>订"}"#) else {
        panic!()
    };
    assert_eq!((answer.status, answer.content_type), (200, Some("application/json")));
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), json!({ "challenge": "a\"<b>订" }));
    assert_eq!(send(r#"{"type":"url_verification"}"#), Err("malformed"));
    for delivery in
        [r#"{"event":{"type":"url_verification","challenge":"x"}}"#, "type=url_verification&challenge=x", ""]
    {
        assert!(matches!(send(delivery), Ok(Verdict::Deliver(Proof { delivery_id: None, .. }))), "{delivery}");
    }
}

#[test]
fn standard_webhooks_take_lists_and_both_versions() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = format!("whpk_{}", BASE64.encode(pair.public_key().as_ref()));
    let old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let new = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
    let keys = [("secret", old), ("secret", new), ("public_key", public.as_str())];
    let both = case("standard_webhooks", json!({}), &keys);
    let text = format!("msg_1.{NOW}.{{}}");
    let v1 = |key: u8| format!("v1,{}", BASE64.encode(&mac(&[key; 24], text.as_bytes())));
    let v1a = format!("v1a,{}", BASE64.encode(pair.sign(text.as_bytes()).as_ref()));
    let check = |case: &Case<'_>, prefix: &str, signature: &str, expected: Result<usize, &'static str>| {
        let names = ["id", "timestamp", "signature"].map(|end| format!("{prefix}-{end}"));
        let time = NOW.to_string();
        let headers = [(names[0].as_str(), "msg_1"), (&names[1], &time), (&names[2], signature)];
        let proof = case.proof(&headers, b"{}");
        if let Ok(proof) = &proof {
            assert!(proof.id_is_signed && proof.delivery_id.as_deref() == Some("msg_1"));
        }
        assert_eq!(proof.map(|proof| proof.key_index), expected, "{prefix} {signature}");
    };
    check(&both, "webhook", &v1(0), Ok(0));
    check(&both, "Svix", &v1(1), Ok(1));
    check(&both, "webhook", &v1a, Ok(0));
    check(&both, "webhook", &format!("v1,AAAA {}  v2,x v1 {}", v1(9), v1(1)), Ok(1));
    check(&both, "webhook", &format!("{} {v1a}", v1(9)), Ok(0));
    check(&both, "webhook", &format!("v1a,AAAA {}", v1(0)), Ok(0));
    check(&both, "webhook", &v1(9), Err("wrong_signature"));
    check(&both, "webhook", &v1(0).replace("v1,", "v1a,"), Err("wrong_signature"));
    check(&both, "webhook", &v1a.replace("v1a,", "v1,"), Err("wrong_signature"));
    check(&both, "webhook", &v1(0).replace("v1,", "v2,"), Err("unknown_version"));
    check(&both, "webhook", &v1(0).replace("v1,", "V1,"), Err("unknown_version"));
    check(&both, "webhook", &v1(0).replace("v1,", ""), Err("unknown_version"));
    check(&both, "webhook", "", Err("unknown_version"));
    check(&both, "webhook", v1(0).trim_end_matches('='), Err("wrong_signature"));
    check(&both, "webhook", &vec!["v1,AAAA"; 17].join(" "), Err("malformed"));
    check(&both, "other", &v1(0), Err("missing_header"));
    let one = case("standard_webhooks", json!({ "prefix": "svix" }), &keys[..1]);
    check(&one, "svix", &v1(0), Ok(0));
    check(&one, "webhook", &v1(0), Err("missing_header"));
    check(&one, "svix", &v1a, Err("unknown_version"));
    let only_public = case("standard_webhooks", json!({}), &keys[2..]);
    check(&only_public, "webhook", &format!("{} {v1a}", v1(9)), Ok(0));
    check(&only_public, "webhook", &v1(0), Err("unknown_version"));
}

#[test]
fn standard_webhooks_need_id_and_time_of_one_set() {
    let std = case("standard_webhooks", json!({}), &[("secret", "whsec_AAAAAAAA")]);
    let signature = format!("v1,{}", BASE64.encode(&mac(&[0; 6], format!("i.{NOW}.{{}}").as_bytes())));
    let time = NOW.to_string();
    let check = |headers: &[(&str, &str)], expected| {
        let mut all = vec![("webhook-signature", signature.as_str())];
        all.extend(headers);
        assert_eq!(std.proof(&all, b"{}").map(drop), expected, "{headers:?}");
    };
    check(&[("webhook-id", "i"), ("webhook-timestamp", &time)], Ok(()));
    check(&[("webhook-id", "i"), ("webhook-timestamp", &time), ("svix-id", "j")], Ok(()));
    check(&[("svix-id", "i"), ("webhook-timestamp", &time)], Err("missing_header"));
    check(&[("webhook-id", "i"), ("svix-timestamp", &time)], Err("missing_header"));
    check(&[("webhook-id", ""), ("webhook-timestamp", &time)], Err("malformed"));
    check(&[("webhook-id", "i"), ("webhook-id", "i"), ("webhook-timestamp", &time)], Err("repeated_header"));
    check(&[("webhook-id", "i"), ("webhook-timestamp", &time), ("webhook-timestamp", &time)], Err("repeated_header"));
}

#[test]
fn woocommerce_decodes_its_key_and_knows_its_ping() {
    let woo = case("woocommerce", json!({}), &[("secret", "a&amp;b&lt;&#039;")]);
    let sign = |key: &[u8]| BASE64.encode(&mac(key, b"{}"));
    let headers = |signature: String| {
        woo.proof(&[("X-WC-Webhook-Signature", &signature), ("X-WC-Webhook-Delivery-ID", "d")], b"{}")
    };
    let proof = headers(sign(b"a&b<'")).unwrap();
    assert!(proof.id_may_collide && proof.delivery_id.as_deref() == Some("d"));
    assert_eq!(headers(sign(b"a&amp;b&lt;&#039;")), Err("wrong_signature"));

    assert!(matches!(woo.send(&[], b"webhook_id=49"), Ok(Verdict::Handshake(answer)) if answer == Answer::empty()));
    for bad in [
        "webhook_id=",
        "webhook_id=4x",
        "webhook_id=4\n",
        "webhook_id=1&a=b",
        " webhook_id=1",
        "webhook_id=-1",
        "Webhook_id=1",
        "webhook_id=111111111111111111111",
        "{}",
        "",
    ] {
        assert_eq!(woo.send(&[], bad.as_bytes()), Err("missing_header"), "{bad}");
    }
    assert_eq!(woo.send(&[("x-wc-webhook-signature", "")], b"webhook_id=49"), Err("malformed"));
}

#[test]
fn generic_takes_urls_ids_and_both_cases() {
    let with = json!({
        "header": "Authorization", "template": "{url}|{method} {path}?{query}|{id}|{body}", "id_header": "X-Id",
        "url": "https://gw.example/hooks/a",
    });
    let mut generic = case("generic_hmac", with.clone(), &[("secret", KEY)]);
    generic.query = "a=%20b";
    let signature = hex(KEY, "https://gw.example/hooks/a|POST /hooks/a?a=%20b|7|x").to_uppercase();
    let proof = generic.proof(&[("authorization", &signature), ("x-id", "7")], b"x").unwrap();
    assert!(proof.id_is_signed && proof.delivery_id.as_deref() == Some("7"));
    assert_eq!(generic.proof(&[("authorization", &signature), ("x-id", "8")], b"x"), Err("wrong_signature"));
    assert_eq!(generic.proof(&[("authorization", &signature)], b"x"), Err("missing_header"));
    let mut unknown = with;
    unknown.as_object_mut().unwrap().remove("url");
    let unknown = case("generic_hmac", unknown, &[("secret", KEY)]);
    assert_eq!(unknown.send(&[("authorization", &signature), ("x-id", "7")], b"x"), Err("unknown_url"));

    let by_member = case("generic_hmac", json!({ "header": "s", "id_member": "no" }), &[("secret", KEY)]);
    let body = r#"{"no":1234567890123456789012}"#;
    let proof = by_member.proof(&[("s", &hex(KEY, body))], body.as_bytes()).unwrap();
    assert!(proof.id_is_signed && proof.delivery_id.as_deref() == Some("1234567890123456789012"));
}

#[test]
fn basic_compares_the_whole_pair() {
    let userpass = [("userpass", "ops:a:b:密"), ("userpass", "ops:next")];
    let check = |with: Value, header: &str, value: &str, expected: Result<usize, &'static str>| {
        let proof = case("basic", with, &userpass).proof(&[(header, value)], b"");
        assert_eq!(proof.map(|proof| proof.key_index), expected, "{header}: {value}");
    };
    let encode = |pair: &str| BASE64.encode(pair.as_bytes());
    let good = encode("ops:a:b:密");
    check(json!({}), "Authorization", &format!("Basic {good}"), Ok(0));
    check(json!({}), "Authorization", &format!("bASIC  {good}"), Ok(0));
    check(json!({}), "Authorization", &format!("Basic {}", encode("ops:next")), Ok(1));
    check(json!({}), "Authorization", &good, Err("malformed"));
    check(json!({}), "Authorization", &format!("Basic {}", good.trim_end_matches('=')), Err("malformed"));
    check(json!({}), "Authorization", &format!("Basic {}", encode("ops:a")), Err("wrong_signature"));
    check(json!({}), "Authorization", &format!("Basic {}", encode(":ops:a:b:密")), Err("wrong_signature"));
    check(json!({}), "Authorization", "Basic ", Err("malformed"));
    check(json!({}), "Authorization", &format!("Basic {good} {good}"), Err("malformed"));
    check(json!({ "header": "X-WM-Auth" }), "x-wm-auth", &good, Ok(0));
    check(json!({ "header": "X-WM-Auth" }), "x-wm-auth", &format!("Basic {good}"), Ok(0));
    check(json!({ "header": "X-WM-Auth" }), "Authorization", &format!("Basic {good}"), Err("missing_header"));
}

#[test]
fn bearer_and_api_key_compare_whole_values() {
    let bearer = case("bearer", json!({}), &[("token", "one"), ("token", "two+/=")]);
    let check = |value: &str, expected| {
        assert_eq!(bearer.proof(&[("authorization", value)], b"").map(|p| p.key_index), expected, "{value}");
    };
    check("Bearer one", Ok(0));
    check("BEARER two+/=", Ok(1));
    check("Bearer on", Err("wrong_signature"));
    check("Bearer one, Bearer one", Err("wrong_signature"));
    check("Bearer", Err("malformed"));
    check("Bearerone", Err("malformed"));
    check("one", Err("malformed"));
    let twice = [("authorization", "Bearer one"), ("Authorization", "Bearer one")];
    assert_eq!(bearer.send(&twice, b""), Err("repeated_header"));

    let keys = [("key", "a+b/c="), ("key", "two words")];
    let mut query = case("api_key", json!({ "in": "query", "name": "key" }), &keys);
    for (sent, expected) in [
        ("x=1&key=a+b/c=", Ok(0)),
        ("key=a%2Bb%2Fc%3D", Ok(0)),
        ("key=two+words", Ok(1)),
        ("key=two%20words", Ok(1)),
        ("key=a b/c=", Err("wrong_signature")),
        ("key=", Err("wrong_signature")),
        ("key=%", Err("wrong_signature")),
        ("", Err("missing_parameter")),
        ("key=two+words&key=x", Err("repeated_parameter")),
    ] {
        query.query = sent;
        assert_eq!(query.proof(&[("key", "a+b/c=")], b"").map(|p| p.key_index), expected, "{sent}");
    }
}

fn token(head: &Value, claims: &str, key: &str) -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!("{}.{}", part(&head.to_string()), part(claims));
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac(key.as_bytes(), signed.as_bytes())))
}

fn check_jwt(with: Value, head: &Value, claims: &str, expected: Result<Option<&str>, &'static str>) {
    let jwt = case("jwt", with, &[("hs_secret", "old"), ("hs_secret", KEY)]);
    let proof = jwt.proof(&[("authorization", &format!("bearer {}", token(head, claims, KEY)))], b"");
    assert_eq!(proof.as_ref().map(|p| p.delivery_id.as_deref()).map_err(|code| *code), expected, "{head} {claims}");
}

#[test]
fn jwt_claims_are_held_against_our_time_and_names() {
    let with = json!({ "algorithms": ["HS256"], "issuer": ["a", "b"], "audience": "us" });
    let check = |claims: &str, expected| check_jwt(with.clone(), &json!({ "alg": "HS256" }), claims, expected);
    let rest = r#""iss":"b","aud":"us""#;
    let timed = |exp: &str| format!(r#"{{"exp":{exp},{rest}}}"#);
    check(&timed("1795338001"), Ok(None));
    check(&timed("1795338001.5"), Ok(None));
    check(&timed("1.9e9"), Ok(None));
    check(&timed("1795337941"), Ok(None));
    check(&timed("1795337940"), Err("token_claim"));
    check(&timed("0"), Err("token_claim"));
    check(&timed("-1"), Err("token_claim"));
    check(&timed("1e999"), Err("token_claim"));
    check(&timed("null"), Err("token_claim"));
    check(&timed("\"1795338001\""), Err("malformed"));
    check(&timed("true"), Err("malformed"));
    check(&timed("1795338001,\"exp\":1795338001"), Err("malformed"));
    check(&format!("{{{rest}}}"), Err("token_claim"));
    check(&timed("1795338001,\"nbf\":1795338060"), Ok(None));
    check(&timed("1795338001,\"nbf\":1795338061"), Err("token_claim"));
    check(&timed("1795338001,\"nbf\":\"0\""), Err("malformed"));
    check(&timed("1795338001,\"jti\":\"j\""), Ok(Some("j")));
    check(&timed("1795338001,\"jti\":\"\""), Err("malformed"));
    let named = |iss: &str, aud: &str| format!(r#"{{"exp":1795338001,"iss":{iss},"aud":{aud}}}"#);
    check(&named(r#""a""#, r#"["x","us"]"#), Ok(None));
    check(&named(r#""a""#, r#"["x"]"#), Err("token_claim"));
    check(&named(r#""a""#, "[]"), Err("token_claim"));
    check(&named(r#""a""#, "null"), Err("token_claim"));
    check(&named(r#""a""#, "[1]"), Err("malformed"));
    check(&named(r#""A""#, r#""us""#), Err("token_claim"));
    check(&named("null", r#""us""#), Err("token_claim"));
    check(&named(r#"["a"]"#, r#""us""#), Err("malformed"));
    check("[]", Err("malformed"));
    check(r#"[1795338001,null,"a","us",null]"#, Err("malformed"));
    check("", Err("malformed"));
    // Without an audience of ours a token that is meant for somebody is not meant for us.
    let plain = json!({ "algorithms": ["HS256"] });
    check_jwt(plain.clone(), &json!({ "alg": "HS256" }), r#"{"exp":1795338001}"#, Ok(None));
    check_jwt(plain, &json!({ "alg": "HS256" }), r#"{"exp":1795338001,"aud":"x"}"#, Err("token_claim"));
}

#[test]
fn jwt_heads_choose_only_what_is_configured() {
    let with = json!({ "algorithms": ["HS256", "HS512"], "leeway": "0s" });
    let claims = r#"{"exp":1795338001}"#;
    let check = |head: Value, expected| check_jwt(with.clone(), &head, claims, expected);
    check(json!({ "alg": "HS256", "typ": "at+jwt", "kid": "any", "jku": "https://evil.example" }), Ok(None));
    check(json!({ "alg": "HS512" }), Err("wrong_signature"));
    for alg in ["none", "None", "hs256", "HS384", "RS256", ""] {
        check(json!({ "alg": alg }), Err("token_head"));
    }
    check(json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), Err("token_head"));
    check(json!({ "alg": "HS256", "crit": [] }), Err("token_head"));
    check(json!({ "alg": "HS256", "crit": null }), Err("token_head"));
    check(json!({ "typ": "JWT" }), Err("malformed"));
    check(json!({ "alg": 1 }), Err("malformed"));
    check(json!(["HS256"]), Err("malformed"));

    let jwt = case("jwt", with.clone(), &[("hs_secret", KEY)]);
    let good = token(&json!({ "alg": "HS256" }), claims, KEY);
    let send = |token: &str| jwt.proof(&[("authorization", &format!("Bearer {token}"))], b"").map(drop);
    assert_eq!(send(&good), Ok(()));
    for bad in [
        format!("{good}="),
        format!("{good}."),
        format!("{good}.x"),
        good.replace('.', ""),
        ".".into(),
        "..".into(),
        format!(" {good} x"),
    ] {
        assert_eq!(send(&bad), Err("malformed"), "{bad}");
    }
    assert_eq!(send(&good[..=good.rfind('.').unwrap()]), Err("wrong_signature"));
    assert_eq!(send(&"a".repeat(20_000)), Err("malformed"));
}

#[test]
fn jwt_public_keys_are_found_by_kid_and_fit_their_algorithm() {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = |more: Value| {
        let mut key = json!({
            "kty": "EC", "crv": "P-256",
            "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..]),
        });
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let check = |keys: Value, head: Value, expected: Result<(), &'static str>| {
        let signed = format!("{}.{}", part(&head), part(&json!({ "exp": NOW + 1 })));
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        let token = format!("Bearer {signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()));
        let with = json!({ "algorithms": ["ES256", "RS256", "EdDSA"], "jwks": { "keys": keys } });
        let jwt = case("jwt", with, &[]);
        assert_eq!(jwt.proof(&[("authorization", &token)], b"").map(drop), expected, "{head}");
    };
    let set = json!([jwk(json!({ "kid": "a", "use": "sig", "alg": "ES256" })), { "kty": "future", "kid": "b" }]);
    check(set.clone(), json!({ "alg": "ES256", "kid": "a" }), Ok(()));
    check(set.clone(), json!({ "alg": "ES256", "kid": "b" }), Err("token_head"));
    check(set.clone(), json!({ "alg": "ES256", "kid": "A" }), Err("token_head"));
    check(set.clone(), json!({ "alg": "ES256" }), Err("token_head"));
    check(set.clone(), json!({ "alg": "RS256", "kid": "a" }), Err("token_head"));
    check(set.clone(), json!({ "alg": "EdDSA", "kid": "a" }), Err("token_head"));
    check(set, json!({ "alg": "HS256", "kid": "a" }), Err("token_head"));
    check(json!([jwk(json!({}))]), json!({ "alg": "ES256" }), Ok(()));
    check(json!([jwk(json!({}))]), json!({ "alg": "ES256", "kid": "a" }), Err("token_head"));
    // The same id may stand for several keys; each that fits is tried.
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let mut first = jwk(json!({ "kid": "a" }));
    first["x"] = json!(BASE64URL_NOPAD.encode(&other.public_key().as_ref()[1..33]));
    first["y"] = json!(BASE64URL_NOPAD.encode(&other.public_key().as_ref()[33..]));
    check(json!([first, jwk(json!({ "kid": "a" }))]), json!({ "alg": "ES256", "kid": "a" }), Ok(()));
    check(json!([first]), json!({ "alg": "ES256", "kid": "a" }), Err("wrong_signature"));

    let refused = |key: Value| problems("jwt", &json!({ "algorithms": ["ES256"], "jwks": { "keys": [key] } }), &[]);
    assert!(refused(jwk(json!({ "use": "enc" })))[0].contains("no key of the set fits"));
    assert!(refused(jwk(json!({ "key_ops": ["encrypt"] })))[0].contains("no key of the set fits"));
    assert!(refused(jwk(json!({ "alg": "ES384" })))[0].contains("no key of the set fits"));
    assert!(refused(jwk(json!({ "d": "AAAA" })))[0].contains("a secret one"));
    assert!(refused(jwk(json!({ "y": BASE64URL_NOPAD.encode(&[1; 32]) })))[0].contains("not on the curve"));
}

#[test]
fn nothing_prints_a_secret() {
    let verifier = Verifier::new("bearer", &Map::new(), &["token"]).unwrap();
    let mut keys = Keys::default();
    keys.add("token", b"s3cr3t");
    let prepared = verifier.prepare(&keys).unwrap();
    let printed = format!("{verifier:?} {prepared:?} {keys:?}");
    assert!(!printed.contains("s3cr3t") && printed.contains("bearer"), "{printed}");
    let hidden = HEXLOWER.encode(digest::digest(&digest::SHA256, b"s3cr3t").as_ref());
    assert!(!printed.contains(&hidden));
}
