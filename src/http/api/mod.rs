//! The REST API: one file for each resource, its paths and their description side by side in one entry of [`PARTS`].
//! Handlers read what was sent, ask the gateway one thing, and show what it says.

mod approvals;
mod artifacts;
mod audit;
mod blobs;
mod health;
pub(super) mod idempotency;
mod input;
mod refusals;
mod reload;
mod routes;
mod runs;
mod schedules;
mod settings;
mod sources;
mod stream;
mod workflows;

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Responder, Route};
use serde::Serialize;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};

use super::problem::{self, ProblemBody};

/// A file's paths, and their description.
struct Part {
    resources: fn() -> Vec<Resource>,
    openapi: fn() -> OpenApi,
}

/// Every resource, in the order of the documentation.
static PARTS: &[Part] = &[
    workflows::PART,
    runs::PART,
    approvals::PART,
    artifacts::PART,
    blobs::PART,
    routes::PART,
    sources::PART,
    schedules::PART,
    refusals::PART,
    audit::PART,
    reload::PART,
    settings::PART,
    health::PART,
];

/// Mounts every resource.
pub(super) fn mount(config: &mut ServiceConfig) {
    for Resource { path, verbs } in resources() {
        let mount =
            |resource: actix_web::Resource, (method, route): (Method, Route)| resource.route(route.method(method));
        config.service(verbs.into_iter().fold(web::resource(path), mount));
    }
}

fn resources() -> impl Iterator<Item = Resource> {
    PARTS.iter().flat_map(|part| (part.resources)())
}

/// One path, with what each method does there.
struct Resource {
    path: &'static str,
    verbs: Vec<(Method, Route)>,
}

impl Resource {
    fn at(path: &'static str) -> Self {
        Self { path, verbs: Vec::new() }
    }

    /// GET, and HEAD with it (RFC 9110, section 9.3.2).
    fn get<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.verbs.push((Method::GET, web::to(handler.clone())));
        self.verbs.push((Method::HEAD, web::to(handler)));
        self
    }

    fn post<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.verbs.push((Method::POST, web::to(handler)));
        self
    }
}

/// What was asked for.
fn shown(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(body)
}

/// What the parts do not say themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Clawhook", description = "The control door of a webhook and cron gateway."),
    components(schemas(ProblemBody)),
    tags(
        (name = "workflows", description = "What can be run, and running it"),
        (name = "runs", description = "What ran, runs and will run"),
        (name = "approvals", description = "What waits for people"),
        (name = "routes", description = "Where deliveries come in"),
        (name = "schedules", description = "When slots are due"),
        (name = "journals", description = "What was refused, who did what, and what happened to the gateway"),
        (name = "gateway", description = "The process itself"),
    )
)]
struct Whole;

/// The description of the API, made from its handlers.
fn openapi() -> OpenApi {
    let mut whole = Whole::openapi();
    for part in PARTS {
        whole.merge((part.openapi)());
    }
    let components = whole.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("password", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
    for operation in whole.paths.paths.values_mut().flat_map(operations) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build();
        let problem = ResponseBuilder::new().description("A problem").content(problem::MEDIA_TYPE, problem).build();
        operation.responses.responses.insert("default".to_owned(), problem.into());
        // Those that strangers may ask say so themselves.
        operation.security.get_or_insert_with(|| {
            let way = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
            vec![way("token"), way("password")]
        });
    }
    whole
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    item.get.iter_mut().chain(item.post.iter_mut())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_lists_what_is_mounted() {
        let described = openapi();
        let described: BTreeSet<_> = described
            .paths
            .paths
            .iter()
            .flat_map(|(path, item)| {
                let verbs = [("GET", &item.get), ("HEAD", &item.get), ("POST", &item.post)];
                verbs.into_iter().filter(|(_, verb)| verb.is_some()).map(move |(name, _)| format!("{name} {path}"))
            })
            .collect();
        let mounted: BTreeSet<_> = resources()
            .flat_map(|resource| {
                resource.verbs.into_iter().map(move |(method, _)| format!("{method} {}", resource.path))
            })
            .collect();
        assert_eq!(described, mounted);
    }

    #[test]
    fn the_description_holds_together() {
        let text = serde_json::to_string(&openapi()).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let schemas = value["components"]["schemas"].as_object().cloned().unwrap_or_default();
        for (_, reference) in
            text.match_indices("\"$ref\":\"#/components/schemas/").map(|(at, _)| (at, &text[at + 29..]))
        {
            let name = reference.split('"').next().unwrap_or_default().trim_start_matches('/');
            assert!(schemas.contains_key(name), "`{name}` is referred to and not described");
        }
        let operations: Vec<_> = value["paths"]
            .as_object()
            .into_iter()
            .flat_map(|paths| paths.values())
            .flat_map(|item| item.as_object().into_iter().flat_map(|verbs| verbs.values()))
            .map(|operation| operation["operationId"].to_string())
            .collect();
        let told_apart: BTreeSet<_> = operations.iter().collect();
        assert_eq!(told_apart.len(), operations.len(), "{operations:?}");
    }
}
