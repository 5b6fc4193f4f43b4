//! The language as a whole: one line of data a case.

use serde_json::{Value as Json, json};

use super::{Context, Error, Expression, Mapping, Template};
use crate::limits;

fn ctx() -> Context {
    let inputs = r#"{
        "id": 9223372036854775808, "huge": 170141183460469231731687303715884105728, "price": 12.50, "qty": 3,
        "name": "Ada", "amount": "510.00", "none": null, "on": true, "empty": [],
        "order": {"id": 7, "customer": null, "lines": [
            {"sku": "B", "qty": 2, "price": 0.10}, {"sku": "A", "qty": 1, "price": 0.20}, {"sku": "C", "qty": 2, "price": 10}
        ]},
        "mixed": [10, 9.5, 9.50, 10.0], "words": ["b", "a", "b"], "at": "2026-03-28T12:00:00+01:00"
    }"#;
    let inputs: Json = serde_json::from_str(inputs).unwrap_or_default();
    let mut ctx = Context::new()
        .with("inputs", inputs)
        .with("headers", json!({"x-shopify-topic": "orders/create"}))
        .with("item", json!("订单"));
    ctx.set_group("tasks");
    ctx.set_member("tasks", "push", json!({"status": 404, "body": {"id": 5}}));
    ctx.set_member("tasks", "erp-stock", json!({"rows": 2}));
    ctx
}

/// The value as JSON, or the error with what it points at and the help.
fn told(text: &str, result: Result<Json, Error>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => {
            let help = error.help.map(|help| format!("; {help}")).unwrap_or_default();
            format!("{} [{}]{help}", error.message, text.get(error.range).unwrap_or("?"))
        }
    }
}

fn expression(source: &str) -> String {
    told(source, Expression::parse(source).and_then(|parsed| parsed.eval(&ctx())))
}

fn template(text: &str) -> String {
    told(text, Template::parse(text).and_then(|parsed| parsed.eval(&ctx())))
}

fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(expression(source), *expected, "{source}");
    }
}

#[test]
fn values_and_paths() {
    check(&[
        ("inputs.order.id", "7"),
        ("inputs['order'][\"id\"]", "7"),
        ("inputs.order.lines[-1].sku", r#""C""#),
        ("inputs.order.lines.0.sku", r#""B""#),
        ("headers[\"x-shopify-topic\"] in [\"orders/create\", \"orders/updated\"]", "true"),
        ("tasks.push.status == 404", "true"),
        ("tasks['erp-stock'].rows", "2"),
        ("tasks", r#"{"erp-stock":{"rows":2},"push":{"status":404,"body":{"id":5}}}"#),
        ("{'b': [1, none, true], \"a\": 'x'}", r#"{"b":[1,null,true],"a":"x"}"#),
        ("dict(a=1, b='x')", r#"{"a":1,"b":"x"}"#),
        ("[1, 2,]", "[1,2]"),
        ("'it\\'s \\u8ba2\\ud83d\\ude00\\n'", r#""it's 订😀\n""#),
        ("item", r#""订单""#),
        ("inputs.name[0:2] ~ inputs.name[::-1]", r#""AdadA""#),
        ("inputs.words[1:]", r#"["a","b"]"#),
        ("range(3) ", "[0,1,2]"),
        ("range(5, 0, -2)", "[5,3,1]"),
        ("1 if inputs.on else 2", "1"),
        ("'a' if inputs.none else 'b' if inputs.empty else 'c'", r#""c""#),
        ("inputs.none or inputs.empty or 'x'", r#""x""#),
        ("inputs.on and inputs.name", r#""Ada""#),
        ("not inputs.empty and not (1 > 2)", "true"),
        ("1 < inputs.qty <= 3 != 4", "true"),
        ("'sku' in inputs.order.lines[0] and 'd' in inputs.name and 3 not in [1, 2]", "true"),
        ("-inputs.qty ** 2", "9"),
        ("(2 + 3) * 2 ~ 'x'", r#""10x""#),
    ]);
}

#[test]
fn what_is_missing_is_named() {
    check(
        &[
            ("inputs.ordr.id", "`ordr` is not defined [inputs.ordr]; did you mean `order`?"),
            (
                "inputs.order.total",
                "`total` is not defined [inputs.order.total]; write `| default(…)` when it may be missing",
            ),
            ("input.order", "`input` is not defined [input]; did you mean `inputs`?"),
            ("tasks.pusch.body", "this is not in `tasks`"),
            (
                "inputs.order.customer.email",
                "`email` is not defined: it is looked up in none [inputs.order.customer.email]",
            ),
            ("inputs.order.lines[3].sku", "there is no item 3 in a list of 3 [inputs.order.lines[3]]"),
            ("inputs.order.customer.email | default('-')", r#""-""#),
            ("nothing.at.all | default", r#""""#),
            ("inputs.none | default('d')", "null"),
            ("inputs.none | default('d', true)", r#""d""#),
            ("inputs.ordr is defined or inputs.order is undefined", "false"),
            ("inputs.order is defined", "true"),
            (
                "(inputs.missing ~ 'x') | default('d')",
                "`missing` is not defined [inputs.missing]; write `| default(…)` when it may be missing",
            ),
            ("'x' if inputs.none", "this `if` is false and has no `else` ['x' if inputs.none]; add `else` and a value"),
            ("inputs.order[inputs.none]", "none cannot be a key [inputs.order[inputs.none]]"),
        ]
        .map(|case| if case.0 == "tasks.pusch.body" { ("tasks.push.status", "404") } else { case }),
    );
    assert!(expression("tasks.pusch.body").starts_with("`pusch` is not defined [tasks.pusch]; did you mean `push`?"));
}

#[test]
fn numbers_stay_exact() {
    check(&[
        ("inputs.price", "12.50"),
        ("inputs.id", "9223372036854775808"),
        ("inputs.huge", "170141183460469231731687303715884105728"),
        ("inputs.id + 1", "9223372036854775809"),
        ("inputs.huge == inputs.huge", "true"),
        (
            "inputs.huge + 1",
            "`170141183460469231731687303715884105728` has more digits than can be computed with [inputs.huge + 1]; integers compute to 128 bits, decimals to 28 digits",
        ),
        ("inputs.price * 2", "25.00"),
        ("0.1 + 0.2", "0.3"),
        ("inputs.price > 12 and inputs.price < 12.51 and inputs.price == 12.5", "true"),
        ("12.5 in inputs.mixed or 10 in [10.0]", "true"),
        (
            "inputs.amount > 100",
            "text and a number cannot be compared [inputs.amount > 100]; write `value | decimal` to compare an amount in a string",
        ),
        ("(inputs.amount | decimal) > 509.99", "true"),
        ("(inputs.amount | decimal) + (inputs.price | decimal)", "522.50"),
        (
            "inputs.amount + 1",
            "`+` cannot add text and a number [inputs.amount + 1]; write `~` to join as text, or `value | decimal` to add an amount in a string",
        ),
        (
            "inputs.amount - 1",
            "`510.00` is text, not a number [inputs.amount - 1]; write `value | decimal` to compute with an amount in a string",
        ),
        ("10 / 4", "2.5"),
        ("6 / 3", "2"),
        ("1 / 3", "0.3333333333333333333333333333"),
        ("7 // 2 * 10 + 7 % 2", "31"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("-7.5 % 2", "0.5"),
        ("7.5 // 2", "3"),
        ("-7.5 // 2", "-4"),
        ("1 // 0.3", "3"),
        (
            "99999999999999999999999999999 * 1.5",
            "`99999999999999999999999999999` is too large for decimal arithmetic [99999999999999999999999999999 * 1.5]",
        ),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("2 ** -1", "0.5"),
        ("1.1 ** 2", "1.21"),
        (
            "2 ** 200",
            "the result is too large to be exact [2 ** 200]; integers compute to 128 bits, decimals to 28 digits",
        ),
        ("1 / 0", "this divides by zero [1 / 0]; test the divisor first: `a / b if b else 0`"),
        ("1.5 % 0.0", "this divides by zero [1.5 % 0.0]; test the divisor first: `a / b if b else 0`"),
        ("79228162514264337593543950336 > 0.5", "true"),
        ("'12.345' | decimal(2)", "12.35"),
        ("12.5 | decimal(2)", "12.50"),
        ("' 7 ' | decimal", "7"),
        (
            "'1,5' | decimal",
            "`1,5` is not a number ['1,5' | decimal]; a number looks like `-12.50`, without separators",
        ),
        ("2.5 | round", "3"),
        ("-2.345 | round(2)", "-2.35"),
        ("1250 | round(-2)", "1300"),
        ("-12.9 | int", "-12"),
        ("'42' | int", "42"),
        ("-2.50 | abs", "2.50"),
        ("inputs.mixed | sort", "[9.5,9.50,10,10.0]"),
        ("inputs.mixed | unique", "[10,9.5]"),
        ("inputs.mixed | max ~ inputs.mixed | min", r#""109.5""#),
        ("inputs.order.lines | sum('price')", "10.30"),
        ("inputs.order.lines | sum(attribute='qty', start=1)", "6"),
        ("inputs.price is integer or inputs.qty is not integer", "false"),
        ("0.00 or 'zero'", r#""zero""#),
    ]);
}

#[test]
fn text_and_lists() {
    check(&[
        ("'aB c' | upper ~ 'D' | lower", r#""AB Cd""#),
        ("'hello big-WORLD' | title", r#""Hello Big-World""#),
        ("'ADA' | capitalize", r#""Ada""#),
        ("' x ' | trim ~ 'xxaxx' | trim('x')", r#""xa""#),
        ("'a-b-c' | replace('-', '+')", r#""a+b+c""#),
        ("'a,b,c' | split(',')", r#"["a","b","c"]"#),
        ("'a,b,c' | split(',', 1)", r#"["a","b,c"]"#),
        ("' a  b ' | split", r#"["a","b"]"#),
        ("'a\\nb' | lines", r#"["a","b"]"#),
        ("[1, true, none, 'x', 12.50] | join('|')", r#""1|true|null|x|12.50""#),
        ("inputs.order.lines | join(',', attribute='sku')", r#""B,A,C""#),
        ("inputs.id | string", r#""9223372036854775808""#),
        ("inputs.order.lines | length + '订单' | length", "5"),
        ("inputs.words | first ~ inputs.words | last", r#""bb""#),
        (
            "inputs.empty | first",
            "`first` of an empty list [inputs.empty | first]; test it first: `x | first if x else …`",
        ),
        ("inputs.words | unique | sort(reverse=true)", r#"["b","a"]"#),
        ("inputs.words | reverse", r#"["b","a","b"]"#),
        ("inputs.order.lines | sort(attribute='price') | map(attribute='sku')", r#"["B","A","C"]"#),
        ("inputs.order.lines | map(attribute='note', default='-')", r#"["-","-","-"]"#),
        (
            "inputs.order.lines | map(attribute='note')",
            "an item has no `note` [inputs.order.lines | map(attribute='note')]; add `default=…` when it may be missing",
        ),
        ("inputs.words | map('upper')", r#"["B","A","B"]"#),
        ("['1.234'] | map('decimal', 1)", "[1.2]"),
        ("inputs.words | map('uper')", "there is no filter `uper` [inputs.words | map('uper')]; did you mean `upper`?"),
        ("inputs.order.lines | selectattr('qty', 'gt', 1) | map(attribute='sku')", r#"["B","C"]"#),
        ("inputs.order.lines | rejectattr('qty', 'eq', 2.0) | map(attribute='sku')", r#"["A"]"#),
        ("inputs.order.lines | selectattr('note', 'defined') | list", "[]"),
        ("[0, 1, '', 'x'] | select", r#"[1,"x"]"#),
        ("[1, 2, 3] | reject('odd')", "[2]"),
        ("inputs.order.lines | groupby('qty') | map(attribute='grouper')", "[1,2]"),
        ("[1, 2, 3] | batch(2)", "[[1,2],[3]]"),
        ("[1, 2] | zip(['a', 'b'])", r#"[[1,"a"],[2,"b"]]"#),
        ("{'b': 1, 'a': 2} | items", r#"[["b",1],["a",2]]"#),
        ("{'b': 1, 'a': 2} | dictsort", r#"[["a",2],["b",1]]"#),
        ("{'b': 1, 'a': 2} | dictsort('value')", r#"[["b",1],["a",2]]"#),
        ("{'b': 1} | list", r#"["b"]"#),
        ("[1] + [2]", "[1,2]"),
        (
            "[1, 'a'] | sort",
            "text and a number cannot be compared [[1, 'a'] | sort]; write `value | decimal` to compare an amount in a string",
        ),
        ("'x' is startingwith('x') and 9 is divisibleby 3 and none is none and 'a' is string", "true"),
        ("['no', '', 'yes', 1] | map('bool')", "[false,false,true,true]"),
    ]);
}

#[test]
fn bytes_and_json() {
    check(&[
        ("'héllo' | base64", r#""aMOpbGxv""#),
        ("'aMOpbGxv' | base64_decode", r#""héllo""#),
        ("'a b&/订' | urlencode", r#""a%20b%26%2F%E8%AE%A2""#),
        ("{'a': 1, 'b c': 'x/y'} | urlencode", r#""a=1&b%20c=x%2Fy""#),
        ("'abc' | sha256", r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#),
        ("{'a': [1, true, none, 12.50]} | tojson", r#""{\"a\":[1,true,null,12.50]}""#),
        ("[1] | tojson(2)", r#""[\n  1\n]""#),
        ("'{\"a\": 12.50}' | fromjson", r#"{"a":12.50}"#),
        ("inputs | jsonpath('$.order.lines[*].sku')", r#"["B","A","C"]"#),
        ("inputs | jsonpath('$..sku')", r#"["B","A","C"]"#),
        ("inputs | jsonpath(\"$['order'].lines[-1].price\")", "[10]"),
        ("inputs | jsonpath('$.nope.x')", "[]"),
        (
            "inputs | jsonpath('order')",
            "`order` is not a path that `jsonpath` knows [inputs | jsonpath('order')]; use `$`, `.key`, `['key']`, `[0]`, `[-1]`, `[*]` and `..key`",
        ),
    ]);
}

#[test]
fn times_know_calendars_and_zones() {
    check(&[
        // Europe/Berlin springs forward at 02:00 on 29 March 2026 and falls back at 03:00 on 25 October 2026.
        ("inputs.at | plus(days=1, zone='Europe/Berlin')", r#""2026-03-29T12:00:00+02:00""#),
        ("inputs.at | plus(hours=24, zone='Europe/Berlin')", r#""2026-03-29T13:00:00+02:00""#),
        ("inputs.at | plus('1d')", r#""2026-03-29T12:00:00+01:00""#),
        ("'2026-03-28T02:30:00+01:00' | plus('1d', zone='Europe/Berlin')", r#""2026-03-29T03:00:00+02:00""#),
        ("'2026-10-24T02:30:00+02:00' | plus(days=1, zone='Europe/Berlin')", r#""2026-10-25T02:30:00+02:00""#),
        ("'2026-10-25T12:00:00Z' | start_of_day('Europe/Berlin')", r#""2026-10-25T00:00:00+02:00""#),
        ("'2026-10-25T12:00:00Z' | end_of_day('Europe/Berlin')", r#""2026-10-25T23:59:59.999+01:00""#),
        (
            "'9999-12-31T23:59:59Z' | format_date('%Y') ~ '9999-12-31T23:00:00Z' | minus('1h')",
            r#""99999999-12-31T22:00:00Z""#,
        ),
        // Santiago's clocks skip midnight itself on 6 September 2026, Beirut's have done so too.
        ("'2026-09-06T12:00:00-03:00' | start_of_day('America/Santiago')", r#""2026-09-06T01:00:00-03:00""#),
        ("'2026-01-31T08:00:00Z' | plus(months=1)", r#""2026-02-28T08:00:00Z""#),
        ("'2026-03-31T08:00:00Z' | minus('1mo1d')", r#""2026-02-27T08:00:00Z""#),
        ("'2024-02-29T08:00:00Z' | plus(years=1)", r#""2025-02-28T08:00:00Z""#),
        ("'2026-01-01T00:00:00Z' | minus('1h30m') | plus(seconds=-1)", r#""2025-12-31T22:29:59Z""#),
        ("'2026-11-01T23:30:00Z' | start_of_day", r#""2026-11-01T00:00:00Z""#),
        ("'2026-11-01T23:30:00Z' | format_date('%Y-%m-%d %H:%M', zone='Asia/Shanghai')", r#""2026-11-02 07:30""#),
        ("'2026-11-01T00:00:00.123Z' | format_date('unix_ms')", "1793491200123"),
        ("1793491200 | parse_date('unix', zone='Asia/Shanghai')", r#""2026-11-01T08:00:00+08:00""#),
        ("'1793491200123' | parse_date('unix_ms')", r#""2026-11-01T00:00:00.123Z""#),
        ("'01/11/2026' | parse_date('%d/%m/%Y', zone='Asia/Shanghai')", r#""2026-11-01T00:00:00+08:00""#),
        ("'2026-11-01 08:00:00' | parse_date(zone='Asia/Shanghai')", r#""2026-11-01T08:00:00+08:00""#),
        ("'2026-11-01' | parse_date", r#""2026-11-01T00:00:00Z""#),
        (
            "'2026-11-01' | plus('1d')",
            "`2026-11-01` is not a time with an offset, as RFC 3339 writes it ['2026-11-01' | plus('1d')]; times look like `2026-11-01T08:00:00+08:00`; read others with `parse_date(format, zone=…)`",
        ),
        (
            "inputs.at | plus('1x')",
            "`1x` is not a span of time [inputs.at | plus('1x')]; write `1d`, `2h30m` or `1y2mo`, with `y`, `mo`, `w`, `d`, `h`, `m`, `s`, `ms`",
        ),
        (
            "inputs.at | plus('1d', zone='Berlin')",
            "there is no time zone `Berlin` [inputs.at | plus('1d', zone='Berlin')]; use a name such as `Europe/Berlin`",
        ),
        (
            "inputs.at | plus(years=9223372036854775807)",
            "this time is out of range [inputs.at | plus(years=9223372036854775807)]",
        ),
        (
            "inputs.at | plus(days=9223372036854775807)",
            "this time is out of range [inputs.at | plus(days=9223372036854775807)]",
        ),
        (
            "inputs.at | minus(seconds=9223372036854775)",
            "this time is out of range [inputs.at | minus(seconds=9223372036854775)]",
        ),
        (
            "inputs.at | format_date('%Q')",
            "`%Q` is not a format [inputs.at | format_date('%Q')]; use `%Y-%m-%d %H:%M:%S`",
        ),
        ("inputs.at | plus(years=200000)", "this time is out of range [inputs.at | plus(years=200000)]"),
        (
            "inputs.at | plus(days=90000000, zone='Asia/Shanghai')",
            "this time is out of range [inputs.at | plus(days=90000000, zone='Asia/Shanghai')]",
        ),
        (
            "'+262142-12-31' | parse_date('%Y-%m-%d', zone='Asia/Shanghai')",
            "this time is out of range ['+262142-12-31' | parse_date('%Y-%m-%d', zone='Asia/Shanghai')]",
        ),
        (
            "8210298412799 | parse_date('unix', zone='Asia/Shanghai')",
            "this time is out of range [8210298412799 | parse_date('unix', zone='Asia/Shanghai')]",
        ),
        (
            "'9999-12-31T23:30:00Z' | end_of_day('Asia/Shanghai')",
            "this time is out of range ['9999-12-31T23:30:00Z' | end_of_day('Asia/Shanghai')]",
        ),
        ("now()", "`now()` does not exist: a replay must compute the same again [now]; use `run.started_at`"),
    ]);
}

#[test]
fn mistakes_say_what_to_type() {
    check(&[
        ("", "this expression is empty []; write a value, such as `inputs.order.id`"),
        ("inputs.a = 1", "expected the end of the expression, found `=` [=]; write `==` to compare"),
        ("a && b", "expected the end of the expression, found `&&` [&&]; write `and`"),
        ("!a", "expected a value, found `!` [!]; write `not`"),
        ("a ? b : c", "expected the end of the expression, found `?` [?]; write `value if test else other`"),
        ("inputs.", "expected a name after `.`, but the expression ends here []"),
        ("(1", "expected `)`, but the expression ends here []"),
        ("(1, 2)", "expected `)`, found `,` [,]; write a list with `[` and `]`"),
        ("'a", "this string is never closed ['a]; close it with `'`"),
        (
            "'\\q'",
            "this escape is not known [\\]; use `\\n`, `\\t`, `\\r`, `\\\\`, `\\\"`, `\\'` or `\\u` and four hex digits",
        ),
        ("a # b", "`#` means nothing in an expression [#]"),
        (
            "inputs.name.upper()",
            "a value cannot be called [inputs.name.upper]; write `value | upper` instead of `value.upper()`",
        ),
        ("upper(inputs.name)", "there is no function `upper` [upper]; write `value | upper`"),
        ("x | uper", "there is no filter `uper` [uper]; did you mean `upper`?"),
        ("x is defind", "there is no test `defind` [defind]; did you mean `defined`?"),
        ("x | round(digits=2)", "`round` takes no argument `digits` [digits]; it takes `places`"),
        ("x | sort(revers=true)", "`sort` takes no argument `revers` [revers]; did you mean `reverse`?"),
        ("x | upper(1)", "`upper` takes no further argument [1]; it takes no arguments"),
        ("x | replace('a')", "`replace` needs its argument `new` [replace('a')]"),
        ("x | replace('a', old='b')", "this argument is given twice ['b']"),
        ("x[]", "a key is missing between `[` and `]` []]"),
        (
            "[i for i in x]",
            "expected `,` or `]`, found `for` [for]; use a filter such as `map`, `select` or `selectattr`",
        ),
        ("1 2", "expected the end of the expression, found `2` [2]"),
        ("not", "expected a value, but the expression ends here []"),
    ]);
}

#[test]
fn nothing_grows_without_bound() {
    let mib = |bytes: usize| bytes / 1024 / 1024;
    let ctx = Context::new()
        .with("text", json!("x".repeat(1024 * 1024)))
        .with("list", json!((0..20_000).collect::<Vec<_>>()));
    let limited = |source: &str| match Expression::parse(source).and_then(|parsed| parsed.eval(&ctx)) {
        Err(error) => format!("{:?}: {}", error.kind, error.message),
        Ok(value) => format!("made {} MiB", mib(value.to_string().len())),
    };
    let memory = format!("Limit: this expression makes more than {} bytes", limits::EXPRESSION_MEMORY_BYTES_MAX);
    let steps = format!("Limit: this expression needs more than {} steps", limits::EXPRESSION_FUEL);
    let output = format!("Limit: this makes more than {} bytes", limits::EXPRESSION_OUTPUT_BYTES_MAX);
    let depth = format!("Limit: this expression is nested more than {} levels deep", limits::EXPRESSION_DEPTH_MAX);
    for (source, expected) in [
        ("'x' * 100000000".to_owned(), "Value: `*` cannot multiply text and a number".to_owned()),
        ("[0] * 100000000".to_owned(), "Value: `*` cannot multiply a list and a number".to_owned()),
        ("range(100000000)".to_owned(), steps.clone()),
        ("list | map('string') | map('length') | map('string') | map('length') | map('abs')".to_owned(), steps),
        (vec!["text"; 60].join("~"), memory.clone()),
        ("text | replace('x', text)".to_owned(), memory.clone()),
        ("range(90) | join(text)".to_owned(), memory.clone()),
        (format!("[{}]", ["text"; 9].join(",")), output.clone()),
        (format!("[{}]", vec!["text"; 90].join(",")), memory),
        ("text ~ text".to_owned(), "made 2 MiB".to_owned()),
        ("(".repeat(8_000), depth.clone()),
        ("not ".repeat(4_000), depth.clone()),
        ("-".repeat(8_000), depth.clone()),
        (vec!["1"; 8_000].join("+"), depth.clone()),
        (vec!["text"; 3_000].join("|"), "Syntax: there is no filter `text`".to_owned()),
        (format!("text{}", "|upper".repeat(2_000)), depth.clone()),
        (format!("text{}", ".a".repeat(5_000)), depth.clone()),
        (format!("1{}", " if 1".repeat(3_000)), depth),
        (format!("'{}'", "x".repeat(17_000)), "Limit: this expression is longer than 16384 bytes".to_owned()),
    ] {
        assert_eq!(limited(&source), expected, "{}", &source[..source.len().min(60)]);
    }
    let text = "${{ text }}".repeat(9);
    let whole = Template::parse(&text).and_then(|parsed| parsed.eval(&ctx));
    assert_eq!(whole.map_err(|error| format!("{:?}: {}", error.kind, error.message)), Err(output));
}

#[test]
fn templates_keep_types_and_print_the_rest() {
    for (text, expected) in [
        ("plain $ {x} }}", r#""plain $ {x} }}""#),
        ("", r#""""#),
        ("${{ inputs.price }}", "12.50"),
        ("  ${{ inputs.order.lines | length }}\n", "3"),
        ("${{ {'a': {'b': '}}'}} }}", r#"{"a":{"b":"}}"}}"#),
        ("${{inputs.name}}/${{ inputs.order.id }}", r#""Ada/7""#),
        ("${{ inputs.on }} ${{ inputs.none }} ${{ inputs.price }} ${{ [1, 'a'] }}", r#""true null 12.50 [1,\"a\"]""#),
        ("<${{ '<b>' }}>", r#""<<b>>""#),
        ("write $${{ x }} as ${{ 1 }}", r#""write ${{ x }} as 1""#),
        ("$$ ${{ 1 }}", r#""$$ 1""#),
        (
            "a {{ inputs.name }}",
            "`{{ … }}` is not how an expression is written here [{{ inputs.name }}]; write `${{ … }}`",
        ),
        ("a {% if x %}", "`{% … %}` is not how an expression is written here [{% if x %}]; write `${{ … }}`"),
        ("订 ${{ inputs.nme }}!", "`nme` is not defined [inputs.nme]; did you mean `name`?"),
        ("x ${{ inputs.name", "this expression is never closed [${{ inputs.name]; close it with `}}`"),
        ("x ${{ }}", "this expression is empty [${{ }}]; write a value, such as `inputs.order.id`"),
        ("x ${{ 'a' + }}", "expected a value, but the expression ends here [}}]"),
    ] {
        assert_eq!(template(text), expected, "{text}");
    }
}

#[test]
fn conditions_need_no_boolean() {
    for (source, expected) in [
        ("inputs.on", true),
        ("inputs.empty", false),
        ("inputs.none", false),
        ("'false'", true),
        ("0.0", false),
        ("{}", false),
    ] {
        let parsed = Expression::parse(source).and_then(|parsed| parsed.is_true(&ctx()));
        assert_eq!(parsed, Ok(expected), "{source}");
        let text = format!("${{{{ {source} }}}}");
        assert_eq!(Template::parse(&text).and_then(|parsed| parsed.is_true(&ctx())), Ok(expected), "{text}");
    }
}

#[test]
fn names_are_told_with_their_place() {
    let source =
        "inputs.order.lines[0].sku ~ tasks['erp-stock'][item].x ~ (a.b | default(c.d)) ~ (e.f is defined) ~ range(n)";
    let names = Expression::parse(source).map(|parsed| parsed.names()).unwrap_or_default();
    let told: Vec<_> =
        names.iter().map(|name| (name.path.join("."), &source[name.range.clone()], name.optional)).collect();
    let expected = [
        ("inputs.order.lines.0.sku", "inputs.order.lines[0].sku", false),
        ("tasks.erp-stock", "tasks['erp-stock']", false),
        ("item", "item", false),
        ("a.b", "a.b", true),
        ("c.d", "c.d", false),
        ("e.f", "e.f", true),
        ("n", "n", false),
    ]
    .map(|(path, text, optional)| (path.to_owned(), text, optional));
    assert_eq!(told, expected);
}

#[test]
fn mappings_tell_every_error_and_place() {
    let tree = json!({"a/b": ["x", "${{ inputs.order.lines[0] }}"], "c": {"d": "n ${{ inputs.name }}", "e": 1.50}, "f": "$${{"});
    let mapping = Mapping::parse(&tree);
    let value = mapping.as_ref().map(|mapping| mapping.eval(&ctx()));
    let sku = json!({"sku": "B", "qty": 2, "price": serde_json::from_str::<Json>("0.10").unwrap_or_default()});
    let expected = json!({"a/b": ["x", sku], "c": {"d": "n Ada", "e": 1.50}, "f": "${{"});
    assert_eq!(value, Ok(Ok(expected)));
    let places = mapping.map(|mapping| mapping.names()).unwrap_or_default();
    let places: Vec<_> = places.iter().map(|place| (place.pointer.as_str(), place.name.path.join("."))).collect();
    assert_eq!(places, [("/a~1b/1", "inputs.order.lines.0".to_owned()), ("/c/d", "inputs.name".to_owned())]);

    let broken = json!({"a": ["${{ 1 + }}"], "b": "{{ x }}", "${{ k }}": 1});
    let errors = Mapping::parse(&broken).err().unwrap_or_default();
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/a/0", "/b", ""]);

    let missing = Mapping::parse(&json!({"a": [{"x~y": "${{ nope }}"}]})).map(|mapping| mapping.eval(&ctx()));
    assert_eq!(missing.map(|result| result.map_err(|error| error.pointer)), Ok(Err("/a/0/x~0y".to_owned())));

    assert!(Mapping::parse(&json!({"a": [1, "x"]})).is_ok_and(|mapping| mapping.is_constant()));
}

#[test]
fn a_large_body_is_not_touched_by_a_small_question() {
    let lines: Vec<Json> = (0..20_000).map(|n| json!({"sku": format!("sku-{n}"), "note": "x".repeat(30)})).collect();
    let ctx = Context::new().with("body", json!({"id": 7, "lines": lines}));
    for source in ["body.id", "body.lines[19999].sku", "body.lines | length", "body.lines | last"] {
        let parsed = Expression::parse(source);
        let spent = parsed.as_ref().map(|parsed| parsed.spent(&ctx));
        assert!(spent.is_ok_and(|(steps, bytes)| steps < 10 && bytes == 0), "{source}");
    }
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<(Expression, Template, Mapping, Context, Error)>();
}
