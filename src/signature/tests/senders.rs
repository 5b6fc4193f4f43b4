//! The platforms and `generic_hmac`: what a signature covers, and how its header may look.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, HEXLOWER};

use super::*;

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
    for body in [r#"{"no":""}"#, &format!(r#"{{"no":"{}"}}"#, "a".repeat(513)), "no JSON"] {
        assert_eq!(by_member.proof(&[("s", &hex(KEY, body))], body.as_bytes()).unwrap().delivery_id, None);
    }
}
