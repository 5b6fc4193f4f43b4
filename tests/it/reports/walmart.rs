//! Walmart as on-request reports see it: one request for a type an hour, no link before the report is there, and a zip.

use std::collections::BTreeSet;
use std::time::Duration;

use clawhook::clock::Timestamp;
use serde_json::{Value, json};

use super::far::{Desk, File, Platform, once, query, zip};
use crate::standin::{Answer, Recorded};

pub(crate) const REQUESTS: &str = "/v3/reports/reportRequests";
const DOWNLOAD: &str = "/v3/reports/downloadReport";

pub(crate) struct Request {
    pub(crate) kind: String,
    version: String,
    submitted: Timestamp,
    looks: u32,
}

pub(crate) struct Walmart {
    pub(crate) requests: Vec<Request>,
    /// Looks before a report is there.
    pub(crate) looks: u32,
    pub(crate) fails: bool,
    pub(crate) csv: &'static str,
    /// Times that there is no link although the report is there.
    pub(crate) late_links: u32,
    correlations: BTreeSet<String>,
}

impl Walmart {
    pub(crate) fn new(csv: &'static str) -> Self {
        Self { requests: Vec::new(), looks: 3, fails: false, csv, late_links: 0, correlations: BTreeSet::new() }
    }

    /// A request of somebody else.
    pub(crate) fn foreign(&mut self, kind: &str, submitted: Timestamp) {
        self.requests.push(Request { kind: kind.to_owned(), version: "v4".to_owned(), submitted, looks: 0 });
    }

    fn shown(&self, place: usize) -> Value {
        let request = &self.requests[place];
        let status = match request.looks {
            0 => "RECEIVED",
            looks if looks < self.looks => "INPROGRESS",
            _ if self.fails => "ERROR",
            _ => "READY",
        };
        json!({
            "requestId": format!("rq-{place}"),
            "requestStatus": status,
            "requestSubmissionDate": request.submitted.to_string(),
            "reportType": request.kind,
            "reportVersion": request.version,
        })
    }

    fn place(&self, id: &str) -> Result<usize, Answer> {
        let place = id.strip_prefix("rq-").and_then(|number| number.parse::<usize>().ok());
        place.filter(|place| *place < self.requests.len()).ok_or_else(|| Answer::wrong(404, format!("no request {id}")))
    }

    fn call(&mut self, request: &Recorded, desk: &mut Desk) -> Result<Answer, Answer> {
        if request.path == "/v3/token" {
            let basic = once(request, "authorization")?.starts_with("Basic ");
            if !basic || !once(request, "accept")?.contains("json") || request.header("wm_svc.name").is_none() {
                return Err(Answer::wrong(400, "the token wants Basic, Accept and WM_SVC.NAME"));
            }
            let token = desk.token("wmt-", Duration::from_mins(15));
            return Ok(Answer::new(200, &json!({ "access_token": token, "token_type": "Bearer", "expires_in": 900 })));
        }
        for name in ["wm_svc.name", "accept"] {
            once(request, name)?;
        }
        if !self.correlations.insert(once(request, "wm_qos.correlation_id")?.to_owned()) {
            return Err(Answer::wrong(400, "a correlation id was used twice"));
        }
        if !desk.knows(once(request, "wm_sec.access_token")?) {
            let error = json!({ "errors": [{ "code": "UNAUTHORIZED.GMP_GATEWAY_API" }] });
            return Err(Answer::new(401, &error));
        }
        let wanted = |name: &str| query(request, name).ok_or_else(|| Answer::wrong(400, format!("no `{name}`")));
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", REQUESTS) => {
                let (kind, version) = (wanted("reportType")?, wanted("reportVersion")?);
                let now = desk.now();
                let hour = Duration::from_hours(1);
                if self.requests.iter().any(|one| one.kind == kind && now.since(one.submitted) < hour) {
                    desk.refused += 1;
                    let error = json!({ "errors": [{ "code": "REQUEST_THRESHOLD_VIOLATED" }] });
                    return Err(Answer::new(429, &error));
                }
                self.requests.push(Request { kind, version, submitted: now, looks: 0 });
                Ok(Answer::new(200, &self.shown(self.requests.len() - 1)))
            }
            ("GET", REQUESTS) => {
                let kind = wanted("reportType")?;
                wanted("requestSubmissionStartDate")?;
                let listed = (0..self.requests.len()).filter(|place| self.requests[*place].kind == kind);
                let listed: Vec<_> = listed.map(|place| self.shown(place)).collect();
                Ok(Answer::new(200, &json!({ "page": 1, "totalCount": listed.len(), "requests": listed })))
            }
            ("GET", DOWNLOAD) => {
                let place = self.place(&wanted("requestId")?)?;
                if self.shown(place)["requestStatus"] != "READY" {
                    return Err(Answer::wrong(404, "it is not ready"));
                }
                if self.late_links > 0 {
                    self.late_links -= 1;
                    return Err(Answer::new(404, &json!({ "error": [{ "code": "CONTENT_NOT_FOUND" }] })));
                }
                let file = File { bytes: zip("ItemReport.csv", self.csv.as_bytes()), content_type: "application/zip" };
                let now = desk.now();
                let url = desk.files.link(&file, now, Duration::from_mins(10));
                Ok(Answer::new(200, &json!({ "requestId": wanted("requestId")?, "downloadURL": url })))
            }
            ("GET", path) if path.starts_with(REQUESTS) => {
                let place = self.place(path.rsplit('/').next().unwrap())?;
                self.requests[place].looks += 1;
                Ok(Answer::new(200, &self.shown(place)))
            }
            _ => Err(Answer::wrong(404, "no such path")),
        }
    }
}

impl Platform for Walmart {
    fn answer(&mut self, request: &Recorded, desk: &mut Desk) -> Answer {
        self.call(request, desk).unwrap_or_else(|refusal| refusal)
    }
}
