//! Walmart's OAuth: what our token endpoint grants and refuses, and what becomes of a token.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};

use super::*;
use crate::limits;

const TOKEN_PATH: &str = "/hooks/walmart/token";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &str = "grant_type=client_credentials";

fn walmart<'a>(secrets: &'a [(&'a str, &'a str)]) -> Case<'a> {
    case("walmart_oauth", json!({ "token_path": TOKEN_PATH, "client_id": "wm us" }), secrets)
}

/// What the token endpoint answers: a status and a body.
fn ask(case: &Case<'_>, method: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let headers: Headers<'_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let request = Inbound {
        method,
        path: TOKEN_PATH,
        query: case.query,
        url: None,
        headers: &headers,
        body: body.as_bytes(),
        client_chain: &[],
        received_at: case.now,
        random: [7; RANDOM_BYTES],
    };
    let answer = match case.prepared().verify(&request) {
        Ok(Verdict::Handshake(answer)) => answer,
        Ok(other) => panic!("a delivery: {other:?}"),
        Err(reject) => reject.answer().unwrap(),
    };
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn token(case: &Case<'_>, secret: &str) -> String {
    let (status, granted) = ask(case, "POST", &[FORM], &format!("{GRANT}&client_id=wm+us&client_secret={secret}"));
    assert_eq!(status, 200, "{granted}");
    granted["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn the_token_endpoint_keeps_to_the_rfc() {
    let walmart = walmart(&[("client_secret", "s%c:1"), ("client_secret", "old")]);
    let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
    let check = |headers: &[(&str, &str)], body: &str, expected: (u16, &str)| {
        let (status, told) = ask(&walmart, "POST", headers, body);
        let word = told["error"].as_str().unwrap_or("granted");
        assert_eq!((status, word), expected, "{headers:?} {body}");
    };
    let granted = (200, "granted");
    let invalid_request = (400, "invalid_request");
    let invalid_client = (401, "invalid_client");
    let credentials = "client_id=wm%20us&client_secret=s%25c%3A1";
    check(&[FORM], &format!("{GRANT}&{credentials}"), granted);
    check(&[FORM], &format!("{GRANT}&{credentials}&scope=a"), granted);
    check(
        &[("content-type", "Application/X-WWW-Form-URLEncoded; charset=utf-8")],
        &format!("{credentials}&{GRANT}"),
        granted,
    );
    check(&[FORM], &format!("{GRANT}&client_id=wm us&client_secret=old"), granted);
    // Basic as the RFC encodes it, and as most clients do.
    check(&[FORM, ("authorization", &basic("wm+us:s%25c%3A1"))], GRANT, granted);
    check(&[FORM, ("authorization", &basic("wm us:s%c:1"))], GRANT, granted);
    check(&[FORM, ("authorization", &basic("wm us:old"))], &format!("{GRANT}&client_id=wm+us"), granted);
    check(&[FORM, ("authorization", &basic("wm us:old"))], &format!("{GRANT}&client_id=other"), invalid_client);
    check(&[FORM, ("authorization", &basic("wm us:old"))], &format!("{GRANT}&{credentials}"), invalid_request);
    check(&[FORM, ("authorization", &basic("wm us:olD"))], GRANT, invalid_client);
    check(&[FORM, ("authorization", &basic("wm:old"))], GRANT, invalid_client);
    check(&[FORM, ("authorization", &basic("wm us"))], GRANT, invalid_client);
    check(&[FORM, ("authorization", "Basic !")], GRANT, invalid_client);
    check(&[FORM, ("authorization", "Bearer old")], GRANT, invalid_client);
    check(&[FORM, ("authorization", &basic("wm us:old")), ("Authorization", "Basic !")], GRANT, invalid_request);
    check(&[FORM], GRANT, invalid_client);
    check(&[FORM], &format!("{GRANT}&client_id=wm+us"), invalid_client);
    check(&[FORM], &format!("{GRANT}&client_id=wm+us&client_secret="), invalid_client);
    check(&[FORM], &format!("{GRANT}&client_id=wm+us&client_secret=ol"), invalid_client);
    check(&[FORM], &format!("{GRANT}&{credentials}&client_id=wm+us"), invalid_request);
    check(&[FORM], &format!("{GRANT}&{GRANT}&{credentials}"), invalid_request);
    check(&[FORM], credentials, invalid_request);
    check(&[FORM], &format!("grant_type=password&{credentials}"), (400, "unsupported_grant_type"));
    check(&[], &format!("{GRANT}&{credentials}"), invalid_request);
    check(&[("content-type", "application/json")], &format!("{GRANT}&{credentials}"), invalid_request);
    check(
        &[FORM],
        &format!("{GRANT}&{credentials}&x={}", "x".repeat(limits::TOKEN_REQUEST_BYTES_MAX)),
        invalid_request,
    );
    assert_eq!(ask(&walmart, "GET", &[FORM], &format!("{GRANT}&{credentials}")).0, 400);
    let with_query = Case { query: "client_id=wm+us", ..walmart.clone() };
    assert_eq!(ask(&with_query, "POST", &[FORM], &format!("{GRANT}&{credentials}")).0, 400);
}

#[test]
fn a_token_lasts_its_time_at_every_gateway() {
    let secrets = [("client_secret", "new"), ("client_secret", "old")];
    let walmart = walmart(&secrets);
    let token = token(&walmart, "new");
    let bearer = format!("Bearer {token}");
    let bring = |case: &Case<'_>, value: &str| {
        case.proof(&[("authorization", value)], br#"{"source":{"eventId":"e1"}}"#)
            .map(|proof| (proof.key_index, proof.delivery_id))
    };
    let id = || Some("e1".to_owned());
    assert_eq!(bring(&walmart, &bearer), Ok((0, id())));
    let later = |secs| Case { now: walmart.now.plus(Duration::from_secs(secs)), ..walmart.clone() };
    assert_eq!(bring(&later(900 + 60), &bearer), Ok((0, id())));
    assert_eq!(bring(&later(900 + 61), &bearer), Err("token_claim"));
    // A gateway that has not read the new secret yet, one that has dropped the old one, and one of another client.
    let old_only = Case { secrets: &secrets[1..], ..walmart.clone() };
    assert_eq!(bring(&old_only, &bearer), Err("wrong_signature"));
    let of_old = format!("Bearer {}", super::walmart::token(&walmart, "old"));
    assert_eq!(bring(&old_only, &of_old), Ok((0, id())));
    assert_eq!(bring(&walmart, &of_old), Ok((1, id())));
    let with = json!({ "token_path": TOKEN_PATH, "client_id": "other" });
    assert_eq!(bring(&Case { with, ..walmart.clone() }, &bearer), Err("wrong_signature"));
    // Damaged in every byte.
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        let value = format!("Bearer {}", BASE64URL_NOPAD.encode(&damaged));
        assert_eq!(bring(&walmart, &value), Err("wrong_signature"), "{place}");
    }
    for bad in ["Bearer", "Bearer new", &token, &format!("Bearer {token}A"), &format!("Bearer {}", &token[..60])] {
        assert_eq!(bring(&walmart, bad), Err("malformed"), "{bad}");
    }
    assert_eq!(walmart.send(&[], b"{}"), Err("missing_header"));
}

#[test]
fn what_walmart_oauth_must_know() {
    let check = |with: Value, expected: &[&str]| {
        let found = problems("walmart_oauth", &with, &["client_secret"]);
        assert_eq!(found.len(), expected.len(), "{with}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} does not start with {expected}");
        }
    };
    check(json!({}), &["token_path", "client_id"]);
    check(json!({ "token_path": "token", "client_id": "a:b" }), &["token_path", "client_id"]);
    let with = |key: &str, value: &str| json!({ "token_path": TOKEN_PATH, "client_id": "wm", key: value });
    check(with("token_lifetime", "59s"), &["token_lifetime"]);
    check(with("token_lifetime", "1m"), &[]);
    check(with("auth_header_name", "a b"), &["auth_header_name"]);
}
