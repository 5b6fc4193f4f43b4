//! Chat platforms: what their vectors leave out. Requests are sealed by our own envelope, which the vectors of both vendors
//! hold to their rule.

use data_encoding::BASE64;

use super::super::envelope::{Envelope, Opened, Sent};
use super::super::{cbc, xml};
use super::*;

const AES: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
const SECRETS: &[(&str, &str)] = &[("token", "t0ken"), ("encoding_aes_key", AES)];

fn wecom() -> Case<'static> {
    case("wecom", json!({ "receive_id": "corp" }), SECRETS)
}

fn dingtalk() -> Case<'static> {
    case("dingtalk_event", json!({ "receive_id": "corp" }), SECRETS)
}

fn envelope() -> Envelope {
    let mut keys = Keys::default();
    for (name, value) in SECRETS {
        keys.add(name, value.as_bytes());
    }
    Envelope::prepare(&keys, &["corp".to_owned()]).unwrap()
}

/// The query's first parameters and the ciphertext of a message.
fn sealed(message: &str, timestamp: &str, name: &str) -> (String, String) {
    let to = Opened { message: String::new(), receiver: "corp".to_owned(), key_index: 0 };
    let sealed = envelope().seal(&to, message, timestamp, *b"0123456789abcdefnonce_no").unwrap();
    let query = format!("{name}={}&timestamp={timestamp}&nonce={}", sealed.signature, sealed.nonce);
    (query, sealed.encrypt)
}

/// Posts a message in the envelope of `wecom` in XML.
fn post_xml(case: &Case<'_>, message: &str) -> Result<Proof, &'static str> {
    let (query, encrypt) = sealed(message, &NOW.to_string(), "msg_signature");
    let body = format!("<xml>\n<ToUserName>corp</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>");
    Case { query: &query, with: case.with.clone(), ..*case }.proof(&[], body.as_bytes())
}

fn post_json(case: &Case<'_>, message: &str, timestamp: &str, name: &str) -> Result<Verdict, &'static str> {
    let (query, encrypt) = sealed(message, timestamp, name);
    let body = json!({ "encrypt": encrypt }).to_string();
    Case { query: &query, with: case.with.clone(), ..*case }.send(&[], body.as_bytes())
}

fn delivered(verdict: Result<Verdict, &'static str>) -> Proof {
    match verdict {
        Ok(Verdict::Deliver(proof)) => proof,
        other => panic!("{other:?}"),
    }
}

fn message(proof: &Proof) -> Value {
    serde_json::from_slice(&proof.message.as_ref().unwrap().body).unwrap()
}

#[test]
fn the_check_of_the_url_is_answered_by_its_plaintext() {
    // A ciphertext that holds every character which a query may spoil.
    let sealed_with = |text: &String| sealed(text, "1409659589", "msg_signature").1;
    let text = (0..1_000)
        .map(|number| format!("16161403175551{number}"))
        .find(|text| ['+', '/', '='].iter().all(|char| sealed_with(text).contains(*char)))
        .unwrap();
    let (query, encrypt) = sealed(&text, "1409659589", "msg_signature");
    let get = |rest: &str| {
        let query = format!("{query}{rest}");
        Case { query: &query, ..wecom() }.ask("GET", &[], b"")
    };
    let echo = |text: &str| format!("&echostr={text}");
    let escaped = encrypt.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    // As it is, escaped, and with the plus that somebody took for a space.
    for sent in [encrypt.clone(), escaped, encrypt.replace('+', "%20")] {
        let expected = Answer::text(text.clone());
        assert_eq!(get(&echo(&sent)), Ok(Verdict::Handshake(expected)), "{sent}");
    }
    assert_eq!(get(""), Err("missing_parameter"));
    assert_eq!(get(&echo("AAAA")), Err("wrong_signature"));
    for again in ["msg_signature=0", "m%73g_signature=0", "timestamp=1", "nonce=1", "echostr=1"] {
        assert_eq!(get(&format!("{}&{again}", echo(&encrypt))), Err("repeated_parameter"), "{again}");
    }
}

#[test]
fn times_are_digits_and_held_only_against_a_window_that_is_set() {
    let strict = |tolerance: &str| Case { with: json!({ "receive_id": "corp", "tolerance": tolerance }), ..dingtalk() };
    let now = (NOW * 1000).to_string();
    let at = |case: &Case<'_>, timestamp: &str| post_json(case, "{}", timestamp, "signature").map(|_| ());
    assert_eq!(at(&dingtalk(), &now), Ok(()));
    assert_eq!(at(&dingtalk(), "1445827045067"), Ok(()));
    assert_eq!(at(&strict("5m"), &now), Ok(()));
    assert_eq!(at(&strict("5m"), &(NOW * 1000 + 300_000).to_string()), Ok(()));
    assert_eq!(at(&strict("5m"), &(NOW * 1000 + 300_001).to_string()), Err("stale"));
    assert_eq!(at(&strict("5m"), &(NOW * 1000 - 300_001).to_string()), Err("stale"));
    // Seconds where milliseconds belong are long ago.
    assert_eq!(at(&strict("24h"), &NOW.to_string()), Err("stale"));
    for bad in ["", "+17", "-17", "17.0", "1e3", "99999999999999999999", "１７"] {
        assert_eq!(at(&dingtalk(), bad), Err("malformed"), "{bad}");
    }
}

#[test]
fn messages_of_wecom_become_json_and_have_ids() {
    let check = |sent: &str, expected: Value, id: Option<&str>, may_collide: bool| {
        let proof = post_xml(&wecom(), sent).unwrap();
        assert_eq!((message(&proof), proof.delivery_id.as_deref()), (expected, id), "{sent}");
        assert_eq!(proof.id_may_collide, may_collide, "{sent}");
        assert_eq!(proof.answer, Some(Answer::empty()));
        assert!(proof.body_is_signed && proof.id_is_signed);
    };
    let text = "<xml><FromUserName><![CDATA[li]]></FromUserName><CreateTime>17</CreateTime><MsgId>007</MsgId></xml>";
    check(text, json!({ "FromUserName": "li", "CreateTime": "17", "MsgId": "007" }), Some("007"), false);
    let event = "<xml><FromUserName>sys</FromUserName><CreateTime>17</CreateTime><Event>change_contact</Event></xml>";
    let seen = json!({ "FromUserName": "sys", "CreateTime": "17", "Event": "change_contact" });
    check(event, seen, Some("sys|17|change_contact"), true);
    check("<xml><Event>a</Event></xml>", json!({ "Event": "a" }), None, true);
    let bot = json!({ "msgid": "m1", "from": { "userid": "li" }, "msgtype": "text" });
    check(&bot.to_string(), bot, Some("m1"), false);
    let bot = json!({ "from": { "userid": "li" }, "create_time": 17, "event": { "eventtype": "enter_chat" } });
    check(&bot.to_string(), bot, Some("li|17|enter_chat"), true);
}

#[test]
fn wecom_reads_nothing_but_what_it_knows() {
    let json_only = Case { with: json!({ "format": "json", "receive_id": ["corp", ""] }), ..wecom() };
    let xml_only = Case { with: json!({ "format": "xml", "receive_id": "corp" }), ..wecom() };
    let now = NOW.to_string();
    assert!(post_xml(&xml_only, "<xml/>").is_ok());
    assert_eq!(post_xml(&json_only, "<xml/>").err(), Some("malformed"));
    assert!(post_json(&json_only, "{}", &now, "msg_signature").is_ok());
    assert_eq!(post_json(&xml_only, "{}", &now, "msg_signature").err(), Some("malformed"));
    // A smart bot names nobody, and this one names a corp.
    let bot = Case { with: json!({ "format": "json" }), ..wecom() };
    assert_eq!(post_json(&bot, "{}", &now, "msg_signature").err(), Some("other_receiver"));
    assert_eq!(post_json(&wecom(), "{}", &now, "signature").err(), Some("missing_parameter"));
    assert_eq!(post_xml(&wecom(), "<!DOCTYPE a><xml/>").err(), Some("malformed"));
    let (query, encrypt) = sealed("<xml/>", &now, "msg_signature");
    let asked = Case { query: &query, ..wecom() };
    for body in [
        format!("<!DOCTYPE a [<!ENTITY e \"{encrypt}\">]><xml><Encrypt>&e;</Encrypt></xml>"),
        format!("<xml><Encrypt>{encrypt}</Encrypt><Encrypt>{encrypt}</Encrypt></xml>"),
        format!("<xml><a><Encrypt>{encrypt}</Encrypt></a></xml>"),
        format!("<xml><Encrypt>{encrypt}</Encrypt>"),
        "<xml><Encrypt></Encrypt></xml>".to_owned(),
        json!({ "Encrypt": encrypt }).to_string(),
        json!({ "encrypt": [encrypt] }).to_string(),
        encrypt.clone(),
        String::new(),
    ] {
        assert_eq!(asked.send(&[], body.as_bytes()).err(), Some("malformed"), "{body:.50}");
    }
    assert!(asked.send(&[], format!("\u{feff}\r\n<xml><Encrypt>\n{encrypt}\n</Encrypt></xml>").as_bytes()).is_ok());
}

#[test]
fn a_reply_goes_back_in_an_envelope() {
    let case = Case { with: json!({ "receive_id": "corp", "reply": "收到 ]]> <b>" }), ..wecom() };
    let sent = "<xml><ToUserName>corp</ToUserName><FromUserName>li</FromUserName><MsgType>text</MsgType><MsgId>1</MsgId></xml>";
    let answer = post_xml(&case, sent).unwrap().answer.unwrap();
    assert_eq!((answer.status, answer.content_type), (200, Some("application/xml; charset=utf-8")));
    let outer = xml::read(&answer.body).unwrap();
    let part = |name: &str| xml::child(&outer, name).unwrap();
    let (signature, timestamp, nonce) = (part("MsgSignature"), part("TimeStamp"), part("Nonce"));
    let encrypt = part("Encrypt");
    let sent_back = Sent { signature: &signature, timestamp: &timestamp, nonce: &nonce, encrypt: &encrypt };
    let inner = xml::read(&envelope().open(&sent_back).unwrap().message).unwrap();
    assert_eq!(
        inner,
        json!({
            "ToUserName": "li", "FromUserName": "corp", "CreateTime": NOW.to_string(), "MsgType": "text",
            "Content": "收到 ]]> <b>",
        })
    );
    // An event is no message of a person.
    let event = "<xml><FromUserName>li</FromUserName><CreateTime>17</CreateTime><Event>click</Event></xml>";
    assert_eq!(post_xml(&case, event).unwrap().answer, Some(Answer::empty()));
}

#[test]
fn events_of_dingtalk_are_answered_by_success_in_an_envelope() {
    let now = (NOW * 1000).to_string();
    let check = |event: Value, id: Option<&str>| {
        let proof = delivered(post_json(&dingtalk(), &event.to_string(), &now, "signature"));
        assert_eq!((message(&proof), proof.delivery_id.as_deref()), (event, id));
        assert!(proof.id_may_collide);
        assert_success(&proof.answer.unwrap(), &now);
    };
    check(
        json!({ "EventType": "bpms_instance_change", "processInstanceId": "p-1", "createTime": 17 }),
        Some("bpms_instance_change|p-1|17"),
    );
    check(json!({ "EventType": "user_add_org" }), None);
    check(json!({ "a": 1 }), None);
    for kind in ["check_url", "check_create_suite_url", "check_update_suite_url"] {
        let event = json!({ "EventType": kind, "TestSuiteKey": "s" }).to_string();
        match post_json(&dingtalk(), &event, &now, "msg_signature") {
            Ok(Verdict::Handshake(answer)) => assert_success(&answer, &now),
            other => panic!("{other:?}"),
        }
    }
    let (query, encrypt) = sealed("{}", &now, "signature");
    let body = json!({ "encrypt": encrypt }).to_string();
    let other_name = query.replace("timestamp=", "timeStamp=");
    assert!(Case { query: &other_name, ..dingtalk() }.send(&[], body.as_bytes()).is_ok());
    for (query, code) in [
        (format!("{query}&signature=0"), "repeated_parameter"),
        (format!("{query}&msg_signature=0"), "repeated_parameter"),
        (format!("{query}&timeStamp={now}"), "repeated_parameter"),
        (query.replace("nonce=", "x="), "missing_parameter"),
        (query.replace("signature=", "x="), "missing_parameter"),
    ] {
        assert_eq!(Case { query: &query, ..dingtalk() }.send(&[], body.as_bytes()).err(), Some(code), "{query}");
    }
}

#[track_caller]
fn assert_success(answer: &Answer, now: &str) {
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let part = |name: &str| told[name].as_str().unwrap();
    assert_eq!(part("timeStamp"), now);
    let sent =
        Sent { signature: part("msg_signature"), timestamp: now, nonce: part("nonce"), encrypt: part("encrypt") };
    let opened = envelope().open(&sent).unwrap();
    assert_eq!((opened.message.as_str(), opened.receiver.as_str()), ("success", "corp"));
}

const FEISHU: &[(&str, &str)] = &[("encrypt_key", "kudryavka"), ("verification_token", "v-token")];

/// The envelope of Feishu.
fn feishu_body(key: &str, message: &str) -> String {
    let key: [u8; 32] = digest::digest(&digest::SHA256, key.as_bytes()).as_ref().try_into().unwrap();
    let mut plain = message.as_bytes().to_vec();
    cbc::pad(&mut plain, 16);
    let iv = *b"0123456789abcdef";
    json!({ "encrypt": BASE64.encode(&[&iv[..], &cbc::encrypt(&key, iv, plain).unwrap()].concat()) }).to_string()
}

fn feishu_headers(key: &str, body: &str) -> Vec<(&'static str, String)> {
    let text = format!("{NOW}nonce{key}{body}");
    let signature = HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let time = NOW.to_string();
    vec![("X-Lark-Request-Timestamp", time), ("X-Lark-Request-Nonce", "nonce".into()), ("X-Lark-Signature", signature)]
}

fn feishu(secrets: &[(&str, &str)], headers: &[(&str, String)], body: &str) -> Result<Verdict, &'static str> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    case("feishu", json!({ "tolerance": "5m" }), secrets).send(&headers, body.as_bytes())
}

#[test]
fn feishu_believes_what_is_signed() {
    let event = json!({ "uuid": "u-1", "token": "other", "type": "event_callback", "event": { "类型": "订单" } });
    let body = feishu_body("kudryavka", &event.to_string());
    let headers = feishu_headers("kudryavka", &body);
    let proof = delivered(feishu(FEISHU, &headers, &body));
    assert_eq!((message(&proof), proof.delivery_id.as_deref()), (event, Some("u-1")));
    assert_eq!(proof.answer, Some(Answer::json(&json!({}))));
    assert!(proof.body_is_signed && proof.id_is_signed && proof.message.unwrap().holds_secret);
    // While the key rotates, both are good.
    let two = [FEISHU, &[("encrypt_key", "new-key")]].concat();
    let newer = feishu_body("new-key", "{}");
    assert_eq!(delivered(feishu(&two, &feishu_headers("new-key", &newer), &newer)).key_index, 1);
    // Signed right, but closed with another key.
    let crossed = feishu_headers("kudryavka", &newer);
    assert_eq!(feishu(&two, &crossed, &newer).err(), Some("undecipherable"));
    assert_eq!(feishu(FEISHU, &[], &body).err(), Some("missing_header"));
    for missing in 0..3 {
        let mut fewer = headers.clone();
        let (name, _) = fewer.remove(missing);
        assert_eq!(feishu(FEISHU, &fewer, &body).err(), Some("missing_header"), "{name}");
    }
    for (place, bad, code) in [
        (0, "17", "wrong_signature"),
        (0, "1795338000.0", "malformed"),
        (1, "", "wrong_signature"),
        (2, "zz", "malformed"),
        (2, &headers[2].1.to_uppercase(), "malformed"),
    ] {
        let mut changed = headers.clone();
        changed[place].1 = bad.to_owned();
        assert_eq!(feishu(FEISHU, &changed, &body).err(), Some(code), "{place} {bad}");
    }
    let clear = r#"{"schema":"2.0","header":{"token":"v-token"}}"#;
    assert_eq!(feishu(FEISHU, &[], clear).err(), Some("not_encrypted"));
    assert_eq!(feishu(FEISHU, &feishu_headers("kudryavka", clear), clear).err(), Some("not_encrypted"));
    let mut late = case("feishu", json!({ "tolerance": "5m" }), FEISHU);
    late.now = Timestamp::from_secs(NOW + 301);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(late.send(&headers, body.as_bytes()).err(), Some("stale"));
}

#[test]
fn the_challenge_of_feishu_needs_its_token() {
    let check = |secrets: &[(&str, &str)], encrypted_by: Option<&str>, token: &str, expected: Result<(), &str>| {
        let asked = json!({ "type": "url_verification", "challenge": "c-\"1", "token": token }).to_string();
        let body = encrypted_by.map_or_else(|| asked.clone(), |key| feishu_body(key, &asked));
        let answer = Answer::json(&json!({ "challenge": "c-\"1" }));
        assert_eq!(feishu(secrets, &[], &body), expected.map(|()| Verdict::Handshake(answer)), "{token}");
    };
    check(FEISHU, Some("kudryavka"), "v-token", Ok(()));
    check(FEISHU, Some("kudryavka"), "v-toke", Err("wrong_signature"));
    check(FEISHU, Some("other"), "v-token", Err("undecipherable"));
    check(FEISHU, None, "v-token", Err("not_encrypted"));
    // Only the Encrypt Key is configured: who could encrypt with it is who should ask.
    check(&FEISHU[..1], Some("kudryavka"), "whatever", Ok(()));
    check(&FEISHU[1..], None, "v-token", Ok(()));
    check(&FEISHU[1..], None, "", Err("wrong_signature"));
    check(&FEISHU[1..], Some("kudryavka"), "v-token", Err("wrong_signature"));
    // A signature that is there has to be right, even where none is needed.
    let asked = json!({ "type": "url_verification", "challenge": "c", "token": "v-token" }).to_string();
    let body = feishu_body("kudryavka", &asked);
    assert!(feishu(FEISHU, &feishu_headers("kudryavka", &body), &body).is_ok());
    assert_eq!(feishu(FEISHU, &feishu_headers("other", &body), &body).err(), Some("wrong_signature"));
}

#[test]
fn in_clear_the_token_is_looked_for_where_the_version_has_it() {
    let check = |body: Value, expected: Result<Option<&str>, &str>| {
        let found = feishu(&FEISHU[1..], &[], &body.to_string()).map(|verdict| delivered(Ok(verdict)));
        let id = found.as_ref().map(|proof| proof.delivery_id.as_deref()).map_err(|code| *code);
        assert_eq!(id, expected, "{body}");
        if let Ok(proof) = found {
            assert!(!proof.body_is_signed && !proof.id_is_signed);
            assert_eq!(message(&proof), body);
        }
    };
    check(json!({ "schema": "2.0", "header": { "token": "v-token", "event_id": "e-1" } }), Ok(Some("e-1")));
    check(json!({ "token": "v-token", "uuid": "u-1" }), Ok(Some("u-1")));
    check(json!({ "token": "v-token" }), Ok(None));
    // The place of the other version does not count.
    check(json!({ "schema": "2.0", "token": "v-token", "header": { "event_id": "e-1" } }), Err("wrong_signature"));
    check(json!({ "header": { "token": "v-token" } }), Err("wrong_signature"));
    check(json!({ "token": ["v-token"] }), Err("wrong_signature"));
    check(json!([]), Err("wrong_signature"));
}

#[test]
fn dingtalk_signs_the_time_and_not_the_body() {
    let time = (NOW * 1000).to_string();
    let sign = |text: &str| BASE64.encode(&mac(b"s3cret", text.as_bytes()));
    let robot = case("dingtalk_robot", json!({}), &[("app_secret", "s3cret")]);
    let body = r#"{"msgId":"m-1","text":{"content":"查库存"}}"#;
    let with = |sign: &str, time: &str| robot.proof(&[("timestamp", time), ("sign", sign)], body.as_bytes());
    let proof = with(&sign(&format!("{time}\ns3cret")), &time).unwrap();
    assert_eq!((proof.delivery_id.as_deref(), proof.answer), (Some("m-1"), Some(Answer::json(&json!({})))));
    assert!(!proof.body_is_signed && !proof.id_is_signed && proof.message.is_none());
    assert_eq!(with(&sign(&time), &time).err(), Some("wrong_signature"));
    assert_eq!(with(&sign(&format!("{time}\n")), &time).err(), Some("wrong_signature"));
    let edge = (NOW * 1000 - 3_600_000).to_string();
    assert!(with(&sign(&format!("{edge}\ns3cret")), &edge).is_ok());
    let past = (NOW * 1000 - 3_600_001).to_string();
    assert_eq!(with(&sign(&format!("{past}\ns3cret")), &past).err(), Some("stale"));

    let card = case("dingtalk_card", json!({}), &[("api_secret", "s3cret")]);
    let click = |body: &Value| {
        let headers = [("x-ddpaas-signature-timestamp", time.as_str()), ("x-ddpaas-signature", &sign(&time))];
        card.proof(&headers, body.to_string().as_bytes()).unwrap()
    };
    let pressed = |content: &str| json!({ "outTrackId": "t-1", "userId": "li", "content": content });
    let content = r#"{"cardPrivateData":{"actionIds":["1","2"],"params":{}}}"#;
    let proof = click(&pressed(content));
    assert_eq!(proof.delivery_id, Some(format!("t-1|1,2|li|{time}")));
    assert!(!proof.id_is_signed && proof.answer.is_some());
    for unknown in [pressed("{}"), pressed("no JSON"), json!({ "content": content }), json!({})] {
        assert_eq!(click(&unknown).delivery_id, None, "{unknown}");
    }
}

#[test]
fn envelopes_are_not_configured_by_half() {
    let check = |preset: &str, with: Value, secrets: &[&str], expected: &str| {
        let found = problems(preset, &with, secrets);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?} does not hold {expected}");
    };
    let both = ["token", "encoding_aes_key"];
    check("wecom", json!({}), &both, "receive_id: `receive_id` is not given");
    check("wecom", json!({ "receive_id": "" }), &both, "receive_id: `receive_id` is not given");
    check("wecom", json!({ "receive_id": ["a", ""] }), &both, "receive_id: `receive_id` is not given");
    check("wecom", json!({ "format": "yaml", "receive_id": "a" }), &both, "format: unknown variant");
    check("wecom", json!({ "format": "json", "reply": "a" }), &both, "reply: only messages in XML");
    check("wecom", json!({ "receive_id": "a" }), &["token"], "`wecom` needs `encoding_aes_key` as well");
    check("wecom", json!({ "receive_id": "a" }), &[], "`wecom` has no key");
    check("dingtalk_event", json!({}), &both, "receive_id: `receive_id` is not given");
    check("dingtalk_event", json!({ "receive_id": "a" }), &["encoding_aes_key"], "needs `token` as well");
    check("feishu", json!({}), &[], "`feishu` has no key");
    check("dingtalk_robot", json!({ "tolerance": "2d" }), &["app_secret"], "tolerance: `2d` is not a duration");
    assert_eq!(problems("wecom", &json!({ "format": "json" }), &both), Vec::<String>::new());
    let verifier = Verifier::new("wecom", json!({ "receive_id": "a" }).as_object().unwrap(), &both).unwrap();
    let mut keys = Keys::default();
    keys.add("token", b"t");
    assert_eq!(verifier.prepare(&keys).err(), Some(KeyError::Missing { names: "`encoding_aes_key`".into() }));
}
