//! Resources, queries, events and errors ⇄ their messages.

use std::collections::HashMap;

use resource::{
    AnyResource, Bookmark, Code, Error, Event, EventKind, IdQuery, Key, LabelOp, LabelQuery, LabelTerm, ListOptions, Metadata, Name, Phase,
    Registry, Timestamp, Version,
};
use tonic::Status;

use crate::cosi::resource::{self as wire, EventType, label_term::Operation};

/// The status under which an error crosses the wire.
pub fn status(error: &Error) -> Status {
    Status::new(tonic::Code::from(error.code().number()), error.to_string())
}

/// The error that a status means for a call about `key`.
pub(super) fn error(status: &Status, key: &Key, watching: bool) -> Error {
    let code = Code::from_number(status.code() as i32);
    Error::from_status(code, status.message(), key, watching)
}

/// A resource as a message, its spec in both encodings.
pub fn to_wire(resource: &AnyResource) -> wire::Resource {
    let meta = &resource.meta;
    let strings = |map: &std::collections::BTreeMap<Name, Name>| -> HashMap<String, String> {
        map.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    wire::Resource {
        metadata: Some(wire::Metadata {
            namespace: meta.namespace.to_string(),
            r#type: meta.type_.to_string(),
            id: meta.id.to_string(),
            version: meta.version.to_string(),
            owner: meta.owner.to_string(),
            phase: meta.phase.to_string(),
            created: Some(time_to_wire(meta.created)),
            updated: Some(time_to_wire(meta.updated)),
            finalizers: meta.finalizers.iter().map(Name::to_string).collect(),
            annotations: strings(&meta.annotations),
            labels: strings(&meta.labels),
        }),
        spec: Some(wire::Spec { proto_spec: resource.spec.to_proto(), yaml_spec: resource.spec.to_yaml() }),
    }
}

fn time_to_wire(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.seconds(), nanos: time.nanos() }
}

fn time_from_wire(time: Option<prost_types::Timestamp>) -> Timestamp {
    time.map_or_else(Timestamp::default, |t| Timestamp::new(t.seconds, t.nanos))
}

/// A message as a resource: typed when `registry` knows its kind, opaque otherwise or when there is no spec in it (a tombstone).
///
/// # Errors
/// When metadata is missing or malformed, or the spec's bytes are not of its kind.
pub fn from_wire(message: wire::Resource, registry: &Registry) -> Result<AnyResource, Error> {
    let meta = message.metadata.ok_or_else(|| Error::Invalid("a resource came without metadata".to_owned()))?;
    let names = |map: HashMap<String, String>| map.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    let key = Key::new(meta.namespace.as_str(), meta.r#type.as_str(), meta.id.as_str());
    let invalid = |text: String| Error::Invalid(format!("resource {key}: {text}"));
    let version: Version = meta.version.parse().map_err(|e| invalid(format!("{e}")))?;
    let phase: Phase = match meta.phase.as_str() {
        "" => Phase::Running,
        text => text.parse().map_err(|e| invalid(format!("{e}")))?,
    };
    let meta = Metadata {
        namespace: key.namespace.clone(),
        type_: key.type_.clone(),
        id: key.id.clone(),
        version,
        owner: meta.owner.into(),
        phase,
        created: time_from_wire(meta.created),
        updated: time_from_wire(meta.updated),
        labels: names(meta.labels),
        annotations: names(meta.annotations),
        finalizers: meta.finalizers.into_iter().map(Into::into).collect(),
    };
    let spec = message.spec.unwrap_or_default();
    if !meta.version.is_defined() && spec.proto_spec.is_empty() && spec.yaml_spec.is_empty() {
        return Ok(AnyResource::tombstone(&key));
    }
    registry.decode(meta, &spec.proto_spec, &spec.yaml_spec).map_err(|source| Error::Decode { key: key.clone(), source })
}

/// A query as messages.
pub(super) fn query_to_wire(options: &ListOptions) -> (Vec<wire::LabelQuery>, Option<wire::IdQuery>) {
    let term = |t: &LabelTerm| {
        let (op, value) = match &t.op {
            LabelOp::Exists => (Operation::Exists, vec![]),
            LabelOp::Equal(v) => (Operation::Equal, vec![v.to_string()]),
            LabelOp::In(list) => (Operation::In, list.iter().map(Name::to_string).collect()),
            LabelOp::Less(v) => (Operation::Lt, vec![v.to_string()]),
            LabelOp::LessOrEqual(v) => (Operation::Lte, vec![v.to_string()]),
            LabelOp::LessNumeric(v) => (Operation::LtNumeric, vec![v.to_string()]),
            LabelOp::LessOrEqualNumeric(v) => (Operation::LteNumeric, vec![v.to_string()]),
        };
        wire::LabelTerm { key: t.key.to_string(), op: op as i32, value, invert: t.invert }
    };
    let labels = options.labels.iter().map(|q| wire::LabelQuery { terms: q.terms.iter().map(term).collect() }).collect();
    let ids = options.ids.as_ref().map(|q| wire::IdQuery { regexp: q.as_str().to_owned() });
    (labels, ids)
}

/// Messages as a query.
///
/// # Errors
/// When an operation is unknown or lacks its value, or the id pattern is no regular expression.
pub(super) fn query_from_wire(labels: Vec<wire::LabelQuery>, ids: Option<wire::IdQuery>) -> Result<ListOptions, Error> {
    let labels = labels
        .into_iter()
        .map(|q| Ok(LabelQuery { terms: q.terms.into_iter().map(term_from_wire).collect::<Result<_, Error>>()? }))
        .collect::<Result<_, Error>>()?;
    let ids = match ids {
        Some(q) if !q.regexp.is_empty() => Some(IdQuery::new(&q.regexp)?),
        _ => None,
    };
    Ok(ListOptions { labels, ids })
}

fn term_from_wire(term: wire::LabelTerm) -> Result<LabelTerm, Error> {
    let key: Name = term.key.into();
    let op = Operation::try_from(term.op)
        .map_err(|_| Error::Invalid(format!("label {key}: operation {} is unknown: expected 0 to 7", term.op)))?;
    let value = || {
        let first = term.value.first().ok_or_else(|| Error::Invalid(format!("label {key}: the operation needs a value")))?;
        Ok::<Name, Error>(first.as_str().into())
    };
    let (op, invert) = match op {
        Operation::Exists => (LabelOp::Exists, term.invert),
        Operation::NotExists => (LabelOp::Exists, !term.invert),
        Operation::Equal => (LabelOp::Equal(value()?), term.invert),
        Operation::In => (LabelOp::In(term.value.iter().map(|v| v.as_str().into()).collect()), term.invert),
        Operation::Lt => (LabelOp::Less(value()?), term.invert),
        Operation::Lte => (LabelOp::LessOrEqual(value()?), term.invert),
        Operation::LtNumeric => (LabelOp::LessNumeric(value()?), term.invert),
        Operation::LteNumeric => (LabelOp::LessOrEqualNumeric(value()?), term.invert),
    };
    Ok(LabelTerm { key, op, invert })
}

/// An event as a message.
pub(super) fn event_to_wire(event: &Event) -> wire::Event {
    let (event_type, resource, old, error) = match &event.kind {
        EventKind::Created(r) => (EventType::Created, Some(r), None, None),
        EventKind::Updated { old, new } => (EventType::Updated, Some(new), old.as_ref(), None),
        EventKind::Destroyed(r) => (EventType::Destroyed, Some(r), None, None),
        EventKind::Bootstrapped => (EventType::Bootstrapped, None, None, None),
        EventKind::Errored(e) => (EventType::Errored, None, None, Some(e.to_string())),
        EventKind::Noop => (EventType::Noop, None, None, None),
    };
    wire::Event {
        resource: resource.map(tombstone_or_wire),
        old: old.map(to_wire),
        error,
        event_type: event_type as i32,
        bookmark: event.bookmark.as_ref().map(|b| b.as_bytes().to_vec()),
    }
}

/// Of something that is not there only the metadata goes out.
fn tombstone_or_wire(resource: &AnyResource) -> wire::Resource {
    let mut message = to_wire(resource);
    if !resource.meta.version.is_defined() {
        message.spec = Some(wire::Spec::default());
    }
    message
}

/// A message as an event.
///
/// # Errors
/// When it lacks what its type needs, or a resource in it cannot be decoded.
pub(super) fn event_from_wire(event: wire::Event, registry: &Registry) -> Result<Event, Error> {
    let kind = EventType::try_from(event.event_type)
        .map_err(|_| Error::Invalid(format!("event type {} is unknown: expected 0 to 5", event.event_type)))?;
    let present = |r: Option<wire::Resource>| {
        let message = r.ok_or_else(|| Error::Invalid(format!("a {} event came without a resource", kind.as_str_name())))?;
        from_wire(message, registry)
    };
    let kind = match kind {
        EventType::Created => EventKind::Created(present(event.resource)?),
        EventType::Updated => {
            EventKind::Updated { old: event.old.map(|r| from_wire(r, registry)).transpose()?, new: present(event.resource)? }
        }
        EventType::Destroyed => EventKind::Destroyed(present(event.resource)?),
        EventType::Bootstrapped => EventKind::Bootstrapped,
        EventType::Errored => EventKind::Errored(watch_error(event.error.unwrap_or_default())),
        EventType::Noop => EventKind::Noop,
    };
    Ok(Event { kind, bookmark: event.bookmark.map(|b| Bookmark::new(&b)) })
}

/// A watch that ended by an event says why in words only; falling behind is the one that callers act on.
fn watch_error(text: String) -> Error {
    if text.contains("behind") || text.contains("buffer overrun") { Error::FellBehind(text) } else { Error::Transport(text) }
}
