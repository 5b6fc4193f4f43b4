//! `aws_sns`: HTTPS notifications of Amazon SNS, signed with a certificate that the message points to. Amazon SNS
//! Developer Guide, "Verifying the signatures of Amazon SNS messages".
//!
//! The certificate is not fetched here: [`Check::wants`] says which one is missing, and whoever may call out brings it to
//! [`Check::learn`]. Only Amazon's own hosts are ever named, and only for a topic that the route expects.

mod certificates;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use data_encoding::BASE64;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Host, Url};

use self::certificates::Certificates;
use super::inbound::{Answer, Inbound, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany, Span};
use super::{Built, Check, Making, Missing, Scheme, SchemeKind};
use crate::clock::Timestamp;

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "aws_sns",
    summary: "Amazon SNS over HTTPS, signature versions 1 and 2. Confirms the subscription of an expected topic itself.",
    secrets: &[],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `aws_sns`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The topics that may send.
    #[schemars(required)]
    topic_arns: Option<OneOrMany>,
    /// How far a message's time may be from ours, both ways. Left out, age does not matter: SNS repeats a message for up
    /// to an hour with the time of its first try, and its id tells repeats.
    max_age: Option<Span>,
    /// The authorities that the signing certificate must come from, in PEM; those of the machine when left out.
    trust_ca_pem: Option<String>,
    /// Signing certificates in PEM by their URL, for a gateway that cannot fetch them.
    cert_fixtures: Option<Map<String, Value>>,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { topic_arns, max_age, trust_ca_pem, cert_fixtures } = params::read(with)?;
    let mut problems = Vec::new();
    let topics = topic_arns.map(|topics| topics.as_slice().to_vec()).unwrap_or_default();
    if topics.is_empty() || topics.iter().any(|topic| !topic.starts_with("arn:")) {
        let help = "add `topic_arns: [arn:aws:sns:us-east-1:123456789012:orders]`";
        problems.push(ConfigError::new("topic_arns", "anybody can make a topic, and none is named here", help));
    }
    let certificates = Certificates::new(trust_ca_pem.as_deref()).map_err(|why| {
        problems.push(ConfigError::new("trust_ca_pem", why, "paste the authorities' certificates in PEM"));
    });
    if let Ok(certificates) = &certificates {
        for (url, pem) in cert_fixtures.iter().flatten() {
            if pem.as_str().is_none_or(|pem| !certificates.learn(url, pem.as_bytes())) {
                let message = format!("there is no certificate in PEM for `{url}`");
                problems.push(ConfigError::new("cert_fixtures", message, "paste what the URL answers"));
            }
        }
    }
    match certificates {
        Ok(certificates) if problems.is_empty() => {
            let max_age = max_age.map(|Span(span)| span);
            Ok(Box::new(Sns(Arc::new(Rule { topics, max_age, certificates }))))
        }
        _ => Err(problems),
    }
}

struct Rule {
    topics: Vec<String>,
    max_age: Option<Duration>,
    certificates: Certificates,
}

struct Sns(Arc<Rule>);

impl Scheme for Sns {
    fn needs(&self) -> Vec<&'static str> {
        vec![]
    }

    fn prepare(&self, _: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Ready(Arc::clone(&self.0))))
    }
}

struct Ready(Arc<Rule>);

/// A message as SNS posts it; a member that is there twice is an error.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names are those of the platform")]
struct Message {
    r#type: Kind,
    message_id: String,
    topic_arn: String,
    message: String,
    timestamp: String,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
    subject: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    token: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    Notification,
    SubscriptionConfirmation,
    UnsubscribeConfirmation,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }
}

impl Check for Ready {
    fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        let (message, _) = self.0.read(request).ok()?;
        let url = message.signing_cert_url;
        (!self.0.certificates.knows(&url)).then_some(Missing { url, needed: true })
    }

    fn learn(&self, url: &str, answer: &[u8], _: Timestamp) -> bool {
        self.0.certificates.learn(url, answer)
    }

    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let (message, algorithm) = self.0.read(request)?;
        let (url, now) = (&message.signing_cert_url, request.received_at);
        let host = amazon(url).and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
        let key = self.0.certificates.key(url, &host, now)?;
        let text = message.signed_text()?;
        let signature = BASE64.decode(message.signature.as_bytes());
        let signature = signature.map_err(|_| Reject::malformed("Signature", "base64"))?;
        let fits = UnparsedPublicKey::new(algorithm, &key).verify(text.as_bytes(), &signature);
        fits.map_err(|_| Reject::WrongSignature)?;

        let malformed = || Reject::malformed("Timestamp", "a time by RFC 3339");
        let signed_at = Timestamp::parse_rfc3339(&message.timestamp).ok_or_else(malformed)?;
        self.0.within_age(signed_at, now)?;
        match (message.r#type, message.subscribe_url) {
            (Kind::Notification, _) => Ok(Verdict::Deliver(Proof {
                delivery_id: Some(delivery_id("MessageId", message.message_id.as_bytes())?),
                id_is_signed: true,
                // The values are signed, not the bytes around them, and `UnsubscribeURL` not at all.
                body_is_signed: false,
                signed_at: Some(signed_at),
                ..Proof::default()
            })),
            (Kind::SubscriptionConfirmation, Some(url)) => {
                let get = amazon(&url).ok_or_else(|| Reject::malformed("SubscribeURL", "a URL of Amazon SNS"))?;
                Ok(Verdict::HandshakeThen { answer: Answer::empty(), get: get.into(), id: message.message_id })
            }
            // To call the URL of this one would subscribe us again.
            _ => Ok(Verdict::Handshake(Answer::empty())),
        }
    }
}

impl Rule {
    /// Reads what a message claims and refuses what no signature could make good.
    fn read(&self, request: &Inbound<'_>) -> Result<(Message, &'static RsaParameters), Reject> {
        let headers = request.headers;
        if headers.get_all("x-amz-sns-rawdelivery").any(|raw| raw.eq_ignore_ascii_case(b"true")) {
            return Err(Reject::malformed("x-amz-sns-rawdelivery", "off: raw messages carry no signature"));
        }
        let kind = headers.unique("x-amz-sns-message-type")?;
        headers.unique("x-amz-sns-message-id")?;
        headers.unique("x-amz-sns-topic-arn")?;
        let malformed = || Reject::malformed("body", "a message of Amazon SNS");
        let json = request.body.trim_ascii_start();
        let message: Option<Message> = json.starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten();
        let message = message.ok_or_else(malformed)?;
        if kind.is_some_and(|kind| kind != message.r#type.name().as_bytes()) {
            return Err(Reject::malformed("x-amz-sns-message-type", "the `Type` of the message"));
        }
        if !self.topics.contains(&message.topic_arn) {
            return Err(Reject::malformed("TopicArn", "a topic that the route expects"));
        }
        let algorithm = match message.signature_version.as_str() {
            "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Reject::UnknownVersion { what: "SignatureVersion".into() }),
        };
        let certificate = amazon(&message.signing_cert_url);
        if certificate.is_none_or(|url| url.path().strip_suffix(".pem").is_none() || url.query().is_some()) {
            return Err(Reject::malformed("SigningCertURL", "the URL of a certificate of Amazon SNS"));
        }
        Ok((message, algorithm))
    }

    fn within_age(&self, signed_at: Timestamp, now: Timestamp) -> Result<(), Reject> {
        let Some(max_age) = self.max_age else { return Ok(()) };
        let skew_ms = i128::from(now.as_millis()) - i128::from(signed_at.as_millis());
        let tolerance_ms = max_age.as_millis();
        if skew_ms.unsigned_abs() <= tolerance_ms { Ok(()) } else { Err(Reject::Stale { skew_ms, tolerance_ms }) }
    }
}

impl Message {
    /// The names and values that are signed, in their order, each on a line of its own.
    fn signed_text(&self) -> Result<String, Reject> {
        let mut pairs = vec![("Message", self.message.as_str()), ("MessageId", &self.message_id)];
        let missing = |name| Reject::malformed(name, "a text");
        if self.r#type == Kind::Notification {
            pairs.extend(self.subject.as_deref().map(|subject| ("Subject", subject)));
            pairs.push(("Timestamp", &self.timestamp));
        } else {
            let url = self.subscribe_url.as_deref().ok_or_else(|| missing("SubscribeURL"))?;
            let token = self.token.as_deref().ok_or_else(|| missing("Token"))?;
            pairs.extend([("SubscribeURL", url), ("Timestamp", self.timestamp.as_str()), ("Token", token)]);
        }
        pairs.extend([("TopicArn", self.topic_arn.as_str()), ("Type", self.r#type.name())]);
        Ok(pairs.iter().flat_map(|(name, value)| [*name, "\n", *value, "\n"]).collect())
    }
}

/// The URL, when it is one of `sns.REGION.amazonaws.com` or its Chinese counterpart over HTTPS, without a user or a port
/// of its own.
fn amazon(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let Some(Host::Domain(host)) = url.host() else { return None };
    let region = host.strip_prefix("sns.")?;
    let region = region.strip_suffix(".amazonaws.com").or_else(|| region.strip_suffix(".amazonaws.com.cn"))?;
    let is_region = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    // What the parser has changed is not what was checked: a backslash, a line break, an upper-case host.
    let as_written = text.starts_with(&format!("https://{host}/"));
    let plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
    (url.scheme() == "https" && is_region && as_written && plain && url.fragment().is_none()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, is_amazons: bool) {
        assert_eq!(amazon(url).is_some(), is_amazons, "{url}");
    }

    #[test]
    fn only_hosts_of_amazon_are_called() {
        check("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem", true);
        check("https://sns.us-gov-west-1.amazonaws.com/a.pem", true);
        check("https://sns.cn-north-1.amazonaws.com.cn/a.pem", true);
        check("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=a", true);
        for bad in [
            "http://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
            "https://user@sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com:8443/a.pem",
            "https://sns.us-east-1.amazonaws.com:443/a.pem",
            "https://sns.us-east-1.amazonaws.com\\@evil.example/a.pem",
            "https://SNS.us-east-1.amazonaws.com/a.pem",
            "https://sns.a.b.amazonaws.com/a.pem",
            "https://sns..amazonaws.com/a.pem",
            "https://sns.amazonaws.com/a.pem",
            "https://xsns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com./a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem#b",
            " https://sns.us-east-1.amazonaws.com/a.pem",
            "https:\\\\sns.us-east-1.amazonaws.com/a.pem",
            "https://169.254.169.254/a.pem",
            "",
        ] {
            check(bad, false);
        }
    }
}
