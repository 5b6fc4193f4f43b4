//! Requests at the hooks door, against every scheme with the keys and the hour of its test vectors: what is written here as a
//! seed is believed, and what becomes of it is one damage away from that.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clawhook::clock::Timestamp;
use clawhook::signature::{Headers, Inbound, Keys, Prepared, RANDOM_BYTES, Verdict, Verifier};
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A scheme with parameters and keys, and the requests that the vectors have for it.
struct Known {
    prepared: Prepared,
    now: Timestamp,
    requests: Vec<Vec<u8>>,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut known: Vec<(Value, Known)> = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/vectors"))
        .expect("the vectors are there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read(&file).expect("a vector file can be read");
        let vectors: Vec<Value> = serde_json::from_slice(&text).expect("a vector file is a list");
        for vector in vectors {
            let alike = json!([vector["scheme"], vector["config"], vector["secrets"], vector["now_unix"]]);
            if !known.iter().any(|(of, _)| *of == alike) {
                let Some(prepared) = prepared(&vector) else { continue };
                let now = Timestamp::from_secs(vector["now_unix"].as_i64().unwrap_or_default());
                known.push((alike.clone(), Known { prepared, now, requests: Vec::new() }));
            }
            if let Some((_, of)) = known.iter_mut().find(|(of, _)| *of == alike) {
                of.requests.extend(written(&vector["request"]));
            }
        }
    }
    assert!(known.len() > 20, "the vectors were not found");
    assert!(known.len() <= 256, "one byte chooses the scheme");
    known.into_iter().map(|(_, known)| known).collect()
});

/// The verifier of a vector, with its keys; nothing for what the vectors expect to be refused at load.
fn prepared(vector: &Value) -> Option<Prepared> {
    let parameter = |(name, value): (&String, &Value)| match name.strip_suffix("_s") {
        Some(short) => (short.to_owned(), Value::String(format!("{value}s"))),
        None => (name.clone(), value.clone()),
    };
    let with: Map<String, Value> = vector["config"].as_object()?.iter().map(parameter).collect();
    let secrets = vector["secrets"].as_object()?;
    let names: Vec<_> = secrets.keys().map(String::as_str).collect();
    let verifier = Verifier::new(vector["scheme"].as_str()?, &with, &names).ok()?;
    let mut keys = Keys::default();
    for (name, values) in secrets {
        for value in values.as_array()? {
            keys.add(name, value.as_str()?.as_bytes());
        }
    }
    verifier.prepare(&keys).ok()
}

/// A vector's request as this target reads it.
fn written(request: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let mut input = format!("{} {}?{}\n", text("method"), text("path"), text("query")).into_bytes();
    for pair in request["headers"].as_array()? {
        input.extend(format!("{}: {}\n", pair[0].as_str()?, pair[1].as_str()?).as_bytes());
    }
    input.push(b'\n');
    input.extend(BASE64.decode(text("body_base64").as_bytes()).ok()?);
    Some(input)
}

/// One byte that chooses the scheme, then the request.
pub fn seeds() -> Vec<Vec<u8>> {
    let of = |(place, known): (usize, &'static Known)| {
        let place = u8::try_from(place).expect("one byte chooses the scheme");
        known.requests.iter().map(move |request| [std::slice::from_ref(&place), request].concat())
    };
    KNOWN.iter().enumerate().flat_map(of).collect()
}

pub fn with_known_keys(input: &[u8]) {
    let Some((place, request)) = input.split_first() else { return };
    let known = &KNOWN[usize::from(*place) % KNOWN.len()];
    ask(&known.prepared, known.now, request, &[]);
}

/// Reads `METHOD PATH?QUERY`, headers, an empty line and a body, and asks a verifier.
fn ask(prepared: &Prepared, now: Timestamp, input: &[u8], client_chain: &[CertificateDer<'static>]) {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let body = input.get(end + 2..).unwrap_or_default();
    let mut lines = input[..end].split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (method, target) = first.split_once(' ').unwrap_or(("POST", &first));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((String::from_utf8_lossy(&line[..colon]).into_owned(), &line[colon + 1..]))
        })
        .collect();
    let headers: Headers<'_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let random = [7; RANDOM_BYTES];
    let inbound =
        Inbound { method, path, query, url: None, headers: &headers, body, client_chain, received_at: now, random };
    match prepared.verify(&inbound) {
        Ok(Verdict::DeliverAll(parts)) => assert!(!parts.is_empty(), "nothing is delivered"),
        Ok(Verdict::Deliver(proof)) => {
            assert!(proof.delivery_id.is_none_or(|id| !id.is_empty() && id.len() <= 512), "an id that is no key");
        }
        Ok(Verdict::Handshake(_) | Verdict::HandshakeThen { .. }) => {}
        Err(reject) => assert!(!reject.to_string().is_empty() && !reject.code().is_empty()),
    }
    drop(prepared.wants(&inbound));
}

/// The authority of the vectors of SNS, which stands for any.
static CLIENTS: LazyLock<(Prepared, Vec<u8>)> = LazyLock::new(|| {
    let text = std::fs::read(root().join("tests/vectors/aws_sns.json")).expect("the vectors are there");
    let vectors: Vec<Value> = serde_json::from_slice(&text).expect("a vector file is a list");
    let pem = vectors[0]["config"]["trust_ca_pem"].as_str().expect("an authority").to_owned();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
    let with = json!({ "subjects": ["a"], "sans": ["b.example", "192.0.2.1"], "ca_pem": pem });
    let verifier = Verifier::new("mtls", with.as_object().expect("an object"), &[]).expect("good parameters");
    (verifier.prepare(&Keys::default()).expect("no keys are needed"), der)
});

pub fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![CLIENTS.1.clone()]
}

pub fn with_client_certificates(input: &[u8]) {
    let chain = [CertificateDer::from(input.to_vec()), CertificateDer::from(CLIENTS.1.clone())];
    ask(&CLIENTS.0, Timestamp::from_secs(1_795_338_000), b"POST /\n\n{}", &chain);
}
