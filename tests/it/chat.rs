//! Chat platforms through the real hooks door: what was in the envelope starts the run, and the platform hears what it
//! counts as success, the first time and every other time.

use data_encoding::HEXLOWER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, App, Folder, OPEN};
use crate::envelope::Platform;

const WECOM: Platform<'_> = Platform {
    token: "QDG6eK",
    aes_key: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C",
    receiver: "wx5823bf96d3bd56c7",
};
const DINGTALK: Platform<'_> = Platform {
    token: "mryue",
    aes_key: "Yue0EfdN5900c1ce5cf6A152c63DDe1808a60c5ecd7",
    receiver: "ding6ccabc44d2c8d38b",
};

const SEEN: &str = r#"
version: 1
name: seen
labels: { kind: "${{ inputs.kind }}" }
inputs: { kind: { type: string, required: true }, message: { type: object, required: true } }
tasks: [ { id: keep, type: transform, with: { input: "${{ inputs.message }}", jq: . } } ]
outputs: { message: "${{ tasks.keep }}" }
"#;

/// A gateway with one route at `/hooks/chat`.
async fn gateway(verify: &str, kind: &str, secrets: &[(&str, &str)]) -> App {
    let folder = Folder::new(OPEN, None);
    folder.write("workflows/seen.yaml", SEEN);
    for (name, value) in secrets {
        folder.secret(name, value);
    }
    folder.write(
        "routes/chat.yaml",
        &format!(
            r#"
version: 1
routes:
  - name: chat
    path: /hooks/chat
    verify: {verify}
    filter: ${{{{ {kind} != "unwanted" }}}}
    redact: [ "$.phone" ]
    workflow: seen
    inputs: {{ kind: "${{{{ {kind} }}}}", message: "${{{{ body }}}}" }}
"#
        ),
    );
    folder.start().await
}

async fn ask(app: &App, method: Method, query: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut request = app.control.http.request(method, format!("{}/hooks/chat?{query}", app.hooks));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Answer::of(request.body(body.to_owned()).send().await.unwrap()).await
}

async fn runs(app: &App) -> Vec<Value> {
    app.control.get("/v1/runs").await["items"].as_array().unwrap().clone()
}

/// What the only run saw, once it has ended.
async fn only_run(app: &App) -> Value {
    let runs = runs(app).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = app.control.ended(runs[0]["id"].as_str().unwrap()).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    run
}

#[tokio::test]
async fn a_message_of_wecom_starts_one_run() {
    let verify = r"{ preset: wecom, receive_id: wx5823bf96d3bd56c7, secrets: { token: { secret_ref: t }, encoding_aes_key: { secret_ref: k } } }";
    let app = gateway(verify, "body.MsgType", &[("t", WECOM.token), ("k", WECOM.aes_key)]).await;

    let echo = WECOM.encrypt("1616140317555161061", *b"0123456789abcdef");
    let signature = WECOM.sign("17", "n", &echo);
    let escaped = echo.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let query = format!("msg_signature={signature}&timestamp=17&nonce=n&echostr={escaped}");
    let checked = ask(&app, Method::GET, &query, &[], "").await;
    assert_eq!((checked.status, checked.text.as_str()), (200, "1616140317555161061"));
    assert_eq!(runs(&app).await, Vec::<Value>::new());

    let post = async |message: &str, salt: [u8; 16]| {
        let encrypt = WECOM.encrypt(message, salt);
        let query = format!("msg_signature={}&timestamp=17&nonce=n", WECOM.sign("17", "n", &encrypt));
        let body = format!("<xml><ToUserName>corp</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>");
        ask(&app, Method::POST, &query, &[("content-type", "text/xml".to_owned())], &body).await
    };
    let sent = "<xml><FromUserName><![CDATA[li]]></FromUserName><MsgType><![CDATA[text]]></MsgType>\
                <Content><![CDATA[查 <库存> & SKU-1]]></Content><phone>13800000000</phone><MsgId>7390</MsgId></xml>";
    let first = post(sent, *b"0123456789abcdef").await;
    assert_eq!((first.status, first.text.as_str(), first.header("clawhook-duplicate")), (200, "", None));
    let run = only_run(&app).await;
    let message = &run["outputs"]["message"];
    assert_eq!(message["Content"], "查 <库存> & SKU-1", "{run}");
    assert_eq!((&run["labels"]["kind"], &run["delivery"]["id"]), (&json!("text"), &json!("7390")));
    assert_eq!(run["delivery"]["verified_by"], "wecom");
    assert!(!run.to_string().contains("13800000000"), "{run}");
    // The platform encrypts anew when it tries again.
    let again = post(sent, *b"fedcba9876543210").await;
    assert_eq!((again.status, again.text.as_str(), again.header("clawhook-duplicate")), (200, "", Some("true")));
    // A message that no filter wants is success to the platform too.
    let unwanted = post("<xml><MsgType>unwanted</MsgType><MsgId>8</MsgId></xml>", *b"0123456789abcdef").await;
    assert_eq!((unwanted.status, unwanted.text.as_str()), (200, ""));
    // Not ours, and not signed.
    let other = Platform { receiver: "wx-of-somebody-else", ..WECOM };
    let encrypt = other.encrypt(sent, *b"0123456789abcdef");
    let query = format!("msg_signature={}&timestamp=17&nonce=n", other.sign("17", "n", &encrypt));
    let body = format!("<xml><Encrypt>{encrypt}</Encrypt></xml>");
    for (query, body) in [(query.as_str(), body.as_str()), ("msg_signature=00&timestamp=17&nonce=n", &body), ("", sent)]
    {
        assert_eq!(ask(&app, Method::POST, query, &[], body).await.status, 401);
    }
    only_run(&app).await;
    app.stop().await;
}

#[tokio::test]
async fn an_event_of_dingtalk_starts_one_run_and_is_answered_by_success() {
    let verify = r"{ preset: dingtalk_event, receive_id: ding6ccabc44d2c8d38b, secrets: { token: { secret_ref: t }, encoding_aes_key: { secret_ref: k } } }";
    let app = gateway(verify, "body.EventType", &[("t", DINGTALK.token), ("k", DINGTALK.aes_key)]).await;
    let post = async |message: &Value, salt: [u8; 16]| {
        let encrypt = DINGTALK.encrypt(&message.to_string(), salt);
        let query =
            format!("signature={}&timestamp=1608001896814&nonce=n", DINGTALK.sign("1608001896814", "n", &encrypt));
        let answer = ask(&app, Method::POST, &query, &[], &json!({ "encrypt": encrypt }).to_string()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.text);
        assert_eq!(DINGTALK.read_json(&answer.text), ("success".to_owned(), DINGTALK.receiver.to_owned()));
        answer
    };
    post(&json!({ "EventType": "check_url" }), *b"0123456789abcdef").await;
    assert_eq!(runs(&app).await, Vec::<Value>::new());
    let event = json!({ "EventType": "bpms_task_change", "processInstanceId": "p-1", "taskId": 70_012_345_678_901_234_u64, "title": "退款审批" });
    let first = post(&event, *b"0123456789abcdef").await;
    assert_eq!(first.header("clawhook-duplicate"), None);
    let run = only_run(&app).await;
    assert_eq!(run["outputs"]["message"], event, "{run}");
    let again = post(&event, *b"fedcba9876543210").await;
    assert_eq!(again.header("clawhook-duplicate"), Some("true"));
    // Every answer is sealed anew.
    assert_ne!(first.text, again.text);
    only_run(&app).await;
    // Another event about the same task is another run, though it has the same id.
    let mut other = event.clone();
    other["remark"] = "同意".into();
    assert_eq!(post(&other, *b"0123456789abcdef").await.header("clawhook-duplicate"), None);
    assert_eq!(runs(&app).await.len(), 2);
    app.stop().await;
}

#[tokio::test]
async fn an_event_of_feishu_in_clear_does_not_give_its_token_away() {
    let verify = r"{ preset: feishu, secrets: { verification_token: { secret_ref: v } } }";
    let app = gateway(verify, "body.header.event_type", &[("v", "Tn83a9Bgtd0aueF7t0UDCh206ejuBjqz")]).await;
    let token = "Tn83a9Bgtd0aueF7t0UDCh206ejuBjqz";
    let asked = json!({ "type": "url_verification", "challenge": "c-1", "token": token });
    let checked = ask(&app, Method::POST, "", &[], &asked.to_string()).await;
    assert_eq!((checked.status, checked.json()), (200, json!({ "challenge": "c-1" })));
    assert_eq!(runs(&app).await, Vec::<Value>::new());
    let header = json!({ "event_id": "e-1", "event_type": "im.message.receive_v1", "token": token });
    let event = json!({ "schema": "2.0", "header": header, "event": { "message": "库存" } });
    for duplicate in [None, Some("true")] {
        let answer = ask(&app, Method::POST, "", &[], &event.to_string()).await;
        assert_eq!((answer.status, answer.json(), answer.header("clawhook-duplicate")), (200, json!({}), duplicate));
    }
    let run = only_run(&app).await;
    assert_eq!(run["outputs"]["message"]["event"]["message"], "库存");
    assert_eq!(run["delivery"]["id"], "e-1");
    assert!(!run.to_string().contains(token), "{run}");
    let mut forged = event;
    forged["header"]["token"] = "no".into();
    assert_eq!(ask(&app, Method::POST, "", &[], &forged.to_string()).await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn a_click_on_a_card_starts_one_run() {
    let app =
        gateway("{ preset: dingtalk_card, secret_ref: s, tolerance: 24h }", "body.type", &[("s", "api-secret")]).await;
    let time = clawhook::clock::Clock::now(&clawhook::clock::SystemClock).as_millis().to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"api-secret");
    let sign = data_encoding::BASE64.encode(aws_lc_rs::hmac::sign(&key, time.as_bytes()).as_ref());
    let headers = [("x-ddpaas-signature-timestamp", time), ("x-ddpaas-signature", sign)];
    let click = |action: &str| {
        let content = json!({ "cardPrivateData": { "actionIds": [action] } }).to_string();
        json!({ "type": "actionCallback", "outTrackId": "t-1", "userId": "li", "content": content }).to_string()
    };
    for duplicate in [None, Some("true")] {
        let answer = ask(&app, Method::POST, "", &headers, &click("agree")).await;
        assert_eq!((answer.status, answer.json(), answer.header("clawhook-duplicate")), (200, json!({}), duplicate));
    }
    only_run(&app).await;
    assert_eq!(ask(&app, Method::POST, "", &headers, &click("refuse")).await.header("clawhook-duplicate"), None);
    assert_eq!(runs(&app).await.len(), 2);
    let unsigned = HEXLOWER.encode(b"no");
    assert_eq!(ask(&app, Method::POST, "", &[("x-ddpaas-signature", unsigned)], "{}").await.status, 401);
    app.stop().await;
}
