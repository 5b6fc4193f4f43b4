//! The business of the stand-in: an ERP that knows orders by where they came from, a stock list, and alerts.
//!
//! | Call | Answers |
//! |---|---|
//! | `GET /orders/by-source?source=&source_id=` | the order, or 404 until it was created |
//! | `POST /orders` | 201 and the order; the same answer again for the same `Idempotency-Key` |
//! | `GET /orders` | all orders |
//! | `GET /stock` | SKUs and what is on hand; `below=N` keeps those under N; `side=shop` has sold some of the first |
//! | `POST /alerts` | 202; wants a `text` |
//! | `GET /returns?status=open` | the returns that were not refunded |
//! | `POST /refunds` | 201 and the refund of a `return_id`, once; the same answer again for the same `Idempotency-Key` |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Business, Recorded};

/// What was ordered, and under which keys.
#[derive(Debug, Default)]
pub(crate) struct Erp {
    /// When set, it is wanted in `X-Api-Key`.
    api_key: Option<String>,
    pub(super) orders: Vec<Value>,
    /// Bodies and answers by idempotency key.
    keys: BTreeMap<String, (Vec<u8>, Value)>,
    /// Calls that were answered again under a known key.
    pub(super) repeats: usize,
    /// The returns that were refunded.
    pub(super) refunds: Vec<Value>,
    alerts: usize,
}

/// Id, order and total of the returns: ids beyond 2^53, totals with a zero at their end.
const RETURNS: [(u64, &str, &str); 5] = [
    (9_007_199_254_740_993, "#1042", "12.50"),
    (9_007_199_254_740_995, "#1043", "480.00"),
    (9_007_199_254_740_997, "#1051", "7.90"),
    (9_007_199_254_740_999, "#1052", "1250.00"),
    (9_007_199_254_741_001, "#1060", "99.99"),
];

/// SKU and what is on hand; two lie under the threshold that the examples use.
const STOCK: [(&str, u32); 5] =
    [("LAMP-OAK", 42), ("LAMP-ASH", 2), ("CHAIR-BLK", 17), ("CHAIR-WHT", 0), ("DESK-140", 8)];

/// Longest idempotency key, bytes.
const KEY_BYTES_MAX: usize = 255;

impl Business for Erp {
    fn answer(&mut self, request: &Recorded) -> Answer {
        refused_key(request, self.api_key.as_deref()).unwrap_or_else(|| self.work(request))
    }

    fn forget(&mut self) {
        *self = Self::new(self.api_key.take());
    }

    fn repeats(&self) -> usize {
        self.repeats
    }
}

impl Erp {
    pub(super) fn new(api_key: Option<String>) -> Self {
        Self { api_key, ..Self::default() }
    }

    fn work(&mut self, request: &Recorded) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/orders/by-source") => self.by_source(request),
            ("GET", "/orders") => Answer::new(200, &json!({ "orders": self.orders })),
            ("POST", "/orders") => self.create(request),
            ("GET", "/stock") => stock(request),
            ("POST", "/alerts") => self.alert(request),
            ("GET", "/returns") => self.returns(),
            ("POST", "/refunds") => self.refund(request),
            (_, "/orders/by-source" | "/orders" | "/stock" | "/alerts" | "/returns" | "/refunds") => {
                Answer::wrong(405, "no such method here")
            }
            _ => Answer::wrong(404, "no such path"),
        }
    }

    fn by_source(&self, request: &Recorded) -> Answer {
        let (Some(source), Some(id)) = (query(&request.query, "source"), query(&request.query, "source_id")) else {
            return Answer::wrong(400, "`source` and `source_id` are wanted");
        };
        match self.find(&source, &id) {
            Some(order) => Answer::new(200, order),
            None => Answer::new(404, &json!({ "error": "no such order" })),
        }
    }

    fn find(&self, source: &str, id: &str) -> Option<&Value> {
        self.orders.iter().find(|order| order["source"] == source && order["source_id"] == id)
    }

    fn create(&mut self, request: &Recorded) -> Answer {
        self.once(request, |erp, order| {
            // Two shapes are known: one that names its source, and an order as the shop sent it.
            let source = order.get("source").and_then(text).unwrap_or_else(|| "shopify".to_owned());
            let Some(id) = order.get("source_id").or_else(|| order.get("id")).and_then(text) else {
                return Err(Answer::wrong(422, "an order wants `source_id` or `id`"));
            };
            if erp.find(&source, &id).is_some() {
                return Err(Answer::wrong(409, format!("order {id} of {source} is there already, under another key")));
            }
            let created = json!({
                "id": format!("ERP-{}", 1001 + erp.orders.len()),
                "source": source,
                "source_id": id,
                "status": "open",
                "name": order.get("name"),
                "total": order.get("total_price").or_else(|| order.get("total")),
            });
            erp.orders.push(created.clone());
            Ok(created)
        })
    }

    fn returns(&self) -> Answer {
        let open = RETURNS.iter().filter(|(id, ..)| !self.is_refunded(&id.to_string()));
        let shown = open.map(|(id, order, total)| {
            let total: serde_json::Number = total.parse().unwrap_or_else(|_| 0.into());
            json!({ "id": id, "order": order, "total": total, "status": "open" })
        });
        Answer::new(200, &json!({ "returns": shown.collect::<Vec<_>>() }))
    }

    fn is_refunded(&self, id: &str) -> bool {
        self.refunds.iter().any(|refund| refund["return_id"] == id)
    }

    fn refund(&mut self, request: &Recorded) -> Answer {
        self.once(request, |erp, refund| {
            let Some(id) = refund.get("return_id").and_then(text) else {
                return Err(Answer::wrong(422, "a refund wants a `return_id`"));
            };
            if !RETURNS.iter().any(|(known, ..)| known.to_string() == id) {
                return Err(Answer::wrong(404, format!("there is no return {id}")));
            }
            if erp.is_refunded(&id) {
                return Err(Answer::wrong(409, format!("return {id} was refunded before, under another key")));
            }
            let refunded = json!({ "id": format!("REFUND-{}", 1 + erp.refunds.len()), "return_id": id, "amount": refund.get("amount") });
            erp.refunds.push(refunded.clone());
            Ok(refunded)
        })
    }

    /// Does what a POST asks for, or tells again what was told under its key.
    fn once(
        &mut self,
        request: &Recorded,
        act: impl FnOnce(&mut Self, serde_json::Map<String, Value>) -> Result<Value, Answer>,
    ) -> Answer {
        let body = match json_object(request) {
            Ok(body) => body,
            Err(wrong) => return *wrong,
        };
        let key = match request.header_all("idempotency-key").as_slice() {
            [] => None,
            [key] if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Some((*key).to_owned()),
            [_] => return Answer::wrong(400, "`Idempotency-Key` is empty or too long"),
            _ => return Answer::wrong(400, "`Idempotency-Key` was sent twice"),
        };
        if let Some((body, answer)) = key.as_ref().and_then(|key| self.keys.get(key)) {
            if *body != request.body {
                return Answer::wrong(422, "the same `Idempotency-Key` came with another body");
            }
            self.repeats += 1;
            let mut again = Answer::new(201, answer);
            again.headers.push(("idempotent-replayed", "true".to_owned()));
            return again;
        }
        let made = match act(self, body) {
            Ok(made) => made,
            Err(wrong) => return wrong,
        };
        if let Some(key) = key {
            self.keys.insert(key, (request.body.clone(), made.clone()));
        }
        Answer::new(201, &made)
    }

    fn alert(&mut self, request: &Recorded) -> Answer {
        match json_object(request) {
            Err(wrong) => *wrong,
            Ok(alert) if alert.get("text").and_then(Value::as_str).is_none_or(str::is_empty) => {
                Answer::wrong(422, "an alert wants a `text`")
            }
            Ok(_) => {
                self.alerts += 1;
                Answer::new(202, &json!({ "id": format!("ALERT-{}", self.alerts) }))
            }
        }
    }
}

/// The refusal of a request without the right key, when keys are asked for.
fn refused_key(request: &Recorded, api_key: Option<&str>) -> Option<Answer> {
    let api_key = api_key?;
    match request.header_all("x-api-key").as_slice() {
        [given] if *given == api_key => None,
        [] => Some(Answer::wrong(401, "no `X-Api-Key`")),
        [_] => Some(Answer::wrong(401, "a wrong `X-Api-Key`")),
        _ => Some(Answer::wrong(401, "`X-Api-Key` was sent twice")),
    }
}

/// The value of one query parameter, decoded.
pub(super) fn query(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What the shop has sold of the first SKU and the ERP does not know of.
const SOLD: u32 = 5;

fn stock(request: &Recorded) -> Answer {
    let below = match query(&request.query, "below").map(|below| below.parse()) {
        None => u32::MAX,
        Some(Ok(below)) => below,
        Some(Err(_)) => return Answer::wrong(400, "`below` is not a number"),
    };
    // The shop has sold what the ERP does not know of yet: one SKU differs, so that a reconciliation finds something.
    let sold = if query(&request.query, "side").as_deref() == Some("shop") { SOLD } else { 0 };
    let items: Vec<_> = STOCK
        .iter()
        .enumerate()
        .map(|(place, (sku, on_hand))| (sku, if place == 0 { on_hand.saturating_sub(sold) } else { *on_hand }))
        .filter(|(_, on_hand)| *on_hand < below)
        .map(|(sku, on_hand)| json!({ "sku": sku, "on_hand": on_hand }))
        .collect();
    Answer::new(200, &json!({ "items": items }))
}

fn json_object(request: &Recorded) -> Result<serde_json::Map<String, Value>, Box<Answer>> {
    let kinds = request.header_all("content-type");
    let [kind] = kinds.as_slice() else {
        return Err(Box::new(Answer::wrong(415, "`Content-Type` is wanted once")));
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Box::new(Answer::wrong(415, format!("`Content-Type` is `{kind}`, not `application/json`"))));
    }
    match request.json() {
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Box::new(Answer::wrong(422, "the body is not a JSON object"))),
        None => Err(Box::new(Answer::wrong(400, "the body is not JSON"))),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
