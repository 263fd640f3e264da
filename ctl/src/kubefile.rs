//! Kubeconfig files: merging one cluster's into the user's own, keeping all that we do not know.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::yaml;

/// The lists of a kubeconfig, and what an entry of each holds beside its name.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

fn parse(text: &str) -> anyhow::Result<Value> {
    let value: Value = if text.trim().is_empty() { json!({}) } else { yaml::parse(text).context("is no YAML")? };
    if !value.is_object() {
        bail!("found {}, expected a map with clusters, users and contexts", kind(&value));
    }
    Ok(value)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => "a scalar",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|entry| entry["name"] == name)
}

fn put(config: &mut Value, list: &str, entry: Value) -> anyhow::Result<()> {
    if config[list].is_null() {
        config[list] = json!([]);
    }
    let Some(entries) = config[list].as_array_mut() else { bail!("its {list} are {}, expected a list", kind(&config[list])) };
    match entries.iter_mut().find(|e| e["name"] == entry["name"]) {
        Some(existing) => *existing = entry,
        None => entries.push(entry),
    }
    Ok(())
}

/// A name that the list does not hold yet: the name itself, else with the first free number behind it.
fn free_name(config: &Value, list: &str, name: &str) -> String {
    let mut candidates = std::iter::once(name.to_owned()).chain((1..).map(|n| format!("{name}-{n}")));
    candidates.find(|c| named(config, list, c).is_none()).unwrap_or_else(|| name.to_owned())
}

/// Merges the fetched kubeconfig into the existing one and makes its context the current one.
///
/// Entries of the same name and content are left as they are. Where the content differs, `force` overwrites; else the new entries get
/// free names, so nothing of the user's is lost.
pub fn merge(existing: &str, fetched: &str, context_name: Option<&str>, force: bool) -> anyhow::Result<String> {
    let mut config = parse(existing).context("the existing kubeconfig")?;
    let fetched = parse(fetched).context("the fetched kubeconfig")?;
    let current = fetched["current-context"].as_str().context("the fetched kubeconfig names no current context")?;
    let context = named(&fetched, "contexts", current).context("the fetched kubeconfig lacks its current context")?;
    let names = [
        context["context"]["cluster"].as_str().unwrap_or_default(),
        context["context"]["user"].as_str().unwrap_or_default(),
        context_name.unwrap_or(current),
    ];
    let mut chosen: Vec<String> = Vec::new();
    for (list, name) in LISTS.iter().zip(names) {
        let source = if *list == "contexts" { current } else { name };
        let mut entry =
            named(&fetched, list, source).with_context(|| format!("the fetched kubeconfig lacks {source} in its {list}"))?.clone();
        if *list == "contexts" {
            entry["context"]["cluster"] = json!(chosen[0]);
            entry["context"]["user"] = json!(chosen[1]);
        }
        entry["name"] = json!(name);
        let same = named(&config, list, name).is_none_or(|there| *there == entry);
        if !same && !force {
            entry["name"] = json!(free_name(&config, list, name));
        }
        chosen.push(entry["name"].as_str().unwrap_or_default().to_owned());
        put(&mut config, list, entry)?;
    }
    config["apiVersion"] = json!("v1");
    config["kind"] = json!("Config");
    config["current-context"] = json!(chosen[2]);
    Ok(yaml::to_string(&config))
}

/// Writes it so that only its owner may read it, and never half.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    crate::files::write_private(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: orlop\n  cluster:\n    server: {server}\nusers:\n- name: admin@orlop\n  user: {{}}\n\
             contexts:\n- name: admin@orlop\n  context:\n    cluster: orlop\n    namespace: default\n    user: admin@orlop\ncurrent-context: admin@orlop\n"
        )
    }

    fn names(text: &str, list: &str) -> Vec<String> {
        parse(text).unwrap()[list].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_first_merge_takes_all_over_and_a_second_changes_nothing() {
        let once = merge("", &config("https://a"), None, false).unwrap();
        let twice = merge(&once, &config("https://a"), None, false).unwrap();
        assert_eq!(once, twice);
        assert_eq!(names(&once, "contexts"), ["admin@orlop"]);
    }

    #[test]
    fn what_differs_is_renamed_or_overwritten_but_never_lost() {
        let mine = config("https://mine") + "preferences: {colors: true}\n";
        let merged = merge(&mine, &config("https://a"), None, false).unwrap();
        assert_eq!(names(&merged, "clusters"), ["orlop", "orlop-1"]);
        let value = parse(&merged).unwrap();
        assert_eq!(named(&value, "contexts", "admin@orlop-1").unwrap()["context"]["cluster"], "orlop-1");
        assert_eq!(value["current-context"], "admin@orlop-1");
        assert_eq!(value["preferences"]["colors"], true);
        let forced = merge(&mine, &config("https://a"), None, true).unwrap();
        assert_eq!(names(&forced, "clusters"), ["orlop"]);
        assert_eq!(parse(&forced).unwrap()["clusters"][0]["cluster"]["server"], "https://a");
    }

    #[test]
    fn a_broken_file_says_so() {
        assert!(format!("{:#}", merge("- a\n", &config("x"), None, false).unwrap_err()).contains("found a list, expected a map"));
    }
}
