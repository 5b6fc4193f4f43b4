//! What every place for artifacts owes, over a folder and over Azurite.

use std::sync::Arc;

use clawhook::artifacts::{self, Artifacts, Error, Handle, Label, Place};
use clawhook::clock::Timestamp;
use clawhook::id::RunId;

use crate::store_contract::azurite::Account;

fn run_at(second: i64) -> RunId {
    RunId::floor(Timestamp::from_secs(1_795_338_000 + second))
}

async fn write(artifacts: &Artifacts, run: RunId, bytes: &[u8]) -> Handle {
    let mut writer = artifacts.writer(run, u64::MAX).await.unwrap();
    for piece in bytes.chunks(100_000) {
        writer.write(piece).await.unwrap();
    }
    writer.publish(Label { media_type: "text/csv".into(), ..Label::default() }).await.unwrap()
}

async fn read(artifacts: &Artifacts, handle: &Handle) -> Result<Vec<u8>, Error> {
    let mut reader = artifacts.reader(handle).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn contract(artifacts: Artifacts) {
    // Several blocks, one, none.
    let long: Vec<u8> = (0..20_000_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (one, two, three) = (run_at(1), run_at(2), run_at(3));
    for bytes in [&long[..], b"a", b""] {
        let handle = write(&artifacts, two, bytes).await;
        assert_eq!(handle.bytes, bytes.len() as u64);
        assert!(read(&artifacts, &handle).await.unwrap() == bytes);
    }
    let kept = write(&artifacts, one, b"kept").await;
    let same = write(&artifacts, one, b"kept").await;
    assert_ne!(kept.artifact, same.artifact, "no two writes meet");
    write(&artifacts, three, b"three").await;

    // What is given up was never there, nor is what grew too large.
    let mut given_up = artifacts.writer(run_at(4), 10).await.unwrap();
    given_up.write(b"0123456789").await.unwrap();
    assert!(matches!(given_up.write(b"0").await, Err(Error::TooLarge { bytes_max: 10 })));
    drop(given_up);

    let store = artifacts.store();
    assert_eq!(store.runs(None, 10).await.unwrap(), [one, two, three]);
    assert_eq!(store.runs(None, 2).await.unwrap(), [one, two]);
    assert_eq!(store.runs(Some(one), 1).await.unwrap(), [two]);

    // Whoever says something else of it than what was written does not get to its end.
    for wrong in [
        Handle { sha256: "0".repeat(64), ..kept.clone() },
        Handle { bytes: 3, ..kept.clone() },
        Handle { bytes: 5, ..kept.clone() },
    ] {
        assert!(matches!(read(&artifacts, &wrong).await, Err(Error::Damaged { .. })), "{wrong:?}");
    }

    store.remove(one).await.unwrap();
    store.remove(one).await.unwrap();
    assert!(matches!(read(&artifacts, &kept).await, Err(Error::Missing { .. })));
    assert_eq!(store.runs(None, 10).await.unwrap(), [two, three]);
    store.tidy(Timestamp::from_secs(0)).await.unwrap();

    // The stores that use the place, in any order; they are no runs.
    assert_eq!(store.stores().await.unwrap(), [""; 0]);
    for name in ["a1", "b2", "a1"] {
        store.add_store(name).await.unwrap();
        assert!(store.place_of_store(name).ends_with(&format!("stores/{name}")));
    }
    let mut stores = store.stores().await.unwrap();
    stores.sort();
    assert_eq!(stores, ["a1", "b2"]);
    assert_eq!(store.runs(None, 10).await.unwrap(), [two, three]);
}

#[tokio::test]
async fn a_folder_keeps_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    contract(Artifacts::in_folder(folder.path())).await;
    // What a crash left is no run, and goes when it is old.
    let unfinished = folder.path().join("unfinished");
    std::fs::write(unfinished.join("art_x"), "x").unwrap();
    let artifacts = Artifacts::in_folder(folder.path());
    assert_eq!(artifacts.store().tidy(Timestamp::from_secs(0)).await.unwrap(), 0, "it may be under way");
    assert_eq!(artifacts.store().tidy(Timestamp::from_secs(99_999_999_999)).await.unwrap(), 1);
}

#[tokio::test]
async fn blob_storage_keeps_artifacts() {
    for account in [Account::by_identity(), Account::by_signature()].into_iter().flatten() {
        let container = account.container();
        let folder = tempfile::tempdir().unwrap();
        // The store makes the container.
        container.open(folder.path()).await.close().await;
        let parts = container.parts(folder.path());
        let place = container.place();
        let settings = artifacts::Settings {
            place: Place::Blob(artifacts::Container {
                endpoint: place.endpoint,
                container: place.container,
                sas: place.sas,
            }),
            inline_bytes_max: 1024,
            scratch: folder.path().to_owned(),
        };
        contract(Artifacts::open(settings, Arc::clone(&parts.azure), parts.secrets)).await;
    }
}
