//! A small resource state behind the stand-in: two resources that never change, under the node's own access policy.

use std::sync::Arc;

use api::{
    cosi::resource::state_server::StateServer,
    state::{Access, Server},
};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use model::{cluster::ApiCertificate, host::ApiServiceConfig, net::NodeAddress};
use resource::{
    AnyResource, CreateOptions, DestroyOptions, Error, Event, EventKind, Key, Kind, ListOptions, Registry, Resource, State, UpdateOptions,
    Version, WatchKindOptions, WatchOptions, WatchStream,
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream as Changes;

pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(Registry::new().with::<ApiCertificate>().with::<ApiServiceConfig>().with::<NodeAddress>())
}

/// Resources that a test may replace; watches tell of it.
pub(crate) struct Fixed {
    resources: watch::Sender<Vec<AnyResource>>,
}

impl Fixed {
    pub(crate) fn new() -> Fixed {
        Fixed { resources: watch::channel(Vec::new()).0 }
    }

    pub(crate) fn put<T: resource::Spec>(&self, id: &str, spec: T) {
        let mut resource = Resource::new(id, spec);
        resource.meta.version = Version(1);
        self.resources.send_modify(|all| {
            all.retain(|r| r.key() != resource.key());
            all.push(resource.into());
        });
    }

    fn find(&self, key: &Key) -> Option<AnyResource> {
        self.resources.borrow().iter().find(|r| r.key() == *key).cloned()
    }
}

pub(crate) fn service() -> StateServer<Server> {
    let fixed = Fixed::new();
    fixed.put("apid", ApiServiceConfig { listen_address: ":50000".into(), ..Default::default() });
    fixed.put("api", ApiCertificate::default());
    Server::new(Arc::new(fixed), Access::node(&registry(), ["network-config"]), registry()).into_service()
}

fn refused<T>() -> Result<T, Error> {
    Err(Error::Unsupported("writing".to_owned()))
}

#[async_trait]
impl State for Fixed {
    async fn get(&self, key: &Key) -> Result<AnyResource, Error> {
        self.find(key).ok_or_else(|| Error::NotFound(key.clone()))
    }
    async fn list(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error> {
        let all = self.resources.borrow();
        Ok(all.iter().filter(|r| r.key().kind() == *kind && options.matches(&r.meta)).cloned().collect())
    }
    async fn create(&self, _: AnyResource, _: &CreateOptions) -> Result<AnyResource, Error> {
        refused()
    }
    async fn update(&self, _: AnyResource, _: &UpdateOptions) -> Result<AnyResource, Error> {
        refused()
    }
    async fn teardown(&self, _: &Key, _: &DestroyOptions) -> Result<bool, Error> {
        refused()
    }
    async fn destroy(&self, _: &Key, _: &DestroyOptions) -> Result<(), Error> {
        refused()
    }
    async fn watch(&self, key: &Key, options: &WatchOptions) -> Result<WatchStream, Error> {
        if options.from.is_some() {
            return Err(Error::BadBookmark);
        }
        let key = key.clone();
        let changes = Changes::new(self.resources.subscribe());
        Ok(changes
            .map(move |all| {
                let found = all.iter().find(|r| r.key() == key).cloned();
                let kind = found.map_or_else(|| EventKind::Destroyed(AnyResource::tombstone(&key)), EventKind::Created);
                vec![Event::from(kind)]
            })
            .boxed())
    }
    async fn watch_kind(&self, kind: &Kind, options: &WatchKindOptions) -> Result<WatchStream, Error> {
        if options.from.is_some() {
            return Err(Error::BadBookmark);
        }
        let all = if options.bootstrap { self.list(kind, &options.query).await? } else { Vec::new() };
        let mut events: Vec<Event> = all.into_iter().map(|r| EventKind::Created(r).into()).collect();
        if options.bootstrap {
            events.push(EventKind::Bootstrapped.into());
        }
        let batches = if options.aggregated { vec![events] } else { events.into_iter().map(|e| vec![e]).collect() };
        Ok(stream::iter(batches).chain(stream::pending()).boxed())
    }
}
