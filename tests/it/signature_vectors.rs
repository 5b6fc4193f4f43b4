//! Published vectors of every scheme and our own, accepted and refused, through the public API; and the same
//! requests damaged at random, which must never be believed and never panic.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use clawhook::clock::Timestamp;
use clawhook::signature::ip_allow::{FORWARDED_FOR, allowed, client_ip};
use clawhook::signature::{Answer, Headers, Inbound, Keys, Prepared, RANDOM_BYTES, Verdict, Verifier};
use data_encoding::BASE64;
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::envelope::Platform;

const FILES: [(&str, &str); 25] = [
    ("shopify", include_str!("../vectors/shopify.json")),
    ("github", include_str!("../vectors/github.json")),
    ("stripe", include_str!("../vectors/stripe.json")),
    ("slack", include_str!("../vectors/slack.json")),
    ("standard_webhooks", include_str!("../vectors/standard_webhooks.json")),
    ("woocommerce", include_str!("../vectors/woocommerce.json")),
    ("dingtalk_event", include_str!("../vectors/dingtalk_event.json")),
    ("dingtalk_robot", include_str!("../vectors/dingtalk_robot.json")),
    ("dingtalk_card", include_str!("../vectors/dingtalk_card.json")),
    ("wecom", include_str!("../vectors/wecom.json")),
    ("feishu", include_str!("../vectors/feishu.json")),
    ("generic_hmac", include_str!("../vectors/generic_hmac.json")),
    ("basic", include_str!("../vectors/basic.json")),
    ("bearer", include_str!("../vectors/bearer.json")),
    ("api_key", include_str!("../vectors/api_key.json")),
    ("jwt", include_str!("../vectors/jwt.json")),
    ("tiktok_shop", include_str!("../vectors/tiktok_shop.json")),
    ("shopee", include_str!("../vectors/shopee.json")),
    ("lazada", include_str!("../vectors/lazada.json")),
    ("walmart_hmac", include_str!("../vectors/walmart_hmac.json")),
    ("walmart_performance", include_str!("../vectors/walmart_performance.json")),
    ("azure_monitor", include_str!("../vectors/azure_monitor.json")),
    ("azure_event_grid", include_str!("../vectors/azure_event_grid.json")),
    ("aws_sns", include_str!("../vectors/aws_sns.json")),
    ("ip_allow", include_str!("../vectors/ip_allow.json")),
];

/// A request that owns its bytes, so that it can be damaged.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    peer: Option<IpAddr>,
    now: Timestamp,
}

impl Request {
    fn of(vector: &Value) -> Self {
        let request = &vector["request"];
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let pair =
            |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().as_bytes().to_owned());
        Self {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers: request["headers"].as_array().unwrap().iter().map(pair).collect(),
            body: BASE64.decode(text("body_base64").as_bytes()).unwrap(),
            peer: request["remote_addr"].as_str().map(|ip| ip.parse().unwrap()),
            now: Timestamp::from_secs(vector["now_unix"].as_i64().unwrap()),
        }
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }

    /// The verdict's name, its proof or answer; or the code of the refusal.
    fn verify(&self, prepared: &Prepared) -> Result<Verdict, &'static str> {
        let headers = self.headers();
        let inbound = Inbound {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            url: None,
            headers: &headers,
            body: &self.body,
            client_chain: &[],
            received_at: self.now,
            random: [7; RANDOM_BYTES],
        };
        prepared.verify(&inbound).map_err(|reject| {
            assert!(!reject.to_string().is_empty());
            reject.code()
        })
    }
}

/// The vectors' parameters as a route writes them: `tolerance_s: 300` is `tolerance: 300s`.
fn parameters(vector: &Value) -> Map<String, Value> {
    let written = |(name, value): (&String, &Value)| match name.strip_suffix("_s") {
        Some(short) => (short.to_owned(), Value::String(format!("{value}s"))),
        None => (name.clone(), value.clone()),
    };
    vector["config"].as_object().unwrap().iter().map(written).collect()
}

fn prepared(vector: &Value) -> Result<Prepared, String> {
    let secrets = vector["secrets"].as_object().unwrap();
    let names: Vec<_> = secrets.keys().map(String::as_str).collect();
    let scheme = vector["scheme"].as_str().unwrap();
    let verifier = Verifier::new(scheme, &parameters(vector), &names).map_err(|problems| format!("{problems:?}"))?;
    let mut keys = Keys::default();
    for (name, values) in secrets {
        for value in values.as_array().unwrap() {
            keys.add(name, value.as_str().unwrap().as_bytes());
        }
    }
    verifier.prepare(&keys).map_err(|problem| problem.to_string())
}

/// What is wrong with the verdict on one vector, if anything.
fn wrong(vector: &Value) -> Option<String> {
    let expected = vector["expect"].as_str().unwrap();
    if vector["scheme"] == "ip_allow" {
        let accepted = by_address(vector);
        return (accepted != (expected == "accept")).then(|| format!("expected {expected}"));
    }
    let verdict = match prepared(vector) {
        Ok(prepared) => Request::of(vector).verify(&prepared),
        Err(problem) => return Some(problem),
    };
    match (expected, vector["effect"].as_str(), &verdict) {
        ("reject", _, Err(_)) => None,
        ("accept", Some("deliver"), Ok(Verdict::Deliver(proof))) => {
            let dedupe = vector["dedupe"].as_str();
            let wrong_id = dedupe.is_some() && dedupe != proof.delivery_id.as_deref();
            (wrong_id || !answered(vector, proof.answer.as_ref())).then(|| format!("wanted {dedupe:?}: {proof:?}"))
        }
        ("accept", Some("deliver"), Ok(Verdict::DeliverAll(parts))) => {
            let ids: Vec<_> = parts.iter().map(|part| part.proof.delivery_id.as_deref()).collect();
            let wanted: Vec<_> = vector["dedupe"].as_array().into_iter().flatten().map(Value::as_str).collect();
            let answers = parts.iter().all(|part| answered(vector, part.proof.answer.as_ref()));
            (ids != wanted || !answers).then(|| format!("wanted {wanted:?}: {parts:?}"))
        }
        ("accept", Some("handshake"), Ok(Verdict::Handshake(answer))) if vector.get("expected_outbound").is_none() => {
            let wrong = !answered(vector, Some(answer));
            wrong.then(|| format!("wanted {}: {answer:?}", vector["expected_response"]))
        }
        ("accept", Some("handshake"), Ok(Verdict::HandshakeThen { answer, get, .. })) => {
            let outbound = &vector["expected_outbound"];
            let wrong =
                outbound["url"] != get.as_str() || outbound["method"] != "GET" || !answered(vector, Some(answer));
            wrong.then(|| format!("wanted {outbound}: {get} {answer:?}"))
        }
        (expected, effect, verdict) => Some(format!("expected {expected} {effect:?}, got {verdict:?}")),
    }
}

/// Whether an answer is what the platform wants; without one the route answers with its own status.
fn answered(vector: &Value, answer: Option<&Answer>) -> bool {
    let Some(response) = vector.get("expected_response") else { return true };
    let Some(answer) = answer else { return false };
    let status = response["status"].as_u64().is_none_or(|status| status == u64::from(answer.status));
    let json = response.get("json").is_none_or(|json| serde_json::from_str(&answer.body).ok().as_ref() == Some(json));
    let body = response.get("body").is_none_or(|body| body.as_str() == Some(&answer.body));
    let sent = |name: &str| answer.headers.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name));
    let headers = response["headers"].as_object().into_iter().flatten().all(|(name, wanted)| {
        let is = |wanted: &Value| sent(name).is_some_and(|(_, sent)| wanted.as_str() == Some(sent));
        is(wanted) || is(&response["or_headers"][name])
    });
    let sealed = response.get("encrypted_json").is_none_or(|wanted| {
        let last = |name: &str| vector["secrets"][name].as_array().unwrap().last().unwrap().as_str().unwrap();
        let (token, aes_key) = (last("token"), last("encoding_aes_key"));
        let receiver = wanted["receive_id"].as_str().unwrap();
        let members: Map<String, Value> = serde_json::from_str(&answer.body).unwrap();
        let names: Vec<_> = members.keys().map(|name| Value::from(name.as_str())).collect();
        let (word, sent_to) = Platform { token, aes_key, receiver }.read_json(&answer.body);
        wanted["members"] == Value::Array(names) && wanted["decrypts_to"] == word && sent_to == receiver
    });
    status && json && body && headers && sealed
}

fn by_address(vector: &Value) -> bool {
    let nets = |name: &str| -> Vec<IpNet> {
        vector["config"][name].as_array().unwrap().iter().map(|net| net.as_str().unwrap().parse().unwrap()).collect()
    };
    let request = Request::of(vector);
    let forwarded: Vec<_> = request.headers().get_all(FORWARDED_FOR).collect();
    client_ip(request.peer.unwrap(), forwarded.into_iter(), &nets("trusted_proxies"))
        .is_ok_and(|client| allowed(client, &nets("allow")))
}

fn vectors() -> Vec<Value> {
    let read = |(_, text): &(&str, &str)| serde_json::from_str::<Vec<Value>>(text).unwrap();
    FILES.iter().flat_map(read).collect()
}

#[test]
fn every_vector_is_judged_right() {
    let mut failures = Vec::new();
    for vector in vectors() {
        let Some(reason) = wrong(&vector) else { continue };
        // Implementations may differ on a soft vector.
        if vector["soft"] != true {
            failures.push(format!("{} ({}): {reason}", vector["id"], vector["description"]));
        }
    }
    assert!(failures.is_empty(), "{} vectors fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_vector_holds_when_the_key_is_the_second_of_two() {
    for mut vector in vectors() {
        // A list that rotates: an unrelated key of the same form first.
        let fresh = |name: &str, value: &str| match name {
            "secret" if value.starts_with("whsec_") => "whsec_AAECAwQFBgcICQoLDA0ODw==".to_owned(),
            "public_key" => "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned(),
            "encoding_aes_key" => "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C".replace('j', "k"),
            "secret" if value.len() == 64 => "00".repeat(32),
            _ => "ops:another-key-that-fits-nothing".to_owned(),
        };
        for (name, values) in vector["secrets"].as_object_mut().unwrap() {
            let first = fresh(name, values[0].as_str().unwrap());
            values.as_array_mut().unwrap().insert(0, Value::String(first));
        }
        assert_eq!(wrong(&vector), None, "{}", vector["id"]);
    }
}

#[test]
fn a_repeated_credential_is_refused() {
    let credentials = [
        "x-shopify-hmac-sha256",
        "x-shopify-webhook-id",
        "x-hub-signature-256",
        "x-github-delivery",
        "stripe-signature",
        "x-slack-signature",
        "x-slack-request-timestamp",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "svix-id",
        "svix-timestamp",
        "svix-signature",
        "x-wc-webhook-signature",
        "x-wc-webhook-delivery-id",
        "x-signature",
        "x-ts",
        "x-request-id",
        "authorization",
        "x-wm-auth",
        "x-api-key",
        "timestamp",
        "sign",
        "x-ddpaas-signature",
        "x-ddpaas-signature-timestamp",
        "x-lark-request-timestamp",
        "x-lark-request-nonce",
        "x-lark-signature",
        "x-wm-signature",
        "wm_sec.timestamp",
        "wm_sec.signature",
        "aeg-event-type",
        "webhook-request-origin",
        "x-amz-sns-message-type",
        "x-amz-sns-message-id",
    ];
    let mut tried = 0;
    for vector in vectors().iter().filter(|vector| vector["expect"] == "accept" && vector["scheme"] != "ip_allow") {
        let prepared = prepared(vector).unwrap();
        let request = Request::of(vector);
        for (name, value) in &request.headers {
            if credentials.contains(&name.to_ascii_lowercase().as_str()) {
                let mut repeated = request.clone();
                repeated.headers.push((name.to_ascii_uppercase(), value.clone()));
                assert_eq!(repeated.verify(&prepared), Err("repeated_header"), "{} {name}", vector["id"]);
                tried += 1;
            }
        }
        if !request.query.is_empty() {
            let mut repeated = request.clone();
            repeated.query = format!("{0}&{0}", request.query);
            // A signature over the query does not fit two of them.
            let wanted =
                if vector["scheme"] == "walmart_performance" { "wrong_signature" } else { "repeated_parameter" };
            assert_eq!(repeated.verify(&prepared), Err(wanted), "{}", vector["id"]);
        }
    }
    assert!(tried > 40, "{tried}");
}

/// Deterministic random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }

    /// Damages bytes in one of the ways that proxies, attackers and bugs do.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: [&[u8]; 12] = [
            b"\xff",
            b"\0",
            b",",
            b" ",
            b"=",
            b".",
            b"v1,",
            b"t=1,",
            b"\xef\xbb\xbf",
            b"\r\n",
            b"-1",
            b"99999999999999999999",
        ];
        let place = self.roll(bytes.len());
        match self.roll(5) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << self.roll(8),
            1 if !bytes.is_empty() => drop(bytes.remove(place)),
            2 => bytes.truncate(place),
            3 => drop(bytes.splice(place..place, PIECES[self.roll(PIECES.len())].iter().copied())),
            _ => bytes.extend_from_within(place..),
        }
    }
}

#[test]
fn damaged_requests_are_never_believed_and_never_panic() {
    let mut dice = Dice(20_261_123);
    let accepted: Vec<_> = vectors()
        .into_iter()
        .filter(|vector| vector["expect"] == "accept" && vector["scheme"] != "ip_allow")
        .map(|vector| (prepared(&vector).unwrap(), Request::of(&vector)))
        .collect();
    for round in 0..10_000 {
        let (prepared, whole) = &accepted[round % accepted.len()];
        let mut request = whole.clone();
        if dice.roll(2) == 0 {
            dice.damage(&mut request.body);
            let before = whole.verify(prepared).unwrap();
            let signed = matches!(&before, Verdict::Deliver(proof) if proof.body_is_signed);
            let verdict = request.verify(prepared);
            // Around what an envelope encrypts, damage may do nothing; what comes out is the same then.
            let unharmed = matches!(&before, Verdict::Deliver(proof) if proof.message.is_some())
                && verdict.as_ref() == Ok(&before);
            if signed && request.body != whole.body && !unharmed {
                assert!(verdict.is_err(), "{:?} {:?}", String::from_utf8_lossy(&request.body), verdict);
            }
        } else {
            for _ in 0..=dice.roll(3) {
                let place = dice.roll(request.headers.len());
                match request.headers.get_mut(place) {
                    Some((_, value)) => dice.damage(value),
                    None => request.query.push_str("&%"),
                }
            }
            // A damaged header may still say the same; what it proves must not change.
            if let (Ok(Verdict::Deliver(proof)), Ok(Verdict::Deliver(known))) =
                (request.verify(prepared), whole.verify(prepared))
            {
                assert_eq!(proof.signed_at, known.signed_at);
                assert!(!known.id_is_signed || proof.delivery_id == known.delivery_id, "{proof:?}");
            }
        }
    }
}
