//! `get`: resources of nodes, as a table, YAML or JSON, once or as they change.

use anyhow::{Context as _, bail};
use api::cosi::resource as pb;
use clap::Args;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use crate::session::{Node, Session};
use crate::table::Table;

const DEFINITIONS: &str = "ResourceDefinitions.meta.cosi.dev";

/// Read resources.
#[derive(Debug, Args)]
pub struct Get {
    /// The type: its name or an alias, such as `members` or `rd` for all types.
    kind: String,
    /// The id; all without it.
    id: Option<String>,
    /// The namespace instead of the type's own.
    #[arg(long)]
    namespace: Option<String>,
    /// table, yaml, json, or jsonpath={.field}.
    #[arg(long, short, default_value = "table")]
    output: Output,
    /// Go on printing what changes.
    #[arg(long, short)]
    watch: bool,
    /// Talk to a node in maintenance mode.
    #[arg(long, short)]
    insecure: bool,
}

/// A form of output.
#[derive(Debug, Clone)]
enum Output {
    Table,
    Yaml,
    Json,
    Path(Box<JsonPath>),
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            _ => match text.strip_prefix("jsonpath=") {
                Some(path) => Ok(Self::Path(Box::new(json_path(path)?))),
                None => Err(format!("found {text:?}, expected table, yaml, json or jsonpath={{.field}}")),
            },
        }
    }
}

/// A path as Kubernetes' tools write it, `{.a.b[*].c}` or `{@}`, into the standard's form.
fn json_path(text: &str) -> Result<JsonPath, String> {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let rest = inner.strip_prefix('@').or_else(|| inner.strip_prefix('$')).unwrap_or(inner);
    JsonPath::parse(&format!("${rest}")).map_err(|e| format!("JSON path {text:?}: {e}"))
}

/// What a path finds in a spec, as a table's cell: a single value as itself, several as a list.
fn cell(path: &JsonPath, spec: &Value) -> String {
    let found = path.query(spec).all();
    match found.as_slice() {
        [] => String::new(),
        [Value::String(text)] => text.clone(),
        [Value::Null] => String::new(),
        [one] => one.to_string(),
        many => Value::from(many.iter().map(|v| (*v).clone()).collect::<Vec<_>>()).to_string(),
    }
}

/// A type as the node defines it.
#[derive(Debug, Clone)]
struct Definition {
    kind: String,
    display: String,
    namespace: String,
    columns: Vec<(String, JsonPath)>,
}

impl Definition {
    fn read(spec: &Value) -> Option<Self> {
        let text = |key: &str| spec[key].as_str().map(str::to_owned);
        let column = |c: &Value| Some((c["name"].as_str()?.to_uppercase(), json_path(c["jsonPath"].as_str()?).ok()?));
        Some(Self {
            kind: text("type")?,
            display: text("displayType")?,
            namespace: text("defaultNamespace").unwrap_or_default(),
            columns: spec["printColumns"].as_array().into_iter().flatten().filter_map(column).collect(),
        })
    }
}

fn spec_of(resource: &pb::Resource) -> Value {
    let yaml = resource.spec.as_ref().map(|s| s.yaml_spec.as_str()).unwrap_or_default();
    crate::yaml::parse(yaml).unwrap_or_else(|_| Value::String(yaml.to_owned()))
}

/// Finds the type by its full name, its id or an alias; a name that fits none is refused with those that come near.
async fn definition(node: &Node, name: &str) -> anyhow::Result<Definition> {
    let request = pb::ListRequest { namespace: "meta".into(), r#type: DEFINITIONS.into(), options: None };
    let mut stream = node.client.state().list(request).await?.into_inner();
    let wanted = name.to_lowercase();
    let mut near = Vec::new();
    while let Some(answer) = stream.message().await? {
        let Some(resource) = answer.resource else { continue };
        let spec = spec_of(&resource);
        let id = resource.metadata.as_ref().map(|m| m.id.to_lowercase()).unwrap_or_default();
        let mut aliases = spec["allAliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if id == wanted || id.split('.').next() == Some(&wanted) || aliases.any(|a| a == wanted) {
            return Definition::read(&spec).with_context(|| format!("the node's definition of {id} cannot be read"));
        }
        if id.contains(&wanted) {
            near.push(spec["displayType"].as_str().unwrap_or(&id).to_lowercase());
        }
    }
    near.sort_unstable();
    let hint = if near.is_empty() { "`orlopctl get rd` lists all types".to_owned() } else { format!("did you mean {}?", near.join(", ")) };
    bail!("resource type {name:?} is not known; {hint}")
}

impl Get {
    /// Reads from each node.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        if self.watch {
            return session.each(self.insecure, async |node| self.follow(&node).await).await;
        }
        let rows = session
            .collect(self.insecure, async |node| {
                let definition = definition(&node, &self.kind).await?;
                let resources = self.read(&node, &definition).await?;
                Ok((definition, resources))
            })
            .await;
        let mut table: Option<Table> = None;
        for (node, (definition, resources)) in &rows.found {
            for resource in resources {
                match &self.output {
                    Output::Table => table.get_or_insert_with(|| heading(definition, false)).row(row(&node.name, definition, resource)),
                    other => print_one(&node.name, resource, other),
                }
            }
        }
        if let Some(table) = table {
            print!("{table}");
        }
        rows.finish()
    }

    fn namespace(&self, definition: &Definition) -> String {
        self.namespace.clone().unwrap_or_else(|| definition.namespace.clone())
    }

    async fn read(&self, node: &Node, definition: &Definition) -> anyhow::Result<Vec<pb::Resource>> {
        let (namespace, kind) = (self.namespace(definition), definition.kind.clone());
        if let Some(id) = self.id.clone() {
            let request = pb::GetRequest { namespace, r#type: kind, id, options: None };
            return Ok(node.client.state().get(request).await?.into_inner().resource.into_iter().collect());
        }
        let request = pb::ListRequest { namespace, r#type: kind, options: None };
        let mut stream = node.client.state().list(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = stream.message().await? {
            all.extend(answer.resource);
        }
        let id = |r: &pb::Resource| r.metadata.as_ref().map(|m| m.id.clone());
        all.sort_by_key(id);
        Ok(all)
    }

    async fn follow(&self, node: &Node) -> anyhow::Result<()> {
        let definition = definition(node, &self.kind).await?;
        let options = pb::WatchOptions { bootstrap_contents: self.id.is_none(), ..pb::WatchOptions::default() };
        let request = pb::WatchRequest {
            namespace: self.namespace(&definition),
            r#type: definition.kind.clone(),
            id: self.id.clone(),
            options: Some(options),
            api_version: 1,
        };
        let mut stream = node.client.state().watch(request).await?.into_inner();
        let mut first = true;
        while let Some(answer) = stream.message().await? {
            for event in answer.event {
                let sign = match event.event_type() {
                    pb::EventType::Created => "+",
                    pb::EventType::Updated => " ",
                    pb::EventType::Destroyed => "-",
                    pb::EventType::Errored => bail!("the watch ended: {}", event.error.unwrap_or_default()),
                    pb::EventType::Bootstrapped | pb::EventType::Noop => continue,
                };
                let Some(resource) = event.resource else { continue };
                match &self.output {
                    Output::Table => {
                        let mut table = if first { heading(&definition, true) } else { Table::default() };
                        table.row(std::iter::once(sign.to_owned()).chain(row(&node.name, &definition, &resource)));
                        print!("{table}");
                        first = false;
                    }
                    other => print_one(&node.name, &resource, other),
                }
            }
        }
        Ok(())
    }
}

fn heading(definition: &Definition, watch: bool) -> Table {
    let mut headings = if watch { vec!["*"] } else { Vec::new() };
    headings.extend(["NODE", "NAMESPACE", "TYPE", "ID", "VERSION"]);
    headings.extend(definition.columns.iter().map(|(name, _)| name.as_str()));
    Table::new(&headings)
}

fn row(node: &str, definition: &Definition, resource: &pb::Resource) -> Vec<String> {
    let meta = resource.metadata.clone().unwrap_or_default();
    let spec = spec_of(resource);
    let mut cells = vec![node.to_owned(), meta.namespace, definition.display.clone(), meta.id, meta.version];
    cells.extend(definition.columns.iter().map(|(_, path)| cell(path, &spec)));
    cells
}

/// The resource as people and programs read it: its node, metadata and spec.
fn document(node: &str, resource: &pb::Resource) -> Value {
    let meta = resource.metadata.clone().unwrap_or_default();
    let time = |at: Option<prost_types::Timestamp>| {
        let at = at.unwrap_or_default();
        jiff::Timestamp::new(at.seconds, at.nanos).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
    };
    let mut metadata = json!({
        "namespace": meta.namespace, "type": meta.r#type, "id": meta.id, "version": meta.version, "owner": meta.owner, "phase": meta.phase,
        "created": time(meta.created), "updated": time(meta.updated),
    });
    if !meta.labels.is_empty() {
        metadata["labels"] = json!(meta.labels);
    }
    if !meta.annotations.is_empty() {
        metadata["annotations"] = json!(meta.annotations);
    }
    if !meta.finalizers.is_empty() {
        metadata["finalizers"] = json!(meta.finalizers);
    }
    json!({"node": node, "metadata": metadata, "spec": spec_of(resource)})
}

fn print_one(node: &str, resource: &pb::Resource, output: &Output) {
    let document = document(node, resource);
    match output {
        Output::Json => println!("{document:#}"),
        Output::Path(path) => println!("{}", cell(path, &document)),
        Output::Yaml | Output::Table => {
            let meta = &document["metadata"];
            println!("node: {node}\nmetadata:");
            for key in ["namespace", "type", "id", "version", "owner", "phase", "created", "updated"] {
                println!("    {key}: {}", meta[key].as_str().unwrap_or_default());
            }
            for key in ["labels", "annotations"] {
                if let Some(map) = meta[key].as_object() {
                    println!("    {key}:");
                    map.iter().for_each(|(k, v)| println!("        {k}: {}", v.as_str().unwrap_or_default()));
                }
            }
            if let Some(list) = meta["finalizers"].as_array() {
                println!("    finalizers:");
                list.iter().for_each(|f| println!("        - {}", f.as_str().unwrap_or_default()));
            }
            let yaml = resource.spec.as_ref().map(|s| s.yaml_spec.trim_end()).unwrap_or_default();
            if document["spec"].is_object() && !yaml.is_empty() {
                println!("spec:");
                yaml.lines().for_each(|line| println!("    {line}"));
            } else {
                println!("spec: {yaml}");
            }
            println!("---");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, value: &Value) -> String {
        cell(&json_path(path).unwrap(), value)
    }

    #[test]
    fn paths_as_the_definitions_have_them_find_their_values() {
        let value = json!({
            "hostname": "cp-1", "healthy": true, "addresses": ["10.5.0.2", "10.5.0.3"],
            "endpoints": [{"host": "a"}, {"host": "b"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        });
        assert_eq!(find("{.hostname}", &value), "cp-1");
        assert_eq!(find("{.healthy}", &value), "true");
        assert_eq!(find("{.addresses}", &value), r#"["10.5.0.2","10.5.0.3"]"#);
        assert_eq!(find("{.endpoints[*].host}", &value), r#"["a","b"]"#);
        assert_eq!(find(r#"{.conditions[?(@.type=="Ready")].status}"#, &value), "True");
        assert_eq!(find("{.missing}", &value), "");
        assert_eq!(find("{@}", &json!("controlplane")), "controlplane");
    }

    #[test]
    fn an_unknown_output_says_what_there_is() {
        assert_eq!("xml".parse::<Output>().unwrap_err(), r#"found "xml", expected table, yaml, json or jsonpath={.field}"#);
    }
}
