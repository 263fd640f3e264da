//! What the derive makes of a struct, checked against bytes and texts worked out by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use resource::proto::{DecodeError, Wire};
use resource::yaml::{Node, emit, parse};
use resource::{AnySpec, Duration, Field, Form, PemPair, Resource, Spec, Timestamp, Value, message, resource, text_enum, text_flags};

/// A kind with one field of every sort.
#[resource(type = "Widgets.test.example.org", namespace = "test", aliases("wi"), columns("Name" = "{.name}"), sensitive, ids("main"))]
pub struct Widget {
    #[field(2)]
    pub name: String,
    #[field(1, omit_empty)]
    pub count: u32,
    #[field(3, yaml = "isReady")]
    pub ready: bool,
    #[field(4, omit_empty)]
    pub level: Option<u32>,
    #[field(5)]
    pub sizes: Vec<u32>,
    #[field(6)]
    pub names: Vec<String>,
    #[field(7)]
    pub addresses: Vec<IpAddr>,
    #[field(8)]
    pub prefix: Option<IpNet>,
    #[field(9, omit_empty)]
    pub hidden_address: Option<IpAddr>,
    #[field(10)]
    pub part: Part,
    #[field(11, omit_empty)]
    pub parts: BTreeMap<String, Part>,
    #[field(12, inline)]
    pub inlined: Inlined,
    #[field(13)]
    pub color: Color,
    #[field(14)]
    pub colors: Vec<Color>,
    #[field(15)]
    pub switches: Switches,
    #[field(16, secret, omit_empty)]
    pub token: String,
    #[field(17)]
    pub timeout: Duration,
    #[field(18)]
    pub since: Timestamp,
    #[field(19, omit_empty)]
    pub object: Value,
    #[field(20)]
    pub pem: Option<PemPair>,
    #[field(21)]
    pub offset: i32,
    #[field(22)]
    pub ratio: f64,
    #[field(no_proto, omit_empty)]
    pub local_only: bool,
}

/// A nested message.
#[message]
pub struct Part {
    #[field(1, omit_empty)]
    pub weight: u64,
}

/// A message whose fields stand in its parent's mapping.
#[message]
pub struct Inlined {
    #[field(1, omit_empty)]
    pub inner: String,
}

/// Words for numbers.
#[text_enum]
pub enum Color {
    #[text(0)]
    Red,
    #[text(7, "dark green")]
    Green,
}

/// Words for bits.
#[text_flags]
pub enum Switches {
    #[text(1)]
    One,
    #[text(4, "FOUR")]
    FourthBit,
}

/// A transparent kind.
#[resource(type = "Boxes.test.example.org", namespace = "test", transparent)]
pub struct Boxed {
    #[field(1)]
    pub things: Vec<String>,
}

fn full() -> Widget {
    Widget {
        name: "w".to_owned(),
        count: 300,
        ready: true,
        level: Some(0),
        sizes: vec![1, 300],
        names: vec![String::new(), "b".to_owned()],
        addresses: vec![IpAddr::from([192, 0, 2, 1])],
        prefix: "192.0.2.0/24".parse().ok(),
        hidden_address: Some(IpAddr::from([192, 0, 2, 9])),
        part: Part { weight: 1 },
        parts: BTreeMap::from([("p".to_owned(), Part::default())]),
        inlined: Inlined { inner: "i".to_owned() },
        color: Color::Green,
        colors: vec![Color::Red, Color::Green],
        switches: Switches::ONE | Switches::FOURTH_BIT,
        token: "hush".to_owned(),
        timeout: Duration::from_millis(-1500),
        since: Timestamp::new(1, 0),
        object: serde_json::json!({"b": [1, null], "a": true}).into(),
        pem: Some(PemPair::new("crt", "key")),
        offset: -1,
        ratio: 0.5,
        local_only: true,
    }
}

#[test]
fn fields_have_the_wire_form_of_protobuf() {
    let mut out = Vec::new();
    full().encode_proto(&mut out);
    let expected: &[&[u8]] = &[
        b"\x12\x01w",                                // 2: in order of declaration
        b"\x08\xac\x02",                             // 1: 300
        b"\x18\x01",                                 // 3
        b"\x20\x00",                                 // 4: present, so written though 0
        b"\x2a\x03\x01\xac\x02",                     // 5: packed
        b"\x32\x00\x32\x01b",                        // 6: each element, the empty one too
        b"\x3a\x06\x0a\x04\xc0\x00\x02\x01",         // 7
        b"\x42\x08\x0a\x04\xc0\x00\x02\x00\x10\x18", // 8
        b"\x4a\x06\x0a\x04\xc0\x00\x02\x09",         // 9
        b"\x52\x02\x08\x01",                         // 10
        b"\x5a\x05\x0a\x01p\x12\x00",                // 11: key and value both
        b"\x62\x03\x0a\x01i",                        // 12
        b"\x68\x07",                                 // 13
        b"\x72\x02\x00\x07",                         // 14
        b"\x78\x05",                                 // 15
        b"\x82\x01\x04hush",                         // 16
        b"\x8a\x01\x16\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x80\xb6\xca\x91\xfe\xff\xff\xff\xff\x01", // 17: -1 s, -500,000,000 ns
        b"\x92\x01\x02\x08\x01",                                                                                 // 18
        b"\x9a\x01\x21\x0a\x07\x0a\x01a\x12\x02\x20\x01\x0a\x16\x0a\x01b\x12\x11\x32\x0f\x0a\x09\x11\0\0\0\0\0\0\xf0\x3f\x0a\x02\x08\x00", // 19
        b"\xa2\x01\x0a\x0a\x03crt\x12\x03key",               // 20
        b"\xa8\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // 21: sign-extended
        b"\xb1\x01\0\0\0\0\0\0\xe0\x3f",                     // 22
    ];
    assert_eq!(out, expected.concat());
    let read = Widget::decode_proto(&out).expect("a widget");
    assert_eq!(read, Widget { local_only: false, ..full() });
}

#[test]
fn an_empty_spec_is_empty_on_the_wire() {
    let mut out = Vec::new();
    Widget::default().encode_proto(&mut out);
    assert!(out.is_empty());
    assert_eq!(Widget::decode_proto(&[]), Ok(Widget::default()));
}

#[test]
fn the_yaml_form_has_the_declared_keys_in_order() {
    let expected = "\
name: w
count: 300
isReady: true
level: 0
sizes:
    - 1
    - 300
names:
    - \"\"
    - b
addresses:
    - 192.0.2.1
prefix: 192.0.2.0/24
part:
    weight: 1
parts:
    p: {}
inner: i
color: dark green
colors:
    - red
    - dark green
switches: one,FOUR
token: hush
timeout: -1.5s
since: 1970-01-01T00:00:01Z
object:
    a: true
    b:
        - 1
        - null
pem:
    crt: Y3J0
    key: a2V5
offset: -1
ratio: 0.5
localOnly: true
";
    assert_eq!(full().to_yaml(), expected);
    let read = Widget::decode_yaml(&parse(expected).expect("YAML")).expect("a widget");
    // An address that may be omitted always is: the wire's oddity.
    assert_eq!(read, Widget { hidden_address: None, ..full() });
    let empty = "name: \"\"\nisReady: false\nsizes: []\nnames: []\naddresses: []\nprefix: \"\"\npart: {}\ncolor: red\ncolors: []\nswitches: \"\"\n\
                 timeout: 0s\nsince: 0001-01-01T00:00:00Z\npem: null\noffset: 0\nratio: 0\n";
    assert_eq!(Widget::default().to_yaml(), empty);
}

#[test]
fn redaction_hides_secrets_and_nothing_else() {
    let redacted = full().to_redacted_yaml();
    assert!(!redacted.contains("hush") && !redacted.contains("a2V5"), "{redacted}");
    assert!(redacted.contains("name: w") && redacted.contains("Y3J0"), "{redacted}");
    assert_eq!(Widget::default().to_redacted_yaml(), Widget::default().to_yaml(), "nothing to hide");
}

#[test]
fn unknown_fields_and_numbers_are_tolerated() {
    let read = Widget::decode_proto(b"\x12\x01w\xfa\x3f\x02xx\x68\x63\x80\x40\x01").expect("a widget");
    assert_eq!((read.name.as_str(), read.color), ("w", Color::Unnamed(99)));
    assert_eq!(read.color.to_string(), "Color(99)");
    assert_eq!("Color(99)".parse::<Color>().ok(), Some(Color::Unnamed(99)));
    let mut out = Vec::new();
    read.encode_proto(&mut out);
    assert_eq!(out, b"\x12\x01w\x68\x63");
    assert_eq!(Switches(13).to_string(), "one,FOUR,0x8");
    assert_eq!("one,FOUR,0x8".parse::<Switches>().ok(), Some(Switches(13)));
}

#[test]
fn errors_name_message_and_field() {
    let error = Widget::decode_proto(b"\x12\x05w").expect_err("too short");
    assert_eq!(error, DecodeError::Truncated { missing: 4 });
    let error = Widget::decode_proto(b"\x52\x02\x0a\x00").expect_err("bytes for a number");
    assert_eq!(error.to_string(), "Widget, field 10: Part, field 1: expected a varint, found a length-delimited value");
    let error = Widget::decode_proto(b"\x42\x08\x0a\x04\xc0\x00\x02\x00\x10\x21").expect_err("a prefix of 33 bits");
    assert_eq!(error.to_string(), "Widget, field 8: 192.0.2.0 has no prefix of 33 bits");
    let yaml = |text: &str| Widget::decode_yaml(&parse(text).expect("YAML")).expect_err(text).to_string();
    assert_eq!(yaml("sizes: [1, x]"), "sizes[1]: expected a number that fits u32, found \"x\"");
    assert_eq!(yaml("parts: {p: {weight: -1}}"), "parts.p.weight: expected a number that fits u64, found \"-1\"");
    assert_eq!(yaml("size: 1"), "Widget has no field \"size\"");
    assert_eq!(yaml("color: blue"), "color: \"blue\" is no Color: expected one of red, dark green");
    assert_eq!(yaml("switches: one,two"), "switches: \"two\" is no flag of Switches: expected some of one, FOUR");
    assert_eq!(yaml("[]"), "expected Widget, found a list");
}

#[test]
fn messages_merge_and_lists_grow_when_a_field_comes_twice() {
    let read = Widget::decode_proto(b"\x28\x01\x28\x02\x2a\x01\x03\x32\x01a\x32\x01b\x52\x00\x52\x02\x08\x05").expect("a widget");
    assert_eq!((read.sizes, read.names, read.part.weight), (vec![1, 2, 3], vec!["a".to_owned(), "b".to_owned()], 5));
}

#[test]
fn definitions_say_what_was_declared() {
    let definition = Widget::definition();
    assert_eq!((Widget::TYPE, Widget::NAMESPACE, Widget::ID), ("Widgets.test.example.org", "test", "main"));
    assert!(definition.sensitive);
    assert_eq!(definition.aliases, ["wi", "widget"]);
    assert_eq!(definition.columns[0].path, "{.name}");
    assert_eq!(resource::ResourceDefinition::from(definition).default_namespace, "test");
}

#[test]
fn transparent_kinds_are_their_only_field() {
    let boxed = Boxed { things: vec!["a".to_owned()] };
    assert_eq!(boxed.to_yaml(), "- a\n");
    assert_eq!(Boxed::decode_yaml(&parse("- a\n").expect("YAML")).ok(), Some(boxed));
    assert_eq!(emit(&Boxed::default().encode_yaml(Form::Full)), "[]\n");
}

#[test]
fn erased_resources_come_back_without_a_copy() {
    let typed = std::sync::Arc::new(Resource::new("main", full()).with_label("a", "b"));
    let erased = resource::AnyResource::from(typed.clone());
    assert_eq!((erased.meta.id.as_str(), erased.spec.type_name()), ("main", Widget::TYPE));
    let back = erased.downcast::<Widget>().expect("a widget");
    assert!(std::sync::Arc::ptr_eq(&typed, &back));
    assert!(erased.downcast::<Boxed>().is_none() && !erased.is::<Boxed>());
    let mut meta = erased.meta.clone();
    meta.add_finalizer("f");
    let changed = erased.with_meta(meta);
    assert_ne!(changed, erased);
    assert!(changed.spec.equals(&erased.spec));
    let plain: std::sync::Arc<Resource> = typed;
    assert_eq!(plain.spec_as::<Widget>().map(|widget| widget.count), Some(300));
}

#[test]
fn a_whole_resource_prints_with_its_metadata() {
    let mut resource = Resource::new("main", Boxed::default()).with_label("zone", "1");
    resource.meta.version = resource::Version(3);
    let text = resource::AnyResource::from(resource).to_yaml(Form::Full);
    let expected = "\
metadata:
    namespace: test
    type: Boxes.test.example.org
    id: main
    version: 3
    owner: \"\"
    phase: running
    created: 0001-01-01T00:00:00Z
    updated: 0001-01-01T00:00:00Z
    labels:
        zone: \"1\"
spec: []
";
    assert_eq!(text, expected);
}

#[test]
fn a_field_can_be_used_alone() {
    assert_eq!(u8::take(Wire::Varint(256)), Err(DecodeError::Invalid("256 does not fit u8".to_owned())));
    assert_eq!(i32::take(Wire::Varint(u64::MAX)), Ok(-1));
    assert_eq!(<Option<IpAddr> as Field>::take(Wire::Bytes(b"")), Ok(None), "an address message without octets");
    assert!(IpAddr::take(Wire::Bytes(b"")).is_err());
    assert_eq!(Option::<IpAddr>::read_yaml(&Node::from("")), Ok(None));
}
