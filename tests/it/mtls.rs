//! Client certificates at the hooks door of a whole gateway, over HTTP/1.1 and HTTP/2: who is let in, and who is not.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd, generate_simple_self_signed,
};
use reqwest::{Client, ClientBuilder, Identity, Version};

use crate::app::{App, Folder, OPEN};

const NOTE: &str = "
version: 1
name: note
tasks: [ { id: keep, type: transform, with: { input: 1, jq: . } } ]
";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of `authority` for `partner`, changed in one way.
fn certificate(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
    let mut params = CertificateParams::new(vec!["erp.partner.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "partner");
    params.subject_alt_names.push(SanType::URI("spiffe://partner.example/erp".try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key)
}

fn identity(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let (pem, key) = certificate(authority, change);
    Identity::from_pem(format!("{}{pem}", key.serialize_pem()).as_bytes()).unwrap()
}

fn indented(pem: &str) -> String {
    pem.lines().flat_map(|line| ["        ", line, "\n"]).collect()
}

/// A gateway with TLS and these verifiers, at `/hooks/0`, `/hooks/1` and so on, with these authorities as a secret; and its
/// certificate.
async fn start(verifiers: &[String], authorities: &str) -> (App, reqwest::Certificate, Folder) {
    let settings = OPEN.replace("hooks: {", "hooks: { tls: { cert: cert.pem, key: key.pem },");
    let folder = Folder::new(&settings, None);
    let pair = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    folder.write("cert.pem", &pair.cert.pem());
    folder.write("key.pem", &pair.signing_key.serialize_pem());
    folder.write("workflows/note.yaml", NOTE);
    let routes: String = verifiers.iter().enumerate().fold(String::new(), |routes, (place, verify)| {
        format!("{routes}  - path: /hooks/{place}\n    workflow: note\n    verify:\n{verify}\n")
    });
    folder.write("routes/partner.yaml", &format!("version: 1\nroutes:\n{routes}"));
    folder.secret("authorities", authorities);
    (folder.start().await, reqwest::Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap(), folder)
}

fn mtls(authority: &Authority, pins: &str) -> String {
    format!("      preset: mtls\n      {pins}\n      ca_pem: |\n{}", indented(&authority.pem()))
}

/// What the route says to this client.
async fn deliver(app: &App, client: ClientBuilder, root: &reqwest::Certificate, route: usize, wanted: Version) -> u16 {
    let client = client.tls_certs_only([root.clone()]).build().unwrap();
    let answer = client.post(format!("{}/hooks/{route}", app.hooks)).body("{}").send().await.unwrap();
    assert_eq!(answer.version(), wanted);
    answer.status().as_u16()
}

#[tokio::test]
async fn who_is_let_in() {
    let (ours, theirs) = (authority("Ours"), authority("Theirs"));
    let (pinned, pinned_key) = certificate(&ours, |_| {});
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(pinned.as_bytes());
    let der: rustls::pki_types::CertificateDer<'_> = der.unwrap();
    let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let print = data_encoding::HEXUPPER.encode(print.as_ref());
    let (app, root, _folder) = start(
        &[
            mtls(&ours, "subjects: partner"),
            mtls(&ours, "sans: [other.example, ERP.partner.example]"),
            mtls(&ours, "sans: spiffe://partner.example/erp"),
            mtls(&ours, &format!("fingerprints: '{print}'")),
            mtls(&theirs, "subjects: partner"),
            "      { preset: bearer, secret_ref: shop-key }".to_owned(),
        ],
        "unused",
    )
    .await;
    let h2 = Client::builder;
    let check = async |what: &str, client: ClientBuilder, route: usize, expected: u16| {
        assert_eq!(deliver(&app, client, &root, route, Version::HTTP_2).await, expected, "{what} at {route}");
    };
    let good = || identity(&ours, |_| {});
    assert_eq!(deliver(&app, h2().identity(good()).http1_only(), &root, 0, Version::HTTP_11).await, 202);
    assert_eq!(deliver(&app, h2().http1_only(), &root, 0, Version::HTTP_11).await, 401);
    for (route, expected) in [(0, 202), (1, 202), (2, 202), (3, 401), (4, 401)] {
        check("a good one", h2().identity(good()), route, expected).await;
    }
    let pinned = Identity::from_pem(format!("{}{pinned}", pinned_key.serialize_pem()).as_bytes()).unwrap();
    check("the pinned one", h2().identity(pinned), 3, 202).await;
    check("none", h2(), 0, 401).await;
    check("another authority's", h2().identity(identity(&theirs, |_| {})), 0, 401).await;
    check("another authority's", h2().identity(identity(&theirs, |_| {})), 4, 202).await;
    let named = |name: &'static str| {
        move |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, name)
    };
    check("another name", h2().identity(identity(&ours, named("Partner"))), 0, 401).await;
    let ended = identity(&ours, |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    });
    check("an expired one", h2().identity(ended), 0, 401).await;
    let coming = identity(&ours, |params| params.not_before = date_time_ymd(2200, 1, 1));
    check("one of the future", h2().identity(coming), 0, 401).await;
    let server = identity(&ours, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    check("a server's", h2().identity(server), 0, 401).await;
    // A name that is looked for, said by nobody: an authority that signs itself.
    let own = identity(&authority("Ours"), |_| {});
    check("one of an authority that calls itself the same", h2().identity(own), 0, 401).await;
    // Senders of other routes may show whatever they have.
    let stranger = h2().identity(identity(&theirs, |_| {})).tls_certs_only([root.clone()]).build().unwrap();
    let answer = stranger.post(format!("{}/hooks/5", app.hooks)).bearer_auth(crate::app::KEY).body("{}").send().await;
    assert_eq!(answer.unwrap().status(), 202);
    let refused = app.control.get("/v1/refusals?limit=50").await;
    let codes: Vec<_> = refused["items"].as_array().unwrap().iter().map(|row| row["code"].as_str().unwrap()).collect();
    for code in ["no_client_certificate", "untrusted_certificate", "unknown_client"] {
        assert!(codes.contains(&code), "{codes:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_authority_is_replaced_by_another() {
    let (old, new) = (authority("Old"), authority("New"));
    let both = [old.pem(), new.pem()].concat();
    let (app, root, folder) = start(
        &[
            format!("      preset: mtls\n      subjects: partner\n      ca_pem: |\n{}", indented(&both)),
            "      preset: mtls\n      subjects: partner\n      secrets: { ca: { secret_ref: authorities } }"
                .to_owned(),
        ],
        &old.pem(),
    )
    .await;
    for (authority, by_secret) in [(&old, 202), (&new, 401)] {
        let client = || Client::builder().identity(identity(authority, |_| {}));
        assert_eq!(deliver(&app, client(), &root, 0, Version::HTTP_2).await, 202);
        assert_eq!(deliver(&app, client(), &root, 1, Version::HTTP_2).await, by_secret);
    }
    folder.secret("authorities", &both);
    app.stop().await;
    let app = folder.start().await;
    for authority in [&old, &new] {
        let client = Client::builder().identity(identity(authority, |_| {}));
        assert_eq!(deliver(&app, client, &root, 1, Version::HTTP_2).await, 202);
    }
    app.stop().await;
}
