//! The other parsers: each takes any bytes and says no in time and with little memory, or yes.

use std::sync::LazyLock;

use clawhook::clock::Timestamp;
use clawhook::domain::rate::Rate;
use clawhook::domain::schedule::{Rule, timezone};
use clawhook::domain::{body, byte_size, duration};
use clawhook::expr::{Context, JsonPath, Template};
use clawhook::signature::ip_allow;
use clawhook::{outbound, signature, spec, tasks};
use serde_json::{Value, json};

use crate::requests::root;

const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

pub fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The YAML files of these folders whose names begin so.
pub fn files(folders: &[&str], prefix: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in folders {
        let folder = root().join(folder);
        let own = !folder.ends_with("tests/bad");
        for entry in std::fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok) {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.ends_with(".yaml") && (own || name.starts_with(prefix)) {
                found.push(std::fs::read(entry.path()).expect("a file can be read"));
            }
        }
    }
    found
}

/// JSON and forms as expressions see them.
pub fn bodies(input: &[u8]) {
    static PATHS: LazyLock<Vec<JsonPath>> =
        LazyLock::new(|| ["$.a", "$..id", "$.items[*].x"].map(|path| JsonPath::parse(path).expect("a path")).into());
    let Some((kind, input)) = input.split_first() else { return };
    let kinds = ["application/json", "application/x-www-form-urlencoded", "text/plain"];
    let mut value = body::read(kinds[usize::from(*kind) % kinds.len()], input);
    for path in &*PATHS {
        path.blank(&mut value);
    }
    drop(value.to_string());
}

pub fn body_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "\0{\"a\":[1,2.50,{\"id\":9007199254740993}],\"items\":[{\"x\":null}]}",
        "\u{1}a=1&b=%E8%AE%A2&a=+",
        "\u{2}x",
    ])
}

pub fn routes(input: &[u8]) {
    if let Ok(source) = spec::yaml::decode("routes.yaml", input)
        && let Err(problems) = spec::compile_routes("routes.yaml", source.text())
    {
        assert!(!problems.is_empty(), "refused without a reason");
        // Drawing the lines under what is wrong reads the text as well.
        drop(problems.iter().map(|problem| format!("{problem:?}")).collect::<Vec<_>>());
    }
}

pub fn workflows(input: &[u8]) {
    if let Ok(source) = spec::yaml::decode("workflow.yaml", input)
        && let Err(problems) = spec::compile_workflow("workflow.yaml", source.text())
    {
        assert!(!problems.is_empty(), "refused without a reason");
    }
}

/// Expressions, evaluated over a delivery.
pub fn expressions(input: &[u8]) {
    static VALUES: LazyLock<Context> = LazyLock::new(|| {
        let body = json!({ "id": 9_007_199_254_740_993_i64, "price": "12.50", "lines": [{ "sku": "a", "n": 2 }, { "sku": "b" }] });
        Context::new()
            .with("body", body)
            .with("headers", json!({ "x-topic": "orders/create" }))
            .with("query", json!({}))
    });
    if let Some(template) = text(input).and_then(|text| Template::parse(text).ok()) {
        drop(template.names());
        drop(template.eval(&VALUES));
    }
}

pub fn expression_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "${{ body.id }}",
        "order ${{ body.lines[0].sku | upper }} of ${{ headers['x-topic'] }}",
        "${{ body.price | decimal * 3 > 10 and not query.a is defined }}",
        "${{ [1, 2.5, 'a' ~ 'b', {'k': none}] | length + body.lines | length }}",
        "${{ '2026-11-22T09:00:00Z' | parse_date | plus('1d') | format_date('%Y', 'Asia/Shanghai') }}",
        "${{ body.lines | map(attribute='sku') | join(', ') if body.lines else 'none' }}",
        "${{ body | jsonpath('$..sku') }}${{ 'a' | base64 | sha256 | urlencode }}",
    ])
}

pub fn paths(input: &[u8]) {
    if let Some(path) = text(input).and_then(|text| JsonPath::parse(text).ok()) {
        path.blank(&mut json!({ "a": { "b": [1, { "id": 2 }] }, "items": [{ "a b": 1 }, []] }));
    }
}

pub fn tables(input: &[u8]) {
    if let Some((kind, input)) = input.split_first() {
        tasks::fuzzing::table(*kind, input);
    }
}

pub fn table_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "\0sku,qty\r\n\"a \"\"b\"\"\",2\r\nc,\r\n",
        "\u{1}sku\tqty\na\t1\n",
        "\u{2}[{\"a\":1,\"b\":{\"c\":[]}},{\"d\":12345678901234567890}]",
        "\u{3}{\"a\":1}\n{\"b\":\"x\"}\n",
        "\u{4}\u{feff}订单,数量\n甲,1\n",
    ]);
    // The same in UTF-16 and in GBK.
    seeds.push([4, 0xff, 0xfe].into_iter().chain("a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes)).collect());
    seeds.push(b"\x04\xb6\xa9\xb5\xa5,\xca\xfd\xc1\xbf\n\xbc\xd7,1\n".to_vec());
    seeds
}

pub fn packed(input: &[u8]) {
    tasks::fuzzing::packed(input);
}

pub fn packed_seeds() -> Vec<Vec<u8>> {
    let gzip = "1f8b08000000000000034bd449d2e1020028f5b8c904000000";
    let zip = "504b03040a0000000000000021005c1a8b4d0400000004000000050000006f2e637376612c620a";
    [gzip, zip].map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")).into()
}

/// Headers that other parties write.
pub fn headers(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let _ = outbound::retry_after(text, NOW);
    drop(outbound::parse_url(text));
    tasks::fuzzing::link(text);
    let proxies =
        ["10.0.0.0/8", "::ffff:127.0.0.0/104"].map(|network| network.parse::<ipnet::IpNet>().expect("a network"));
    let peer = "10.1.2.3".parse().expect("an address");
    drop(ip_allow::client_ip(peer, text.split('\n').map(str::as_bytes), &proxies));
}

pub fn header_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "120",
        "2.5",
        "Sun, 22 Nov 2026 09:00:30 GMT",
        "https://user@erp.example:8443/a/../b?c=d#e",
        "<https://s/orders?page=2&a=,>; title=\"a\\\";b\"; rel=\"prev next\", <b>; rel=last",
        "203.0.113.7, 10.0.0.1\n[2001:db8::1]:443, ::ffff:10.0.0.2",
    ])
}

/// What people write for time and size.
pub fn rules(input: &[u8]) {
    let Some(text) = text(input) else { return };
    drop(duration::parse(text));
    drop(byte_size::parse(text));
    drop(text.parse::<Rate>());
    drop(timezone(text));
    let (zone, cron) = text.split_once('|').unwrap_or(("Asia/Shanghai", text));
    if let Ok(zone) = timezone(zone)
        && let Ok(rule) = Rule::cron(cron, zone)
    {
        let mut before = NOW;
        for slot in rule.after(NOW).take(3) {
            assert!(slot.due > before, "slots go back in time");
            before = slot.due;
        }
    }
}

pub fn rule_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "*/5 * * * *",
        "Europe/Berlin|30 2 * * SUN#1",
        "UTC|0 0 12 L * ?",
        "@daily",
        "America/New_York|0 0 29 2 MON",
        "1h30m",
        "2MiB",
        "50/s",
    ])
}

pub fn xml(input: &[u8]) {
    if let Some(value) = text(input).and_then(signature::fuzz_xml) {
        assert!(matches!(value, Value::Object(_) | Value::String(_)), "{value}");
    }
}
