use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use resource::{
    AnyResource, Bookmark, CreateOptions, DestroyOptions, Error, Event, EventKind, IdQuery, Key, Kind, LabelOp, LabelQuery, LabelTerm,
    ListOptions, Metadata, Opaque, Phase, Registry, Resource, State, Timestamp, UpdateOptions, Version, WatchKindOptions, WatchOptions,
    WatchStream, resource,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    Access, RemoteState, Server,
    convert::{event_from_wire, event_to_wire, from_wire, query_from_wire, query_to_wire, to_wire},
};
use crate::{
    client::{Client, Options},
    cosi::resource as wire,
    roles::{Role, Roles},
    server::{Router, serve_unix},
};

/// A kind for these tests.
#[resource(type = "Ships.test.dev", namespace = "harbour")]
pub(crate) struct Ship {
    /// How many decks.
    #[field(1)]
    pub decks: u32,
    /// Her name.
    #[field(2)]
    pub name: String,
}

/// A secret kind.
#[resource(type = "Charts.test.dev", namespace = "harbour", sensitive)]
pub(crate) struct Chart {
    /// Where the treasure is.
    #[field(1)]
    pub place: String,
}

fn registry() -> Arc<Registry> {
    Arc::new(Registry::new().with::<Ship>().with::<Chart>())
}

fn ship(id: &str, decks: u32) -> AnyResource {
    let mut resource = Resource::new(id, Ship { decks, name: "Orlop".into() });
    resource.meta.version = Version(7);
    resource.meta.owner = "yard".into();
    resource.meta.phase = Phase::TearingDown;
    resource.meta.created = Timestamp::new(1_700_000_000, 5);
    resource.meta.updated = Timestamp::new(1_700_000_001, 0);
    resource.meta.labels.insert("class".into(), "first".into());
    resource.meta.annotations.insert("note".into(), "leaks".into());
    resource.meta.finalizers.push("crew".into());
    resource.into()
}

#[test]
fn a_resource_crosses_whole() {
    let original = ship("a", 3);
    let message = to_wire(&original);
    let meta = message.metadata.clone().unwrap();
    assert_eq!((meta.namespace.as_str(), meta.r#type.as_str(), meta.id.as_str()), ("harbour", "Ships.test.dev", "a"));
    assert_eq!((meta.version.as_str(), meta.phase.as_str(), meta.owner.as_str()), ("7", "tearingDown", "yard"));
    assert_eq!(meta.created, Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }));
    assert_eq!((meta.labels["class"].as_str(), meta.annotations["note"].as_str()), ("first", "leaks"));
    let spec = message.spec.clone().unwrap();
    // Field 1 varint 3, field 2 the five bytes of the name: by the protobuf encoding, not by our encoder.
    assert_eq!(spec.proto_spec, b"\x08\x03\x12\x05Orlop");
    assert_eq!(spec.yaml_spec, "decks: 3\nname: Orlop\n");
    let back = from_wire(message, &registry()).unwrap();
    assert_eq!(back, original);
    assert_eq!(back.downcast::<Ship>().unwrap().spec.decks, 3);
}

#[test]
fn what_is_not_known_stays_as_it_came() {
    let message = to_wire(&ship("a", 3));
    let back = from_wire(message.clone(), &Registry::new()).unwrap();
    let opaque = back.spec_as::<Opaque>().unwrap();
    assert_eq!((opaque.proto.as_slice(), opaque.yaml.as_str()), (&b"\x08\x03\x12\x05Orlop"[..], "decks: 3\nname: Orlop\n"));
    assert_eq!(to_wire(&back), message);
}

#[test]
fn a_tombstone_has_no_spec() {
    let key = Key::new("harbour", "Ships.test.dev", "gone");
    let event: Event = EventKind::Destroyed(AnyResource::tombstone(&key)).into();
    let message = event_to_wire(&event);
    assert_eq!(message.event_type, 2);
    let resource = message.resource.clone().unwrap();
    assert_eq!(resource.metadata.unwrap().version, "undefined");
    assert_eq!(resource.spec, Some(wire::Spec::default()));
    let EventKind::Destroyed(back) = event_from_wire(message, &registry()).unwrap().kind else { panic!("not a destroyed event") };
    assert_eq!(back.key(), key);
}

#[test]
fn broken_messages_are_errors() {
    let decode = |change: fn(&mut wire::Resource)| {
        let mut message = to_wire(&ship("a", 3));
        change(&mut message);
        from_wire(message, &registry())
    };
    assert!(matches!(decode(|m| m.metadata = None), Err(Error::Invalid(_))));
    assert!(matches!(decode(|m| m.metadata.as_mut().unwrap().version = "seven".into()), Err(Error::Invalid(_))));
    assert!(matches!(decode(|m| m.metadata.as_mut().unwrap().phase = "sunk".into()), Err(Error::Invalid(_))));
    assert!(matches!(decode(|m| m.spec.as_mut().unwrap().proto_spec = vec![0x12, 0x7f]), Err(Error::Decode { .. })));
    let bad = |event: wire::Event| event_from_wire(event, &registry()).is_err();
    assert!(bad(wire::Event { event_type: 9, ..Default::default() }));
    assert!(bad(wire::Event { event_type: 0, ..Default::default() }), "a created event without a resource");
}

#[test]
fn queries_cross_and_old_ones_are_understood() {
    let query = ListOptions {
        labels: vec![LabelQuery::new().exists("a").differs("b", "1").one_of("c", ["x", "y"])],
        ids: Some(IdQuery::new("^eth").unwrap()),
    };
    let (labels, ids) = query_to_wire(&query);
    assert_eq!(labels[0].terms.iter().map(|t| (t.op, t.invert)).collect::<Vec<_>>(), [(0, false), (1, true), (3, false)]);
    assert_eq!(query_from_wire(labels, ids).unwrap(), query);
    let term = |op: i32, value: &[&str]| {
        let value = value.iter().map(|v| (*v).to_owned()).collect();
        let term = wire::LabelTerm { key: "k".into(), op, value, invert: false };
        query_from_wire(vec![wire::LabelQuery { terms: vec![term] }], None).map(|q| q.labels[0].terms[0].clone())
    };
    assert_eq!(term(2, &[]).unwrap(), LabelTerm { key: "k".into(), op: LabelOp::Exists, invert: true });
    assert_eq!(term(6, &["5"]).unwrap().op, LabelOp::LessNumeric("5".into()));
    assert!(matches!(term(1, &[]), Err(Error::Invalid(_))), "a comparison without a value");
    assert!(matches!(term(8, &[]), Err(Error::Invalid(_))), "an unknown operation");
    assert!(query_from_wire(vec![], Some(wire::IdQuery { regexp: "(".into() })).is_err());
}

#[test]
fn access_is_refused_in_the_words_clients_know() {
    let access = Access::node(&registry(), ["harbour-config"]);
    let reader = Roles::from(&[Role::Reader][..]);
    let admin = Roles::from(&[Role::Admin][..]);
    let says = |result: Result<(), tonic::Status>| {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        status.message().to_owned()
    };
    access.read(&reader, "harbour", "Ships.test.dev").unwrap();
    access.read(&reader, "harbour-config", "ships.TEST.dev").unwrap();
    access.read(&reader, "meta", "ResourceDefinitions.meta.cosi.dev").unwrap();
    access.read(&admin, "harbour", "Charts.test.dev").unwrap();
    assert_eq!(says(access.read(&reader, "harbour", "Charts.test.dev")), "not authorized");
    assert_eq!(says(access.read(&admin, "harbour", "Whales.test.dev")), r#"resource type "Whales.test.dev" is not supported"#);
    assert_eq!(says(access.read(&admin, "sea", "Ships.test.dev")), r#"namespace "sea" is not supported"#);
    assert_eq!(says(access.write(&admin, "harbour", "Ships.test.dev")), "write access is not allowed");
    let only = Access::only([("harbour", "Charts.test.dev")]);
    only.read(&Roles::default(), "harbour", "Charts.test.dev").unwrap();
    says(only.read(&admin, "harbour", "Ships.test.dev"));
    says(only.write(&admin, "harbour", "Charts.test.dev"));
    Access::all().writable().write(&Roles::default(), "x", "y").unwrap();
}

/// A state that answers each kind of call in one set way.
struct Scripted;

#[async_trait]
impl State for Scripted {
    async fn get(&self, key: &Key) -> Result<AnyResource, Error> {
        if &*key.id == "a" { Ok(ship("a", 1)) } else { Err(Error::NotFound(key.clone())) }
    }
    async fn list(&self, _: &Kind, options: &ListOptions) -> Result<Vec<AnyResource>, Error> {
        Ok(["a", "b", "c"].iter().map(|id| ship(id, 1)).filter(|r| options.matches(&r.meta)).collect())
    }
    async fn create(&self, resource: AnyResource, options: &CreateOptions) -> Result<AnyResource, Error> {
        if &*resource.meta.id == "a" {
            return Err(Error::AlreadyExists(resource.key()));
        }
        Ok(resource.with_meta(Metadata { owner: options.owner.clone(), version: Version(1), ..resource.meta.clone() }))
    }
    async fn update(&self, resource: AnyResource, options: &UpdateOptions) -> Result<AnyResource, Error> {
        let key = resource.key();
        match (&*options.owner, options.expected_phase) {
            ("thief", _) => Err(Error::OwnerConflict { key, owner: "thief".into(), found: "yard".into() }),
            (_, Some(expected)) => Err(Error::PhaseConflict { key, expected, found: Phase::TearingDown }),
            (_, None) => Err(Error::VersionConflict { key, expected: Version(1), found: Version(2) }),
        }
    }
    async fn teardown(&self, key: &Key, _: &DestroyOptions) -> Result<bool, Error> {
        Ok(&*key.id == "a")
    }
    async fn destroy(&self, key: &Key, _: &DestroyOptions) -> Result<(), Error> {
        Err(Error::PendingFinalizers { key: key.clone(), finalizers: vec!["crew".into()] })
    }
    async fn watch(&self, key: &Key, options: &WatchOptions) -> Result<WatchStream, Error> {
        if options.from.as_ref().is_some_and(|b| b.as_bytes() != b"here") {
            return Err(Error::BadBookmark);
        }
        let tail = Event { kind: EventKind::Noop, bookmark: Some(Bookmark::new(&[u8::try_from(options.tail).unwrap()])) };
        let absent = EventKind::Destroyed(AnyResource::tombstone(key)).into();
        Ok(stream::iter([vec![absent], vec![tail]]).chain(stream::pending()).boxed())
    }
    async fn watch_kind(&self, _: &Kind, options: &WatchKindOptions) -> Result<WatchStream, Error> {
        let updated = EventKind::Updated { old: Some(ship("b", 1)), new: ship("b", 2) };
        let errored = EventKind::Errored(Error::FellBehind("harbour/Ships.test.dev".into()));
        let events: Vec<Event> = [EventKind::Created(ship("a", 1)), EventKind::Bootstrapped, updated, errored].map(Event::from).into();
        Ok(match options.aggregated {
            true => stream::iter([events]).boxed(),
            false => stream::iter(events.into_iter().map(|e| vec![e])).boxed(),
        })
    }
}

fn serve(path: &Path) -> CancellationToken {
    let listener = UnixListener::bind(path).unwrap();
    let server = Server::new(Arc::new(Scripted), Access::all().writable(), registry());
    let stop = CancellationToken::new();
    tokio::spawn(serve_unix(listener, Router::new().with(server.into_service()), stop.clone()));
    stop
}

fn remote(path: &Path) -> RemoteState {
    RemoteState::new(&Client::unix(path, Options::default()), registry())
}

fn names(events: &[Event]) -> Vec<String> {
    let name = |e: &Event| match &e.kind {
        EventKind::Created(r) => format!("created {}", r.meta.id),
        EventKind::Updated { old, new } => {
            format!("updated {} {:?}", new.meta.id, old.as_ref().and_then(|o| o.downcast::<Ship>()).map(|o| o.spec.decks))
        }
        EventKind::Destroyed(r) => format!("destroyed {} {}", r.meta.id, r.meta.version),
        EventKind::Bootstrapped => "bootstrapped".into(),
        EventKind::Errored(e) => format!("errored {}", matches!(e, Error::FellBehind(_))),
        EventKind::Noop => format!("noop {:?}", e.bookmark),
    };
    events.iter().map(name).collect()
}

#[tokio::test]
async fn a_remote_state_answers_as_the_state_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sock");
    let _stop = serve(&path);
    let state = remote(&path);
    let kind = Kind::of::<Ship>();
    assert_eq!(state.get(&kind.id("a")).await.unwrap(), ship("a", 1));
    assert_eq!(state.get(&kind.id("x")).await.unwrap_err(), Error::NotFound(kind.id("x")));
    let ids = ListOptions { ids: Some(IdQuery::new("[bc]").unwrap()), ..ListOptions::all() };
    assert_eq!(state.list(&kind, &ids).await.unwrap(), [ship("b", 1), ship("c", 1)]);
    let created = state.create(ship("n", 4), &CreateOptions { owner: "me".into() }).await.unwrap();
    assert_eq!((&*created.meta.owner, created.meta.version), ("me", Version(1)));
    assert_eq!(state.create(ship("a", 4), &CreateOptions::default()).await.unwrap_err(), Error::AlreadyExists(kind.id("a")));
    let any = UpdateOptions { expected_phase: None, ..UpdateOptions::default() };
    assert!(state.update(ship("a", 1), &any).await.unwrap_err().is_conflict());
    assert!(matches!(state.update(ship("a", 1), &UpdateOptions::default()).await.unwrap_err(), Error::Invalid(_)));
    let thief = UpdateOptions { owner: "thief".into(), expected_phase: None };
    assert!(matches!(state.update(ship("a", 1), &thief).await.unwrap_err(), Error::Denied(_)));
    let nobody = DestroyOptions::default();
    assert!(state.teardown(&kind.id("a"), &nobody).await.unwrap() && !state.teardown(&kind.id("b"), &nobody).await.unwrap());
    assert!(matches!(state.destroy(&kind.id("a"), &nobody).await.unwrap_err(), Error::PendingFinalizers { .. }));
    assert!(matches!(state.get(&kind.id("")).await.unwrap_err(), Error::Invalid(_)));
}

#[tokio::test]
async fn watches_tell_everything_once_and_end_with_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sock");
    let _stop = serve(&path);
    let state = remote(&path);
    let kind = Kind::of::<Ship>();
    let expected = ["created a", "bootstrapped", "updated b Some(1)", "errored true"];
    for aggregated in [false, true] {
        let options = WatchKindOptions { aggregated, ..WatchKindOptions::bootstrapped() };
        let batches: Vec<Vec<Event>> = state.watch_kind(&kind, &options).await.unwrap().collect().await;
        assert_eq!(batches.len(), if aggregated { 1 } else { 4 });
        assert_eq!(names(&batches.concat()), expected);
    }
    let options = WatchOptions { tail: 3, from: Some(Bookmark::new(b"here")) };
    let two: Vec<Vec<Event>> = state.watch(&kind.id("x"), &options).await.unwrap().take(2).collect().await;
    assert_eq!(names(&two.concat()), ["destroyed x undefined", "noop Some(Bookmark(03))"]);
    let bad = WatchOptions { tail: 0, from: Some(Bookmark::new(b"nowhere")) };
    assert_eq!(state.watch(&kind.id("x"), &bad).await.err(), Some(Error::BadBookmark));
}

#[tokio::test]
async fn the_wire_begins_empty_and_spares_old_clients() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sock");
    let _stop = serve(&path);
    let mut raw = Client::unix(&path, Options::default()).state();
    for (api_version, expected) in [(1, vec![0, 3, 1, 4]), (0, vec![0, 1])] {
        let request = wire::WatchRequest {
            namespace: "harbour".into(),
            r#type: "Ships.test.dev".into(),
            options: Some(wire::WatchOptions { bootstrap_contents: true, ..Default::default() }),
            api_version,
            ..Default::default()
        };
        let mut replies = raw.watch(request).await.unwrap().into_inner();
        assert_eq!(replies.message().await.unwrap().unwrap(), wire::WatchResponse::default());
        let mut types = Vec::new();
        let end = loop {
            match replies.message().await {
                Ok(Some(reply)) => types.extend(reply.event.iter().map(|e| e.event_type)),
                Ok(None) => break None,
                Err(status) => break Some(status.code()),
            }
        };
        assert_eq!(types, expected);
        // An old client knows no error event: its stream ends with the status.
        assert_eq!(end, (api_version == 0).then_some(Code::FailedPrecondition));
    }
    let single = wire::WatchRequest {
        namespace: "harbour".into(),
        r#type: "Ships.test.dev".into(),
        id: Some("a".into()),
        options: Some(wire::WatchOptions { bootstrap_contents: true, ..Default::default() }),
        api_version: 1,
    };
    assert_eq!(raw.watch(single).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_state_that_goes_away_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sock");
    let state = remote(&path);
    let key = Kind::of::<Ship>().id("a");
    assert!(matches!(state.get(&key).await.unwrap_err(), Error::Transport(_)), "nobody listens yet");
    // Its own runtime, so that it can be dropped with its connections, as a killed process would.
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let at = path.clone();
    server.spawn(async move {
        let _stop = serve(&at);
        std::future::pending::<()>().await;
    });
    for _ in 0..200 {
        if state.get(&key).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut events = state.watch(&key, &WatchOptions::default()).await.unwrap();
    events.next().await.unwrap();
    server.shutdown_background();
    let rest = tokio::time::timeout(Duration::from_secs(10), events.collect::<Vec<_>>()).await.expect("the watch ends");
    assert!(matches!(rest.concat().last().unwrap().kind, EventKind::Errored(Error::Transport(_))), "{rest:?}");
}
