//! A state on the other side of a connection.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use resource::{
    AnyResource, CreateOptions, DestroyOptions, Error, Event, EventKind, Key, Kind, ListOptions, Registry, State, UpdateOptions,
    WatchKindOptions, WatchOptions, WatchStream,
};
use tokio::time::timeout;
use tonic::Status;

use super::convert::{error, event_from_wire, from_wire, query_to_wire, to_wire};
use crate::{
    client::Client,
    cosi::resource::{self as wire, state_client::StateClient},
};

/// The version of the watch protocol that has bootstrap and error events.
const API_VERSION: i32 = 1;

/// How long a watch may take to be established, or a list to be told.
const LIMIT: Duration = Duration::from_secs(30);

/// A `resource::State` reached through a [`Client`]: of a node over TLS, or of machined over its Unix socket.
#[derive(Clone, Debug)]
pub struct RemoteState {
    client: StateClient<Client>,
    registry: Arc<Registry>,
}

impl RemoteState {
    /// Through `client`; kinds of `registry` come typed, others opaque.
    pub fn new(client: &Client, registry: Arc<Registry>) -> RemoteState {
        RemoteState { client: client.state(), registry }
    }

    fn decode(&self, resource: Option<wire::Resource>) -> Result<AnyResource, Error> {
        let message = resource.ok_or_else(|| Error::Transport("the reply holds no resource".to_owned()))?;
        from_wire(message, &self.registry)
    }

    async fn start_watch(&self, request: wire::WatchRequest, key: Key) -> Result<WatchStream, Error> {
        let mut client = self.client.clone();
        let failed = |s: &Status| error(s, &key, true);
        let opened = timeout(LIMIT, async {
            let mut replies = client.watch(request).await?.into_inner();
            // The first reply says that the watch is established; it is empty.
            let first = replies.message().await?;
            Ok::<_, Status>((first, replies))
        });
        let (first, replies) = opened
            .await
            .map_err(|_| Error::Deadline(format!("the watch of {key} was not established within {LIMIT:?}")))?
            .map_err(|s| failed(&s))?;
        let Some(first) = first else {
            return Err(Error::Transport(format!("the watch of {key} ended before it began")));
        };
        let registry = self.registry.clone();
        let replies = stream::iter([Ok(first)]).chain(replies);
        // After an error the stream ends: what follows it could not be trusted to be complete.
        let events = replies.scan(false, move |ended, reply| {
            let batch = if *ended { None } else { Some(batch(reply, &registry, &key)) };
            *ended |= batch.iter().flatten().any(|e| matches!(e.kind, EventKind::Errored(_)));
            std::future::ready(batch)
        });
        Ok(events.filter(|batch| std::future::ready(!batch.is_empty())).boxed())
    }
}

fn batch(reply: Result<wire::WatchResponse, Status>, registry: &Registry, key: &Key) -> Vec<Event> {
    let message = match reply {
        Ok(message) => message,
        Err(status) => return vec![EventKind::Errored(error(&status, key, true)).into()],
    };
    let mut events = Vec::with_capacity(message.event.len());
    for event in message.event {
        match event_from_wire(event, registry) {
            Ok(event) => events.push(event),
            Err(e) => {
                events.push(EventKind::Errored(e).into());
                break;
            }
        }
    }
    events
}

#[async_trait]
impl State for RemoteState {
    async fn get(&self, key: &Key) -> Result<AnyResource, Error> {
        let request =
            wire::GetRequest { namespace: key.namespace.to_string(), r#type: key.type_.to_string(), id: key.id.to_string(), options: None };
        let reply = self.client.clone().get(request).await.map_err(|s| error(&s, key, false))?;
        self.decode(reply.into_inner().resource)
    }

    async fn list(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error> {
        let (label_query, id_query) = query_to_wire(options);
        let request = wire::ListRequest {
            namespace: kind.namespace.to_string(),
            r#type: kind.type_.to_string(),
            options: Some(wire::ListOptions { label_query, id_query }),
        };
        let key = kind.id("");
        let mut client = self.client.clone();
        let all = timeout(LIMIT, async {
            let replies = client.list(request).await?.into_inner();
            replies.try_collect::<Vec<_>>().await
        });
        let all = all.await.map_err(|_| Error::Deadline(format!("no list of {kind} within {LIMIT:?}")))?;
        all.map_err(|s| error(&s, &key, false))?.into_iter().map(|reply| self.decode(reply.resource)).collect()
    }

    async fn create(&self, resource: AnyResource, options: &CreateOptions) -> Result<AnyResource, Error> {
        let request = wire::CreateRequest {
            resource: Some(to_wire(&resource)),
            options: Some(wire::CreateOptions { owner: options.owner.to_string() }),
        };
        let reply = self.client.clone().create(request).await.map_err(|s| error(&s, &resource.key(), false))?;
        self.decode(reply.into_inner().resource)
    }

    async fn update(&self, resource: AnyResource, options: &UpdateOptions) -> Result<AnyResource, Error> {
        let request = wire::UpdateRequest {
            new_resource: Some(to_wire(&resource)),
            options: Some(wire::UpdateOptions {
                owner: options.owner.to_string(),
                expected_phase: options.expected_phase.map(|p| p.to_string()),
            }),
        };
        let reply = self.client.clone().update(request).await.map_err(|s| error(&s, &resource.key(), false))?;
        self.decode(reply.into_inner().resource)
    }

    async fn teardown(&self, key: &Key, options: &DestroyOptions) -> Result<bool, Error> {
        let request = wire::TeardownRequest {
            namespace: key.namespace.to_string(),
            r#type: key.type_.to_string(),
            id: key.id.to_string(),
            options: Some(wire::TeardownOptions { owner: options.owner.to_string() }),
        };
        let reply = self.client.clone().teardown(request).await.map_err(|s| error(&s, key, false))?;
        Ok(reply.into_inner().destroy_ready)
    }

    async fn destroy(&self, key: &Key, options: &DestroyOptions) -> Result<(), Error> {
        let request = wire::DestroyRequest {
            namespace: key.namespace.to_string(),
            r#type: key.type_.to_string(),
            id: key.id.to_string(),
            options: Some(wire::DestroyOptions { owner: options.owner.to_string() }),
        };
        self.client.clone().destroy(request).await.map_err(|s| error(&s, key, false))?;
        Ok(())
    }

    async fn watch(&self, key: &Key, options: &WatchOptions) -> Result<WatchStream, Error> {
        let request = wire::WatchRequest {
            namespace: key.namespace.to_string(),
            r#type: key.type_.to_string(),
            id: Some(key.id.to_string()),
            options: Some(wire::WatchOptions {
                tail_events: i32::try_from(options.tail).unwrap_or(i32::MAX),
                start_from_bookmark: options.from.as_ref().map(|b| b.as_bytes().to_vec()),
                ..wire::WatchOptions::default()
            }),
            api_version: API_VERSION,
        };
        self.start_watch(request, key.clone()).await
    }

    async fn watch_kind(&self, kind: &Kind, options: &WatchKindOptions) -> Result<WatchStream, Error> {
        let (label_query, id_query) = query_to_wire(&options.query);
        let request = wire::WatchRequest {
            namespace: kind.namespace.to_string(),
            r#type: kind.type_.to_string(),
            id: None,
            options: Some(wire::WatchOptions {
                bootstrap_contents: options.bootstrap,
                tail_events: i32::try_from(options.tail).unwrap_or(i32::MAX),
                label_query,
                id_query,
                aggregated: options.aggregated,
                start_from_bookmark: options.from.as_ref().map(|b| b.as_bytes().to_vec()),
                bootstrap_bookmark: options.bootstrap_bookmark,
            }),
            api_version: API_VERSION,
        };
        self.start_watch(request, kind.id("")).await
    }
}
