//! The cases that published vectors leave out, through the public API: one line of data each.
#![expect(clippy::unwrap_used, reason = "tests")]

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;

mod chat;
mod credentials;
mod senders;
mod walmart;

const NOW: i64 = 1_795_338_000;
const KEY: &str = "a key of some length, not secret";

/// A route and a request for it; `Err` holds the code of the refusal.
#[derive(Clone)]
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
        self.ask("POST", headers, body)
    }

    fn ask(&self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Verdict, &'static str> {
        let headers: Headers<'_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Inbound {
            method,
            path: "/hooks/a",
            query: self.query,
            url: None,
            headers: &headers,
            body,
            client_chain: &[],
            received_at: self.now,
            random: [7; RANDOM_BYTES],
        };
        self.prepared().verify(&request).map_err(|reject| reject.code())
    }

    fn proof(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Proof, &'static str> {
        match self.send(headers, body)? {
            Verdict::Deliver(proof) => Ok(proof),
            other => panic!("not one delivery: {other:?}"),
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
            "dingtalk_event" | "wecom" => json!({ "receive_id": "corp" }),
            "tiktok_shop" | "lazada" => json!({ "app_key": "k1" }),
            "shopee" => json!({ "callback_url": "https://gw.example.com/hooks/shopee" }),
            "walmart_hmac" => json!({ "auth_header_name": "X-WM-Signature" }),
            "walmart_oauth" => json!({ "token_path": "/hooks/walmart/token", "client_id": "walmart" }),
            "mtls" => json!({ "subjects": "partner" }),
            "azure_monitor" => json!({ "query_param": "code" }),
            "aws_sns" => json!({ "topic_arns": "arn:aws:sns:us-east-1:123456789012:a" }),
            "azure_event_grid" => json!({ "query_param": "code", "topics": "/t" }),
            _ => json!({}),
        };
        let secrets: Vec<_> = if with.get("receive_id").is_some() {
            vec!["token", "encoding_aes_key"]
        } else {
            kind.secrets.first().map(|slot| slot.name).into_iter().collect()
        };
        let verifier = Verifier::new(kind.name, with.as_object().unwrap(), &secrets).unwrap();
        assert_eq!(verifier.kind().name, kind.name);
        let without = verifier.prepare(&Keys::default());
        assert_eq!(matches!(without, Err(KeyError::Missing { .. })), !secrets.is_empty(), "{}", kind.name);
        let schema = serde_json::to_value(kind.schema()).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{} {schema}", kind.name);
        // A smart bot of WeCom has no receiver, Azure may bring a token, and clients have one of several names: the schema
        // cannot ask for these.
        let optional = |name: &String| ["wecom", "mtls"].contains(&kind.name) || name == "query_param";
        for name in with.as_object().unwrap().keys().filter(|name| !optional(name)) {
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
