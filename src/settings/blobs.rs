//! The places for files that people and other systems fetch.

use super::Table;
use crate::azure::cloud::Cloud;
use crate::id::ConnectionName;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::tasks::blob::{Container, Place, Places, Proof};

impl Table<'_> {
    /// The healthy places; what is wrong with the others is told.
    pub(super) fn blobs(&mut self, head: &raw::Settings, cloud: Cloud) -> Places {
        let mut places = Places::new();
        for (name, raw) in &head.blobs {
            let path = Path::root().with("blobs").with(name.as_str());
            // The names of far ends follow one rule.
            if let Err(error) = ConnectionName::new(name) {
                let message = error.to_string().replace("connection", "place");
                let problem = self.desk.problem("spec.name", message, self.desk.map.entry(&path));
                self.desk.push(problem.help("write another name"));
            }
            let errors = self.desk.errors();
            let place = self.place(&path, raw, cloud).filter(|_| self.desk.errors() == errors);
            places.extend(place.map(|place| (name.clone(), place)));
        }
        places
    }

    fn place(&mut self, path: &Path, raw: &raw::BlobPlace, cloud: Cloud) -> Option<Place> {
        let given = [
            ("endpoint", raw.endpoint.is_some()),
            ("container", raw.container.is_some()),
            ("sas", raw.sas.is_some()),
            ("key", raw.key.is_some()),
        ];
        if let Some(folder) = &raw.folder {
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                let message = format!("`{key}` does not go with `folder`");
                let problem = self.desk.problem("spec.no_effect", message, self.desk.map.key(path, key));
                self.desk.push(problem.help("a place is a folder or a container: keep one of them"));
            }
            return Some(Place::Folder(self.absolute(folder)));
        }
        if given.iter().all(|(_, given)| !given) {
            let message = format!("`{path}` is neither a folder nor a container");
            let problem = self.desk.problem("spec.missing_key", message, self.desk.map.entry(path));
            let example = format!("`folder: ./reports`, or `endpoint: https://NAME.{}`", cloud.blob_suffix());
            self.desk.push(problem.help(format!("add {example} and `container: reports`")));
            return None;
        }
        let proof = match (&raw.sas, &raw.key) {
            (Some(_), Some(_)) => {
                let span = self.desk.map.key(path, "key");
                let problem = self.desk.problem("spec.no_effect", "`key` does not go with `sas`", span);
                self.desk.push(problem.help("keep one of them; links want the `key`, or the identity"));
                None
            }
            (Some(sas), None) => self.secret(&path.with("sas"), sas).map(Proof::Sas),
            (None, Some(key)) => self.secret(&path.with("key"), key).map(Proof::Key),
            (None, None) => Some(Proof::Identity),
        };
        let plain = raw.sas.is_some() || raw.key.is_some();
        let (endpoint, container) = (raw.endpoint.as_deref(), raw.container.as_deref());
        let (endpoint, container) = self.container(path, endpoint, container, cloud, plain)?;
        Some(Place::Container(Container { endpoint, container, proof: proof? }))
    }
}
