//! A shop as its list of orders is seen: a bucket of calls, pages behind opaque links that take no other filter, rows that
//! change while they are read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawhook::clock::{Clock, Timestamp};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::standin::{Answer, Business, Fault, Recorded, Standin};

pub(crate) const ORDERS: &str = "/admin/api/2026-07/orders.json";
pub(crate) const TOKEN: &str = "shpat_hush-0451";
/// Stands in every order where the route redacts.
pub(crate) const MAIL: &str = "li.wei@example.com";
/// Shopify's own most.
const PAGE_MAX: usize = 250;

/// The shop; it closes when this is dropped.
pub(crate) struct Shop {
    standin: Standin<Counter>,
    orders: Arc<Mutex<BTreeMap<u32, Value>>>,
    clock: Arc<dyn Clock>,
}

struct Counter {
    orders: Arc<Mutex<BTreeMap<u32, Value>>>,
    url: Arc<Mutex<String>>,
}

impl Shop {
    pub(crate) fn start(clock: Arc<dyn Clock>) -> Self {
        let (orders, url) = (Arc::default(), Arc::new(Mutex::new(String::new())));
        let counter = Counter { orders: Arc::clone(&orders), url: Arc::clone(&url) };
        let standin = Standin::open(0, counter).unwrap();
        *url.lock().unwrap() = standin.url();
        Self { standin, orders, clock }
    }

    pub(crate) fn url(&self) -> String {
        self.standin.url()
    }

    /// People order now.
    pub(crate) fn order(&self, numbers: RangeInclusive<u32>) {
        let at = self.clock.now().to_string();
        let mut orders = self.orders.lock().unwrap();
        for number in numbers {
            let order = json!({
                "id": number, "name": format!("#{number}"), "token": format!("t-{number}"), "total_price": "19.90",
                "updated_at": at, "customer": { "email": MAIL },
            });
            orders.insert(number, order);
        }
    }

    /// One order becomes odd.
    pub(crate) fn spoil(&self, number: u32, key: &str, value: Value) {
        self.orders.lock().unwrap().get_mut(&number).unwrap()[key] = value;
    }

    /// The body of its webhook: other bytes than those of the list.
    pub(crate) fn body(&self, number: u32) -> String {
        format!("{:#}", self.orders.lock().unwrap()[&number])
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.standin.fail(Fault { path: ORDERS.to_owned(), ..fault });
    }

    /// Pages that were asked for.
    pub(crate) fn pages(&self) -> usize {
        self.standin.requests_to(ORDERS).len()
    }

    pub(crate) async fn until_pages(&self, count: usize) {
        /// Looks, and the pause between two of them.
        const LOOKS_MAX: usize = 6_000;
        for _ in 0..LOOKS_MAX {
            if self.pages() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody asks for page {count}");
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.standin.wrongs()
    }
}

impl Business for Counter {
    fn answer(&mut self, request: &Recorded) -> Answer {
        let mut answer = self.list(request);
        answer.headers.push(("x-shopify-shop-api-call-limit", "1/40".to_owned()));
        answer
    }

    fn forget(&mut self) {}
}

impl Counter {
    fn list(&self, request: &Recorded) -> Answer {
        if request.header("x-shopify-access-token") != Some(TOKEN) {
            return Answer::wrong(401, "[API] Invalid API key or access token (unrecognized login or wrong password)");
        }
        if (request.method.as_str(), request.path.as_str()) != ("GET", ORDERS) {
            return Answer::wrong(404, "Not Found");
        }
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
        let limit = query.get("limit").map_or(50, |limit| limit.parse().unwrap_or(0));
        if limit == 0 || limit > PAGE_MAX {
            return Answer::wrong(400, "limit must be between 1 and 250");
        }
        let (since, after) = match query.get("page_info") {
            None => (query.get("updated_at_min").cloned(), 0),
            Some(_) if query.keys().any(|key| !["page_info", "limit", "fields"].contains(&key.as_str())) => {
                return Answer::wrong(400, "page_info: other filters cannot stand beside it");
            }
            Some(page) => match read_page(page) {
                Some((since, after)) => (Some(since), after),
                None => return Answer::wrong(400, "page_info: invalid"),
            },
        };
        let Some(since) = since.as_deref().and_then(Timestamp::parse_rfc3339) else {
            return Answer::wrong(400, "updated_at_min is wanted");
        };
        let orders = self.orders.lock().unwrap();
        let of_time = |order: &&Value| order["updated_at"].as_str().and_then(Timestamp::parse_rfc3339) >= Some(since);
        let mut rest = orders.range(after + 1..).map(|(_, order)| order).filter(of_time);
        let page: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        let last = page.last().and_then(|order| order["id"].as_u64());
        let mut answer = Answer::new(200, &json!({ "orders": page }));
        let mut links = Vec::new();
        let url = self.url.lock().unwrap();
        let link = |after: u64, rel: &str| {
            let page = BASE64URL_NOPAD.encode(format!("{since}|{after}").as_bytes());
            format!("<{url}{ORDERS}?limit={limit}&page_info={page}>; rel=\"{rel}\"")
        };
        if after > 0 {
            links.push(link(0, "previous"));
        }
        if let (Some(last), true) = (last, rest.next().is_some()) {
            links.push(link(last, "next"));
        }
        if !links.is_empty() {
            answer.headers.push(("link", links.join(", ")));
        }
        answer
    }
}

fn read_page(text: &str) -> Option<(String, u32)> {
    let text = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    let (since, after) = text.split_once('|')?;
    Some((since.to_owned(), after.parse().ok()?))
}
