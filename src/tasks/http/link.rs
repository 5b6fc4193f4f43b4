//! `Link` headers (RFC 8288): where the next page is.

/// The target of the first link whose relation is `next`, as it is written: it may be relative to the page.
pub(in crate::tasks) fn next<'h>(values: impl IntoIterator<Item = &'h str>) -> Option<&'h str> {
    values.into_iter().find_map(|value| links(value).find(|(_, params)| is_next(params)).map(|(target, _)| target))
}

/// The links of one header: the target of each, and its parameters as they stand.
fn links(mut rest: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once('<')?;
        let (target, behind) = behind.split_once('>')?;
        let end = outside_quotes(behind, ',');
        rest = &behind[end..];
        Some((target.trim(), &behind[..end]))
    })
}

/// Where `mark` stands first outside of quotes, or the end.
fn outside_quotes(text: &str, mark: char) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (place, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == mark && !quoted => return place,
            _ => {}
        }
    }
    text.len()
}

/// Section 3.3: a relation may be one of several, in any case; only the first `rel` counts.
fn is_next(mut params: &str) -> bool {
    while !params.is_empty() {
        let end = outside_quotes(params, ';');
        let (param, rest) = params.split_at(end);
        params = rest.strip_prefix(';').unwrap_or(rest);
        if let Some((name, value)) = param.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            return relations.any(|relation| relation.eq_ignore_ascii_case("next"));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(values: &[&str], expected: Option<&str>) {
        assert_eq!(super::next(values.iter().copied()), expected, "{values:?}");
    }

    #[test]
    fn the_next_page_is_found_in_every_form() {
        let shopify = "<https://s/orders.json?page_info=a&limit=50>; rel=\"previous\", <https://s/orders.json?page_info=b,c&limit=50>; rel=\"next\"";
        check(&[shopify], Some("https://s/orders.json?page_info=b,c&limit=50"));
        check(&["</a?page=2>; rel=next"], Some("/a?page=2"));
        check(&["<a>; title=\"x, y; rel=next\"; rel=\"prev\", <b>; REL=\"last NEXT\""], Some("b"));
        check(&["<a>; rel=prev", "<b>;rel=next;title=x"], Some("b"));
        check(&["<a>; rel=prev; rel=next"], None);
        check(&["<a>; rel=\"prev\""], None);
        for broken in ["", "<a", "a>; rel=next", "rel=next", "<a>", "<a>;rel", "<a>; title=\"\\\", <b>; rel=next"] {
            check(&[broken], None);
        }
    }
}
