//! Any `resource::State` as the gRPC service `cosi.resource.State`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use resource::{
    Bookmark, CreateOptions, DestroyOptions, Event, EventKind, Key, Kind, Registry, State, UpdateOptions, WatchKindOptions, WatchOptions,
    WatchStream,
};
use tonic::{Request, Response, Status};

use super::{
    Access,
    convert::{event_to_wire, from_wire, query_from_wire, status, to_wire},
};
use crate::{
    MAX_MESSAGE,
    cosi::resource::{self as wire, state_server},
    roles::Roles,
};

/// How long [`TeardownAndDestroy`](wire::TeardownAndDestroyRequest) waits for finalizers to go.
const TEARDOWN: Duration = Duration::from_secs(10 * 60);

/// Serves a state under an [`Access`] policy. Callers' roles come from the request's `Roles` extension, which a
/// [`RoleGate`](crate::server::RoleGate) leaves there.
#[derive(Clone)]
pub struct Server {
    state: Arc<dyn State>,
    access: Access,
    registry: Arc<Registry>,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Server {
    /// A service over `state`. `registry` decodes what callers write.
    pub fn new(state: Arc<dyn State>, access: Access, registry: Arc<Registry>) -> Server {
        Server { state, access, registry }
    }

    /// The service as the router takes it, with this system's message limits.
    pub fn into_service(self) -> state_server::StateServer<Server> {
        state_server::StateServer::new(self).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    fn key(namespace: &str, type_: &str, id: &str) -> Result<Key, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("the request names no resource: its id is empty"));
        }
        Ok(Key::new(namespace, type_, id))
    }

    async fn open(&self, request: &wire::WatchRequest) -> Result<WatchStream, Status> {
        let options = request.options.clone().unwrap_or_default();
        let tail = u32::try_from(options.tail_events).unwrap_or(0);
        let from = options.start_from_bookmark.as_deref().map(Bookmark::new);
        let watched = match request.id.as_deref() {
            Some(id) => {
                let filtered = !options.label_query.is_empty() || options.id_query.is_some();
                if options.bootstrap_contents || options.bootstrap_bookmark || filtered {
                    return Err(Status::unimplemented(
                        "the watch of a single resource takes neither bootstrap contents nor queries: watch the kind",
                    ));
                }
                let key = Server::key(&request.namespace, &request.r#type, id)?;
                self.state.watch(&key, &WatchOptions { tail, from }).await
            }
            None => {
                let kind = Kind::new(request.namespace.as_str(), request.r#type.as_str());
                let query = query_from_wire(options.label_query, options.id_query).map_err(|e| status(&e))?;
                let options = WatchKindOptions {
                    bootstrap: options.bootstrap_contents,
                    bootstrap_bookmark: options.bootstrap_bookmark,
                    tail,
                    from,
                    query,
                    aggregated: options.aggregated,
                };
                self.state.watch_kind(&kind, &options).await
            }
        };
        watched.map_err(|e| status(&e))
    }
}

fn roles<T>(request: &Request<T>) -> Roles {
    request.extensions().get::<Roles>().cloned().unwrap_or_default()
}

/// One batch of events as replies. Old clients know neither bootstrap nor error events: for them the one is left out and the
/// other ends the stream.
fn replies(batch: Vec<Event>, old_client: bool, aggregated: bool) -> Vec<Result<wire::WatchResponse, Status>> {
    let mut events = Vec::with_capacity(batch.len());
    let mut failure = None;
    for event in &batch {
        match &event.kind {
            EventKind::Bootstrapped if old_client => {}
            EventKind::Errored(e) if old_client => failure = Some(Err(status(e))),
            _ => events.push(event_to_wire(event)),
        }
    }
    let mut out = if aggregated && !events.is_empty() {
        vec![Ok(wire::WatchResponse { event: events })]
    } else {
        events.into_iter().map(|e| Ok(wire::WatchResponse { event: vec![e] })).collect()
    };
    out.extend(failure);
    out
}

#[tonic::async_trait]
impl state_server::State for Server {
    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.read(&roles, &r.namespace, &r.r#type)?;
        let found = self.state.get(&Server::key(&r.namespace, &r.r#type, &r.id)?).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::GetResponse { resource: Some(to_wire(&found)) }))
    }

    type ListStream = Replies<wire::ListResponse>;

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.read(&roles, &r.namespace, &r.r#type)?;
        let options = r.options.unwrap_or_default();
        let query = query_from_wire(options.label_query, options.id_query).map_err(|e| status(&e))?;
        let kind = Kind::new(r.namespace.as_str(), r.r#type.as_str());
        let found = self.state.list(&kind, &query).await.map_err(|e| status(&e))?;
        // Encoded one by one as the caller reads: a long list is never held twice.
        let all = stream::iter(found).map(|r| Ok(wire::ListResponse { resource: Some(to_wire(&r)) }));
        Ok(Response::new(all.boxed()))
    }

    type WatchStream = Replies<wire::WatchResponse>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.read(&roles, &r.namespace, &r.r#type)?;
        let events = self.open(&r).await?;
        let old_client = r.api_version < 1;
        let aggregated = r.options.is_some_and(|o| o.aggregated);
        // An empty reply first: the watch is established.
        let established = stream::iter([Ok(wire::WatchResponse::default())]);
        let told = events.flat_map(move |batch| stream::iter(replies(batch, old_client, aggregated)));
        Ok(Response::new(established.chain(told).boxed()))
    }

    async fn create(&self, request: Request<wire::CreateRequest>) -> Result<Response<wire::CreateResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        let message = r.resource.unwrap_or_default();
        let meta = message.metadata.clone().unwrap_or_default();
        self.access.write(&roles, &meta.namespace, &meta.r#type)?;
        let resource = from_wire(message, &self.registry).map_err(|e| status(&e))?;
        let options = CreateOptions { owner: r.options.unwrap_or_default().owner.into() };
        let stored = self.state.create(resource, &options).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::CreateResponse { resource: Some(to_wire(&stored)) }))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Result<Response<wire::UpdateResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        let message = r.new_resource.unwrap_or_default();
        let meta = message.metadata.clone().unwrap_or_default();
        self.access.write(&roles, &meta.namespace, &meta.r#type)?;
        let resource = from_wire(message, &self.registry).map_err(|e| status(&e))?;
        let options = r.options.unwrap_or_default();
        let expected_phase = match options.expected_phase {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|e: <resource::Phase as std::str::FromStr>::Err| Status::invalid_argument(e.to_string()))?)
            }
        };
        let options = UpdateOptions { owner: options.owner.into(), expected_phase };
        let stored = self.state.update(resource, &options).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::UpdateResponse { resource: Some(to_wire(&stored)) }))
    }

    async fn teardown(&self, request: Request<wire::TeardownRequest>) -> Result<Response<wire::TeardownResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.write(&roles, &r.namespace, &r.r#type)?;
        let options = DestroyOptions { owner: r.options.unwrap_or_default().owner.into() };
        let key = Server::key(&r.namespace, &r.r#type, &r.id)?;
        let destroy_ready = self.state.teardown(&key, &options).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::TeardownResponse { destroy_ready }))
    }

    async fn destroy(&self, request: Request<wire::DestroyRequest>) -> Result<Response<wire::DestroyResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.write(&roles, &r.namespace, &r.r#type)?;
        let options = DestroyOptions { owner: r.options.unwrap_or_default().owner.into() };
        let key = Server::key(&r.namespace, &r.r#type, &r.id)?;
        self.state.destroy(&key, &options).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::DestroyResponse {}))
    }

    async fn teardown_and_destroy(
        &self,
        request: Request<wire::TeardownAndDestroyRequest>,
    ) -> Result<Response<wire::TeardownAndDestroyResponse>, Status> {
        let roles = roles(&request);
        let r = request.into_inner();
        self.access.write(&roles, &r.namespace, &r.r#type)?;
        let options = DestroyOptions { owner: r.options.unwrap_or_default().owner.into() };
        let key = Server::key(&r.namespace, &r.r#type, &r.id)?;
        if !self.state.teardown(&key, &options).await.map_err(|e| status(&e))? {
            tokio::time::timeout(TEARDOWN, self.released(&key))
                .await
                .map_err(|_| Status::deadline_exceeded(format!("resource {key} still has finalizers after {TEARDOWN:?}")))??;
        }
        self.state.destroy(&key, &options).await.map_err(|e| status(&e))?;
        Ok(Response::new(wire::TeardownAndDestroyResponse {}))
    }
}

impl Server {
    /// Waits until nobody holds a finalizer on the resource.
    async fn released(&self, key: &Key) -> Result<(), Status> {
        let mut events = self.state.watch(key, &WatchOptions::default()).await.map_err(|e| status(&e))?;
        while let Some(batch) = events.next().await {
            for event in batch {
                match event.kind {
                    EventKind::Created(r) | EventKind::Updated { new: r, .. } if r.meta.finalizers.is_empty() => return Ok(()),
                    EventKind::Destroyed(_) => return Err(status(&resource::Error::NotFound(key.clone()))),
                    EventKind::Errored(e) => return Err(status(&e)),
                    _ => {}
                }
            }
        }
        Err(Status::unavailable("the state is shutting down"))
    }
}
