//! `clawhook plan` by the real program against a real gateway: files that differ, then the same files.

use serde_json::{Value, json};

use crate::app::{Folder, OPEN, PUSH, orders_route};
use crate::process::{Process, clawhook};
use crate::standin::{self, Standin};

const HOLD: &str = "version: 1\nname: hold\ntasks: [{ id: pause, type: wait, with: { for: 20h } }]\n";

/// What `plan` said, and its exit code.
fn plan(files: &Folder, gateway: &Process, more: &[&str]) -> (String, Option<i32>) {
    let config = files.path("clawhook.yaml");
    let arguments = ["plan", "--config", config.to_str().unwrap(), "--url", &gateway.control.url];
    let output = clawhook(&files.path(""), &[&arguments, more].concat(), &files.env);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (said, output.status.code())
}

/// Files, and what is changed of them; everything else stays as it is.
fn folder(erp: &Standin, changed: bool) -> Folder {
    let folder = Folder::new(OPEN, Some(erp));
    let pick = |before: &str, after: &str| if changed { after.to_owned() } else { before.to_owned() };
    // A comment is another revision of a file, and no change of the route in it.
    folder.write("workflows/push.yaml", PUSH);
    folder.write("workflows/hold.yaml", &pick(HOLD, &HOLD.replace("20h", "21h")));
    folder.write(
        "routes/orders.yaml",
        &orders_route(&pick("", "    filter: ${{ body.id > 1 }}\n    redact: [$.customer]")),
    );
    let same = orders_route("").replace("orders", "same");
    folder.write("routes/same.yaml", &pick(&same, &format!("# The same.\n{same}")));
    let clock = "version: 1\nschedules: [{ name: tick, every: 1h, workflow: hold }]\n";
    folder.write(
        "routes/clock.yaml",
        &pick(clock, &clock.replace("every: 1h", "cron: '0 3 * * *', timezone: Asia/Shanghai")),
    );
    let settings = std::fs::read_to_string(folder.path("clawhook.yaml")).unwrap();
    let erp_settings = pick("rate_limit: { rate: 5/s }", "headers: { X-Shop: us }, rate_limit: { rate: 6/s }");
    let settings = settings.replace("erp: { ", &format!("erp: {{ {erp_settings}, "));
    let robot = "channels: { ops: { type: slack, url: { secret_ref: shop-key } } }\n";
    let more = format!("retention: {{ runs: {} }}\n{}", pick("90d", "60d"), pick("", robot));
    folder.write("clawhook.yaml", &format!("{settings}{more}"));
    if changed {
        folder.write("workflows/fresh.yaml", &HOLD.replace("name: hold", "name: fresh"));
    } else {
        folder.write("routes/gone.yaml", &orders_route("").replace("orders", "gone"));
    }
    folder
}

#[tokio::test]
async fn files_are_held_against_the_gateway() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let (old, new) = (folder(&erp, false), folder(&erp, true));
    let gateway = Process::start(&old, "info").await;
    let nothing = "nothing to do: the gateway has these files in force\n".to_owned();
    assert_eq!(plan(&old, &gateway, &["--detailed-exitcode"]), (nothing, Some(0)));

    let started = gateway.control.post("/v1/workflows/trigger", &json!({ "workflow": "hold" })).await;
    let run = started.run();
    gateway.control.until(&format!("/v1/runs/{run}"), |run| run["status"] == "waiting").await;
    let revision = gateway.control.get("/v1/workflows/hold").await["revision"].as_str().unwrap().to_owned();
    let (said, code) = plan(&new, &gateway, &["--detailed-exitcode"]);
    assert_eq!(code, Some(3), "{said}");
    for line in [
        "workflows\n  + fresh\n",
        &format!("  ~ hold  revision {revision} → "),
        "routes\n  - gone\n  ~ orders  filter, redact\n",
        "schedules\n  ~ tick  cron every 1h → 0 3 * * *, every, timezone\n      next before: ",
        "      next after:  ",
        &format!("  hold at {revision}: 1 waiting\n"),
        "connections\n  ~ erp  headers, rate_limit\nchannels\n  + ops\nsettings\n  ~ retention  runs\n",
        "2 to add, 4 to change, 1 to remove; `clawhook reload` does it\n",
        "0 to add, 1 to change, 0 to remove; the settings take a restart\n",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    assert!(!said.contains("same") && !said.contains("push") && !said.contains("catch up"), "{said}");
    assert_eq!(plan(&new, &gateway, &[]).1, Some(0));
    let told: Value = serde_json::from_str(&plan(&new, &gateway, &["--json"]).0).unwrap();
    assert_eq!(told["changes"].as_array().unwrap().len(), 8, "{told}");
    assert_eq!(told["runs_that_stay"], json!([{ "workflow": "hold", "revision": revision, "runs": { "waiting": 1 } }]));

    // The gateway takes the files, and the plan is carried out. The run stays where it is.
    for file in [
        "workflows/hold.yaml",
        "workflows/fresh.yaml",
        "routes/orders.yaml",
        "routes/same.yaml",
        "routes/clock.yaml",
        "clawhook.yaml",
    ] {
        old.write(file, &std::fs::read_to_string(new.path(file)).unwrap());
    }
    std::fs::remove_file(old.path("routes/gone.yaml")).unwrap();
    gateway.control.post("/v1/reload", &json!({})).await.expect(200);
    let (said, code) = plan(&new, &gateway, &["--detailed-exitcode"]);
    assert_eq!(code, Some(3), "{said}");
    // What a reload does not take over is told until the restart.
    let rest = "settings\n  ~ retention  runs\n";
    assert!(said.starts_with(rest) && said.ends_with("remove; the settings take a restart\n"), "{said}");
    assert!(
        !said.contains("reload") && !said.contains("erp") && said.contains(&format!("hold at {revision}: 1 waiting")),
        "{said}"
    );

    new.write("workflows/hold.yaml", "version: 1\nname: hold\ntasks: []\n");
    let (said, code) = plan(&new, &gateway, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("hold.yaml") && said.contains("so nothing was compared"), "{said}");
    gateway.stop();
    let (said, code) = {
        let nobody = ["plan", "--config", "clawhook.yaml", "--url", "http://127.0.0.1:1"];
        let output = clawhook(&old.path(""), &nobody, &old.env);
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    };
    assert!(code == Some(1) && said.contains("cannot be reached"), "{said}");
}
