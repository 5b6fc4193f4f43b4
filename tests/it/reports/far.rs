//! What the far ends of reports share: a bucket of calls, tokens, and a store of files behind links that expire.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clawhook::clock::{Clock, Timestamp};
use serde_json::json;

use crate::standin::{Answer, Business, Recorded, Standin};

/// A platform: what it does behind its paths, and the store of its files.
pub(crate) trait Platform: Send + 'static {
    fn answer(&mut self, request: &Recorded, desk: &mut Desk) -> Answer;
}

/// What a platform uses.
pub(crate) struct Desk {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: Files,
    /// Tokens are good until then; the newest last.
    pub(crate) tokens: Vec<(String, Timestamp)>,
    buckets: BTreeMap<String, Bucket>,
    /// Calls that were answered 429.
    pub(crate) refused: usize,
}

struct Bucket {
    level: f64,
    at: Timestamp,
}

impl Desk {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes one of a bucket that holds `burst` and gets `rate` back each second.
    pub(crate) fn takes(&mut self, operation: &str, rate: f64, burst: f64) -> bool {
        let now = self.now();
        let bucket = self.buckets.entry(operation.to_owned()).or_insert(Bucket { level: burst, at: now });
        bucket.level = (bucket.level + now.since(bucket.at).as_secs_f64() * rate).min(burst);
        bucket.at = now;
        let taken = bucket.level >= 1.0;
        bucket.level -= if taken { 1.0 } else { 0.0 };
        self.refused += usize::from(!taken);
        taken
    }

    /// Makes a token that lives so long.
    pub(crate) fn token(&mut self, prefix: &str, life: Duration) -> String {
        let token = format!("{prefix}{:04}-{:08x}", self.tokens.len() + 1, rand::random::<u32>());
        self.tokens.push((token.clone(), self.now().plus(life)));
        token
    }

    pub(crate) fn knows(&self, token: &str) -> bool {
        self.tokens.iter().any(|(known, until)| known == token && self.now() < *until)
    }
}

/// A file of the store.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: &'static str,
}

/// Files behind links that carry their own proof.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) url: String,
    links: Vec<(File, Timestamp)>,
    /// The next links are over before they are used.
    pub(crate) stale: u32,
}

/// Headers that a store of presigned links refuses: their own proof stands in the link.
const FOREIGN_PROOF: [&str; 6] = [
    "authorization",
    "x-amz-access-token",
    "x-shopify-access-token",
    "wm_sec.access_token",
    "amazon-advertising-api-clientid",
    "cookie",
];

impl Files {
    /// A link to a file that is good for so long.
    pub(crate) fn link(&mut self, file: &File, now: Timestamp, life: Duration) -> String {
        let life = if self.stale > 0 { Duration::ZERO } else { life };
        self.stale = self.stale.saturating_sub(1);
        self.links.push((file.clone(), now.plus(life)));
        format!("{}/storage/{}?X-Amz-Signature=5ig", self.url, self.links.len() - 1)
    }

    fn answer(&self, request: &Recorded, now: Timestamp) -> Answer {
        let xml = |status, code: &str, wrong: Option<String>| Answer {
            status,
            headers: vec![("content-type", "application/xml".to_owned())],
            body: format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>").into_bytes(),
            wrong,
        };
        if let Some(header) = FOREIGN_PROOF.iter().find(|name| !request.header_all(name).is_empty()) {
            return xml(400, "InvalidArgument", Some(format!("`{header}` was sent to the store of files")));
        }
        let number = request.path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| self.links.get(number)) {
            None => xml(404, "NoSuchKey", Some("no such file".to_owned())),
            Some(_) if request.query != "X-Amz-Signature=5ig" => {
                xml(403, "SignatureDoesNotMatch", Some("the link was changed".to_owned()))
            }
            Some((_, until)) if now >= *until => xml(403, "AccessDenied", None),
            Some((file, _)) => Answer {
                status: 200,
                headers: vec![("content-type", file.content_type.to_owned())],
                body: file.bytes.clone(),
                wrong: None,
            },
        }
    }
}

/// A platform that listens, steered by the test.
pub(crate) struct Far<P: Platform> {
    pub(crate) standin: Standin<Door<P>>,
    inner: Arc<Mutex<Inner<P>>>,
}

pub(crate) struct Inner<P> {
    pub(crate) platform: P,
    pub(crate) desk: Desk,
}

/// The side of it that faces the network.
pub(crate) struct Door<P>(Arc<Mutex<Inner<P>>>);

impl<P: Platform> Business for Door<P> {
    fn answer(&mut self, request: &Recorded) -> Answer {
        let mut inner = self.0.lock().unwrap();
        let inner = &mut *inner;
        if request.path.starts_with("/storage/") {
            return inner.desk.files.answer(request, inner.desk.clock.now());
        }
        inner.platform.answer(request, &mut inner.desk)
    }

    fn forget(&mut self) {}
}

impl<P: Platform> Far<P> {
    pub(crate) fn start(clock: Arc<dyn Clock>, platform: P) -> Self {
        let desk = Desk { clock, files: Files::default(), tokens: Vec::new(), buckets: BTreeMap::new(), refused: 0 };
        let inner = Arc::new(Mutex::new(Inner { platform, desk }));
        let standin = Standin::open(0, Door(Arc::clone(&inner))).unwrap();
        inner.lock().unwrap().desk.files.url = standin.url();
        Self { standin, inner }
    }

    /// What it did, and what it is to do.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.standin.url()
    }

    /// How often a path was called by a method.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.standin.requests_to(path).iter().filter(|request| request.method == method).count()
    }

    /// Every request was as it should be.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.standin.wrongs(), Vec::<String>::new());
    }
}

/// What is missing in a request, or sent twice.
pub(crate) fn once<'r>(request: &'r Recorded, name: &str) -> Result<&'r str, Answer> {
    request.header(name).ok_or_else(|| Answer::wrong(400, format!("`{name}` is wanted once")))
}

/// A JSON body under this content type.
pub(crate) fn json_body(request: &Recorded, content_type: &str) -> Result<serde_json::Value, Answer> {
    let given = once(request, "content-type")?;
    if given.split(';').next().unwrap_or_default() != content_type {
        return Err(Answer::wrong(415, format!("`Content-Type` is `{given}`")));
    }
    request.json().ok_or_else(|| Answer::wrong(400, "the body is not JSON"))
}

/// The value of one query parameter, decoded.
pub(crate) fn query(request: &Recorded, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(request.query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip with one file, deflated.
pub(crate) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    let packed = encoder.finish().unwrap();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let sums = [crc.sum().to_le_bytes(), long(packed.len()), long(content.len())].concat();
    let named = u16::try_from(name.len()).unwrap().to_le_bytes();
    let head = [&[20, 0, 0, 8, 8, 0, 0, 0, 0, 0][..], &sums, &named, &[0, 0]].concat();
    let local = [b"PK\x03\x04", &head[..], name.as_bytes(), &packed].concat();
    let central = [b"PK\x01\x02\x14\0", &head[..], &[0; 14], name.as_bytes()].concat();
    let end = [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &long(central.len())[..], &long(local.len()), &[0, 0]].concat();
    [local, central, end].concat()
}

/// The refusal of Amazon's style, with its code.
pub(crate) fn amazon_error(status: u16, code: &str, details: &str) -> Answer {
    Answer::new(status, &json!({ "errors": [{ "code": code, "message": code, "details": details }] }))
}
