//! Passwords, keys and tokens: what proves who may call.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};

use super::*;

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
fn client_certificates_are_pinned() {
    let check = |with: Value, expected: &[&str]| {
        let found = problems("mtls", &with, &["ca"]);
        assert_eq!(found.len(), expected.len(), "{with}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} does not start with {expected}");
        }
    };
    check(json!({}), &[": every certificate of the authority"]);
    check(json!({ "subjects": "a", "ca_pem": "no PEM" }), &["ca_pem: an entry holds no certificate"]);
    check(json!({ "subjects": ["a", ""], "sans": "" }), &["subjects: an empty name", "sans: an empty name"]);
    let print = "ab".repeat(32);
    check(json!({ "fingerprints": [print, format!("AB:{}", &print[2..])] }), &[]);
    check(json!({ "fingerprints": [&print[2..], "x"] }), &["fingerprints: `", "fingerprints: `x`"]);
    assert!(problems("mtls", &json!({ "subjects": "a" }), &[])[0].contains("has no key"));
    // No connection without TLS has a certificate.
    let pem = include_str!("../../../tests/vectors/aws_sns.json");
    let pem: Value = serde_json::from_str(pem).unwrap();
    let with = json!({ "subjects": "a", "ca_pem": pem[0]["config"]["trust_ca_pem"] });
    assert_eq!(case("mtls", with, &[]).send(&[("x-ssl-client-cert", "a")], b"{}"), Err("no_client_certificate"));
}
