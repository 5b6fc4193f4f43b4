//! Query parameters, read strictly: a parameter that is not known, occurs twice or holds nonsense is refused by name.
//! A filter with a typing error must never answer as if it were not there.

use std::borrow::Cow;

use super::problem::{self, Problem};

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a raw query; refuses parameters that are not among `known`.
    pub(super) fn read(raw: &'a str, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<_> = url::form_urlencoded::parse(raw.as_bytes()).collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            Some((name, _)) if known.is_empty() => {
                Err(Problem::new(problem::PARAMETER, format!("there is no parameter `{}` here", cut(name)))
                    .help("this takes no query parameters"))
            }
            Some((name, _)) => {
                Err(Problem::new(problem::PARAMETER, format!("there is no parameter `{}` here", cut(name)))
                    .help(format!("known are {}", quoted(known))))
            }
            None => Ok(Self { pairs }),
        }
    }

    /// The value of a parameter that may occur once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::new(problem::PARAMETER, format!("`{name}` occurs more than once")));
        }
        Ok(first)
    }

    /// Every value of a parameter, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// The value of a parameter, read by `read`; `wanted` says what it looks like.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| read(text).ok_or_else(|| misread(name, text, wanted))).transpose()
    }
}

/// The problem of a parameter that does not look like `wanted`.
pub(super) fn misread(name: &str, text: &str, wanted: &str) -> Problem {
    Problem::new(problem::PARAMETER, format!("`{name}` is `{}`, which is not {wanted}", cut(text)))
}

/// Words between back-ticks, for sentences.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What somebody sent, short enough to be said back.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn check(raw: &str, expected: Result<(Option<u32>, &[&str]), &str>) {
        let found = Query::read(raw, &["limit", "label"]).and_then(|query| {
            let limit = query.parsed("limit", "a number", |text| text.parse().ok())?;
            Ok((limit, query.all("label").map(ToOwned::to_owned).collect::<Vec<_>>()))
        });
        let expected =
            expected.map(|(limit, labels)| (limit, labels.iter().map(|label| (*label).to_owned()).collect()));
        assert_eq!(found.map_err(|problem| problem.to_string()), expected.map_err(ToOwned::to_owned), "{raw}");
    }

    #[test]
    fn parameters() {
        check("", Ok((None, &[])));
        check("limit=5&label=a%3D1&label=b+c", Ok((Some(5), &["a=1", "b c"])));
        check("limit=", Err("http.parameter: `limit` is ``, which is not a number"));
        check("limit=5&limit=5", Err("http.parameter: `limit` occurs more than once"));
        check("Limit=5", Err("http.parameter: there is no parameter `Limit` here"));
        check("limit=%zz", Err("http.parameter: `limit` is `%zz`, which is not a number"));
        let unknown = Query::read("a=1", &[]).unwrap_err().to_string();
        assert_eq!(unknown, "http.parameter: there is no parameter `a` here");
    }
}
