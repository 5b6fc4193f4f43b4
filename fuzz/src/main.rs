//! Every parser of clawhook that sees bytes from outside, behind one libFuzzer target: the first byte chooses the parser, the
//! rest is what it gets to read. One program links once and shares what it learns between parsers.
//!
//! `infra/fuzz.sh` builds and runs it. With `FUZZ_SEEDS=FOLDER` it first writes the test vectors and the shipped files there as
//! inputs, so that every run begins with requests that are believed and files that are read.
#![no_main]

mod parsers;
mod requests;

use libfuzzer_sys::fuzz_target;

/// A parser, by what it reads.
struct Parser {
    reads: fn(&[u8]),
    /// Inputs to begin with.
    seeds: fn() -> Vec<Vec<u8>>,
}

/// The parsers; an input's first byte is a place in this list. Add at the end, or kept inputs change their meaning.
const PARSERS: &[Parser] = &[
    Parser { reads: requests::with_known_keys, seeds: requests::seeds },
    Parser { reads: parsers::bodies, seeds: parsers::body_seeds },
    Parser { reads: parsers::routes, seeds: || parsers::files(&["routes", "tests/bad"], "route") },
    Parser { reads: parsers::workflows, seeds: || parsers::files(&["workflows", "tests/bad"], "workflow") },
    Parser { reads: parsers::expressions, seeds: parsers::expression_seeds },
    Parser { reads: parsers::paths, seeds: || parsers::texts(&["$.a.b[0]", "$..id", "$.items[*]['a b']"]) },
    Parser { reads: parsers::tables, seeds: parsers::table_seeds },
    Parser { reads: parsers::packed, seeds: parsers::packed_seeds },
    Parser { reads: parsers::headers, seeds: parsers::header_seeds },
    Parser { reads: parsers::rules, seeds: parsers::rule_seeds },
    Parser { reads: parsers::xml, seeds: || parsers::texts(&["<xml><A><![CDATA[b]]></A><C>&lt;1</C></xml>"]) },
    Parser { reads: requests::with_client_certificates, seeds: requests::certificate_seeds },
];

fn write_seeds() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (place, parser) in PARSERS.iter().enumerate() {
        for (number, seed) in (parser.seeds)().into_iter().enumerate() {
            let mut input = vec![u8::try_from(place).expect("there are few parsers")];
            input.extend(seed);
            let path = std::path::Path::new(&folder).join(format!("seed-{place:02}-{number:04}"));
            std::fs::write(path, input).expect("the folder of the seeds can be written");
        }
    }
}

fuzz_target!(
    init: write_seeds(),
    |input: &[u8]| {
        if let Some((first, rest)) = input.split_first() {
            (PARSERS[usize::from(*first) % PARSERS.len()].reads)(rest);
        }
    }
);
