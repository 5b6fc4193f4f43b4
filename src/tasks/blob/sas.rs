//! Shared access signatures of Blob Storage: for one blob or one container, until a moment. Signed with the key of the
//! account, or with a key that the service gives the identity for a while.
//! <https://learn.microsoft.com/rest/api/storageservices/create-service-sas>,
//! <https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas>

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use url::Url;

use crate::clock::Timestamp;

/// The version whose rules the texts below follow; later ones add lines to them.
const VERSION: &str = "2022-11-02";

/// What a signature is for.
pub(super) struct Grant<'a> {
    pub(super) account: &'a str,
    pub(super) container: &'a str,
    /// A blob of it; the whole container when absent.
    pub(super) blob: Option<&'a str>,
    /// Letters in the order of the documentation, such as `r`.
    pub(super) permissions: &'a str,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// Over TLS only.
    pub(super) tls_only: bool,
}

/// A key that the service gave an identity.
pub(super) struct Delegated {
    pub(super) object: String,
    pub(super) tenant: String,
    pub(super) from: String,
    pub(super) until: String,
    pub(super) service: String,
    pub(super) version: String,
    pub(super) key: Vec<u8>,
}

impl Grant<'_> {
    /// The query that carries the signature, by the key of the account.
    pub(super) fn by_account(&self, key: &[u8]) -> String {
        let lines = [
            self.permissions.to_owned(),
            moment(self.from),
            moment(self.until),
            self.resource(),
            // A stored policy, and addresses.
            String::new(),
            String::new(),
            self.protocol().to_owned(),
            VERSION.to_owned(),
            self.kind().to_owned(),
        ];
        self.query(&[], &signed(key, &lines, 7))
    }

    /// The query that carries the signature, by the key of an identity.
    pub(super) fn by_identity(&self, given: &Delegated) -> String {
        let lines = [
            self.permissions.to_owned(),
            moment(self.from),
            moment(self.until),
            self.resource(),
            given.object.clone(),
            given.tenant.clone(),
            given.from.clone(),
            given.until.clone(),
            given.service.clone(),
            given.version.clone(),
            // Other users, a correlation id, and addresses.
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            self.protocol().to_owned(),
            VERSION.to_owned(),
            self.kind().to_owned(),
        ];
        let more = [
            ("skoid", given.object.as_str()),
            ("sktid", &given.tenant),
            ("skt", &given.from),
            ("ske", &given.until),
            ("sks", &given.service),
            ("skv", &given.version),
        ];
        self.query(&more, &signed(&given.key, &lines, 7))
    }

    fn kind(&self) -> &'static str {
        if self.blob.is_some() { "b" } else { "c" }
    }

    fn protocol(&self) -> &'static str {
        if self.tls_only { "https" } else { "https,http" }
    }

    fn resource(&self) -> String {
        let blob = self.blob.map(|blob| format!("/{blob}")).unwrap_or_default();
        format!("/blob/{}/{}{blob}", self.account, self.container)
    }

    fn query(&self, more: &[(&str, &str)], signature: &str) -> String {
        let (from, until) = (moment(self.from), moment(self.until));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("sv", VERSION)
            .append_pair("sr", self.kind())
            .append_pair("sp", self.permissions)
            .append_pair("st", &from)
            .append_pair("se", &until)
            .append_pair("spr", self.protocol())
            .extend_pairs(more)
            .append_pair("sig", signature);
        query.finish()
    }
}

/// The signature of lines, with so many empty ones behind them: no snapshot, no scope of encryption, and none of the five
/// headers that a link may put in an answer's place.
fn signed(key: &[u8], lines: &[String], empty: usize) -> String {
    let text = format!("{}{}", lines.join("\n"), "\n".repeat(empty));
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
}

/// A moment as signatures have it: UTC, whole seconds.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name of the account behind an endpoint: the first part of its host, or the first of its path where that is this
/// machine's (emulators, <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>).
pub(super) fn account(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let first = url.path_segments().and_then(|mut parts| parts.next().map(str::to_owned));
    match first.filter(|first| !first.is_empty()) {
        Some(first) => Some(first),
        None => url.host_str()?.split('.').next().map(str::to_owned),
    }
}

/// The key of an account in what a secret holds: the key itself, or the connection string that the portal shows.
pub(super) fn account_key(secret: &str) -> Result<Vec<u8>, &'static str> {
    let secret = secret.trim();
    let key = secret.split(';').find_map(|part| part.trim().strip_prefix("AccountKey=")).unwrap_or(secret);
    BASE64
        .decode(key.as_bytes())
        .ok()
        .filter(|key| !key.is_empty())
        .ok_or("it is neither a key nor a connection string")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Timestamp = Timestamp::from_secs(1_795_338_000);

    fn grant<'a>(blob: Option<&'a str>, permissions: &'a str) -> Grant<'a> {
        let until = Timestamp::from_secs(FROM.as_secs() + 3600);
        Grant { account: "orders", container: "reports", blob, permissions, from: FROM, until, tls_only: true }
    }

    fn sign(text: &str) -> String {
        BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), text.as_bytes()).as_ref())
    }

    fn member(query: &str, name: &str) -> String {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(there, _)| there == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    #[test]
    fn signatures_are_over_the_lines_of_the_documentation() {
        let query = grant(Some("a/订单.csv"), "r").by_account(b"key");
        let text = "r\n2026-11-22T09:00:00Z\n2026-11-22T10:00:00Z\n/blob/orders/reports/a/订单.csv\n\n\nhttps\n2022-11-02\nb\n\n\n\n\n\n\n";
        assert_eq!(member(&query, "sig"), sign(text));
        assert_eq!((member(&query, "sr"), member(&query, "spr")), ("b".to_owned(), "https".to_owned()));

        let query = grant(None, "rcw").by_account(b"key");
        assert!(member(&query, "sr") == "c" && member(&query, "sp") == "rcw", "{query}");

        let given = Delegated {
            object: "o-1".into(),
            tenant: "t-1".into(),
            from: "2026-11-22T08:45:00Z".into(),
            until: "2026-11-22T10:00:00Z".into(),
            service: "b".into(),
            version: "2026-04-06".into(),
            key: b"key".to_vec(),
        };
        let query = grant(Some("a"), "r").by_identity(&given);
        let text = "r\n2026-11-22T09:00:00Z\n2026-11-22T10:00:00Z\n/blob/orders/reports/a\no-1\nt-1\n2026-11-22T08:45:00Z\n\
                    2026-11-22T10:00:00Z\nb\n2026-04-06\n\n\n\n\nhttps\n2022-11-02\nb\n\n\n\n\n\n\n";
        assert_eq!(member(&query, "sig"), sign(text));
        assert_eq!((member(&query, "skoid"), member(&query, "skv")), ("o-1".to_owned(), "2026-04-06".to_owned()));
    }

    #[test]
    fn accounts_and_their_keys() {
        for (endpoint, name) in [
            ("https://orders.blob.core.windows.net", "orders"),
            ("https://orders.blob.core.chinacloudapi.cn", "orders"),
            ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
        ] {
            assert_eq!(account(endpoint).as_deref(), Some(name));
        }
        let portal =
            "DefaultEndpointsProtocol=https;AccountName=orders;AccountKey=a2V5;EndpointSuffix=core.windows.net";
        for (secret, key) in [(" a2V5\n", Ok(b"key".to_vec())), (portal, Ok(b"key".to_vec()))] {
            assert_eq!(account_key(secret), key);
        }
        assert!(account_key("not a key").is_err() && account_key("").is_err());
    }
}
