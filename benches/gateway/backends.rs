//! Durable accepts on each store, beside the embedded one. Azurite and PostgreSQL come from `infra/emulators.sh`; without
//! them their rows are left out, and that is said. Azurite tells what the gateway itself costs, not what Azure answers.

use crate::folder::{Folder, Route, Storage};
use crate::rounds::Load;
use crate::{Bench, Result, bare};

const BODY_BYTES: usize = 1024;
const CONNECTIONS: usize = 32;

/// Accepts while runs are held, on each store.
pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    let stores = [
        ("sqlite", Some(Storage::embedded()), 20_000),
        ("postgres", postgres()?, 10_000),
        ("azure-blob (Azurite)", azurite(), 1_000),
    ];
    for (name, storage, requests) in stores {
        let Some(storage) = storage else {
            bench
                .report
                .skipped(&format!("accepts on {name}"), "its emulator is not up: see infra/emulators/README.md");
            continue;
        };
        compare(bench, name, &storage, bench.count(requests, requests / 10)).await?;
    }
    Ok(())
}

async fn compare(bench: &mut Bench, name: &str, storage: &Storage, requests: usize) -> Result<()> {
    let folder = Folder::on(&bench.folder, Route::Held, storage)?;
    let (gateway, bare) = (folder.start()?, bare::start()?);
    let (connections, body_bytes, bare_requests) = (CONNECTIONS, BODY_BYTES, 20_000);
    let load = Load { connections, body_bytes, rounds: bench.count(3, 1), requests, bare_requests };
    let rounds = load.send(gateway.address, bare.address).await?;
    rounds.report(bench, &format!("accepts on {name}, {CONNECTIONS} connections, 1 KiB"), "–", "–");
    Ok(())
}

fn azurite() -> Option<Storage> {
    let (endpoint, sas) = (variable("CLAWHOOK_TEST_AZURITE_HTTP_URL")?, variable("CLAWHOOK_TEST_AZURITE_SAS")?);
    let container = format!("bench-{}", std::process::id());
    Some(Storage {
        settings: format!(
            "backend: azure-blob, path: ./data, endpoint: \"{endpoint}\", container: {container}, sas: {{ secret_ref: sas }}"
        ),
        secrets: vec![("CLAWHOOK_SECRET_SAS".to_owned(), sas)],
    })
}

/// A database of its own, which stays: the server of the emulators goes with all it holds.
fn postgres() -> Result<Option<Storage>> {
    let Some(url) = variable("CLAWHOOK_TEST_POSTGRES_URL") else { return Ok(None) };
    let Some(ca) = variable("CLAWHOOK_TEST_CA") else { return Ok(None) };
    let database = format!("bench_{}", std::process::id());
    let created = std::process::Command::new("psql")
        .arg(format!("{url}?sslmode=verify-full&sslrootcert={ca}"))
        .args(["--quiet", "--command", &format!("CREATE DATABASE {database}")])
        .status();
    if !created.is_ok_and(|status| status.success()) {
        return Err("psql could not create a database for the bench".into());
    }
    let url = url::Url::parse(&url)?;
    let (host, port) = (url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(5432));
    let user = url.username();
    Ok(Some(Storage {
        settings: format!(
            "backend: postgres, host: \"{host}\", port: {port}, database: {database}, user: {user}, \
             password: {{ secret_ref: database }}, ca: \"{ca}\""
        ),
        secrets: vec![("CLAWHOOK_SECRET_DATABASE".to_owned(), url.password().unwrap_or_default().to_owned())],
    }))
}

#[expect(clippy::disallowed_methods, reason = "where the emulators are stands in the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
