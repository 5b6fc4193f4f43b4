//! A place for artifacts in memory that is away now and then, and takes its time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use clawhook::artifacts::{ArtifactId, ArtifactStore, Error, Sink, Source};
use clawhook::clock::Timestamp;
use clawhook::id::RunId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// All gateways of one simulation share it.
#[derive(Debug)]
pub(super) struct Shelf {
    there: Arc<Mutex<HashMap<String, Bytes>>>,
    random: Mutex<StdRng>,
    bad_day: AtomicBool,
    /// It says that it kept what it did not.
    forgets: bool,
    read: AtomicUsize,
}

impl Shelf {
    pub(super) fn new(seed: u64, forgets: bool) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed ^ 0x5e1f));
        Self { there: Arc::default(), random, bad_day: AtomicBool::new(true), forgets, read: AtomicUsize::new(0) }
    }

    /// From here on it works.
    pub(super) fn calm(&self) {
        self.bad_day.store(false, Ordering::Relaxed);
    }

    /// How many artifacts were read back.
    pub(super) fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    async fn trouble(&self, doing: &'static str) -> Result<(), Error> {
        let (wait, fails) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..300), random.random_ratio(1, 6))
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if fails && self.bad_day.load(Ordering::Relaxed) {
            return Err(Error::Failed { doing, why: "the shelf is away".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl ArtifactStore for Shelf {
    async fn create(&self, id: &ArtifactId) -> Result<Box<dyn Sink>, Error> {
        self.trouble("begin an").await?;
        let there = (!self.forgets).then(|| Arc::clone(&self.there));
        Ok(Box::new(Writing { there, id: id.to_string(), bytes: BytesMut::new() }))
    }

    async fn open(&self, id: &ArtifactId) -> Result<Box<dyn Source>, Error> {
        self.trouble("read an").await?;
        let bytes = self.there.lock().unwrap().get(&id.to_string()).cloned();
        self.read.fetch_add(1, Ordering::Relaxed);
        let bytes = bytes.ok_or_else(|| Error::Missing { id: id.clone() })?;
        Ok(Box::new(Reading(Some(bytes))))
    }

    async fn runs(&self, _: Option<RunId>, _: usize) -> Result<Vec<RunId>, Error> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: RunId) -> Result<(), Error> {
        Ok(())
    }

    async fn tidy(&self, _: Timestamp) -> Result<usize, Error> {
        Ok(0)
    }

    async fn stores(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    async fn add_store(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn shared(&self) -> bool {
        true
    }

    fn place_of_store(&self, name: &str) -> String {
        name.to_owned()
    }
}

struct Writing {
    there: Option<Arc<Mutex<HashMap<String, Bytes>>>>,
    id: String,
    bytes: BytesMut,
}

#[async_trait]
impl Sink for Writing {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    async fn publish(self: Box<Self>) -> Result<(), Error> {
        if let Some(there) = self.there {
            there.lock().unwrap().insert(self.id, self.bytes.freeze());
        }
        Ok(())
    }
}

struct Reading(Option<Bytes>);

#[async_trait]
impl Source for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(self.0.take())
    }
}
