//! How layers of configuration become one: the later layer wins, item by item.

use std::collections::BTreeMap;

use engine::Many;
use model::net::{AddressSpec, ConfigLayer, HostnameSpec, LinkSpec, ResolverSpec, RouteSpec, TimeServerSpec};
use resource::Spec;

/// The namespace of what each layer says.
pub(crate) const CONFIG: &str = "network-config";

/// A kind that comes in layers.
pub(crate) trait Layered: Spec {
    /// The layer it comes from.
    fn layer(&self) -> ConfigLayer;
}

macro_rules! layered {
    ($($kind:ty),* $(,)?) => { $(impl Layered for $kind { fn layer(&self) -> ConfigLayer { self.layer } })* };
}

layered!(HostnameSpec, ResolverSpec, TimeServerSpec, AddressSpec, RouteSpec, LinkSpec);

/// The word that begins the ids of a layer's items.
pub(crate) fn prefix(layer: ConfigLayer, name: &str) -> String {
    format!("{layer}/{name}")
}

/// The items in the order of their layers, the winner last; within a layer by id.
pub(crate) fn in_order<T: Layered>(specs: &Many<T>) -> Vec<(&str, &T)> {
    let mut all: Vec<(&str, &T)> = specs.iter().map(|item| (&*item.meta.id, &item.spec)).collect();
    all.sort_by_key(|(_, spec)| spec.layer());
    all
}

/// For each id without its layer, the items of all layers, the winner last.
pub(crate) fn by_name<T: Layered>(specs: &Many<T>) -> BTreeMap<String, Vec<&T>> {
    let mut groups: BTreeMap<String, Vec<&T>> = BTreeMap::new();
    for (id, spec) in in_order(specs) {
        let name = id.split_once('/').map_or(id, |(_, name)| name);
        groups.entry(name.to_owned()).or_default().push(spec);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_item_by_item() {
        let spec = |layer, priority| AddressSpec { layer, priority, ..AddressSpec::default() };
        let specs = Many::of([
            ("configuration/eth0/10.0.0.1/24", spec(ConfigLayer::Configuration, 1)),
            ("default/eth0/10.0.0.1/24", spec(ConfigLayer::Default, 2)),
            ("platform/eth0/10.0.0.2/24", spec(ConfigLayer::Platform, 3)),
        ]);
        let merged: Vec<_> = by_name(&specs).into_iter().map(|(name, specs)| (name, specs.last().unwrap().priority)).collect();
        assert_eq!(merged, [("eth0/10.0.0.1/24".to_owned(), 1), ("eth0/10.0.0.2/24".to_owned(), 3)]);
    }
}
