//! Amazon as reports see it: Login with Amazon, the Selling Partner API with its buckets, restricted tokens and links of
//! five minutes, and the Ads API.

use std::time::Duration;

use clawhook::clock::Timestamp;
use serde_json::{Value, json};

use super::far::{Desk, File, Platform, amazon_error, gzip, json_body, once, query};
use crate::standin::{Answer, Recorded};

pub(crate) const REPORTS: &str = "/reports/2021-06-30/reports";
pub(crate) const ADS: &str = "/reporting/reports";
const DOCUMENTS: &str = "/reports/2021-06-30/documents/";
const TOKENS: &str = "/tokens/2021-03-01/restrictedDataToken";

/// What becomes of the reports that are asked for.
#[derive(Clone)]
pub(crate) enum Ending {
    Done { file: File, gzip: bool },
    Cancelled,
    Fatal { reason: Option<&'static str> },
    Never,
}

impl Ending {
    /// Rows as flat files have them.
    pub(crate) fn rows(text: &str) -> Self {
        Self::Done { file: File { bytes: text.into(), content_type: "text/plain; charset=UTF-8" }, gzip: true }
    }
}

#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) id: String,
    kind: String,
    marketplaces: Value,
    window: [Option<Timestamp>; 2],
    created: Timestamp,
    looks: u32,
    ending: Ending,
}

pub(crate) struct Amazon {
    /// Looks before a report has ended.
    pub(crate) looks: u32,
    /// Endings of reports to come; the last goes for all that follow.
    pub(crate) endings: Vec<Ending>,
    pub(crate) reports: Vec<Report>,
    /// Documents of these types want a restricted token.
    pub(crate) restricted: Vec<&'static str>,
    /// Restricted tokens, and the one path of each.
    passes: Vec<(String, String)>,
    pub(crate) token_calls: usize,
    /// Reports of the Ads API: request, looks, whether it failed.
    pub(crate) ads: Vec<(Value, u32)>,
    /// The reason by which the next reports of the Ads API fail.
    pub(crate) ads_failure: Option<&'static str>,
    pub(crate) ads_rows: String,
}

impl Amazon {
    pub(crate) fn new(looks: u32, ending: Ending) -> Self {
        Self {
            looks,
            endings: vec![ending],
            reports: Vec::new(),
            restricted: Vec::new(),
            passes: Vec::new(),
            token_calls: 0,
            ads: Vec::new(),
            ads_failure: None,
            ads_rows: r#"[{"campaignId":9007199254740993,"date":"2026-11-21","cost":1.10},{"campaignId":9007199254740995,"date":"2026-11-21","cost":20.00}]"#.to_owned(),
        }
    }

    fn grant(&mut self, request: &Recorded, desk: &mut Desk) -> Result<Answer, Answer> {
        self.token_calls += 1;
        if once(request, "content-type")?.split(';').next() != Some("application/x-www-form-urlencoded") {
            return Err(Answer::wrong(415, "a token is asked for by a form"));
        }
        let form: std::collections::BTreeMap<_, _> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let is = |name: &str, wanted: &str| form.get(name).is_some_and(|given| given == wanted);
        if !is("client_id", "amzn1.app") || form.get("client_secret").is_none_or(String::is_empty) {
            return Err(Answer::wrong(401, "invalid_client"));
        }
        if !is("grant_type", "refresh_token") {
            return Err(Answer::wrong(400, "unsupported_grant_type"));
        }
        if form.get("refresh_token").is_none_or(String::is_empty) {
            return Err(Answer::wrong(400, "invalid_grant"));
        }
        let token = desk.token("Atza|", Duration::from_hours(1));
        Ok(Answer::new(200, &json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600 })))
    }

    /// The Selling Partner API.
    fn selling(&mut self, request: &Recorded, desk: &mut Desk) -> Result<Answer, Answer> {
        let token = once(request, "x-amz-access-token")?;
        let pass = self.passes.iter().find(|(known, _)| known == token).map(|(_, path)| path.clone());
        if pass.is_none() && !desk.knows(token) {
            return Err(amazon_error(403, "Unauthorized", "The access token you provided has expired."));
        }
        if pass.as_ref().is_some_and(|path| *path != request.path) {
            return Err(Answer::wrong(403, "the restricted token is for another path"));
        }
        let (operation, rate, burst) = match (request.method.as_str(), request.path.as_str()) {
            ("POST", REPORTS) => ("createReport", 0.0167, 15.0),
            ("GET", REPORTS) => ("getReports", 0.0222, 10.0),
            ("GET", path) if path.starts_with(REPORTS) => ("getReport", 2.0, 15.0),
            ("GET", path) if path.starts_with(DOCUMENTS) => ("getReportDocument", 0.0167, 15.0),
            ("POST", TOKENS) => ("createRestrictedDataToken", 1.0, 10.0),
            _ => return Err(Answer::wrong(404, "no such path")),
        };
        let mut answer = if desk.takes(operation, rate, burst) {
            match operation {
                "createReport" => self.create(request, desk),
                "getReports" => self.list(request),
                "getReport" => self.look(request),
                "getReportDocument" => self.document(request, desk, pass.is_some()),
                _ => self.pass(request),
            }?
        } else {
            amazon_error(429, "QuotaExceeded", "")
        };
        answer.headers.push(("x-amzn-requestid", format!("{:032x}", rand::random::<u128>())));
        // It is left out now and then.
        if operation != "getReports" {
            answer.headers.push(("x-amzn-ratelimit-limit", rate.to_string()));
        }
        Ok(answer)
    }

    fn create(&mut self, request: &Recorded, desk: &Desk) -> Result<Answer, Answer> {
        let body = json_body(request, "application/json")?;
        let known = ["reportType", "marketplaceIds", "dataStartTime", "dataEndTime", "reportOptions"];
        let foreign = body.as_object().into_iter().flatten().find(|(key, _)| !known.contains(&key.as_str()));
        let marketplaces = body["marketplaceIds"].as_array().is_some_and(|list| !list.is_empty());
        let time = |key: &str| body[key].as_str().map(Timestamp::parse_rfc3339);
        let times = [time("dataStartTime"), time("dataEndTime")];
        if foreign.is_some() || !body["reportType"].is_string() || !marketplaces || times.contains(&Some(None)) {
            return Err(Answer::wrong(400, format!("InvalidInput: {body}")));
        }
        let ending = if self.endings.len() > 1 { self.endings.remove(0) } else { self.endings[0].clone() };
        let id = format!("{}", 50_001 + self.reports.len());
        self.reports.push(Report {
            id: id.clone(),
            kind: body["reportType"].as_str().unwrap().to_owned(),
            marketplaces: body["marketplaceIds"].clone(),
            window: times.map(Option::flatten),
            created: desk.now(),
            looks: 0,
            ending,
        });
        Ok(Answer::new(202, &json!({ "reportId": id })))
    }

    fn shown(&self, report: &Report) -> Value {
        let status = match (&report.ending, report.looks) {
            (_, 0) => "IN_QUEUE",
            (Ending::Never, _) => "IN_PROGRESS",
            (_, looks) if looks < self.looks => "IN_PROGRESS",
            (Ending::Done { .. }, _) => "DONE",
            (Ending::Cancelled, _) => "CANCELLED",
            (Ending::Fatal { .. }, _) => "FATAL",
        };
        let mut shown = json!({
            "reportId": report.id,
            "reportType": report.kind,
            "marketplaceIds": report.marketplaces,
            "createdTime": report.created.to_string(),
            "processingStatus": status,
        });
        // Amazon writes the window in its own zone, whatever it was asked in.
        for (key, time) in [("dataStartTime", report.window[0]), ("dataEndTime", report.window[1])] {
            if let Some(time) = time {
                shown[key] = json!(time.to_utc().to_rfc3339());
            }
        }
        let has_document = matches!(
            (&report.ending, status),
            (Ending::Done { .. }, "DONE") | (Ending::Fatal { reason: Some(_) }, "FATAL")
        );
        if has_document {
            shown["reportDocumentId"] = json!(format!("amzn1.spdoc.1/{}", report.id));
        }
        shown
    }

    fn look(&mut self, request: &Recorded) -> Result<Answer, Answer> {
        let id = request.path.rsplit('/').next().unwrap();
        let Some(place) = self.reports.iter().position(|report| report.id == id) else {
            return Err(Answer::wrong(404, format!("NotFound: {id}")));
        };
        let shown = self.shown(&self.reports[place]);
        self.reports[place].looks += 1;
        Ok(Answer::new(200, &shown))
    }

    fn list(&self, request: &Recorded) -> Result<Answer, Answer> {
        let wanted = |name: &str| query(request, name).ok_or_else(|| Answer::wrong(400, format!("no `{name}`")));
        let (kind, statuses) = (wanted("reportTypes")?, wanted("processingStatuses")?);
        let marketplaces = wanted("marketplaceIds")?;
        let since = Timestamp::parse_rfc3339(&wanted("createdSince")?);
        let since = since.ok_or_else(|| Answer::wrong(400, "`createdSince` is no time"))?;
        let listed = |report: &&Report| {
            let of = report.marketplaces.as_array().unwrap();
            report.kind == kind
                && report.created >= since
                && marketplaces.split(',').any(|id| of.iter().any(|one| one == id))
        };
        let reports = self.reports.iter().filter(listed).map(|report| self.shown(report));
        let reports = reports.filter(|shown| statuses.split(',').any(|status| shown["processingStatus"] == status));
        Ok(Answer::new(200, &json!({ "reports": reports.collect::<Vec<_>>() })))
    }

    fn document(&mut self, request: &Recorded, desk: &mut Desk, passed: bool) -> Result<Answer, Answer> {
        let id = request.path.strip_prefix(DOCUMENTS).unwrap();
        let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
        let report = self.reports.iter().find(|report| format!("amzn1.spdoc.1/{}", report.id) == id);
        let Some(report) = report else { return Err(Answer::wrong(404, format!("NotFound: {id}"))) };
        if self.restricted.contains(&report.kind.as_str()) && !passed {
            return Err(amazon_error(403, "Unauthorized", "Access to requested resource is denied."));
        }
        let (file, packed) = match &report.ending {
            Ending::Done { file, gzip } => (file.clone(), *gzip),
            Ending::Fatal { reason: Some(reason) } => {
                (File { bytes: (*reason).into(), content_type: "text/plain" }, true)
            }
            _ => return Err(Answer::wrong(404, "it has no document")),
        };
        let bytes = if packed { gzip(&file.bytes) } else { file.bytes };
        let (now, life) = (desk.now(), Duration::from_mins(5));
        let url = desk.files.link(&File { bytes, ..file }, now, life);
        let mut body = json!({ "reportDocumentId": id, "url": url });
        if packed {
            body["compressionAlgorithm"] = json!("GZIP");
        }
        Ok(Answer::new(200, &body))
    }

    fn pass(&mut self, request: &Recorded) -> Result<Answer, Answer> {
        let body = json_body(request, "application/json")?;
        let [resource] = body["restrictedResources"].as_array().map_or(&[][..], Vec::as_slice) else {
            return Err(Answer::wrong(400, "one restricted resource is wanted"));
        };
        let (Some(path), Some("GET")) = (resource["path"].as_str(), resource["method"].as_str()) else {
            return Err(Answer::wrong(400, format!("InvalidInput: {resource}")));
        };
        let token = format!("Atz.sprdt|{:032x}", rand::random::<u128>());
        self.passes.push((token.clone(), path.to_owned()));
        Ok(Answer::new(200, &json!({ "restrictedDataToken": token, "expiresIn": 3600 })))
    }

    /// The Ads API.
    fn ads(&mut self, request: &Recorded, desk: &mut Desk) -> Result<Answer, Answer> {
        let token = once(request, "authorization")?;
        let scope = once(request, "amazon-advertising-api-scope")?;
        if once(request, "amazon-advertising-api-clientid")? != "amzn1.app" || scope.parse::<u64>().is_err() {
            return Err(Answer::wrong(401, "no client, or a scope that is no number"));
        }
        if !token.strip_prefix("Bearer ").is_some_and(|token| desk.knows(token)) {
            return Err(Answer::new(401, &json!({ "code": "401", "details": "Not authorized" })));
        }
        if request.method == "POST" {
            return self.ads_create(request);
        }
        let id = request.path.rsplit('/').next().unwrap();
        let place = id.strip_prefix("ad-").and_then(|number| number.parse::<usize>().ok());
        let Some((_, looks)) = place.and_then(|place| self.ads.get_mut(place)) else {
            return Err(Answer::wrong(404, format!("no report {id}")));
        };
        *looks += 1;
        let mut body = json!({ "reportId": id, "status": if *looks == 1 { "PENDING" } else { "PROCESSING" } });
        if *looks > self.looks {
            if let Some(reason) = self.ads_failure {
                body["status"] = json!("FAILED");
                body["failureReason"] = json!(reason);
            } else {
                let file = File { bytes: gzip(self.ads_rows.as_bytes()), content_type: "application/octet-stream" };
                body["status"] = json!("COMPLETED");
                let now = desk.now();
                body["url"] = json!(desk.files.link(&file, now, Duration::from_hours(1)));
            }
        }
        Ok(Answer::new(200, &body))
    }

    fn ads_create(&mut self, request: &Recorded) -> Result<Answer, Answer> {
        let body = json_body(request, "application/vnd.createasyncreportrequest.v3+json")?;
        let configuration = &body["configuration"];
        let columns: Vec<_> = configuration["columns"].as_array().into_iter().flatten().collect();
        if configuration["timeUnit"] == "SUMMARY" && columns.iter().any(|column| **column == "date") {
            return Err(Answer::wrong(400, "`date` with SUMMARY"));
        }
        if columns.is_empty() || !body["startDate"].is_string() || !body["endDate"].is_string() {
            return Err(Answer::wrong(400, format!("a member is missing: {body}")));
        }
        let looks_until = self.looks;
        let running = self.ads.iter().position(|(asked, looks)| {
            *looks <= looks_until && ["startDate", "endDate", "configuration"].iter().all(|key| asked[key] == body[key])
        });
        if let Some(running) = running {
            let detail = format!("The Request is a duplicate of : ad-{running}");
            return Ok(Answer::new(425, &json!({ "code": "425", "detail": detail })));
        }
        self.ads.push((body, 0));
        Ok(Answer::new(200, &json!({ "reportId": format!("ad-{}", self.ads.len() - 1), "status": "PENDING" })))
    }
}

impl Platform for Amazon {
    fn answer(&mut self, request: &Recorded, desk: &mut Desk) -> Answer {
        let answered = match request.path.as_str() {
            "/auth/o2/token" => self.grant(request, desk),
            path if path.starts_with(ADS) => self.ads(request, desk),
            _ => self.selling(request, desk),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }
}
