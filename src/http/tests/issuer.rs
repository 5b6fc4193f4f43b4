//! Tokens whose keys are fetched from their issuer.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::far::{FarEnd, start};
use super::fixture::{Doors, NOW, shown};

const ASKED: &str = "https://login.example.com:443 GET /keys";

/// The keys of an issuer, by id.
fn pair(kid: &str) -> Ed25519KeyPair {
    let mut seed = [7; 32];
    seed[..kid.len()].copy_from_slice(kid.as_bytes());
    Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
}

fn published(kids: &[&str]) -> String {
    let key = |kid: &&str| {
        let x = BASE64URL_NOPAD.encode(pair(kid).public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x })
    };
    json!({ "keys": kids.iter().map(key).collect::<Vec<_>>() }).to_string()
}

/// A token that says it is signed with `kid`, and is signed with `by`.
fn token(kid: &str, by: &str) -> String {
    let part = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let claims = json!({ "aud": "us", "exp": NOW.as_secs() + 60 });
    let signed = format!("{}.{}", part(json!({ "alg": "EdDSA", "kid": kid })), part(claims));
    let signature = BASE64URL_NOPAD.encode(pair(by).sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

async fn send(doors: &Doors, n: u32, token: &str) -> u16 {
    let request = doors.http.post(format!("{}/hooks/partner", doors.hooks)).bearer_auth(token);
    shown(request.body(json!({ "n": n }).to_string()).send().await.unwrap()).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_keys_are_fetched_once_for_all_tokens() {
    let FarEnd { doors, mut calls, .. } = start("200 OK", published(&["a", "b"])).await;
    let good = [("a", "a"), ("b", "b"), ("a", "a")];
    for (n, (kid, by)) in good.into_iter().enumerate() {
        assert_eq!(send(&doors, u32::try_from(n).unwrap(), &token(kid, by)).await, 202);
    }
    // Another's signature, and a key that the issuer does not have: neither makes us ask again at once.
    for (kid, by) in [("a", "b"), ("z", "z")] {
        assert_eq!(send(&doors, 9, &token(kid, by)).await, 401, "{kid} {by}");
    }
    assert_eq!(send(&doors, 9, "no token").await, 401);
    doors.close().await;
    assert_eq!(calls.recv().await.as_deref(), Some(ASKED));
    assert!(calls.try_recv().is_err(), "asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_keys_the_sender_comes_again() {
    let FarEnd { doors, answer, mut calls } = start("500 Internal Server Error", String::new()).await;
    assert_eq!(send(&doors, 1, "no token").await, 401, "a token that is none asks for nothing");
    assert_eq!(send(&doors, 1, &token("a", "a")).await, 503);
    *answer.lock().unwrap() = ("200 OK", published(&["a"]));
    assert_eq!(send(&doors, 1, &token("a", "a")).await, 202);
    doors.close().await;
    assert_eq!((calls.recv().await.as_deref(), calls.recv().await.as_deref()), (Some(ASKED), Some(ASKED)));
}
