//! `clawhook subscriptions` by the real binary, against three platforms that keep what they were asked to send: every
//! drift is told and mended, nothing is done twice, and nothing of others is touched.

mod far;

use std::process::Output;

use serde_json::{Value, json};

use self::far::{CONSUMER, Far, Hook, Kind, TOKEN};
use crate::app::{Folder, OPEN};
use crate::process::clawhook;

const ALL: [Kind; 3] = [Kind::Shopify, Kind::Woocommerce, Kind::Walmart];
const HERE: &str = "https://gw.example.com/hooks/orders";
const WORKFLOW: &str = "version: 1\nname: push\ninputs: { order: { type: object } }\ntasks: [{ id: t, type: transform, with: { input: 1, jq: . } }]\n";
const SECRET: &str = "hush-route-secret:of-two-parts";

/// Two topics, as routes write them and as the platform spells them.
fn topics(kind: Kind) -> [(&'static str, &'static str); 2] {
    match kind {
        Kind::Shopify => [("orders/create", "ORDERS_CREATE"), ("orders/updated", "ORDERS_UPDATED")],
        Kind::Woocommerce => [("order.created", "order.created"), ("order.updated", "order.updated")],
        Kind::Walmart => {
            [("ORDER/PO_CREATED", "ORDER/PO_CREATED/V1"), ("ITEM/OFFER_UNPUBLISHED/V2", "ITEM/OFFER_UNPUBLISHED/V2")]
        }
    }
}

struct Scene {
    kind: Kind,
    far: Far,
    folder: Folder,
}

impl Scene {
    fn new(kind: Kind) -> Self {
        let (verify, auth) = match kind {
            Kind::Shopify => ("preset: shopify", "headers: { X-Shopify-Access-Token: { secret_ref: platform-token } }".to_owned()),
            Kind::Woocommerce => ("preset: woocommerce", format!("auth: {{ type: basic, username: {CONSUMER}, secret_ref: platform-token }}")),
            Kind::Walmart => ("preset: walmart_hmac, auth_header_name: X-Walmart-Auth", "auth: { type: walmart, client_id: c, client_secret: { secret_ref: platform-token }, token_url: TOKEN_URL }".to_owned()),
        };
        Self::with(kind, verify, &auth)
    }

    fn with(kind: Kind, verify: &str, auth: &str) -> Self {
        let far = Far::start(kind);
        let folder = Folder::new(OPEN, None);
        let auth = auth.replace("TOKEN_URL", &format!("{}/v3/token", far.url()));
        let open = OPEN.replace("hooks: { ", "hooks: { public_url: \"https://gw.example.com/\", ");
        folder.write(
            "clawhook.yaml",
            &format!("{open}\negress: {{ allow: [\"127.0.0.0/8\"] }}\nconnections:\n  platform: {{ base_url: \"{}\", {auth} }}\n", far.url()),
        );
        folder.write("workflows/push.yaml", WORKFLOW);
        let [first, second] = topics(kind).map(|(topic, _)| topic);
        folder.write(
            "routes/orders.yaml",
            &format!(
                "version: 1\nroutes:\n  - name: orders\n    path: /hooks/orders\n    verify: {{ {verify}, secret_ref: route-secret }}\n    \
                 workflow: push\n    inputs: {{ order: \"${{{{ body }}}}\" }}\n    subscription: {{ connection: platform, topics: [{first}, {second}] }}\n"
            ),
        );
        folder.secret("platform-token", TOKEN);
        folder.secret("route-secret", SECRET);
        Self { kind, far, folder }
    }

    fn run(&self, words: &[&str]) -> Output {
        let config = self.folder.path("clawhook.yaml");
        let words = [&["subscriptions"], words, &["--json", "--config", config.to_str().unwrap()]].concat();
        let output = clawhook(&self.folder.path("."), &words, &self.folder.env);
        let said = [output.stdout.clone(), output.stderr.clone()].concat();
        let said = String::from_utf8_lossy(&said);
        for secret in [SECRET, TOKEN] {
            assert!(!said.contains(secret), "a secret was shown: {said}");
        }
        output
    }

    /// What `plan` ends with, and what it would do.
    #[track_caller]
    fn plan(&self, more: &[&str], code: i32) -> Vec<Value> {
        let before = self.far.lock().changed;
        let output = self.run(&[&["plan"], more].concat());
        assert_eq!(output.status.code(), Some(code), "{:?}: {output:?}", self.kind);
        assert_eq!(self.far.lock().changed, before, "`plan` changes nothing");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["connections"]["platform"]["changes"].as_array().unwrap().clone()
    }

    /// `apply` does this much, and `plan` finds nothing more to do.
    #[track_caller]
    fn applied(&self, more: &[&str], changes: usize) {
        let before = self.far.lock().changed;
        let output = self.run(&[&["apply", "--yes"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{:?}: {output:?}", self.kind);
        assert_eq!(self.far.lock().changed - before, changes, "{:?}", self.kind);
        self.plan(more, 0);
    }

    fn hooks(&self) -> Vec<Hook> {
        self.far.lock().hooks.clone()
    }
}

#[track_caller]
fn check_change(changes: &[Value], action: &str, topic: &str, why: &str) {
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((&changes[0]["action"], &changes[0]["topic"]), (&json!(action), &json!(topic)), "{changes:?}");
    assert!(changes[0]["why"].to_string().contains(why), "{changes:?}");
}

#[test]
fn what_is_missing_is_asked_for_once() {
    for kind in ALL {
        let scene = Scene::new(kind);
        let changes = scene.plan(&[], 3);
        let created: Vec<_> =
            changes.iter().map(|change| (&change["action"], &change["topic"], &change["url"])).collect();
        let expected = topics(kind).map(|(_, topic)| (json!("create"), json!(topic), json!(HERE)));
        assert_eq!(created, expected.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>(), "{kind:?}");
        scene.applied(&[], 2);
        let before = scene.hooks();
        // Again, there is nothing to do.
        scene.applied(&[], 0);
        assert_eq!(scene.hooks(), before);
        assert!(before.iter().all(|hook| hook.url == HERE && hook.on), "{before:?}");
        // The platform removes one that failed too often.
        scene.far.lock().hooks.remove(0);
        check_change(&scene.plan(&[], 3), "create", topics(kind)[0].1, "missing");
        scene.applied(&[], 1);
        scene.far.check();
    }
}

#[test]
fn platforms_are_told_how_to_prove_themselves() {
    let woo = Scene::new(Kind::Woocommerce);
    woo.applied(&[], 2);
    assert!(woo.hooks().iter().all(|hook| hook.said["secret"] == SECRET), "the secret of the route");
    assert_eq!(woo.hooks()[0].said["name"], "clawhook orders order.created");

    let walmart = Scene::new(Kind::Walmart);
    walmart.applied(&[], 2);
    let hmac = json!({ "authMethod": "HMAC", "authHeaderName": "X-Walmart-Auth", "clientSecret": SECRET });
    assert!(walmart.hooks().iter().all(|hook| hook.said["authDetails"] == hmac), "{:?}", walmart.hooks());
    // Somebody changed it in the portal.
    walmart.far.lock().hooks[1].said["authDetails"]["authMethod"] = json!("BASIC_AUTH");
    check_change(&walmart.plan(&[], 3), "repair", "ITEM/OFFER_UNPUBLISHED/V2", "its auth is BASIC_AUTH");
    walmart.applied(&[], 1);
    assert_eq!(walmart.hooks()[1].said["authDetails"], hmac);

    let auth =
        "auth: { type: walmart, client_id: c, client_secret: { secret_ref: platform-token }, token_url: TOKEN_URL }";
    let basic = Scene::with(Kind::Walmart, "preset: basic", auth);
    let config = std::fs::read_to_string(basic.folder.path("routes/orders.yaml")).unwrap();
    basic.folder.write(
        "routes/orders.yaml",
        &config.replace("connection: platform,", "connection: platform, platform: walmart,"),
    );
    basic.applied(&[], 2);
    let (user, password) = SECRET.split_once(':').unwrap();
    let details = json!({ "authMethod": "BASIC_AUTH", "authHeaderName": "Authorization", "userName": user, "password": password });
    assert_eq!(basic.hooks()[0].said["authDetails"], details);
}

#[test]
fn what_leads_elsewhere_is_bent_here() {
    for kind in ALL {
        let scene = Scene::new(kind);
        scene.applied(&[], 2);
        let id = scene.hooks()[1].id.clone();
        for elsewhere in ["https://old.example.com/hooks/orders", "https://gw.example.com/hooks/before"] {
            scene.far.lock().hooks[1].url = elsewhere.to_owned();
            check_change(&scene.plan(&[], 3), "repair", topics(kind)[1].1, elsewhere);
            scene.applied(&[], 1);
        }
        let mended = &scene.hooks()[1];
        assert_eq!((mended.url.as_str(), &mended.id), (HERE, &id), "the same one, not another");
        scene.far.check();
    }
}

#[test]
fn what_the_platform_switched_off_is_switched_on() {
    // Shopify removes instead.
    for kind in [Kind::Woocommerce, Kind::Walmart] {
        let scene = Scene::new(kind);
        scene.applied(&[], 2);
        scene.far.lock().hooks[0].on = false;
        check_change(&scene.plan(&[], 3), "repair", topics(kind)[0].1, "does not send");
        scene.applied(&[], 1);
        assert!(scene.hooks()[0].on);
        scene.far.check();
    }
    let scene = Scene::new(Kind::Shopify);
    scene.applied(&[], 2);
    scene.far.lock().hooks[0].said = json!({ "format": "XML" });
    check_change(&scene.plan(&[], 3), "repair", "ORDERS_CREATE", "its format is XML");
    scene.applied(&[], 1);
}

#[test]
fn what_is_of_others_stays_and_what_is_too_much_goes_only_when_told() {
    for kind in ALL {
        let scene = Scene::new(kind);
        scene.applied(&[], 2);
        let like = |id: &str, topic: &str, url: &str| {
            let mut hook = scene.hooks()[0].clone();
            (hook.id, hook.topic, hook.url) = (id.to_owned(), topic.to_owned(), url.to_owned());
            hook.said["name"] = json!("of somebody else");
            if kind == Kind::Walmart {
                let parts: Vec<_> = topic.split('/').collect();
                (hook.said["resourceName"], hook.said["eventType"]) = (json!(parts[0]), json!(parts[1]));
            }
            hook
        };
        let surplus = match kind {
            Kind::Shopify => "APP_UNINSTALLED",
            Kind::Woocommerce => "coupon.created",
            Kind::Walmart => "PRICE/BUY_BOX_CHANGED/V1",
        };
        let mine = like("77", surplus, "https://gw.example.com/hooks/long-ago");
        let foreign = like("78", topics(kind)[0].1, "https://other.example.net/in");
        scene.far.lock().hooks.extend([mine.clone(), foreign.clone()]);
        scene.plan(&[], 0);
        scene.applied(&[], 0);
        check_change(&scene.plan(&["--prune"], 3), "remove", surplus, "no route wants it");
        scene.applied(&["--prune"], 1);
        assert!(scene.hooks().contains(&foreign) && !scene.hooks().contains(&mine), "{:?}", scene.hooks());
        scene.far.check();
    }
}

#[test]
fn what_is_refused_is_told_and_the_rest_is_done() {
    for kind in ALL {
        let scene = Scene::new(kind);
        scene.far.lock().refusal = Some("this topic is not for you");
        let output = scene.run(&["apply", "--yes"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("this topic is not for you") && said.contains("subscription.refused"), "{said}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (told["done"].as_array().unwrap().len(), told["failed"].as_array().unwrap().len()),
            (1, 1),
            "{told}"
        );
        // The next time the rest is done.
        scene.applied(&[], 1);
    }
}

#[test]
fn quota_is_waited_for() {
    let scene = Scene::new(Kind::Shopify);
    scene.far.lock().throttled = 1;
    scene.applied(&[], 2);
    scene.far.check();
}

#[test]
fn nothing_is_done_without_somebody_who_agrees() {
    let scene = Scene::new(Kind::Shopify);
    let output = scene.run(&["apply"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"), "{output:?}");
    assert_eq!(scene.hooks(), Vec::new());
    scene.folder.secret("platform-token", "another");
    let output = clawhook(
        &scene.folder.path("."),
        &["subscriptions", "plan", "--config", scene.folder.path("clawhook.yaml").to_str().unwrap()],
        &scene.folder.env,
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("check the credentials"), "{output:?}");
}
